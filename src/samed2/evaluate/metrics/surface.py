"""Distances between the surfaces of two masks, in millimetres; `docs/metrics.md` has the definitions in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError
from samed2.evaluate.metrics.overlap import Mask, as_masks
from samed2.io import Geometry

TOLERANCE = 2.0  # mm, or px where the spacing is unknown: that of the interactive 3D challenge
PERCENTILE = 95.0
DENSE = 0.25  # share of surface voxels in the box above which a distance transform beats a tree (measured, 2-D and 3-D)

Distances = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """How far each surface voxel of one mask lies from the nearest surface voxel of the other.

    Attributes:
        a_to_b: (n,) one distance per surface voxel of A; infinite where B is empty.
        b_to_a: (m,) one per surface voxel of B; infinite where A is empty.
    """

    a_to_b: Distances
    b_to_a: Distances

    def within(self, tolerance: float = TOLERANCE) -> float:
        """Share of all surface voxels at most `tolerance` away from the other surface; see `nsd`."""
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise InputError(f"tolerance: got {tolerance}, wanted a length of 0 or more")
        total = len(self.a_to_b) + len(self.b_to_a)
        if not total:
            return 1.0
        limit = tolerance * (1 + 1e-9)  # a distance that equals the tolerance may have been rounded up
        near = np.count_nonzero(self.a_to_b <= limit) + np.count_nonzero(self.b_to_a <= limit)
        return float(near) / total

    def percentile(self, q: float = PERCENTILE) -> float:
        """The larger of the two directed q-th percentiles; see `hd95`."""
        if not len(self.a_to_b) and not len(self.b_to_a):
            return 0.0
        if not len(self.a_to_b) or not len(self.b_to_a):
            return math.nan
        return max(float(np.percentile(side, q, method="linear")) for side in (self.a_to_b, self.b_to_a))

    def mean(self) -> float:
        """Mean over the surface voxels of both masks; see `assd`."""
        total = len(self.a_to_b) + len(self.b_to_a)
        if not total:
            return 0.0
        mean = float(self.a_to_b.sum() + self.b_to_a.sum()) / total
        return mean if math.isfinite(mean) else math.nan


def nsd(a: ArrayLike, b: ArrayLike, spacing: Sequence[float] | None = None, tolerance: float = TOLERANCE) -> float:
    """Normalised surface Dice: share of both surfaces' voxels at most `tolerance` from the other surface.

    Args:
        a, b: (H, W) or (D, H, W) masks.
        spacing: millimetres between neighbours along each axis, in the masks' order; None means 1 px.
        tolerance: in the unit of `spacing`.

    Both empty: 1. One empty: 0.

    Raises:
        InputError: unusable masks, spacing or tolerance.
    """
    return surface_distances(a, b, spacing).within(tolerance)


def hd95(a: ArrayLike, b: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """The larger of the two directed 95th percentiles of surface distance, in the unit of `spacing`.

    The percentile is interpolated linearly between order statistics. Both empty: 0. One empty: NaN, undefined.
    Arguments and errors as `nsd`.
    """
    return surface_distances(a, b, spacing).percentile()


def assd(a: ArrayLike, b: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """Average symmetric surface distance: mean over the voxels of both surfaces, in the unit of `spacing`.

    Both empty: 0. One empty: NaN, undefined. Arguments and errors as `nsd`.
    """
    return surface_distances(a, b, spacing).mean()


def surface_distances(a: ArrayLike, b: ArrayLike, spacing: Sequence[float] | None = None) -> SurfaceDistances:
    """Distances between the surfaces of two masks, in both directions, in the unit of `spacing`.

    Arguments and errors as `nsd`.
    """
    first, second = as_masks(a, b)
    step = _step(spacing, first.ndim)
    box = _bounding_box(first | second)
    first, second = surface(first[box]), surface(second[box])
    count_a, count_b = int(np.count_nonzero(first)), int(np.count_nonzero(second))
    if not count_a or not count_b:
        return SurfaceDistances(np.full(count_a, np.inf), np.full(count_b, np.inf))
    if count_a + count_b > DENSE * first.size:
        return SurfaceDistances(_by_transform(first, second, step), _by_transform(second, first, step))
    here, there = np.argwhere(first) * step, np.argwhere(second) * step
    return SurfaceDistances(_by_tree(here, there), _by_tree(there, here))


def surface(mask: Mask) -> Mask:
    """The voxels of a mask with at least one face neighbour (4 in 2-D, 6 in 3-D) outside it.

    Beyond the array is outside, so a voxel of the mask at the array's border is surface.
    """
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            inside &= padded[tuple(window)]
    return mask & ~inside


def spacing_of(geometry: Geometry, axes: int) -> tuple[float, ...] | None:
    """Millimetres along the last 2 (y, x) or 3 (frame, y, x) axes of a scan, None where it does not say."""
    if axes not in (2, 3):
        raise InputError(f"axes: got {axes}, wanted 2 (y, x) or 3 (frame, y, x)")
    return geometry.spacing[-axes:] if geometry.known else None


def _step(spacing: Sequence[float] | None, axes: int) -> NDArray[np.float64]:
    """The spacing as (axes,) float64."""
    if spacing is None:
        return np.ones(axes)
    step = np.asarray(spacing, dtype=np.float64)
    if step.shape != (axes,) or not np.isfinite(step).all() or (step <= 0).any():
        raise InputError(f"spacing: got {list(spacing)}, wanted {axes} millimetre values above 0, or None for 1 px")
    return step


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds the mask; all of it where it is empty."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(None))
    return tuple(box)


def _by_tree(points: NDArray[np.float64], targets: NDArray[np.float64]) -> Distances:
    """Distance of each of the (n, axes) points to the nearest target, in millimetres."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(targets, leafsize=32).query(points)[0], dtype=np.float64)


def _by_transform(points: Mask, targets: Mask, step: NDArray[np.float64]) -> Distances:
    """The same for voxels set in `points`, by a distance transform: quicker where surfaces fill the box."""
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(~targets, sampling=step)[points], dtype=np.float64)
