"""Patient millimetres to voxels of a scan whose slices need not be evenly spaced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError
from samed2.io.geometry import Geometry
from samed2.io.scan import Scan


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a scan: its geometry, its shape (T, H, W), and where each slice truly lies.

    `origins` (T, 3) are the RAS+ mm of each slice's pixel (0, 0), where they differ from the affine's; else None.
    """

    geometry: Geometry
    shape: tuple[int, int, int]
    origins: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, scan: Scan) -> Grid:
        """The grid of a scan as its file has it.

        Raises:
            InputError: the scan does not know where it lies, or was cut along another axis.
        """
        if not scan.geometry.known:
            raise InputError(f"{scan.label}: does not say where it lies in the patient; wanted a scan with geometry")
        if scan.properties.get("axis"):
            raise InputError(f"{scan.label}: is cut along axis {scan.properties['axis']}, wanted it as it is stored")
        places = scan.properties.get("frame_positions_lps")
        if places is None or scan.properties.get("evenly_spaced", True):
            return cls(scan.geometry, scan.shape)
        return cls(scan.geometry, scan.shape, np.asarray(places, dtype=np.float64) * (-1, -1, 1))

    def to_voxel(self, millimetres: ArrayLike) -> NDArray[np.float64]:
        """Voxels (..., 3) as (frame, y, x) of RAS+ millimetres (..., 3); frames between slices are fractions."""
        if self.origins is None:
            return self.geometry.to_voxel(millimetres)
        points = np.asarray(millimetres, dtype=np.float64)
        down, right = self.geometry.affine[:3, 1], self.geometry.affine[:3, 2]
        normal = np.cross(right, down)
        normal = normal / np.linalg.norm(normal)
        places, depth = self.origins @ normal, points @ normal
        if len(places) > 1 and places[0] > places[-1]:
            places, depth = -places, -depth
        frames = np.interp(depth, places, np.arange(len(places)))
        # beyond the ends np.interp stays at them: go on by the distance of the first or last two slices
        ends = np.diff(places)[[0, -1]] if len(places) > 1 else np.array([self.geometry.spacing[0]] * 2)
        frames = np.where(depth < places[0], (depth - places[0]) / ends[0], frames)
        frames = np.where(depth > places[-1], len(places) - 1 + (depth - places[-1]) / ends[1], frames)
        nearest = np.clip(np.rint(frames), 0, len(places) - 1).astype(int)
        inside = (points - self.origins[nearest]) @ np.linalg.pinv(np.stack([down, right], axis=1)).T
        return np.concatenate([frames[..., None], inside], axis=-1)
