"""Measurements of objects as a table (CSV) or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.io.atomic import atomic_write
from samed2.io.outlines import polygons
from samed2.io.scratch import walked
from samed2.io.segmentation import Segmentation, SegmentedObject, plain
from samed2.io.writers import Job, register_writer

FORMAT, FORMAT_VERSION = "samed2-measures", 1


@register_writer("measures", (".csv", ".json"), endings=("measures.json",))
def write_measures(job: Job) -> list[Path]:
    """One row per object, in the columns of `measure`; as CSV vectors are spread over columns."""
    segmentation = job.stored
    confidences = mean_confidences(job.segmentation)
    rows = [
        {**measure(segmentation, entry), "mean_confidence": confidence}
        for entry, confidence in zip(segmentation.objects, confidences, strict=True)
    ]
    if job.path.suffix.lower() == ".json":
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, "scan": segmentation.scan_name, "objects": rows}
        return [atomic_write(job.path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")]
    flat = [_spread(row) for row in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(_spread(measure_nothing())), lineterminator="\n")
    table.writeheader()
    table.writerows(flat)
    return [atomic_write(job.path, text.getvalue())]


def measure_nothing() -> dict[str, Any]:
    """The columns, without values."""
    return {
        "scan": "", "object": "", "id": 0, "frames": 0, "voxels": 0, "volume_ml": None, "unit": "px",
        "largest_area": None, "largest_area_frame": None, "diameter": None, "short_axis": None, "diameter_frame": None,
        "box": [None] * 6, "centroid_mm": [None] * 3, "extent_mm": [None] * 6, "mean_confidence": None,
    }  # fmt: skip


def measure(segmentation: Segmentation, entry: SegmentedObject) -> dict[str, Any]:
    """What can be measured of one object, without its confidence.

    None stands where it was not found, or where the size of pixels is not known.

    - `frames`, `voxels`: how many hold it; `volume_ml`: of several frames with known geometry.
    - `unit`: "mm" or "px", of the lengths; areas are in its square.
    - `largest_area` over the frames, and that frame.
    - `diameter`: the longest line within one frame between two edge points of one connected part, over all frames;
      `short_axis`: the longest line across it at a right angle within the convex outline of the same part.
    - `box`: (frame, y, x) of the first voxel and, half-open, past the last.
    - `centroid_mm`, `extent_mm`: RAS+ mm of the centre, and the smallest and largest of the edges of the voxels.
    """
    row = measure_nothing() | {"scan": segmentation.scan_name, "object": entry.label, "id": int(entry.id)}
    known = segmentation.geometry.known
    row["unit"] = "mm" if known else "px"
    metric = _in_plane(segmentation)
    pixel_area = abs(float(np.linalg.det(metric)))
    volumes = segmentation.voxel_volumes()
    volume, total, best = 0.0, np.zeros(3), 0.0
    low, high = np.full(3, np.iinfo(np.int64).max), np.full(3, -1)
    for frame, labels in enumerate(walked(segmentation.labels)):
        mask = labels == entry.id
        pixels = int(np.count_nonzero(mask))
        if not pixels:
            continue
        rows, columns = np.nonzero(mask)
        row["frames"] += 1
        row["voxels"] += pixels
        volume += pixels * float(volumes[frame])
        total += (frame * pixels, rows.sum(), columns.sum())
        low = np.minimum(low, (frame, rows.min(), columns.min()))
        high = np.maximum(high, (frame, rows.max(), columns.max()))
        if pixels * pixel_area > (row["largest_area"] or 0.0):
            row["largest_area"], row["largest_area_frame"] = pixels * pixel_area, frame
        long, short = diameters(mask, metric)
        if long > best:
            best, row["diameter"], row["short_axis"], row["diameter_frame"] = long, long, short, frame
    if not row["voxels"]:
        return row
    row["box"] = [*low.tolist(), *(high + 1).tolist()]
    if known:
        if len(segmentation.labels) > 1:
            row["volume_ml"] = volume / 1000
        row["centroid_mm"] = _centroid(segmentation, entry.id, total / row["voxels"])
        row["extent_mm"] = _extent(segmentation, low, high)
    rounded: dict[str, Any] = plain(_rounded(row))
    return rounded


def mean_confidences(segmentation: Segmentation) -> list[float | None]:
    """For each object the mean confidence over the frames that hold it, or over all where none does."""
    found: list[float | None] = []
    for entry, counts in zip(segmentation.objects, segmentation.pixel_counts().T, strict=True):
        finite = {frame: float(value) for frame, value in entry.confidence.items() if math.isfinite(value)}
        shown = [value for frame, value in finite.items() if frame < len(counts) and counts[frame]]
        values = shown or list(finite.values())
        found.append(round(float(np.mean(values)), 6) if values else None)
    return found


def diameters(mask: NDArray[np.bool_], metric: NDArray[np.float64]) -> tuple[float, float]:
    """The longest line between two edge points of one part of an (H, W) mask, and the longest one across it.

    Args:
        metric: (2, 2), takes (y, x) in pixels to lengths in the plane.
    """
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform

    best = (0.0, 0.0)
    for outer, *_ in polygons(mask):
        points = outer @ metric.T
        hull = points[ConvexHull(points).vertices]
        apart = squareform(pdist(hull))
        first, second = np.unravel_index(int(apart.argmax()), apart.shape)
        if apart[first, second] > best[0]:
            best = float(apart[first, second]), _across(hull, int(first), int(second))
    return best


def _across(hull: NDArray[np.float64], first: int, second: int) -> float:
    """The longest chord of a convex ring at a right angle to the line between two of its points."""
    axis = (hull[second] - hull[first]) / np.linalg.norm(hull[second] - hull[first])
    turned = (hull - hull[first]) @ np.stack([axis, [-axis[1], axis[0]]], axis=1)  # along the line, across it
    order = np.roll(turned, -first, axis=0)
    there = order[: (second - first) % len(hull) + 1]
    back = np.concatenate([order[(second - first) % len(hull) :], order[:1]])[::-1]
    at = np.unique(turned[:, 0])
    return float(np.abs(np.interp(at, *there.T) - np.interp(at, *back.T)).max())


def _in_plane(segmentation: Segmentation) -> NDArray[np.float64]:
    """(2, 2), takes (y, x) in pixels to millimetres in the plane of a frame, sheared pixels too."""
    if not segmentation.geometry.known:
        return np.eye(2)
    return np.asarray(np.linalg.qr(segmentation.geometry.affine[:3, 1:3])[1])


def _centroid(segmentation: Segmentation, object_id: int, voxel: NDArray[np.float64]) -> list[float]:
    if segmentation.frame_places() is None:
        return [float(value) for value in segmentation.geometry.to_mm(voxel)]
    total, weight = np.zeros(3), 0.0
    for frame, volume in enumerate(segmentation.voxel_volumes()):
        places = np.argwhere(segmentation.labels[frame] == object_id)
        if len(places):
            centre = np.array([[frame, *places.mean(axis=0)]])
            total += segmentation.to_mm(centre)[0] * volume * len(places)
            weight += volume * len(places)
    return [float(value) for value in total / weight]


def _extent(segmentation: Segmentation, low: NDArray[np.int64], high: NDArray[np.int64]) -> list[float]:
    ends = np.stack([low - 0.5, high + 0.5])
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    points = segmentation.to_mm(corners)
    return [float(value) for value in (*points.min(axis=0), *points.max(axis=0))]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(float(value), 6) if isinstance(value, (float, np.floating)) else value


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    """Vectors as one column for each number."""
    names = {
        "box": ("box_frame0", "box_y0", "box_x0", "box_frame1", "box_y1", "box_x1"),
        "centroid_mm": ("centroid_r_mm", "centroid_a_mm", "centroid_s_mm"),
        "extent_mm": ("extent_r0_mm", "extent_a0_mm", "extent_s0_mm", "extent_r1_mm", "extent_a1_mm", "extent_s1_mm"),
    }
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat.update(zip(names[key], value, strict=True) if key in names else {key: value})
    return flat
