"""`samed2 segment`: images and prompts in, masks on the images' own grid out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samed2.cli import outputs
from samed2.cli.console import complain, frame_progress, print_json, track, warn
from samed2.cli.prompt_options import ObjectOptions, build_prompts, parse_objects
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.io import Scan, Segmentation
    from samed2.predict import Predictor
    from samed2.prompts import Prompts

Texts = list[str] | None
MODEL = "The model: a built-in name such as nano, a folder, or a SAM 2 / 2.1 checkpoint of the hub."
MODALITIES = "ct, mr, ultrasound, xray, fundus, ..."


@dataclass(frozen=True)
class Job:
    """How every image of one call is segmented and written."""

    window: str | None
    formats: list[str]
    overlay: bool
    out: str | None
    frame: int | None
    modality: str | None
    propagate: str | None
    settings: dict[str, Any]


def segment(
    images: Annotated[list[Path], typer.Argument(help="Images or volumes: PNG, JPEG, BMP, TIFF, DICOM, NIfTI.")],
    box: Annotated[Texts, typer.Option(help="[NAME=]x0,y0,x1,y1 in pixels. Repeat for parts.")] = None,
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
    prompts: Annotated[Path | None, typer.Option(help="Prompts as a JSON file, for one image or many.")] = None,
    frame: Annotated[int | None, typer.Option(min=0, help="The frame or slice that is prompted, from 0.")] = None,
    propagate: Annotated[
        str | None,
        typer.Option(help="Follow the objects through the volume or video: forward, backward or both."),
    ] = None,
    model: Annotated[str, typer.Option(help=MODEL)] = "nano",
    memory: Annotated[Path | None, typer.Option(help="A memory file to read similar cases from.")] = None,
    window: Annotated[
        str | None,
        typer.Option(help="auto, file, full, percentiles[:LO,HI], CENTRE,WIDTH or a CT preset such as lung."),
    ] = None,
    modality: Annotated[str | None, typer.Option(help=f"What the file shows: {MODALITIES}")] = None,
    out: Annotated[str | None, typer.Option(help="File (one image) or folder of the results. (default: here)")] = None,
    formats: Annotated[
        Texts,
        typer.Option("--format", help=f"Repeatable: {', '.join(outputs.SUFFIXES)}. (default: by --out or the image)"),
    ] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write a picture with contours.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. (default: the best there is)")] = None,
    multimask: Annotated[bool, typer.Option("--multimask", help="Choose among three proposals.")] = False,
    zoom: Annotated[bool, typer.Option("--zoom/--no-zoom", help="Look at a crop around the prompt.")] = True,
    mirror: Annotated[bool, typer.Option("--mirror", help="Also look at the mirror image; twice the time.")] = False,
    fill_holes: Annotated[int, typer.Option(min=0, help="Fill holes up to this many pixels.")] = 0,
    min_area: Annotated[int, typer.Option(min=0, help="Drop separate parts below this many pixels.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Segment what is boxed, pointed at or masked, and write the masks on each image's own grid."""
    objects = parse_objects(box or [], point or [], mask or [], names or [])
    settings = {
        "multimask": multimask,
        "zoom": zoom,
        "mirror": mirror,
        "fill_holes": fill_holes,
        "min_area": min_area,
    }
    if propagate not in (None, "forward", "backward", "both"):
        raise InputError(f"--propagate: got {propagate!r}, wanted forward, backward or both")
    job = Job(window, list(formats or []), overlay, out, frame, modality, propagate, settings)
    chosen = _prompts_of(images, objects, prompts, frame)
    plans = {image: _plan(image, job, len(images)) for image in images}
    outputs.check(plans)
    predictor = load_predictor(model, device, memory) if len(images) > 1 else None
    results: list[dict[str, Any]] = []
    failed = 0
    for image in track(images, len(images), "segmenting", quiet):
        try:
            scan, found = _ready(image, job, objects, chosen.get(image))
            predictor = predictor or load_predictor(model, device, memory)
            results.append(_run(predictor, scan, found, job, plans[image], as_json, quiet))
        except InputError as error:
            if len(images) == 1:
                raise
            complain(str(error))
            failed += 1
    if as_json:
        print_json(results)
    if failed:
        raise InputError(f"{failed} of {len(images)} images could not be segmented, see above")


