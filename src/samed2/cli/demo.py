"""`samed2 demo`: segments real images that come with the dependencies and writes overlays to look at."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from samed2.cli import outputs
from samed2.cli.console import track, warn
from samed2.cli.outputs import print_objects, write_all
from samed2.cli.segment import MODEL, load_predictor
from samed2.errors import InputError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Case:
    """A file inside an installed package, and hand-drawn boxes (x0, y0, x1, y1) in pixels by object name."""

    name: str
    package: str
    file: str
    objects: dict[str, list[Box]]
    modality: str | None = None
    window: str | None = None


CASES = (
    Case(
        "ct_spine",
        "pydicom",
        "data/test_files/CT_small.dcm",
        {
            "vertebral body": [(43, 6, 78, 47)],
            "spinal canal": [(46, 41, 71, 62)],
            "aorta": [(73, 0, 112, 31)],
        },
        window="mediastinum",
    ),
    Case(
        "mr_abdomen",
        "pydicom",
        "data/test_files/examples_overlay.dcm",
        {
            "liver": [(52, 80, 178, 196)],
            "liver lesion": [(116, 107, 168, 165)],
            "right kidney": [(115, 189, 184, 251)],
            "left kidney": [(287, 197, 349, 253)],
            "spleen": [(353, 118, 403, 232)],
        },
    ),
    Case("mr_small", "pydicom", "data/test_files/MR_small.dcm", {"ring": [(34, 27, 50, 46)]}),
    Case(
        "us_lymph_node",
        "pydicom",
        "data/test_files/examples_rgb_color.dcm",
        {"lymph node": [(37, 80, 159, 142), (159, 80, 266, 133)]},
        modality="ultrasound",
    ),
    Case("fundus", "skimage", "data/retina.jpg", {"optic disc": [(122, 530, 326, 765)]}, modality="fundus"),
)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the overlays and masks.")] = Path("demo"),
    model: Annotated[str, typer.Option(help=MODEL)] = "nano",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. (default: the best there is)")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Segment real images that come with the dependencies; nothing is downloaded."""
    files: list[tuple[Case, Path]] = []
    for case in CASES:
        path = _locate(case)
        if path is None:
            warn(f"demo: {case.name} left out, the installed {case.package} has no {case.file}")
        else:
            files.append((case, path))
    if not files:
        raise InputError("demo: found none of its images in pydicom and scikit-image; install them again")
    plans = {path: [("overlay", out / f"{case.name}_overlay.png")] for case, path in files}
    outputs.check(plans)
    predictor = load_predictor(model, device, None)
    from samed2.io import read
    from samed2.prompts import Prompts

    for case, path in track(files, len(files), "segmenting", quiet):
        scan = read(path, modality=case.modality)
        prompts = Prompts()
        for number, (name, boxes) in enumerate(case.objects.items(), start=1):
            prompts.add_object(number, name=name)
            for x0, y0, x1, y1 in boxes:
                prompts.add_box(number, 0, y0, x0, y1, x1)
        result = predictor.segment(scan, prompts, window=case.window)
        targets = [(name, out / f"{case.name}{ending}") for name, ending in outputs.SUFFIXES.items() if name != "nifti"]
        write_all(result, scan, targets, case.window)
        print_objects(case.name, result.to_dict())
    print(f"wrote {len(files)} overlays to {out}")


def _locate(case: Case) -> Path | None:
    """Return the case's file inside the installed package, without importing it; None where it is missing."""
    spec = importlib.util.find_spec(case.package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / case.file
    return path if path.is_file() else None
