"""A DICOM series of single-frame images as one volume: sorted by place, checked, read when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Geometry, Scan, read
from samed2.io.checks import quiet, reading

_TAGS = [
    "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "PhotometricInterpretation", "SOPInstanceUID",
]  # fmt: skip
_SAME = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")


@dataclass(frozen=True)
class Plane:
    """Where one DICOM image lies: LPS+ millimetres of pixel (0, 0), and the steps to the next row and column."""

    origin: NDArray[np.float64]
    down: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def of(cls, position: Any, orientation: Any, spacing: Any, what: object) -> Plane:
        """From ImagePositionPatient, ImageOrientationPatient and PixelSpacing (between rows, between columns).

        Raises:
            InputError: one is missing or not of numbers.
        """
        numbers = []
        for name, value, count in (
            ("ImagePositionPatient", position, 3),
            ("ImageOrientationPatient", orientation, 6),
            ("PixelSpacing", spacing, 2),
        ):
            try:
                numbers.append(np.array([float(item) for item in value], dtype=np.float64))
            except (TypeError, ValueError):
                numbers.append(np.zeros(0))
            if len(numbers[-1]) != count or not np.isfinite(numbers[-1]).all():
                raise InputError(f"{what}: DICOM field {name} is {value!r}, wanted {count} numbers")
        origin, axes, steps = numbers
        return cls(origin, axes[3:] * steps[0], axes[:3] * steps[1])

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the image."""
        across = np.cross(self.right, self.down)
        return np.asarray(across / max(float(np.linalg.norm(across)), 1e-12))

    def corners(self) -> NDArray[np.float64]:
        """RAS+ millimetres (3, 3) of pixels (0, 0), (1, 0) and (0, 1)."""
        return np.stack([self.origin, self.origin + self.down, self.origin + self.right]) * (-1, -1, 1)


def open_series(paths: Sequence[Path]) -> Scan:
    """The files of one series as a scan whose frames go along the slices' normal.

    Raises:
        InputError: slices differ in size or direction, are not evenly spaced, or two lie at one place.
    """
    headers = [_header(path) for path in paths]
    first = headers[0][1]
    for path, header in headers[1:]:
        for key in _SAME:
            if not _alike(first.get(key), header.get(key)):
                raise InputError(
                    f"{path}: {key} is {header.get(key)}, that of {paths[0].name} {first.get(key)}; "
                    "wanted the same for all slices of a series"
                )
    planes = [
        Plane.of(h.get("ImagePositionPatient"), h.get("ImageOrientationPatient"), h.get("PixelSpacing"), path)
        for path, h in headers
    ]
    normal = planes[0].normal
    order = np.argsort([float(plane.origin @ normal) for plane in planes], kind="stable")
    sorted_headers = [headers[i] for i in order]
    step = _step([planes[i] for i in order], sorted_headers, normal)
    affine = np.eye(4)
    plane = planes[order[0]]
    affine[:3] = np.stack([step, plane.down, plane.right, plane.origin], axis=1)
    affine[:2] *= -1  # DICOM's LPS+ to RAS+
    source = _SeriesSource([path for path, _ in sorted_headers], [header for _, header in sorted_headers])
    return Scan(
        source,
        name=paths[0].parent.name,
        path=paths[0].parent,
        kind="volume",
        geometry=Geometry(affine),
        properties={"reader": "DICOM", "sop_instance_uids": [str(h.get("SOPInstanceUID")) for _, h in sorted_headers]},
    )


def _header(path: Path) -> tuple[Path, Any]:
    import pydicom

    with reading(path, "DICOM"), quiet():
        return path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)


def _alike(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(np.asarray(one, dtype=float), np.asarray(other, dtype=float), rtol=0, atol=1e-4))


def _step(planes: list[Plane], headers: list[tuple[Path, Any]], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """LPS+ millimetres from one slice to the next; checked to be the same everywhere."""
    if len(planes) == 1:
        header = headers[0][1]
        thickness = float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0)
        return normal * (abs(thickness) or 1.0)
    places = np.array([float(plane.origin @ normal) for plane in planes])
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    for index, gap in enumerate(gaps):
        one, other = headers[index][0].name, headers[index + 1][0].name
        folder = headers[index][0].parent
        if gap < 1e-3:
            raise InputError(f"{folder}: slices {one} and {other} lie at one place, wanted one series without repeats")
        if abs(gap - usual) > max(0.01 * usual, 0.01):
            raise InputError(
                f"{folder}: slices {one} and {other} are {gap:.4g} mm apart, most are {usual:.4g} mm; "
                "wanted evenly spaced slices without gaps"
            )
    step = (planes[-1].origin - planes[0].origin) / (len(planes) - 1)
    off = max(
        float(np.linalg.norm(plane.origin - planes[0].origin - step * index)) for index, plane in enumerate(planes)
    )
    if off > max(0.05 * usual, 0.05):
        raise InputError(f"{headers[0][0].parent}: slices are shifted sideways by up to {off:.3g} mm, wanted a block")
    return np.asarray(step)


class _SeriesSource:
    """Slices in order; whole numbers stay whole after the rescale."""

    def __init__(self, paths: list[Path], headers: list[Any]) -> None:
        self._paths = paths
        self.dtype = _dtype(headers)
        self.shape = (len(paths), int(headers[0].Rows), int(headers[0].Columns), 1)

    def read(self, index: int) -> NDArray[Any]:
        frame = read(self._paths[index]).frame(0)
        if frame.shape != self.shape[1:3]:
            raise InputError(f"{self._paths[index]}: decodes to {frame.shape}, wanted {self.shape[1:3]}")
        return np.rint(frame).astype(self.dtype) if self.dtype.kind in "ui" else frame.astype(self.dtype)


def _dtype(headers: list[Any]) -> np.dtype[Any]:
    """The type that holds all slices' modality values (CT: Hounsfield units)."""
    low, high = 0.0, 0.0
    for header in headers:
        slope = float(header.get("RescaleSlope") or 1.0)
        intercept = float(header.get("RescaleIntercept") or 0.0)
        if header.get("ModalityLUTSequence") or not (slope.is_integer() and intercept.is_integer()):
            return np.dtype(np.float32)
        bits = int(header.get("BitsStored") or header.get("BitsAllocated") or 16)
        signed = int(header.get("PixelRepresentation") or 0) == 1
        ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        values = [end * slope + intercept for end in ends]
        low, high = min(low, *values), max(high, *values)
    for kind in (np.uint8, np.uint16, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float32)
