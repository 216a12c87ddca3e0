"""Prompts in three dimensions: boxes over slices, and places in patient millimetres."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError
from samed2.io.scan import Scan
from samed2.io.series_grid import Grid
from samed2.io.slicing import ORDERS, stored_geometry
from samed2.prompts.types import Box, Prompts

SPACES = ("RAS", "LPS")
Spans = dict[int, tuple[int, int]]


class CasePrompts(NamedTuple):
    """The prompts of one scan, and per object id the first and last frame that it may lie on.

    An object without a span may lie on any frame.
    """

    prompts: Prompts
    spans: Spans


def widen(spans: Spans, object_id: int, first: int, last: int) -> None:
    """Let an object lie on the frames from first to last, too."""
    before = spans.get(object_id, (first, last))
    spans[object_id] = (min(before[0], first), max(before[1], last))


def slices_of_box(z0: float, z1: float) -> tuple[int, int]:
    """First and last slice whose middle lies in the half-open range, slices 2 to 4 being 2 to 5; first > last: none."""
    return math.ceil(z0 - 0.5), math.ceil(z1 - 0.5) - 1


def box_over_slices(corner: ArrayLike, opposite: ArrayLike, scan: Scan, where: str) -> tuple[Box, tuple[int, int]]:
    """The box on the middle slice, and the first and last slice, of a 3-D box cut to the scan.

    Args:
        corner, opposite: (frame, y, x) of its ends, half-open: slices 2 to 4 are 2 to 5.

    Raises:
        InputError: turned round, empty, or outside the scan's slices.
    """
    (z0, y0, x0), (z1, y1, x1) = np.asarray(corner, dtype=float), np.asarray(opposite, dtype=float)
    said = f"x0={x0:g}, y0={y0:g}, z0={z0:g}, x1={x1:g}, y1={y1:g}, z1={z1:g}"
    if z1 < z0 or y1 < y0 or x1 < x0:
        raise InputError(f"{where}: {said} is turned round, wanted x0 < x1, y0 < y1 and z0 < z1")
    first, last = slices_of_box(z0, z1)
    if first > last:
        raise InputError(f"{where}: {said} holds no slice, wanted z0 < z1, the first slice and one past the last")
    if last < 0 or first >= scan.num_frames:
        raise InputError(
            f"{where}: slices {first} to {last} do not exist, wanted some of 0 to {scan.num_frames - 1} ({scan.label})"
        )
    first, last = max(first, 0), min(last, scan.num_frames - 1)
    return Box((first + last) // 2, y0, x0, y1, x1), (first, last)


class Places:
    """From patient millimetres to the voxels of a scan, however it is cut and wherever its slices truly lie.

    Raises:
        InputError: the scan does not say where it lies; the field at `where` wanted to know.
    """

    def __init__(self, scan: Scan, where: str) -> None:
        if not scan.geometry.known:
            raise InputError(
                f"{where}: is in mm, but {scan.label} does not say where it lies in the patient; give voxels instead"
            )
        self._scan = scan
        self._order = ORDERS[int(scan.properties.get("axis", 0))]
        stored = [scan.shape[i] for i in np.argsort(self._order)]
        origins = scan.properties.get("frame_positions_lps")
        uneven = origins is not None and scan.properties.get("evenly_spaced") is False
        self._grid = Grid(
            stored_geometry(scan.geometry, scan.properties),
            (stored[0], stored[1], stored[2]),
            np.asarray(origins, dtype=np.float64) * (-1, -1, 1) if uneven else None,
        )

    def voxels(self, millimetres: ArrayLike, space: str) -> NDArray[np.float64]:
        """(frame, y, x) of points (..., 3) in RAS+ or LPS+ mm; the middle of a voxel has whole numbers."""
        points = np.asarray(millimetres, dtype=np.float64) * ((-1, -1, 1) if space == "LPS" else (1, 1, 1))
        return self._grid.to_voxel(points)[..., list(self._order)]

    def box(self, ends: list[float], space: str, where: str) -> tuple[Box, tuple[int, int] | None]:
        """The box on the middle slice, and its slices, of [x0, y0, z0, x1, y1, z1] in mm; no slices of a flat box.

        A box along the patient's axes becomes the smallest one along the scan's that holds it.
        """
        first, second = np.array(ends[:3]), np.array(ends[3:])
        if (first > second).any():
            raise InputError(f"{where}: {ends} mm is turned round, wanted x0 < x1, y0 < y1 and z0 < z1")
        corners = self.voxels([*product(*zip(first, second, strict=True))], space) + 0.5  # from middles to edges
        low, high = corners.min(axis=0), corners.max(axis=0)
        self._inside(low, high, ends, space, where)
        if slices_of_box(low[0], high[0])[0] > slices_of_box(low[0], high[0])[1]:  # thinner than a slice
            frame = int(np.clip(math.floor((low[0] + high[0]) / 2), 0, self._scan.num_frames - 1))
            return Box(frame, low[1], low[2], high[1], high[2]), None
        return box_over_slices(low, high, self._scan, where)

    def point(self, place: list[float], space: str, where: str) -> tuple[int, float, float]:
        """(frame, y, x) of [x, y, z] in mm, on the nearest slice."""
        voxel = self.voxels(place, space)
        self._inside(voxel + 0.5, voxel + 0.5, place, space, where)
        frame, y, x = voxel
        _, height, width = self._scan.shape
        nearest = int(np.clip(np.rint(frame), 0, self._scan.num_frames - 1))
        return nearest, float(np.clip(y, 0, height - 1)), float(np.clip(x, 0, width - 1))

    def _inside(
        self, low: NDArray[np.float64], high: NDArray[np.float64], said: list[float], space: str, where: str
    ) -> None:
        """Refuse what lies beside the scan; edges run from 0 to the number of voxels."""
        if (high >= 0).all() and (low <= self._scan.shape).all():
            return
        raise InputError(
            f"{where}: {', '.join(f'{v:g}' for v in said)} mm ({space}) lies outside the volume, which reaches over "
            f"{self._extent(space)} ({self._scan.label})"
        )

    def _extent(self, space: str) -> str:
        """The volume's own reach, for a message."""
        ends = [*product(*((-0.5, n - 0.5) for n in self._grid.shape))]
        points = self._grid.geometry.to_mm(ends)
        if self._grid.origins is not None:
            points = np.concatenate([points, self._grid.origins])
        points = points * ((-1, -1, 1) if space == "LPS" else (1, 1, 1))
        low, high = points.min(axis=0), points.max(axis=0)
        return ", ".join(f"{name} {a:.0f} to {b:.0f}" for name, a, b in zip("xyz", low, high, strict=True))
