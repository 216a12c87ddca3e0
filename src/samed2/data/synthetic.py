"""Synthetic tasks: objects that nobody named, so that a model learns to segment what it is pointed at.

`synthetic_mask` finds an object on a real picture, `synthetic_object` may also put one there; `synthetic_pair` and
`synthetic_clip` make picture and object from nothing, as label maps filled with random textures (the idea of SynthSeg,
arXiv 2107.09559, and of UniverSeg's synthetic tasks, arXiv 2304.06131). All are pure functions of the generator.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from samed2.data.synthetic_parts import Compound, clump_fields, draw_compound
from samed2.data.synthetic_regions import EIGHT, Mask, good_part, only_on, picture_shape, synthetic_mask
from samed2.data.synthetic_shapes import COMPOUND, SIMPLE, Field, shape_field, smooth_noise
from samed2.errors import InputError

CLUMPS = 0.35  # share of compound scenes whose object is a clump of cells
HOLLOW = 0.5  # share of shells around what looks like the outside

__all__ = ["synthetic_clip", "synthetic_mask", "synthetic_object", "synthetic_pair"]


def synthetic_object(pixels: Field, rng: np.random.Generator, inserted: float = 0.35) -> tuple[Field, Mask]:
    """A picture and an object on it; with probability `inserted` a random shape is blended into the picture first.

    Args:
        pixels: (H, W) or (H, W, 3) in [0, 1], at least 8 pixels a side; left as it is.

    Returns:
        pixels of the same shape in [0, 1], and a (H, W) mask that is not empty.

    Raises:
        InputError: another shape.
    """
    height, width = picture_shape(pixels)
    if rng.random() >= inserted:
        return pixels, synthetic_mask(pixels, rng)
    side = max(height, width)
    mask = good_part(shape_field(side, rng)[:height, :width] > 0, rng)
    if mask is None:
        return pixels, synthetic_mask(pixels, rng)
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.3, 0.012 * side + 0.4)) * rng.uniform(0.6, 1)
    filling = _filling(pixels, mask, rng)
    if pixels.ndim == 3:
        alpha = alpha[..., None]
    return np.clip(pixels * (1 - alpha) + filling * alpha, 0, 1).astype(np.float32), mask


def synthetic_pair(size: int, rng: np.random.Generator, compound: bool = False) -> tuple[Field, Mask]:
    """A made-up picture (S, S, 3) in [0, 1] and one object of it, (S, S), not empty.

    Raises:
        InputError: a side below 16.
    """
    pixels, masks = synthetic_clip(size, 1, rng, compound)
    return pixels[0], masks[0]


def synthetic_clip(size: int, frames: int, rng: np.random.Generator, compound: bool = False) -> tuple[Field, Mask]:
    """A made-up volume or video, (T, S, S, 3) in [0, 1], and one object of it, (T, S, S).

    Everything drifts and bends smoothly; objects grow and shrink like bodies cut in slices, and in about half of the
    clips of several frames the object ends before the last one. It is always there on frame 0.

    Args:
        compound: the object has a core or is one, may stand among others of its kind, may be a long band or a clump
            of cells.

    Raises:
        InputError: a side below 16 or no frame.
    """
    if size < 16 or frames < 1:
        raise InputError(f"synthetic clip: got {frames} frames of {size} pixels, wanted at least 1 of at least 16")
    scene = _Scene(size, frames, rng, compound)
    shown = [scene.frame(number, rng) for number in range(frames)]
    return np.stack([pixels for pixels, _ in shown]), np.stack([mask for _, mask in shown])


class _Scene:
    """What a clip shows: a background of regions, objects as fields, textures, colours and how all move.

    Objects lie over each other in order: those of the background, in a compound scene the neighbours, each before its
    core, then the object, then its core.
    """

    def __init__(self, size: int, frames: int, rng: np.random.Generator, compound: bool) -> None:
        self.size = size
        self.chances = COMPOUND if compound else SIMPLE
        zones = int(rng.integers(1, 5))
        cells = int(rng.integers(3, 7))
        self.zones = np.argmax([smooth_noise(size, cells, rng) for _ in range(zones)], axis=0)
        self.objects = [shape_field(size, rng, 0.85, self.chances) for _ in range(int(rng.integers(0, 5)))]
        self.behind = len(self.objects)
        clump = clump_fields(size, rng) if compound and rng.random() < CLUMPS else None
        self.objects.append(self._target(rng) if clump is None else clump[0])
        self.levels = np.array([_levels(field, frames, rng) for field in self.objects])
        ends = frames > 1 and rng.random() < 0.5
        self.levels[-1] = _levels(self.objects[-1], frames, rng, ends)
        self.compound = draw_compound(self.objects[-1], rng, clump and clump[1]) if compound else None
        if self.compound is not None:
            self._add_parts(self.compound, frames, rng)
        self.at = len(self.objects) - (2 if compound else 1)
        # fine, middle and coarse texture, shared by all labels in different strength
        self.textures = [ndimage.gaussian_filter(rng.standard_normal((size, size)), s) * s * 3.5 for s in (0.7, 2.0)]
        self.textures.append(smooth_noise(size, 8, rng))
        labels = zones + len(self.objects)
        self.strength = rng.exponential(0.03, (labels, 3)).astype(np.float32)
        self.colours = self._colours(labels, rng)
        self.drift = rng.normal(0, 0.012 * size, 2)
        self.bend = [smooth_noise(size, 4, rng) * 0.008 * size for _ in range(2)]
        self.bias = np.exp(rng.uniform(0, 0.35) * smooth_noise(size, 3, rng))
        self.blur = float(rng.uniform(0, 0.01 * size)) if rng.random() < 0.7 else 0.0
        self.noise = float(rng.uniform(0, 0.05))
        self.speckle = float(rng.uniform(0.05, 0.3)) if rng.random() < 0.25 else 0.0

    def _target(self, rng: np.random.Generator) -> Field:
        for _ in range(8):
            field = shape_field(self.size, rng, chances=self.chances)
            mask = good_part(field > 0, rng)
            if mask is not None:
                return only_on(mask, field)
        y, x = np.mgrid[: self.size, : self.size]
        return (0.2 * self.size - np.hypot(y - self.size / 2, x - self.size / 2)).astype(np.float32)

    def _add_parts(self, compound: Compound, frames: int, rng: np.random.Generator) -> None:
        """Put the neighbours before the object and its core behind it; a core is cut at its object's level."""
        target, level = self.objects.pop(), self.levels[-1]
        levels = list(self.levels[:-1])
        for other, core in zip(compound.others, compound.cores, strict=True):
            self.objects += [other, core]
            levels += [_levels(other, frames, rng)] * 2
        self.objects += [target, compound.core]
        self.levels = np.array([*levels, level, level])

    def _colours(self, labels: int, rng: np.random.Generator) -> Field:
        """(labels, 3): the object's unlike what is around it; some of the background look just like it."""
        tones = rng.uniform(0.05, 0.95, labels)
        first = labels - len(self.objects)
        own = first + self.at
        inside = self.objects[self.at] > 0
        around = ndimage.binary_dilation(inside, EIGHT, iterations=max(2, self.size // 40)) & ~inside
        shown = np.unique(self.labels(self.zones, [field > 0 for field in self.objects[: self.behind]])[around])
        gaps = [rng.choice((-1, 1)) * rng.uniform(0.12, 0.5) for _ in range(4)]
        near = tones[shown] if len(shown) else tones[:1]
        options = np.clip(near.mean() + gaps, 0.02, 0.98).tolist()
        tones[own] = max(options, key=lambda t: float(np.abs(near - t).min()))
        colours = np.repeat(tones[:, None], 3, axis=1)
        if rng.random() < 0.35:
            colours += rng.normal(0, 0.1, (labels, 3)) + rng.normal(0, 0.08, 3)
        twins = [i for i in range(first, first + self.behind) if i not in shown and rng.random() < 0.4]
        if self.compound is not None:
            gap = rng.uniform(0.06, 0.5) * (1 if rng.random() < np.clip(1 - tones[own], 0.1, 0.9) else -1)
            colours[own + 1] = colours[own] + gap + rng.normal(0, 0.08, 3) * (np.ptp(colours[own]) > 0)
            if self.compound.asked == "shell" and rng.random() < HOLLOW:
                outside = shown[int(rng.integers(len(shown)))] if len(shown) else 0
                colours[own + 1] = colours[outside] + rng.normal(0, 0.04)
                self.strength[own + 1] = self.strength[outside]
            for label in range(first + self.behind, own):
                like = own + (label - first - self.behind) % 2
                colours[label] = colours[like] + rng.normal(0, 0.03)
                self.strength[label] = self.strength[like]
        colours[twins] = colours[own]
        self.strength[twins] = self.strength[own]
        return np.clip(colours, 0, 1).astype(np.float32)

    def labels(self, zones: NDArray[np.int64], masks: list[Mask]) -> NDArray[np.int64]:
        """The label map of a frame: zones, then each object over those before it."""
        labels = zones.copy()
        first = int(self.zones.max()) + 1
        for number, mask in enumerate(masks):
            labels[mask] = first + number
        return labels

    def frame(self, number: int, rng: np.random.Generator) -> tuple[Field, Mask]:
        """Pixels (S, S, 3) and the object's mask on a frame."""
        zones, fields, textures = self.zones, self.objects, self.textures
        if number:
            y, x = np.mgrid[: self.size, : self.size].astype(np.float32)
            places = np.stack(
                [y + number * (self.drift[0] + self.bend[0]), x + number * (self.drift[1] + self.bend[1])]
            )
            zones = ndimage.map_coordinates(zones, places, order=0, mode="nearest")
            fields = [ndimage.map_coordinates(f, places, order=1, mode="nearest") for f in fields]
            textures = [ndimage.map_coordinates(t, places, order=1, mode="reflect") for t in textures]
        masks = [field > level for field, level in zip(fields, self.levels[:, number], strict=True)]
        labels = self.labels(zones, masks)
        pixels = self.colours[labels]
        grain = sum(self.strength[labels, i] * texture for i, texture in enumerate(textures))
        pixels = (pixels + np.asarray(grain)[..., None]) * self.bias[..., None]
        if self.blur:
            pixels = ndimage.gaussian_filter(pixels, (self.blur, self.blur, 0))
        if self.speckle:
            pixels = pixels * (1 + self.speckle * smooth_noise(self.size, self.size // 2, rng)[..., None])
        pixels = pixels + self.noise * rng.standard_normal((self.size, self.size, 1))
        target = masks[-1] if self.compound is None else self.compound.target(masks[self.at], masks[self.at + 1])
        return np.clip(pixels, 0, 1).astype(np.float32), target


def _levels(field: Field, frames: int, rng: np.random.Generator, ends: bool | None = None) -> Field:
    """(T,) where to cut a field on each frame, as a ball is cut by parallel planes; above its maximum: not there.

    With `ends` the object is on frame 0 and gone before the last; with False it stays; with None anything may happen.
    """
    steps = np.arange(frames, dtype=np.float32)
    if ends is None:
        middle, half = rng.uniform(0, frames), frames * rng.uniform(0.3, 2)
    elif ends:
        last = rng.uniform(0.5, frames - 1.2)  # the first moment without it
        middle = rng.uniform(-0.5, 0.5) * last
        half = last - middle
    else:
        middle, half = rng.uniform(0, frames), frames * rng.uniform(1.3, 3)
    deep = np.sqrt(np.clip(1 - ((steps - middle) / half) ** 2, 0, None))
    levels = float(field.max()) * np.clip(1 - deep, 0, 1)
    if ends is not None:
        levels = levels - levels[0]  # as drawn on frame 0
    return np.where(deep > 0, levels, np.inf).astype(np.float32)


def _filling(pixels: Field, mask: Mask, rng: np.random.Generator) -> Field:
    """What an inserted shape looks like: the picture itself brighter or darker, from elsewhere, or a texture."""
    inside = pixels[mask].mean(axis=0)
    change = rng.uniform(0.12, 0.45) * (1 if rng.random() < np.clip(1 - inside.mean(), 0.1, 0.9) else -1)
    kind = rng.random()
    if kind < 0.4:
        return pixels + change
    if kind < 0.65:
        shift = tuple(int(v) for v in rng.integers(1, np.array(mask.shape)))
        return 0.7 * np.roll(pixels, shift, axis=(0, 1)) + 0.3 * inside + 0.6 * change
    grain = ndimage.gaussian_filter(rng.standard_normal(mask.shape), rng.uniform(0.5, 2.5))
    grain *= rng.uniform(0, 0.1) / max(float(grain.std()), 1e-6)
    texture = grain if pixels.ndim == 2 else grain[..., None]
    tint = rng.normal(0, 0.06, np.shape(inside)) if np.ptp(inside) > 0.02 else 0.0
    return inside + change + tint + texture
