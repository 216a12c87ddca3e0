"""The register of writers, and `write`, which picks one; every file appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.atomic import atomic_path, atomic_write, together
from samed2.io.scan import Scan
from samed2.io.segmentation import Segmentation, palette_color
from samed2.io.slicing import stored_geometry, to_stored
from samed2.io.window import Window


@dataclass(frozen=True)
class Job:
    """What a writer gets: the segmentation, where it goes, and for pictures the scan and its window."""

    segmentation: Segmentation
    path: Path
    scan: Scan | None = None
    window: Window | str | None = None

    @property
    def properties(self) -> dict[str, Any]:
        """What the reader kept of the source file."""
        return self.scan.properties if self.scan is not None else self.segmentation.properties

    @property
    def stored(self) -> Segmentation:
        """The segmentation on the grid of the source file: brought back when the scan was cut along another axis.

        What is known per frame (confidence, presence) belongs to the frames as cut and stays behind then.
        """
        if not self.properties.get("axis"):
            return self.segmentation
        properties = {key: value for key, value in self.properties.items() if key != "axis"}
        return replace(
            self.segmentation,
            labels=to_stored(self.segmentation.labels, self.properties),
            objects=[replace(entry, confidence={}, present={}) for entry in self.segmentation.objects],
            geometry=stored_geometry(self.segmentation.geometry, self.properties),
            properties=properties,
        )


WriteFunction = Callable[[Job], list[Path]]


@dataclass(frozen=True)
class Writer:
    """One format: its name, the suffixes its files must have, how it is written.

    `endings` are ends of names that choose it where another format has the same suffix ("overlay.png").
    """

    name: str
    suffixes: tuple[str, ...]
    write: WriteFunction
    endings: tuple[str, ...] = ()


WRITERS: dict[str, Writer] = {}


def register_writer(
    name: str, suffixes: tuple[str, ...], endings: tuple[str, ...] = ()
) -> Callable[[WriteFunction], WriteFunction]:
    """Register the decorated `function(job) -> files written` as the writer of a format; arguments as of `Writer`."""

    def add(function: WriteFunction) -> WriteFunction:
        WRITERS[name] = Writer(name, suffixes, function, endings)
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
        format: a name in `WRITERS` (docs/formats.md); by the end of the file's name when None: a PNG whose name
            ends with "overlay.png" is an overlay, any other a label PNG; "rtstruct.dcm" is an RTSTRUCT, any
            other ".dcm" a DICOM SEG; "measures.json" holds measurements, any other ".json" the description.
        scan: the scan it belongs to; needed for pictures, and for DICOM when the segmentation does not carry the
            properties of its source.
        window: of pictures; the scan's automatic one when None.

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
    for writer in WRITERS.values():
        if writer.endings and lower.endswith(writer.endings):
            return writer
    fitting = [writer for writer in WRITERS.values() if lower.endswith(writer.suffixes)]
    if fitting:
        return min(fitting, key=lambda writer: bool(writer.endings))  # the one that needs no special name
    known = ", ".join(dict.fromkeys(ending for writer in WRITERS.values() for ending in writer.suffixes))
    raise InputError(f"{path}: unknown ending, wanted one of {known}; or say the format")


@register_writer("label-png", (".png",))
def write_label_png(job: Job) -> list[Path]:
    """Pixel value = object id: 8 bits with the objects' colours as palette, 16 bits grey above id 255.

    Several frames become NAME_0001.png (frame 0), NAME_0002.png and so on, all of them or none.
    """
    labels = job.stored.labels
    top = max([1, *(entry.id for entry in job.segmentation.objects)])
    colors = _palette(job.segmentation)
    if len(labels) == 1:
        targets = [job.path]
    else:
        digits = max(4, len(str(len(labels))))
        ending = job.path.suffix
        base = job.path.name[: -len(ending)]
        targets = [job.path.with_name(f"{base}_{i:0{digits}d}{ending}") for i in range(1, len(labels) + 1)]
    with together(targets) as temporaries:
        for temporary, frame in zip(temporaries, labels, strict=True):
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

    segmentation = job.stored
    data = segmentation.labels.transpose(2, 1, 0)  # no copy: (T, H, W) in C order is (W, H, T) in Fortran order
    source = job.properties
    known, from_nifti = segmentation.geometry.known, source.get("reader") == "NIfTI"
    kind = nib.Nifti1Image if max(data.shape) <= 32767 else nib.Nifti2Image
    affine = segmentation.geometry.to_xyz() if known else np.diag([-1.0, -1.0, 1.0, 1.0])
    image: Any = kind(data, affine if known or not from_nifti else None, dtype=data.dtype)
    if known or not from_nifti:
        qform, sform = int(source.get("qform_code", 1)), int(source.get("sform_code", 1))
        if not (known and from_nifti) or not (qform or sform):
            qform = sform = 1 if known else 2
        turned = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        sheared = not np.allclose(turned.T @ turned, np.eye(3), atol=1e-4)
        image.set_qform(affine, code=0 if sheared else qform or sform)  # a quaternion cannot hold a shear
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
