"""Objects made of parts, and crowds: what is asked for is told by the prompt alone, not by what stands out.

In a made-up picture an object has a core (a nucleus in a cell, a cord in its sheath), or is a clump of walls around
many cores (sheaths of nerve fibres, spongy bone), `clump_fields`, and may stand among others of its kind, `Compound`.
On a real picture the labelled object is copied beside itself, `copies_beside`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from samed2.data.synthetic_regions import EIGHT, SHARES, Mask, largest_part, only_on
from samed2.data.synthetic_shapes import Field, blob_field, radial_field, smooth_noise, tube_field

Asked = Literal["whole", "core", "shell"]
ASKED: tuple[Asked, ...] = ("whole", "core", "shell")
EVEN = (0.4, 0.25, 0.35)  # chances of `ASKED` where the wall around the core is even: a sheath, as often as not
UNEVEN = (0.68, 0.27, 0.05)  # where the core lies anywhere: a nucleus
CLUMP = (0.15, 0.0, 0.85)  # where there are many cores
CORES = (radial_field, blob_field, tube_field)
NEIGHBOURS = 7  # most others of its kind
RIM = 3  # pixels of its surroundings that are copied with an object, softly
VISIBLE = 0.75  # of a copy that others cover in part: the least that is left of one that is asked for


@dataclass(frozen=True)
class Compound:
    """An object with a core among others of its kind; fields are (S, S), above 0 inside, in pixels.

    Attributes:
        core: lies within the object wherever both are cut at the same level.
        others, cores: of the neighbours, which leave the object free.
        asked: what the object is: all of it, its core, or all but its core.
    """

    core: Field
    others: tuple[Field, ...]
    cores: tuple[Field, ...]
    asked: Asked

    def target(self, whole: Mask, core: Mask) -> Mask:
        """What is asked for, out of the (S, S) masks of a frame."""
        return {"whole": whole, "core": core, "shell": whole & ~core}[self.asked]


def draw_compound(whole: Field, rng: np.random.Generator, cores: Field | None = None) -> Compound:
    """A core for an object, unless it has `cores`, as `clump_fields` draws them, and its neighbours."""
    even = rng.random() < 0.45
    core = _core(whole, even, rng) if cores is None else cores
    chances = CLUMP if cores is not None else EVEN if even else UNEVEN
    asked = ASKED[int(rng.choice(3, p=chances))] if np.count_nonzero(core > 0) > 8 else "whole"
    if asked == "shell" and not _in_one_part((whole > 0) & ~(core > 0)):  # the two sides of a long sheath
        asked = "core" if cores is None else "whole"
    others, within = [], []
    count = int(rng.integers(1, NEIGHBOURS + 1)) if rng.random() < 0.5 else 0
    inside = whole > 0
    middle = np.array(ndimage.center_of_mass(inside))
    radius = math.sqrt(np.count_nonzero(inside) / math.pi)
    gap = rng.uniform(0, 3) if rng.random() < 0.7 else 0.0
    taken = whole
    for _ in range(count):
        turns, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)
        angle, far = rng.uniform(0, 2 * math.pi), radius * rng.uniform(1.5, 3.2)
        place = middle + far * np.array([math.sin(angle), math.cos(angle)])
        other, inner = (_moved(field, inside, turns, mirrored, place) for field in (whole, core))
        free = -taken - gap
        others.append(np.minimum(other, free))
        within.append(np.minimum(inner, free))
        taken = np.maximum(taken, other)
    return Compound(core, tuple(others), tuple(within), asked)


def clump_fields(size: int, rng: np.random.Generator) -> tuple[Field, Field] | None:
    """A connected clump of cells and their cores, above 0 on them, in pixels; None where it is of no good size.

    Cells are round where they are free and share straight walls where they touch, from a few beads to a sponge.
    """
    span = size * math.exp(rng.uniform(math.log(0.1), math.log(0.4)))
    step = span / math.exp(rng.uniform(math.log(0.9), math.log(4.5)))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    centre = size / 2 * (1 + rng.uniform(-0.4, 0.4, 2))
    lattice = np.arange(-span, span + step, step)
    seeds = np.stack(np.meshgrid(lattice, lattice), axis=-1).reshape(-1, 2)
    seeds = seeds + rng.uniform(-0.4, 0.4, seeds.shape) * step
    seeds = seeds[(np.hypot(*seeds.T) < span * rng.uniform(0.7, 1.2, len(seeds))) & (rng.random(len(seeds)) < 0.85)]
    if len(seeds) < 2:
        return None
    bent = [0.2 * step * smooth_noise(size, int(np.clip(size / step, 4, size // 2)), rng) for _ in range(2)]
    places = np.stack([y - centre[0] + bent[0], x - centre[1] + bent[1]], axis=-1)
    far, cell = cKDTree(seeds).query(places, k=min(4, len(seeds)))
    radii = step * rng.uniform(0.45, 0.7) * np.exp(rng.normal(0, 0.2, len(seeds)))
    inner, outer = np.sort((radii[cell] - far).astype(np.float32), axis=-1)[..., :-3:-1].transpose(2, 0, 1)
    whole = _restricted(inner)
    if whole is None:
        return None
    wall = max(1.0, step * rng.uniform(0.08, 0.34))
    return whole, np.minimum(whole - wall, (inner - outer - wall * rng.uniform(0.4, 1)) / 2)


def _restricted(field: Field) -> Field | None:
    """A field above 0 on its largest connected part alone; None where that is of no good size."""
    inside = field > 0
    if not inside.any() or not SHARES[0] <= (inside := largest_part(inside)).mean() <= SHARES[1]:
        return None
    return only_on(inside, field)


def _in_one_part(mask: Mask) -> bool:
    """Whether a mask is connected but for specks."""
    return bool(mask.any() and np.count_nonzero(largest_part(mask)) > 0.9 * np.count_nonzero(mask))


def _core(whole: Field, even: bool, rng: np.random.Generator) -> Field:
    """A field within another: what lies deeper than an even wall, or a shape somewhere inside."""
    deepest = float(whole.max())
    wall = deepest * rng.uniform(0.08, 0.6)
    if even:
        return whole - wall
    ys, xs = np.nonzero(whole > 0.35 * deepest)
    at = int(rng.integers(len(ys)))
    radius = math.sqrt(np.count_nonzero(whole > 0) / math.pi) * rng.uniform(0.35, 0.8)
    shape = CORES[int(rng.choice(len(CORES), p=(0.5, 0.25, 0.25)))]
    thin = min(wall, 0.15 * deepest)
    return np.minimum(shape(len(whole), (float(ys[at]), float(xs[at])), radius, rng), whole - thin)


def _moved(field: Field, inside: Mask, turns: int, mirrored: bool, place: NDArray[np.float64]) -> Field:
    """A field turned, mirrored, and moved so that the middle of what was `inside` lies at `place` (y, x)."""
    turned, shape = (np.rot90(f[:, ::-1] if mirrored else f, turns) for f in (field, inside))
    shift = np.round(place - np.array(ndimage.center_of_mass(shape))).astype(int)
    return ndimage.shift(turned, shift, order=0, mode="constant", cval=float(field.min()), prefilter=False)


def copies_beside(pixels: Field, mask: Mask, rng: np.random.Generator) -> tuple[Field, Mask] | None:
    """A picture on which copies of an object lie beside it and on it, and the visible part of one of them.

    Args:
        pixels: (H, W, 3) in [0, 1]; left as it is.
        mask: (H, W), the object; one of its parts that lies wholly within the picture is copied.

    Returns:
        pixels of the same shape and a (H, W) mask; None where no part is of good size.
    """
    part = _whole_part(mask, rng)
    if part is None:
        return None
    rows, columns = (slice(max(s.start - RIM, 0), s.stop + RIM) for s in ndimage.find_objects(part.astype(np.int8))[0])
    stamp, piece = part[rows, columns], pixels[rows, columns]
    middle = np.array([rows.start, columns.start]) + np.array(stamp.shape) / 2
    changed, shown = pixels.copy(), [part.copy()]
    for _ in range(int(rng.integers(1, NEIGHBOURS))):
        turns, mirrored, factor = int(rng.integers(4)), bool(rng.random() < 0.5), math.exp(rng.uniform(-0.35, 0.3))
        own, alpha = (_scaled(np.rot90(a[:, ::-1] if mirrored else a, turns), factor) for a in (piece, stamp * 1.0))
        angle = rng.uniform(0, 2 * math.pi)
        reach = rng.uniform(0.7, 1.1) * (np.array(stamp.shape) + alpha.shape - 4 * RIM) / 2
        place = middle + reach * [math.sin(angle), math.cos(angle)]
        put = _put(changed, own * rng.uniform(0.85, 1.15), alpha, place, rng.uniform(0.3, 1.2))
        for earlier in shown:
            earlier &= ~put
        shown.append(put)
    area = np.count_nonzero(stamp)
    clear = [m for m in shown if np.count_nonzero(m) > VISIBLE * area and SHARES[0] <= m.mean() <= SHARES[1]]
    if not clear:
        return None
    return np.clip(changed, 0, 1), largest_part(clear[int(rng.integers(len(clear)))])


def _whole_part(mask: Mask, rng: np.random.Generator) -> Mask | None:
    """A connected part of good size that does not reach the picture's edge; None where there is none."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    sizes = np.bincount(labels.ravel(), minlength=count + 1) / mask.size
    good = [n for n in range(1, count + 1) if n not in edge and SHARES[0] <= sizes[n] <= SHARES[1] / 3]
    return labels == good[int(rng.integers(len(good)))] if good else None


