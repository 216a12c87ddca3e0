"""`samed2 segment`: images and prompts in, masks on the images' own grid out."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samed2.cli import cases, outputs
from samed2.cli.batch import Batch, run
from samed2.cli.case_prompts import prompt_source
from samed2.cli.console import print_json
from samed2.cli.prompt_options import parse_objects, parse_tasks
from samed2.cli.run_report import Files, RunReport
from samed2.cli.segment_case import Method, Reading
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.predict import Predictor

Texts = list[str] | None
MODEL = "The model: a built-in name such as nano, a folder, or a SAM 2 / 2.1 checkpoint of the hub."
MODALITIES = "ct, mr, ultrasound, xray, fundus, ..."
DIRECTIONS = ("forward", "backward", "both")
FAST: dict[str, Any] = {"shallow": True, "recent": 3}  # the settings of --fast, beside bf16


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(help="Images, volumes, videos; folders or zips of DICOM; folders of images; @LIST.txt."),
    ],
    box: Annotated[Texts, typer.Option(help="[NAME=]x0,y0,x1,y1 in pixels, or x0,y0,z0,x1,y1,z1. Repeatable.")] = None,
    point: Annotated[Texts, typer.Option(help="[NAME=]x,y inside the object; x,y,0 outside it.")] = None,
    mask: Annotated[Texts, typer.Option(help="[NAME=]FILE, an image that is not 0 on the object.")] = None,
    names: Annotated[
        Texts,
        typer.Option(
            "--object",
            help="Name of an object. Once: it owns all prompts without a NAME=. Several times: these are "
            "dealt out in order, one box (point, mask) for each.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts of one case or many as JSON, or a label map to refine.")
    ] = None,
    recall: Annotated[
        Texts,
        typer.Option(help="[NAME=]TASK: find what the memory knows under this task, without a prompt. Repeatable."),
    ] = None,
    frame: Annotated[int | None, typer.Option(min=0, help="The frame or slice that is prompted, from 0.")] = None,
    propagate: Annotated[
        str | None,
        typer.Option(help="Follow the objects through the volume or video: forward, backward or both."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Which DICOM series, by number or UID; 0:1 is run 1 of series 0 (samed2 info).")
    ] = None,
    axis: Annotated[str | None, typer.Option(help="Slices along 0, 1, 2, or axial, coronal, sagittal.")] = None,
    time: Annotated[int | None, typer.Option(min=0, help="Which volume of a 4-D file, from 0.")] = None,
    stack: Annotated[
        str | None,
        typer.Option("--as", help="The images of a folder are frames of one: video or volume. (default: cases)"),
    ] = None,
    model: Annotated[str, typer.Option(help=MODEL)] = "nano",
    memory: Annotated[
        Path | None,
        typer.Option(help="A memory file to read similar cases from; own: the one that came with the model."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="What the prompted objects are, as the memory calls it; read without --memory from own."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help="auto, file, full, percentiles[:LO,HI], CENTRE,WIDTH or a CT preset such as lung."),
    ] = None,
    modality: Annotated[str | None, typer.Option(help=f"What the file shows: {MODALITIES}")] = None,
    out: Annotated[str | None, typer.Option(help="File (one case) or folder of the results. (default: here)")] = None,
    formats: Annotated[
        Texts,
        typer.Option("--format", help=f"Repeatable: {', '.join(outputs.SUFFIXES)}. (default: by --out or the image)"),
    ] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write a picture with contours.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. (default: the best there is)")] = None,
    multimask: Annotated[bool, typer.Option("--multimask", help="Choose among three proposals.")] = False,
    zoom: Annotated[bool, typer.Option("--zoom/--no-zoom", help="Look at a crop around the prompt.")] = True,
    mirror: Annotated[bool, typer.Option("--mirror", help="Also look at the mirror image; twice the time.")] = False,
    neighbours: Annotated[
        int,
        typer.Option(
            min=1, help="Encode each frame in a clip of so many, itself in the middle; 3 takes twice the time."
        ),
    ] = 1,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="bf16, nearly twice as fast; of --neighbours the first adapter alone sees two."),
    ] = False,
    fill_holes: Annotated[int, typer.Option(min=0, help="Fill holes up to this many pixels.")] = 0,
    min_area: Annotated[int, typer.Option(min=0, help="Drop separate parts below this many pixels.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip cases that were made in the same way; go on with one that was begun.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="JSON file that says how each case went.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Segment what is boxed, pointed at, masked or remembered, and write the masks on each image's own grid."""
    objects, tasks = parse_objects(box or [], point or [], mask or [], names or []), parse_tasks(recall or [])
    if tasks and names:
        raise InputError("--object: with --recall an object is named as in NAME=TASK")
    if tasks and task:
        raise InputError("--task: says what prompted objects are; leave it out, --recall names its tasks")
    _one_of("--propagate", propagate, DIRECTIONS)
    _one_of("--as", stack, cases.STACKS)
    settings = {
        "multimask": multimask,
        "zoom": zoom,
        "mirror": mirror,
        "neighbours": neighbours,
        **(FAST if fast else {}),
        "fill_holes": fill_holes,
        "min_area": min_area,
        **({"task": task} if task else {}),
    }
    found = cases.expand(images, stack)
    source = prompt_source(found, objects, prompts, frame, tasks)
    files = _plans(found, out, list(formats or []), overlay)
    memory = own_memory(model, Path("own") if (tasks or task) and memory is None else memory)
    batch = Batch(
        found,
        files,
        source,
        Reading(modality, series, axis, time, stack),
        Method(window, propagate, settings),
        lambda: load_predictor(model, device, memory, "bf16" if fast else None, task),
        memory,
        resume=resume,
        keep_notes=resume or len(found) > 1,
        show=not as_json,
        quiet=quiet,
    )
    if len(found) > 1:
        batch.predictor()  # a model that is not there stops all cases
    _check_report(report, files, [prompts, memory])
    try:
        run(batch, RunReport(report, found, _facts(batch, prompts)))
    finally:
        if as_json and batch.results:
            print_json(batch.results)


