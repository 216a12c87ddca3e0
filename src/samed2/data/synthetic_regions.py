"""Objects that nobody named, found on a real picture: neighbouring superpixels, or regions grown by brightness."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import slic

from samed2.data.synthetic_shapes import Field
from samed2.errors import InputError

Mask = NDArray[np.bool_]
WORKING_SIDE = 128  # larger pictures are searched for regions on a grid about this wide
SHARES = (0.003, 0.5)  # of the picture: the least and the most an object covers
EIGHT = np.ones((3, 3), dtype=bool)


def synthetic_mask(pixels: Field, rng: np.random.Generator) -> Mask:
    """An object on a picture: some neighbouring superpixels, or a region grown between bounds of brightness.

    Args:
        pixels: (H, W) or (H, W, 3) in [0, 1], at least 8 pixels a side.

    Returns:
        (H, W), one connected part, not empty.

    Raises:
        InputError: another shape.
    """
    height, width = picture_shape(pixels)
    step = max(1, math.ceil(max(height, width) / WORKING_SIDE))
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    if step > 1:
        grey = ndimage.uniform_filter(grey, step)[step // 2 :: step, step // 2 :: step]
    grey = np.clip((grey - grey.mean()) / (4 * grey.std() + 0.02), -0.5, 0.5)  # dark pictures have regions too
    found = _grown(grey, rng) if rng.random() < 0.4 else None
    mask = _regions(grey, rng) if found is None else found
    large = mask.repeat(step, axis=0).repeat(step, axis=1)
    return np.pad(large, [(0, max(0, n - m)) for n, m in zip((height, width), large.shape, strict=True)], mode="edge")[
        :height, :width
    ]


def _grown(grey: Field, rng: np.random.Generator) -> Mask | None:
    """The part around a random place whose smoothed brightness lies within bounds; None where none is of good size."""
    smooth = ndimage.gaussian_filter(grey, rng.uniform(0.6, 2.0))
    spread = float(smooth.std())
    for _ in range(4):
        y, x = int(rng.integers(grey.shape[0])), int(rng.integers(grey.shape[1]))
        below, above = rng.uniform(0.3, 1.5, 2) * spread
        labels, _ = ndimage.label((smooth >= smooth[y, x] - below) & (smooth <= smooth[y, x] + above))
        mask = good_part(ndimage.binary_opening(labels == labels[y, x], iterations=int(rng.integers(0, 3))), rng)
        if mask is not None:
            return mask
    return None


def _regions(grey: Field, rng: np.random.Generator) -> Mask:
    """One to five neighbouring superpixels that look alike: of three such groups the one that stands out most."""
    count = int(math.exp(rng.uniform(math.log(10), math.log(120))))
    compact = math.exp(rng.uniform(math.log(0.02), math.log(0.3)))
    labels = slic(
        np.asarray(grey, dtype=np.float32), count, compact, max_num_iter=3, sigma=0.7, start_label=0, channel_axis=None
    )
    if labels.max() == 0:  # everything looks alike: cut by place instead
        labels = slic(np.asarray(grey, dtype=np.float32), 16, 10.0, start_label=0, channel_axis=None)
    groups = [_group(grey, labels, rng) for _ in range(3)]
    mask = filled(max(groups, key=lambda group: _contrast(grey, group)))
    if rng.random() < 0.6:  # superpixels have ragged edges
        smoother = ndimage.gaussian_filter(mask.astype(np.float32), 1.2) > 0.5
        mask = smoother if smoother.any() else mask
    return largest_part(mask)


def _group(grey: Field, labels: NDArray[np.int64], rng: np.random.Generator) -> Mask:
    """A superpixel and up to four neighbours, each time the one most like the first."""
    parts = np.arange(labels.max() + 1)
    means = np.asarray(ndimage.mean(grey, labels, parts))
    chosen = [int(rng.integers(len(parts)))]
    mask = labels == chosen[0]
    for _ in range(int(rng.integers(0, 5))):
        near = np.setdiff1d(np.unique(labels[ndimage.binary_dilation(mask, EIGHT)]), chosen)
        if len(near) == 0:
            break
        chosen.append(int(near[np.argmin(np.abs(means[near] - means[chosen[0]]))]))
        larger = mask | (labels == chosen[-1])
        if larger.mean() > SHARES[1]:
            break
        mask = larger
    return mask


def _contrast(grey: Field, mask: Mask) -> float:
    """How far the mask's brightness is from that of a rim around it, in spreads of the two."""
    rim = ndimage.binary_dilation(mask, EIGHT, iterations=3) & ~mask
    if not rim.any() or mask.mean() > SHARES[1]:
        return 0.0
    inside, outside = grey[mask], grey[rim]
    return float(abs(inside.mean() - outside.mean()) / (inside.std() + outside.std() + 0.02))


def good_part(mask: Mask, rng: np.random.Generator) -> Mask | None:
    """The largest connected part, its holes filled half of the time; None where that is too small or too large."""
    if not mask.any():
        return None
    mask = largest_part(mask)
    if rng.random() < 0.5:
        mask = filled(mask)
    return mask if SHARES[0] <= mask.mean() <= SHARES[1] else None


def largest_part(mask: Mask) -> Mask:
    """The largest connected part of a mask that is not empty."""
    labels, _ = ndimage.label(mask, structure=EIGHT)
    return np.asarray(labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1)


def only_on(mask: Mask, field: Field) -> Field:
    """A field that is below 0 wherever the mask is not."""
    return np.where(mask, field, np.minimum(field, -0.5)).astype(np.float32)


def filled(mask: Mask) -> Mask:
    """The mask without holes."""
    filled: Mask = ndimage.binary_fill_holes(mask)
    return filled


def picture_shape(pixels: Field) -> tuple[int, int]:
    """(H, W) of a picture, (H, W) or (H, W, 3).

    Raises:
        InputError: another shape, or fewer than 8 pixels a side.
    """
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or min(pixels.shape[:2]) < 8:
        raise InputError(f"pixels: got shape {pixels.shape}, wanted (H, W) or (H, W, 3) of at least 8 pixels a side")
    return pixels.shape[0], pixels.shape[1]
