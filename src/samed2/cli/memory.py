"""`samed2 memory`: fill, look at, join and thin out memory files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samed2.cli.console import print_json, table, track
from samed2.cli.info import built_in
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.memory import SelectiveMemory

app = typer.Typer(help="Fill, look at, join and thin out memory files.", no_args_is_help=True)


def _load(path: Path) -> SelectiveMemory:
    if not path.exists():
        raise InputError(f"{path}: does not exist; check the path")
    from samed2.memory import SelectiveMemory

    return SelectiveMemory.load(path)


def _show(bank: SelectiveMemory, as_json: bool) -> None:
    summary = bank.info()
    if as_json:
        print_json(summary)
    else:
        table((name, _line(value)) for name, value in summary.items())


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name or 'none'}: {_line(inner)}" for name, inner in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_out(out: Path) -> None:
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; give the name of a file to write")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist; create it first")


AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.command()
def build(
    data: Annotated[Path, typer.Option("--data", help="A store (samed2 medbank build) or a folder of labelled cases.")],
    out: Annotated[Path, typer.Option("--out", help="The memory file to write.")],
    model: Annotated[str, typer.Option("--model", help="Built-in name, folder or hub name.")] = "nano",
    split: Annotated[list[str] | None, typer.Option("--split", help="Repeatable. (default: train)")] = None,
    per_task: Annotated[int, typer.Option("--per-task", min=1, help="Most cases of a task, each of a patient.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the cases.")] = 0,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, mps. (default: the best there is)")] = None,
    as_json: AsJson = False,
) -> None:
    """Fill a memory with labelled cases, taken as confirmed: two entries of each, from near and as a whole frame."""
    _check_out(out)
    from samed2.data import open_cases
    from samed2.data.examples import remember_cases
    from samed2.predict import Predictor

    cases = open_cases(data, split or ["train"])
    predictor = Predictor.from_pretrained(model, device=device)
    bank = remember_cases(
        predictor, cases, per_task, seed, track=lambda jobs: track(jobs, len(jobs), "remember", quiet=as_json)
    )
    bank.save(out)
    _show(bank, as_json)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A memory file, or a model that came with one: nano or a folder.")],
    as_json: AsJson = False,
) -> None:
    """Show what a memory holds: entries, model, policy, tasks, modalities."""
    if file.is_dir() or str(file) in {path.name for path in built_in()}:
        from samed2.nn.weights import OWN, memory_file

        file = memory_file(file, OWN) or file
    _show(_load(file), as_json)


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Memory files of one model, two or more.")],
    out: Annotated[Path, typer.Option("--out", help="The memory file to write.")],
    capacity: Annotated[
        int | None,
        typer.Option("--capacity", min=0, help="Keep at most this many, the most confident. Default: all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Join memory files of the same model into one."""
    if len(files) < 2:
        raise InputError(f"memory merge: got {len(files)} file, wanted at least 2")
    _check_out(out)
    from samed2.memory import SelectiveMemory

    bank = SelectiveMemory.merge([_load(file) for file in files])
    if capacity is not None:
        bank.prune(capacity=capacity)
    bank.save(out)
    _show(bank, as_json)


@app.command()
def prune(
    file: Annotated[Path, typer.Argument(help="A memory file.")],
    out: Annotated[Path, typer.Option("--out", help="The memory file to write; it may be the same.")],
    capacity: Annotated[int | None, typer.Option("--capacity", min=0, help="Most entries to keep.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option("--min-confidence", min=0, max=1, help="Drop entries below this.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Drop the entries of this task.")] = None,
    modality: Annotated[str | None, typer.Option("--modality", help="Drop the entries of this modality.")] = None,
    as_json: AsJson = False,
) -> None:
    """Drop entries of a memory file: the least sure above a capacity, the unsure, a task, a modality."""
    if capacity is None and min_confidence is None and task is None and modality is None:
        raise InputError("memory prune: got nothing to drop; give --capacity, --min-confidence, --task or --modality")
    _check_out(out)
    bank = _load(file)
    bank.prune(capacity, min_confidence=min_confidence, task=task, modality=modality)
    bank.save(out)
    _show(bank, as_json)
