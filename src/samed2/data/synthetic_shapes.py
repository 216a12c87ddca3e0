"""Random smooth fields and shapes, for synthetic tasks; everything is drawn from the generator that is passed."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]


@lru_cache(maxsize=64)
def _basis(size: int, cells: int) -> Field:
    """(size, cells) weights that take values on `cells` places smoothly to `size` pixels."""
    weights: Field = ndimage.zoom(np.eye(cells, dtype=np.float32), (size / cells, 1), order=3, mode="nearest")
    return weights


def smooth_noise(size: int, cells: int, rng: np.random.Generator) -> Field:
    """A (size, size) field of standard normal numbers on a grid of `cells` x `cells`, smooth in between."""
    basis = _basis(size, cells)
    return basis @ rng.standard_normal((cells, cells), dtype=np.float32) @ basis.T


def radial_field(size: int, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> Field:
    """A star-shaped outline around (y, x): about +radius in the middle, 0 on the outline, negative outside; pixels.

    Between an ellipse, turned and stretched up to 2.2 times, and an outline with up to five waves.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle, stretch = rng.uniform(0, math.pi), math.exp(rng.uniform(0, 0.8) / 2)
    dy, dx = y - centre[0], x - centre[1]
    u = (math.cos(angle) * dx + math.sin(angle) * dy) / stretch
    v = (math.cos(angle) * dy - math.sin(angle) * dx) * stretch
    outline = np.full_like(u, radius)
    theta, rough = np.arctan2(v, u), rng.uniform(0, 0.25) * (rng.random() < 0.7)
    for waves in range(2, 6):
        outline += radius * rough / (waves - 1) * rng.normal() * np.cos(waves * theta + rng.uniform(0, 2 * math.pi))
    return np.maximum(outline, 0.25 * radius) - np.hypot(u, v)


def blob_field(size: int, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> Field:
    """Like `radial_field`, but of free form: low-frequency noise under a dome."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    far = np.hypot(y - centre[0], x - centre[1]) / radius
    cells = int(np.clip(size / radius * rng.uniform(1.0, 2.5), 4, size // 2))
    return radius * (1 - far + 0.45 * smooth_noise(size, cells, rng))


def tube_field(size: int, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> Field:
    """A bent tube through (y, x), about 5 to 8 times as long as it is wide; negative outside, in pixels."""
    steps, width = 24, radius * rng.uniform(0.25, 0.4)
    turn = np.cumsum(rng.normal(0, 0.22, steps)) + rng.uniform(0, 2 * math.pi)
    path = np.cumsum(np.stack([np.sin(turn), np.cos(turn)], axis=1) * (4 * radius / steps), axis=0)
    path += np.array(centre) - path[steps // 2]
    path = path.astype(np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    nearest = np.full((size, size), np.inf, dtype=np.float32)
    for py, px in path:
        np.minimum(nearest, (y - py) ** 2 + (x - px) ** 2, out=nearest)
    field: Field = np.float32(width) - np.sqrt(nearest)
    return field


def ring_field(size: int, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> Field:
    """A wall around a hollow; negative inside the hollow and outside, in pixels."""
    solid = radial_field(size, centre, radius, rng)
    wall = radius * rng.uniform(0.3, 0.5)
    return np.minimum(solid, wall - solid)


def band_field(size: int, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> Field:
    """A band through (y, x) at any angle, hardly bent, up to as long as the frame; negative outside, in pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle, half = rng.uniform(0, math.pi), radius * rng.uniform(0.15, 0.45)
    dy, dx = y - centre[0], x - centre[1]
    along = math.cos(angle) * dx + math.sin(angle) * dy
    across = math.cos(angle) * dy - math.sin(angle) * dx + rng.normal(0, 0.25) / size * along**2
    uneven = 1 + 0.15 * smooth_noise(size, 4, rng)
    reach = size * rng.uniform(0.2, 0.9)
    field: Field = np.minimum(half * uneven - np.abs(across), reach - np.abs(along))
    return field


SHAPES = (radial_field, blob_field, tube_field, ring_field, band_field)
SIMPLE = (0.45, 0.3, 0.12, 0.13, 0.0)
COMPOUND = (0.36, 0.2, 0.1, 0.04, 0.3)


def shape_field(size: int, rng: np.random.Generator, reach: float = 0.5, chances: tuple[float, ...] = SIMPLE) -> Field:
    """A random shape: (size, size), above 0 on it, in pixels.

    Args:
        reach: the centre lies within this share of the frame's half side.
        chances: of each of `SHAPES`.
    """
    radius = size * math.exp(rng.uniform(math.log(0.05), math.log(0.28)))
    cy, cx = size / 2 * (1 + rng.uniform(-reach, reach, 2))
    chosen = SHAPES[int(rng.choice(len(SHAPES), p=chances))]
    return chosen(size, (float(cy), float(cx)), radius, rng)
