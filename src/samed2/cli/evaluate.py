"""`samed2 evaluate`: score a model under one or several prompt protocols; `samed2 evaluate compare`: two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samed2.errors import InputError

ABOUT = "Score a model under seeded prompt protocols, with baselines and a report; or compare two runs."
app = typer.Typer(help=ABOUT, invoke_without_command=True, no_args_is_help=True)

Texts = list[str] | None
MODELS = "nano, a folder, sam2:NAME, sam:..., medsam:..., unet:FOLDER; ?NAME=VALUE sets something. Repeatable."
PROTOCOLS = "How to prompt: box, box-jitter:0.05, point, clicks:5, propagate, memory-only:16, ... Repeatable."
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of a table.")]


@app.callback()
def evaluate(
    context: typer.Context,
    model: Annotated[Texts, typer.Option(help=MODELS)] = None,
    data: Annotated[Path | None, typer.Option(help="A MedBank store, or a folder with items.csv.")] = None,
    split: Annotated[Texts, typer.Option(help="A value of the data's split column. Repeatable.")] = None,
    protocol: Annotated[Texts, typer.Option(help=PROTOCOLS)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; with several models or protocols, of theirs.")
    ] = None,
    select: Annotated[str, typer.Option(help="Which of a model's masks counts: chosen, first, oracle.")] = "chosen",
    slices: Annotated[str, typer.Option(help="Scored frames of volumes and videos: middle:N or all.")] = "middle:2",
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with its own model.")] = 1,
    tolerance: Annotated[float, typer.Option(help="Of the NSD in mm, where the spacing is known.")] = 2.0,
    tolerance_px: Annotated[float, typer.Option(help="Of the NSD in pixels, where it is not.")] = 2.0,
    support_split: Annotated[Texts, typer.Option(help="Where confirmed cases come from. (default: train)")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most N cases per data set, drawn by --seed.")] = None,
    kind: Annotated[Texts, typer.Option(help="Only cases that are an image, a volume or a video. Repeatable.")] = None,
    task: Annotated[Texts, typer.Option(help="Only tasks DATASET/OBJECT like this, * and ? allowed.")] = None,
    settings: Annotated[Texts, typer.Option("--set", help="NAME=VALUE, a setting of the model. Repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Score a model under seeded prompt protocols, with baselines and a report; or compare two runs."""
    if context.invoked_subcommand is not None:
        return
    wanted = {"--model": model, "--data": data, "--split": split, "--protocol": protocol, "--out": out}
    for option, value in wanted.items():
        if not value:
            raise InputError(f"evaluate: {option} is missing (see `samed2 evaluate --help`)")
    assert model and data and split and protocol and out
    from samed2.cli.evaluate_run import Choice, Job, run

    options = {
        "select": select,
        "slices": slices,
        "seed": seed,
        "workers": workers,
        "tolerance_mm": tolerance,
        "tolerance_px": tolerance_px,
        "support_splits": tuple(support_split or ("train",)),
    }
    chosen = Choice(split, task or [], kind or [], limit)
    job = Job(model, parse_settings(settings or []), device, data, chosen, protocol, out, options)
    run(job, as_json, quiet)


@app.command()
def table(
    runs: Annotated[list[Path], typer.Argument(help="Results folders of runs on the same cases.")],
    as_json: AsJson = False,
) -> None:
    """Print Dice and NSD per data set of several runs and their baselines, as Markdown."""
    from samed2.cli.evaluate_run import print_table

    print_table(runs, as_json)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Results folder of A.")],
    b: Annotated[Path, typer.Argument(help="Results folder of B, made on the same cases.")],
    out: Annotated[Path | None, typer.Option(help="Also write a page with plots and pictures, such as c.html.")] = None,
    metric: Annotated[str, typer.Option(help="What to compare: dice, iou, nsd, hd95, assd.")] = "dice",
    data: Annotated[Path | None, typer.Option(help="The data of both runs, for more pictures on the page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs case by case: differences per task with intervals, tests with Holm's correction."""
    from samed2.cli.evaluate_run import print_comparison

    print_comparison(a, b, out, metric, data, as_json)


def parse_settings(given: list[str]) -> dict[str, str]:
    """NAME=VALUE texts by name; the model's family checks names and values.

    Raises:
        InputError: no "=", no name, or a name that is there twice.
    """
    settings: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InputError(f"--set {text}: is no setting of the model, wanted NAME=VALUE")
        if name in settings:
            raise InputError(f"--set {text}: {name} is given twice")
        settings[name] = value
    return settings
