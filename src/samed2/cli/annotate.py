"""`samed2 annotate`: a folder of cases, proposed from a memory, corrected, confirmed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samed2.cli import outputs
from samed2.cli.console import complain, print_json, track, warn
from samed2.cli.segment import MODALITIES, MODEL
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.predict.annotate import Annotation
    from samed2.predict.annotate.overview import Order
    from samed2.predict.annotate.work import Done
    from samed2.prompts import Prompts

Texts = list[str] | None


def annotate(
    folder: Annotated[Path, typer.Argument(help="The folder of cases: images, volumes, videos, DICOM series.")],
    memory: Annotated[Path, typer.Option(help="The memory file; made when missing, written when cases are confirmed.")],
    task: Annotated[str, typer.Option(help="What is segmented; the memory's entries are found by it.")],
    prompts: Annotated[Path | None, typer.Option(help="Corrections: prompts by image as a JSON file.")] = None,
    confirm: Annotated[Texts, typer.Option(help="A case whose mask is right. Repeat for more.")] = None,
    confirm_all_above: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Confirm what earlier runs showed with at least this confidence."),
    ] = None,
    reopen: Annotated[Texts, typer.Option(help="Take a confirmed case back, out of the memory too.")] = None,
    order: Annotated[str, typer.Option(help="Which open cases come first: unsure or sure.")] = "unsure",
    model: Annotated[str, typer.Option(help=MODEL)] = "nano",
    out: Annotated[Path, typer.Option(help="Folder of state, masks and pictures.")] = Path("annotated"),
    formats: Annotated[
        Texts, typer.Option("--format", help=f"Further files per case: {', '.join(outputs.FORMATS)}.")
    ] = None,
    window: Annotated[str | None, typer.Option(help="As for segment: auto, CENTRE,WIDTH, lung, ...")] = None,
    modality: Annotated[str | None, typer.Option(help=f"What the files show: {MODALITIES}")] = None,
    condition: Annotated[
        bool, typer.Option("--condition", help="Let the memory also speak where there are prompts.")
    ] = False,
    looks: Annotated[int, typer.Option(min=1, help="On how many frames of a volume the object is sought.")] = 9,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. (default: the best there is)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Propose masks for a folder of cases from a memory of confirmed ones; correct, confirm, and run it again."""
    if order not in ("unsure", "sure"):
        raise InputError(f"--order: got {order!r}, wanted unsure or sure")
    extra = _extra(formats or [])
    given = _read(prompts)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder that holds the cases")
    from samed2.predict import Predictor
    from samed2.predict.annotate import Annotation, How

    how = How(window, modality, looks, condition)
    predictor = Predictor.from_pretrained(model, device=device)
    with Annotation(predictor, folder, task, memory, out, how, extra) as work:
        try:
            problems = _run(work, given, prompts, confirm or [], confirm_all_above, reopen or [], quiet or as_json)
        except BaseException:
            with contextlib.suppress(InputError):
                work.write_page(order)  # type: ignore[arg-type]
            raise
        index = work.write_page(order)  # type: ignore[arg-type]
    if as_json:
        print_json({**work.report(order), "index": str(index)})  # type: ignore[arg-type]
    else:
        _print(work, index, order)  # type: ignore[arg-type]
    if problems:
        raise InputError(f"{problems} of {len(work.cases)} cases could not be done, see above")


def _run(
    work: Annotation,
    given: dict[str, Prompts],
    file: Path | None,
    confirm: list[str],
    above: float | None,
    reopen: list[str],
    quiet: bool,
) -> int:
    """Reopen, correct, confirm, propose; gives how many cases failed."""
    from samed2.predict.annotate.cases import choose

    taken_back = list(choose(reopen, work.cases, "--reopen").values())
    right = list(choose(confirm, work.cases, "--confirm").values())
    corrections = work.to_correct(given, str(file)) if given else {}
    work.reopen(taken_back)
    if above is not None:  # only what somebody could have looked at
        right += [name for name in work.sure(above) if name not in {*corrections, *right, *taken_back}]
    problems = _follow(work.correct(corrections), len(corrections), "correcting", quiet)
    problems += _follow(work.confirm(right), len(right), "confirming", quiet)
    if not work.known:
        warn(
            f"{work.bank}: {'holds nothing of' if len(work.memory) else 'is empty: it knows nothing of'} task "
            f"{work.task!r} yet, so nothing can be proposed; give --prompts for some cases, then --confirm them"
        )
    return problems + _follow(work.propose(), len(work.to_propose()), "proposing", quiet)


def _follow(steps: Iterable[Done], total: int, doing: str, quiet: bool) -> int:
    failed = 0
    for done in track(steps, total, doing, quiet):
        if done.problem:
            complain(done.problem if done.name in done.problem else f"{done.name}: {done.problem}")
            failed += 1
        elif done.note:
            warn(f"{done.name}: {done.note}")
    return failed


def _read(file: Path | None) -> dict[str, Prompts]:
    if file is None:
        return {}
    from samed2.prompts import images_from_json

    return images_from_json(file)


def _extra(formats: list[str]) -> tuple[tuple[str, str], ...]:
    """(writer, end of name) of the formats asked for, less what every case gets."""
    for name in formats:
        if name not in outputs.FORMATS:
            raise InputError(f"--format {name}: unknown, wanted one of {', '.join(outputs.FORMATS)}")
    return tuple((name, outputs.FORMATS[name]) for name in dict.fromkeys(formats) if name not in ("json", "overlay"))


def _print(work: Annotation, index: Path, order: Order) -> None:
    """One line per case that is not confirmed, in order, then the sum."""
    for name in work.ranking(order):
        entry = work.cases[name]
        facts: list[str] = [entry.status]
        if entry.uncertainty is not None:
            facts += [f"uncertainty {entry.uncertainty:.2f}", f"{entry.area} px"]
        print(f"{name}: {', '.join(facts)}{' (failed)' if entry.error else ''}")
    states = [entry.status for entry in work.cases.values()]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("open", "proposed", "corrected", "confirmed") if s in states)
    print(f"{len(states)} cases: {counts}; {work.known} entries of {work.task!r} in {work.bank}; look at {index}")
