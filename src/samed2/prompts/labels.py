"""An existing label map as prompts: every value becomes an object with a mask on each of its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.read_segments import read_segments
from samed2.io.readers import read
from samed2.io.scan import Scan
from samed2.io.series_files import is_dicom
from samed2.prompts.types import MAX_ID, Prompts

MOST_OBJECTS = 1000


def add_label_map(prompts: Prompts, path: Path, scan: Scan, where: str) -> None:
    """Add the objects of a label map, DICOM SEG or RTSTRUCT, their ids being its values, or 1, 2, ... of segments.

    A map on another grid of the same patient is met by its nearest voxels; without geometry it must have the scan's
    size.

    Raises:
        InputError: it cannot be read, is no label map, has another size, or nothing of it lies on the scan.
    """
    try:
        segments = _segments(path, scan)
        found = 0
        for frame, value, mask, name in _of_segments(segments) if segments else _of_labels(path, scan):
            found += 1
            prompts.add_object(value, name)
            prompts.add_mask(value, frame, mask)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if not found:
        raise InputError(f"{where}: {path}: has no label on {scan.label}, wanted at least one pixel above 0")


def _segments(path: Path, scan: Scan) -> dict[str, NDArray[np.bool_]]:
    """Masks of a DICOM SEG or RTSTRUCT; {} of any other file."""
    if not path.is_file():
        return {}
    with open(path, "rb") as handle:
        if not is_dicom(path.name, handle.read(132)):
            return {}
    return read_segments(path, scan)


def _of_segments(segments: dict[str, NDArray[np.bool_]]) -> Any:
    for value, (name, masks) in enumerate(segments.items(), start=1):
        for frame in np.flatnonzero(masks.any(axis=(1, 2))):
            yield int(frame), value, masks[frame], name


def _of_labels(path: Path, scan: Scan) -> Any:
    """(frame, value, mask, name) of each value on each frame of the scan."""
    labels = _label_png(path) or read(path, axis=scan.properties.get("axis"))
    names = _names(path)
    seen: set[int] = set()
    for frame, values in _on_grid(labels, scan):
        for value in _values(values, path):
            seen.add(value)
            if len(seen) > MOST_OBJECTS:
                raise InputError(f"{path}: holds more than {MOST_OBJECTS} values, wanted a label map, not an image")
            yield frame, value, values == value, names.get(value, "")


def _label_png(path: Path) -> Scan | None:
    """A PNG with a palette as its indices, which the reader turns into colours; None for any other file."""
    from PIL import Image

    if path.suffix.lower() != ".png":
        return None
    scan = read(path)  # checks the file
    with Image.open(path, formats=["PNG"]) as picture:
        if picture.mode != "P":
            return None
        return Scan.from_array(np.asarray(picture), name=scan.name, kind="image")


def _values(labels: NDArray[Any], path: Path) -> list[int]:
    if labels.ndim != 2:
        raise InputError(f"{path}: is in colour, wanted a label map with one value a pixel")
    values = np.unique(labels)
    if not np.isfinite(values).all() or (values != np.floor(values)).any() or values[0] < 0 or values[-1] > MAX_ID:
        raise InputError(f"{path}: holds values from {values[0]} to {values[-1]}, wanted whole numbers 0 to {MAX_ID}")
    return [int(value) for value in values if value > 0]


def _on_grid(labels: Scan, scan: Scan) -> Any:
    """(frame, labels (H, W)) for each frame of the scan that may hold some."""
    placed = labels.geometry.known and scan.geometry.known
    size = float(np.abs(scan.geometry.affine[:3, :3]).max())
    if labels.shape == scan.shape and (
        not placed or np.allclose(labels.geometry.affine, scan.geometry.affine, atol=0.01 * size)
    ):
        yield from enumerate(labels)
        return
    if not placed:
        raise InputError(
            f"{labels.label}: has shape {labels.shape} (frames, rows, columns), wanted {scan.shape} as {scan.label}"
        )
    yield from _nearest(labels, scan)


def _nearest(labels: Scan, scan: Scan) -> Any:
    """The label of the voxel that each of the scan's voxels lies in; 0 beside the map."""
    values = labels.frames()
    if values.ndim != 3:
        raise InputError(f"{labels.label}: is in colour, wanted a label map with one value a pixel")
    step = np.linalg.inv(labels.geometry.affine) @ scan.geometry.affine
    rows, columns = np.mgrid[: scan.height, : scan.width]
    flat = step[:3, 1, None, None] * rows + step[:3, 2, None, None] * columns + step[:3, 3, None, None]
    for frame in range(scan.num_frames):
        index = np.rint(flat + step[:3, 0, None, None] * frame).astype(np.int64)
        inside = ((index >= 0) & (index < np.array(labels.shape)[:, None, None])).all(axis=0)
        out = np.zeros((scan.height, scan.width), values.dtype)
        out[inside] = values[tuple(index[:, inside])]
        yield frame, out


def _names(path: Path) -> dict[int, str]:
    """The names that a 3D Slicer segmentation (.seg.nrrd) gives its values."""
    if not path.name.lower().endswith(".nrrd"):
        return {}
    from samed2.io.read_itk import metadata

    facts = metadata(path)
    names = {}
    for key, value in facts.items():
        if key.endswith("_LabelValue") and value.isdigit():
            names[int(value)] = facts.get(key.removesuffix("_LabelValue") + "_Name", "")
    return names