def _scaled(values: NDArray, factor: float) -> NDArray:
    zoom = (factor, factor, 1)[: values.ndim]
    return np.asarray(ndimage.zoom(values, zoom, order=1, grid_mode=True, mode="nearest"))


def _put(pixels: Field, own: NDArray, alpha: NDArray, place: NDArray[np.float64], soft: float) -> Mask:
    """Blend a piece into `pixels`, its middle at `place` (y, x); the (H, W) mask of where it lies."""
    height, width = pixels.shape[:2]
    top, left = (int(v) for v in np.round(place - np.array(alpha.shape) / 2))
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + alpha.shape[0], height), min(left + alpha.shape[1], width)
    put = np.zeros((height, width), dtype=bool)
    if y1 <= y0 or x1 <= x0:
        return put
    inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    put[y0:y1, x0:x1] = alpha[inner] > 0.5
    blend = np.clip(ndimage.gaussian_filter(alpha, soft)[inner], 0, 1)[..., None]
    pixels[y0:y1, x0:x1] = pixels[y0:y1, x0:x1] * (1 - blend) + own[inner] * blend
    return put


def recoloured(pixels: Field, rng: np.random.Generator) -> Field:
    """(H, W, 3) in [0, 1] in other colours: channels change places, each with its own gamma and contrast."""
    mixed = pixels[..., rng.permutation(3)]
    gamma = np.exp(rng.normal(0, 0.3, 3)) * math.exp(rng.normal(0, 0.3))
    gain, shift = np.exp(rng.normal(0, 0.2, 3)), rng.normal(0, 0.08, 3)
    return np.clip((np.clip(mixed, 1e-4, 1) ** gamma - 0.5) * gain + 0.5 + shift, 0, 1).astype(np.float32)
