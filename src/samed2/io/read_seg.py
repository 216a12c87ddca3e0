"""DICOM SEG: binary, fractional and label-map segmentations laid onto the grid of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import check_size, quiet, reading
from samed2.io.series_fields import Plane, item, label_text, whole
from samed2.io.series_grid import Grid

OFF = 0.1  # of a slice's distance: how far a SEG frame may lie from the slice it belongs to
Mask = NDArray[np.bool_]


def segment_labels(dataset: Any) -> dict[int, str]:
    """Segment number -> label, without a label map's background."""
    return {
        int(segment.SegmentNumber): label_text(segment.get("SegmentLabel"), f"segment {segment.SegmentNumber}")
        for segment in dataset.get("SegmentSequence", [])
        if int(segment.SegmentNumber) != 0
    }


def read_seg(path: Path, grid: Grid) -> dict[str, Mask]:
    """Label -> mask (T, H, W) on a grid; segments of one label are united.

    Raises:
        InputError: it cannot be decoded, is tilted against the slices, between them, or lies elsewhere.
    """
    import pydicom

    shape = grid.shape
    with reading(path, "DICOM SEG"), quiet():
        dataset = pydicom.dcmread(path)
        _check(path, dataset)
        frames = np.asarray(dataset.pixel_array)
        labels = segment_labels(dataset)
        kind = str(dataset.get("SegmentationType", "BINARY"))
        limit = float(dataset.get("MaximumFractionalValue") or 1) / 2 if kind == "FRACTIONAL" else 0.5
    frames = frames[None] if frames.ndim == 2 else frames
    masks = {label: np.zeros(shape, dtype=bool) for label in labels.values()}
    placed = 0
    for index, frame in enumerate(frames):
        groups = _Groups(path, dataset, index)
        found = place(groups.plane(), grid, f"{path}: frame {index + 1}")
        if found is None:
            continue
        slice_index, rows, columns, inside = found
        inside = inside & (rows < frame.shape[0]) & (columns < frame.shape[1])
        values = np.where(inside, frame[np.where(inside, rows, 0), np.where(inside, columns, 0)], 0)
        placed += 1
        if kind == "LABELMAP":
            for number, label in labels.items():
                masks[label][slice_index] |= values == number
        elif (number := groups.segment()) in labels:
            masks[labels[number]][slice_index] |= values >= limit
    if len(frames) and not placed:
        raise InputError(f"{path}: none of its {len(frames)} frames lies on a slice of the series")
    return masks


def _check(path: Path, dataset: Any) -> None:
    rows, columns = whole(dataset.get("Rows"), 0), whole(dataset.get("Columns"), 0)
    frames = max(1, whole(dataset.get("NumberOfFrames"), 1))
    bits = whole(dataset.get("BitsAllocated"), 8)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    packed = syntax is not None and (syntax.is_compressed or syntax.is_deflated)
    check_size(path, path.stat().st_size, rows, columns, frames * rows * columns * bits // 8, compressed=packed)


class _Groups:
    """The functional groups of one frame; what it lacks is shared by all."""

    def __init__(self, path: Path, dataset: Any, index: int) -> None:
        own = dataset.get("PerFrameFunctionalGroupsSequence") or []
        self._label = f"{path}: frame {index + 1}"
        self._levels = [own[index] if index < len(own) else {}, item(dataset, "SharedFunctionalGroupsSequence")]

    def _find(self, sequence: str) -> Any:
        for level in self._levels:
            if found := (item(level, sequence) if level else None):
                return found
        raise InputError(f"{self._label}: has no {sequence}, its place is not known")

    def plane(self) -> Plane:
        return Plane.of(
            self._find("PlanePositionSequence").get("ImagePositionPatient"),
            self._find("PlaneOrientationSequence").get("ImageOrientationPatient"),
            self._find("PixelMeasuresSequence").get("PixelSpacing"),
            self._label,
        )

    def segment(self) -> int:
        return whole(self._find("SegmentIdentificationSequence").get("ReferencedSegmentNumber"), -1)


def place(
    plane: Plane, grid: Grid, what: str
) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]] | None:
    """Slice number and, for its pixels (H, W), the nearest row and column of the frame; None beyond the scan.

    Raises:
        InputError: the frame is tilted against the slices or lies between two.
    """
    shape = grid.shape
    corners = plane.corners()
    voxels = grid.to_voxel(corners)  # (frame, y, x) of pixels (0, 0), (1, 0), (0, 1)
    start, down, right = voxels[0], voxels[1] - voxels[0], voxels[2] - voxels[0]
    if max(abs(down[0]), abs(right[0])) * max(shape[1:]) > 0.5:
        raise InputError(f"{what} is tilted against the slices of the series, wanted a parallel one")
    nearest = int(np.rint(start[0]))
    if not 0 <= nearest < shape[0]:
        return None
    if abs(start[0] - nearest) > OFF:
        raise InputError(f"{what} lies between slices {nearest} and its neighbour, wanted it on a slice of the series")
    inverse = np.linalg.inv(np.stack([down[1:], right[1:]], axis=1))
    y, x = np.mgrid[: shape[1], : shape[2]]
    offsets = np.stack([y - start[1], x - start[2]], axis=-1) @ inverse.T
    found = np.floor(offsets + 0.5 + 1e-6).astype(np.int64)
    rows, columns = found[..., 0], found[..., 1]
    return nearest, rows, columns, (rows >= 0) & (columns >= 0)