def own_memory(model: str, memory: Path | None) -> Path | None:
    """Return the memory file to read, found beside the model's weights where "own" asks for that."""
    if memory is None:
        return None
    from samed2.nn.weights import memory_file

    return memory_file(model, memory)


def load_predictor(
    model: str, device: str | None, memory: Path | None, precision: str | None = None, task: str | None = None
) -> Predictor:
    """Return the predictor of a model, with a memory file when one is given, that knows a task when one is given."""
    if memory is not None and not memory.exists():
        raise InputError(f"--memory {memory}: does not exist; check the path")
    from samed2.predict import Predictor
    from samed2.predict.recall import check_task

    predictor = Predictor.from_pretrained(model, device=device, memory=memory, precision=precision)
    if task is not None and predictor.memory is not None:
        check_task(predictor.memory, task)
    return predictor


def _one_of(option: str, value: str | None, wanted: tuple[str, ...]) -> None:
    if value is not None and value not in wanted:
        raise InputError(f"{option}: got {value!r}, wanted {', '.join(wanted[:-1])} or {wanted[-1]}")


def _plans(found: list[Path], out: str | None, formats: list[str], overlay: bool) -> dict[Path, Files]:
    """The result files of each case, checked before any work is done."""
    names = cases.names_of(found)
    to_file = out is not None and not outputs.is_folder(out, len(found))
    plans = {}
    for case in found:
        chosen = formats or ([] if to_file else [cases.default_format(case)])
        plans[case] = outputs.plan(case, out, len(found), chosen, overlay, names[case])
    outputs.check(plans)
    return plans


def _check_report(report: Path | None, files: dict[Path, Files], others: list[Path | None]) -> None:
    taken = [*files, *(path for plan in files.values() for _, path in plan), *(path for path in others if path)]
    if report is not None and report.resolve() in {path.resolve() for path in taken}:
        raise InputError(f"--report {report}: is a case, its prompts or its result; give another name")


def _facts(batch: Batch, prompts: Path | None) -> dict[str, Any]:
    """What the report says of the whole run."""
    from importlib import metadata

    from samed2 import __version__

    versions = {name: metadata.version(name) for name in ("torch", "transformers", "numpy")}
    return {
        "command": sys.argv[1:],
        "versions": {"samed2": __version__, "python": platform.python_version(), **versions},
        "options": {**asdict(batch.reading), **asdict(batch.method)},
        "prompts": str(prompts) if prompts is not None else None,
        "memory": str(batch.memory) if batch.memory is not None else None,
        "model": None,
    }
