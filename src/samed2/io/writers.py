"""The register of writers, and `write`, which picks one; every file appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.atomic import atomic_path, atomic_write
from samed2.io.scan import Scan
from samed2.io.segmentation import Segmentation, palette_color
from samed2.io.window import Window


@dataclass(frozen=True)
class Job:
    """What a writer gets: the segmentation, where it goes, and for pictures the scan and its window."""

    segmentation: Segmentation
    path: Path
    scan: Scan | None = None
    window: Window | str | None = None


WriteFunction = Callable[[Job], list[Path]]


@dataclass(frozen=True)
class Writer:
    """One format: its name, the suffixes its files must have, how it is written."""

    name: str
    suffixes: tuple[str, ...]
    write: WriteFunction


WRITERS: dict[str, Writer] = {}


def register_writer(name: str, suffixes: tuple[str, ...]) -> Callable[[WriteFunction], WriteFunction]:
    """Register the decorated `function(job) -> files written` as the writer of a format."""

    def add(function: WriteFunction) -> WriteFunction:
        WRITERS[name] = Writer(name, suffixes, function)
        return function

    return add


def write(
    segmentation: Segmentation,
    path: str | os.PathLike[str],
    format: str | None = None,
    scan: Scan | None = None,
    window: Window | str | None = None,
) -> list[Path]:
    """Write a segmentation and return the files written.

    Args:
        format: "label-png", "overlay", "nifti" or "json"; by the suffix when None (a PNG whose name ends with
            "overlay.png" is an overlay, any other a label PNG).
        scan: the scan it belongs to; needed for "overlay", and lets "nifti" keep the source's header codes.
        window: of the overlay; the scan's automatic one when None.

    Raises:
        InputError: unknown format or suffix, a scan of another size, or a place that cannot be written.
    """
    target = Path(path)
    writer = _pick(target, format)
    if not target.name.lower().endswith(writer.suffixes):
        raise InputError(f"{path}: {writer.name} files end with {' or '.join(writer.suffixes)}; rename the output")
    if scan is not None and scan.shape != segmentation.shape:
        raise InputError(
            f"{path}: the scan {scan.label} has shape {scan.shape}, "
            f"the segmentation {segmentation.shape} (frames, height, width), wanted the same"
        )
    return writer.write(Job(segmentation, target, scan, window))


def _pick(path: Path, name: str | None) -> Writer:
    if name is not None:
        if name not in WRITERS:
            raise InputError(f"format: unknown {name!r}, wanted one of {', '.join(WRITERS)}")
        return WRITERS[name]
    lower = path.name.lower()
    if lower.endswith("overlay.png"):
        return WRITERS["overlay"]
    for writer in WRITERS.values():
        if lower.endswith(writer.suffixes):
            return writer
    known = ", ".join(dict.fromkeys(ending for writer in WRITERS.values() for ending in writer.suffixes))
    raise InputError(f"{path}: unknown ending, wanted one of {known}; or say the format")


@register_writer("label-png", (".png",))
def write_label_png(job: Job) -> list[Path]:
    """Pixel value = object id: 8 bits with the objects' colours as palette, 16 bits grey above id 255.

    Several frames become NAME_0001.png (frame 0), NAME_0002.png and so on, all of them or none.
    """
    labels = job.segmentation.labels
    top = max([int(labels.max()), *(entry.id for entry in job.segmentation.objects)])
    colors = _palette(job.segmentation)
    if len(labels) == 1:
        targets = [job.path]
    else:
        digits = max(4, len(str(len(labels))))
        ending = job.path.suffix
        base = job.path.name[: -len(ending)]
        targets = [job.path.with_name(f"{base}_{i:0{digits}d}{ending}") for i in range(1, len(labels) + 1)]
    with contextlib.ExitStack() as stack:
        for target, frame in zip(targets, labels, strict=True):
            temporary = stack.enter_context(atomic_path(target))
            _save_label_png(temporary, frame, colors if top <= 255 else None)
    return targets


def _save_label_png(path: Path, frame: NDArray[Any], colors: list[int] | None) -> None:
    from PIL import Image

    if colors is None:
        image = Image.fromarray(np.ascontiguousarray(frame.astype(np.uint16)))
    else:
        image = Image.fromarray(np.ascontiguousarray(frame.astype(np.uint8)))
        image.putpalette(colors)
    image.save(path, format="PNG", optimize=False)


def _palette(segmentation: Segmentation) -> list[int]:
    """256 colours, flat, as PNG wants them."""
    chosen = {entry.id: entry.color for entry in segmentation.objects}
    return [int(part) for value in range(256) for part in (chosen.get(value) or palette_color(value))]


@register_writer("nifti", (".nii", ".nii.gz"))
def write_nifti(job: Job) -> list[Path]:
    """Axes (x, y, frame) with the scan's affine; NIfTI-2 where a side is too long for NIfTI-1.

    Without known geometry the pixel grid is laid down so that viewers show it upright, one unit per pixel;
    a scan that came from a NIfTI file without geometry gives one back.
    """
    import nibabel as nib

    segmentation = job.segmentation
    data = np.ascontiguousarray(segmentation.labels.transpose(2, 1, 0))
    source = job.scan.properties if job.scan is not None else segmentation.properties
    known, from_nifti = segmentation.geometry.known, source.get("reader") == "NIfTI"
    kind = nib.Nifti1Image if max(data.shape) <= 32767 else nib.Nifti2Image
    affine = segmentation.geometry.to_xyz() if known else np.diag([-1.0, -1.0, 1.0, 1.0])
    image: Any = kind(data, affine if known or not from_nifti else None, dtype=data.dtype)
    if known or not from_nifti:
        qform, sform = int(source.get("qform_code", 1)), int(source.get("sform_code", 1))
        if not (known and from_nifti) or not (qform or sform):
            qform = sform = 1 if known else 2
        image.set_qform(affine, code=qform or sform)
        image.set_sform(affine, code=sform or qform)
    image.header.set_xyzt_units("mm" if known else 0)
    image.header["descrip"] = b"SAMed-2 label map"
    with atomic_path(job.path) as temporary:
        nib.save(image, temporary)
    return [job.path]


@register_writer("json", (".json",))
def write_json(job: Job) -> list[Path]:
    """`Segmentation.to_dict()`: objects, areas, confidences, provenance; no pixels."""
    text = json.dumps(job.segmentation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    return [atomic_write(job.path, text + "\n")]
