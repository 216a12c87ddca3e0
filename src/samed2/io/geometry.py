"""Where the voxels of a scan lie in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError


@dataclass(frozen=True, eq=False)
class Geometry:
    """Affine from voxel (frame, y, x, 1) to RAS+ millimetres (x to the right, y to the front, z to the head).

    `affine` is (4, 4) float64. `known` is False when the file says nothing about size or place; the affine
    is then the identity and `spacing` is in pixels, not millimetres.

    Raises:
        InputError: the affine is not (4, 4), not finite, not invertible, or its last row is not 0 0 0 1.
    """

    affine: NDArray[np.float64]
    known: bool = True

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise InputError(f"affine: got shape {affine.shape}, wanted (4, 4)")
        if not np.isfinite(affine).all():
            raise InputError("affine: holds NaN or infinity, wanted finite numbers")
        if not np.allclose(affine[3], (0, 0, 0, 1)):
            raise InputError(f"affine: last row is {affine[3].tolist()}, wanted 0 0 0 1")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.isfinite(lengths).all() or (lengths > 1e9).any() or np.abs(affine[:3, 3]).max() > 1e9:
            raise InputError("affine: has a step or a place of more than a billion millimetres")
        if (lengths < 1e-9).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
            raise InputError("affine: two axes coincide or one has no length, wanted an invertible matrix")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    @classmethod
    def unknown(cls) -> Geometry:
        """The identity, marked as unknown."""
        return cls(np.eye(4), known=False)

    @classmethod
    def from_spacing(cls, spacing: Sequence[float], origin: Sequence[float] = (0.0, 0.0, 0.0)) -> Geometry:
        """Axial slices seen the usual way: x to the patient's left, y to the back, frames to the head.

        Args:
            spacing: millimetres between (frame, y, x) neighbours, all > 0.
            origin: RAS+ millimetres of voxel (0, 0, 0).
        """
        step = np.asarray(spacing, dtype=np.float64)
        if step.shape != (3,) or not np.isfinite(step).all() or (step <= 0).any():
            raise InputError(f"spacing: got {list(spacing)}, wanted three millimetre values above 0")
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = step[0], -step[1], -step[2], 1.0
        affine[:3, 3] = origin
        return cls(affine)

    @classmethod
    def from_xyz(cls, affine: ArrayLike, known: bool = True) -> Geometry:
        """From an affine over voxel (x, y, frame), the order of NIfTI, to RAS+ millimetres."""
        return cls(np.asarray(affine, dtype=np.float64)[:, [2, 1, 0, 3]], known=known)

    def to_xyz(self) -> NDArray[np.float64]:
        """The (4, 4) affine over voxel (x, y, frame), the order of NIfTI."""
        return np.asarray(self.affine[:, [2, 1, 0, 3]])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between neighbours along (frame, y, x)."""
        frame, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(frame), float(y), float(x)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in cubic millimetres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def skew(self) -> float:
        """Degrees by which the two axes furthest from a right angle miss it; 0 for an orthogonal grid."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        overlap = np.abs(axes.T @ axes)[np.triu_indices(3, 1)].max()
        return float(np.degrees(np.arcsin(min(overlap, 1.0))))

    def to_mm(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """RAS+ millimetres (..., 3) of voxels (..., 3) given as (frame, y, x)."""
        points = np.asarray(voxels, dtype=np.float64)
        return points @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, millimetres: ArrayLike) -> NDArray[np.float64]:
        """Voxels (..., 3) as (frame, y, x) of RAS+ millimetres (..., 3)."""
        points = np.asarray(millimetres, dtype=np.float64) - self.affine[:3, 3]
        return points @ np.linalg.inv(self.affine[:3, :3]).T

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "known": self.known,
            "index_order": "frame,y,x",
            "affine_ras_mm": self.affine.tolist(),
            "spacing_mm": list(self.spacing),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Geometry:
        """Back from `to_dict`."""
        return cls(np.asarray(data["affine_ras_mm"], dtype=np.float64), known=bool(data["known"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.known == other.known and bool(np.array_equal(self.affine, other.affine))

    def __hash__(self) -> int:
        return hash((self.affine.tobytes(), self.known))
