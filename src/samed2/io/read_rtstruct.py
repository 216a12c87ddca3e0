"""DICOM RTSTRUCT: contours in patient millimetres filled on the grid of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import quiet, reading
from samed2.io.series_fields import label_text
from samed2.io.series_grid import Grid

Mask = NDArray[np.bool_]
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def roi_names(dataset: Any) -> dict[int, str]:
    """ROI number -> name, of those that have a closed contour."""
    drawn = {
        int(roi.ReferencedROINumber)
        for roi in dataset.get("ROIContourSequence", [])
        if any(str(c.get("ContourGeometricType")) in _CLOSED for c in roi.get("ContourSequence", []))
    }
    return {
        int(roi.ROINumber): label_text(roi.get("ROIName"), f"roi {roi.ROINumber}")
        for roi in dataset.get("StructureSetROISequence", [])
        if int(roi.ROINumber) in drawn
    }


def read_rtstruct(path: Path, grid: Grid, wanted: set[str] | None = None) -> dict[str, Mask]:
    """ROI name -> mask (T, H, W) on a grid; ROIs of one name are united.

    A contour inside the region of a larger one of its slice is a hole (and one inside a hole an island); contours that
    overlap otherwise are united. A pixel belongs to a contour when its centre does. Contours on slices that the series
    does not have are left out.

    Raises:
        InputError: it cannot be decoded, a contour crosses slices, or all lie elsewhere.
    """
    import pydicom

    with reading(path, "DICOM RTSTRUCT"), quiet():
        dataset = pydicom.dcmread(path)
        names = roi_names(dataset)
        contours = {
            int(roi.ReferencedROINumber): [
                np.asarray(contour.get("ContourData") or (), dtype=np.float64).reshape(-1, 3)
                for contour in roi.get("ContourSequence", [])
                if str(contour.get("ContourGeometricType")) in _CLOSED
            ]
            for roi in dataset.get("ROIContourSequence", [])
        }
    shape = grid.shape
    masks: dict[str, Mask] = {}
    inside = total = 0
    for number, name in names.items():
        if wanted is not None and name not in wanted:
            continue
        mask = masks.setdefault(name, np.zeros(shape, dtype=bool))
        by_slice: dict[int, list[NDArray[np.float64]]] = {}
        for points in contours[number]:
            if len(points) < 3:
                continue
            total += 1
            voxels = grid.to_voxel(points * (-1, -1, 1))  # LPS+ to RAS+
            index = _slice_of(voxels, f"{path}: a contour of {name}")
            if 0 <= index < shape[0]:
                inside += 1
                by_slice.setdefault(index, []).append(voxels[:, 1:])
        for index, several in by_slice.items():
            mask[index] |= fill_contours(several, shape[1:])
    if total and not inside:
        raise InputError(f"{path}: none of its {total} contours lies on a slice of the series")
    return masks


def fill_contours(contours: list[NDArray[np.float64]], shape: tuple[int, int]) -> Mask:
    """The region (H, W) of closed contours (n, 2) of (y, x) on one slice: nested ones are holes, others are united."""
    from skimage.draw import polygon2mask

    unique = {points.tobytes(): points for points in contours if len(points) >= 3}
    filled = [np.asarray(polygon2mask(shape, points)) for points in unique.values()]
    areas = [_area(points) for points in unique.values()]
    mask = np.zeros(shape, dtype=bool)
    for index in sorted(range(len(filled)), key=lambda i: -areas[i]):
        region = filled[index]
        nested = region.any() and bool(mask[region].all())
        mask = mask ^ region if nested else mask | region
    return mask


def _area(points: NDArray[np.float64]) -> float:
    y, x = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _slice_of(voxels: NDArray[np.float64], what: str) -> int:
    frames = voxels[:, 0]
    if float(np.ptp(frames)) > 0.5:
        raise InputError(f"{what} reaches over {float(np.ptp(frames)):.2g} slices, wanted contours within one slice")
    return int(np.rint(float(frames.mean())))
