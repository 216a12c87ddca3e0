"""Outlines of masks as polygons: sub-pixel edges, holes, and polygons without holes by a key-hole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]  # (n, 2) of (y, x), pixel centres at whole numbers, the first point not repeated


def polygons(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """One [outer ring, hole, ...] per part of an (H, W) mask, see `parts`."""
    return [rings for rings, _ in parts(mask)]


def parts(mask: NDArray[np.bool_]) -> list[tuple[list[Ring], int]]:
    """([outer ring, hole, ...], number of pixels) of each part of an (H, W) mask, in reading order.

    Rings run half-way between pixels inside and outside, so the pixels whose centres they enclose are those of the
    mask. Pixels that touch at a corner only are separate parts. Outer rings have positive and holes negative
    `signed_area`.
    """
    from scipy.ndimage import label
    from skimage.measure import find_contours

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    corner = np.array([rows[0], columns[0]])
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    numbers, count = label(padded)
    groups: list[list[Ring]] = [[] for _ in range(count)]
    for line in find_contours(padded.astype(np.float32), 0.5):  # joins corners of background, not of the mask
        ring = _corners_only(line[:-1])
        low, high = np.floor(line[0]).astype(int), np.ceil(line[0]).astype(int)
        part = max(numbers[tuple(low)], numbers[tuple(high)])  # an edge lies between a pixel inside and one outside
        groups[part - 1].append(ring + (corner - 1))
    sizes = np.bincount(numbers.ravel())[1:]
    return [(_outer_first(group), int(size)) for group, size in zip(groups, sizes, strict=True)]


def signed_area(ring: Ring) -> float:
    """The enclosed area in square pixels; positive where x over y, as on a page with y up, runs counter-clockwise."""
    y, x = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def keyhole(rings: list[Ring]) -> Ring:
    """One ring that encloses the same area as an outer ring less its holes.

    Each hole is reached over a line that is walked there and back, so filling by either rule (even-odd or
    winding) leaves the hole open (DICOM PS3.3 C.8.8.6.3).
    """
    from scipy.spatial import cKDTree

    joined, holes = rings[0], list(rings[1:])
    while holes:
        tree = cKDTree(joined)
        found = [tree.query(hole) for hole in holes]
        nearest = int(np.argmin([distance.min() for distance, _ in found]))  # the nearest first: lines cross no hole
        distance, index = found[nearest]
        hole, start = holes.pop(nearest), int(distance.argmin())
        at = int(index[start])
        walk = np.concatenate([hole[start:], hole[: start + 1]])
        joined = np.concatenate([joined[: at + 1], walk, joined[at:]])
    return joined


def _corners_only(ring: Ring) -> Ring:
    """Without the points in the middle of straight runs."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return ring[turns]


def _outer_first(group: list[Ring]) -> list[Ring]:
    areas = [signed_area(ring) for ring in group]
    outer = int(np.argmax(np.abs(areas)))
    order = [outer, *(i for i in range(len(group)) if i != outer)]
    return [group[i] if (areas[i] > 0) == (i == outer) else group[i][::-1] for i in order]
