"""Smaller copies of frames and masks by exact area averaging."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.io import Geometry

_HALF = 0.5 - 1e-6  # float32 sums of exact halves may fall just below


def target_size(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """(height, width) with the longer side at most `max_side`, in proportion; unchanged if it fits or None."""
    longer = max(height, width)
    if max_side is None or longer <= max_side:
        return height, width
    return max(1, round(height * max_side / longer)), max(1, round(width * max_side / longer))


def shrink(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Mean over the area that each new pixel covers: (H, W) or (H, W, C) to (h, w) or (h, w, C)."""
    if pixels.ndim == 3:
        return np.stack([shrink(pixels[..., c], size) for c in range(pixels.shape[-1])], axis=-1)
    rows, columns = _weights(pixels.shape[0], size[0]), _weights(pixels.shape[1], size[1])
    # sparse products add in a fixed order, so that every machine gets the same bits
    half = rows @ np.ascontiguousarray(pixels, dtype=np.float32)
    return np.ascontiguousarray((columns @ np.ascontiguousarray(half.T)).T)


def shrink_frame(frame: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A frame at another size in its own type; whole numbers are rounded."""
    if frame.shape[:2] == size:
        return frame
    small = shrink(frame, size)
    if frame.dtype.kind not in "ui":
        return small.astype(frame.dtype)
    info = np.iinfo(frame.dtype)
    return np.clip(np.rint(small.astype(np.float64)), info.min, info.max).astype(frame.dtype)


def shrink_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels at least half covered; a mask that would vanish keeps its best covered pixel."""
    if mask.shape == size:
        return mask
    cover = shrink(mask, size)
    small = cover >= _HALF
    if not small.any() and mask.any():
        small[np.unravel_index(int(cover.argmax()), size)] = True
    return small


def shrink_geometry(geometry: Geometry, old: tuple[int, int], new: tuple[int, int]) -> Geometry:
    """The affine of the smaller grid: the image keeps its outer borders."""
    if not geometry.known or old == new:
        return geometry
    step = np.eye(4)
    for axis in (0, 1):  # y, x
        factor = old[axis] / new[axis]
        step[axis + 1, axis + 1], step[axis + 1, 3] = factor, (factor - 1) / 2
    return Geometry(geometry.affine @ step)


@lru_cache(maxsize=64)
def _weights(old: int, new: int) -> Any:
    """Sparse (new, old) rows that average the old pixels under each new one."""
    from scipy.sparse import csr_array

    edges = np.arange(new + 1, dtype=np.float64) * old / new
    values, columns, starts = [], [], [0]
    for i in range(new):
        first, last = int(np.floor(edges[i] + 1e-9)), int(np.ceil(edges[i + 1] - 1e-9))
        for j in range(first, last):
            values.append((min(edges[i + 1], j + 1) - max(edges[i], j)) * new / old)
            columns.append(j)
        starts.append(len(values))
    return csr_array((np.array(values, np.float32), np.array(columns), np.array(starts)), shape=(new, old))