def load_predictor(model: str, device: str | None, memory: Path | None) -> Predictor:
    """Return the predictor of a model, with a memory file when one is given."""
    if memory is not None and not memory.exists():
        raise InputError(f"--memory {memory}: does not exist; check the path")
    from samed2.predict import Predictor

    return Predictor.from_pretrained(model, device=device, memory=memory)


def _ready(image: Path, job: Job, objects: list[ObjectOptions], given: Prompts | None) -> tuple[Scan, Prompts]:
    """Read an image and check its prompts and window, before the model is loaded for a single one."""
    from samed2.io import read, resolve_window

    scan = read(image, modality=job.modality)
    prompts = given if given is not None else build_prompts(objects, scan, job.frame)
    prompts.validate(scan)
    resolve_window(scan, job.window)
    return scan, prompts


def _plan(image: Path, job: Job, images: int) -> list[tuple[str, Path]]:
    volume = image.name.lower().endswith((".nii", ".nii.gz"))
    to_file = job.out is not None and not outputs.is_folder(job.out, images)
    formats = job.formats or ([] if to_file else ["nifti" if volume else "label-png"])
    return outputs.plan(image, job.out, images, formats, job.overlay)


def _prompts_of(
    images: list[Path], objects: list[ObjectOptions], file: Path | None, frame: int | None
) -> dict[Path, Prompts]:
    """Return the prompts that a file gives each image; {} where the options of the line are to be used."""
    if file is None:
        if not objects:
            raise InputError("no prompt: got no --box, --point, --mask or --prompts; give at least one")
        return {}
    if objects or frame is not None:
        raise InputError(f"--prompts {file}: cannot be combined with --box, --point, --mask or --frame")
    from samed2.prompts import from_json, images_from_json, is_for_many_images

    if not is_for_many_images(file):
        shared = from_json(file)
        return dict.fromkeys(images, shared)
    given = images_from_json(file)
    found = {}
    for image in images:
        keys = [key for key in (str(image), image.as_posix(), image.name) if key in given]
        if not keys:
            known = ", ".join(list(given)[:5]) + (", ..." if len(given) > 5 else "")
            raise InputError(f"{file}: has no prompts for {image}; its images are {known}")
        found[image] = given[keys[0]]
    return found


def _run(
    predictor: Predictor,
    scan: Scan,
    prompts: Prompts,
    job: Job,
    files: list[tuple[str, Path]],
    as_json: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Segment one scan, write its files, and print one line per object unless JSON was asked for."""
    start = time.perf_counter()
    with frame_progress(scan.num_frames, quiet or job.propagate is None) as step:
        direction: Any = job.propagate
        result = predictor.segment(scan, prompts, window=job.window, propagate=direction, progress=step, **job.settings)
    seconds = time.perf_counter() - start
    for message in scan.warnings:
        warn(message)
    written = write_all(result, scan, files, job.window)
    summary = result.to_dict()
    if not as_json:
        print_objects(scan.label, summary)
        print(f"{scan.label}: wrote {', '.join(str(path) for path in written)} ({seconds:.2f} s)")
    return {"image": scan.label, "files": [str(path) for path in written], **summary}


def write_all(result: Segmentation, scan: Scan, files: list[tuple[str, Path]], window: str | None) -> list[Path]:
    """Write a segmentation in each format and return the files written."""
    from samed2.io.writers import write

    outputs.make_folders(files)
    written: list[Path] = []
    for name, path in files:
        written += write(result, path, format=name or None, scan=scan, window=window)
    return written


def print_objects(label: str, summary: dict[str, Any]) -> None:
    """Print one line per object of `Segmentation.to_dict()`: name, area, confidence."""
    for entry in summary["objects"]:
        confidence = entry.get("confidence") or {}
        best = max((value for value in confidence.values() if value is not None), default=None)
        parts = [f"{entry['area_px']} px"]
        if entry.get("area_mm2") is not None:
            parts.append(f"{entry['area_mm2']:.1f} mm2")
        if entry.get("volume_ml") is not None:
            parts.append(f"{entry['volume_ml']:.2f} ml")
        if best is not None:
            parts.append(f"confidence {best:.2f}")
        print(f"{label}: {entry['name'] or 'object ' + str(entry['id'])}: {', '.join(parts)}")
