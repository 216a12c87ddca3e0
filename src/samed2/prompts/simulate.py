"""Prompts drawn from masks, as a person would give them; every random step takes a numpy Generator.

Drawing and applying are apart: `draw_shift` draws numbers, `shift_box` applies them, `jitter_box` does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError

Box = tuple[float, float, float, float]  # (y0, x0, y1, x1), half-open in pixels
Mask = NDArray[np.bool_]


def components(mask: ArrayLike, min_pixels: int = 16, limit: int | None = 32) -> list[Mask]:
    """The 8-connected parts of a (H, W) mask with at least `min_pixels`, largest first, at most `limit`.

    Parts of equal size keep the order in which a row-by-row scan meets them.
    """
    from scipy import ndimage

    labels, count = ndimage.label(_flat(mask), structure=np.ones((3, 3), dtype=int))
    if count == 0:
        return []
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    kept = [int(index) + 1 for index in order if sizes[index] >= min_pixels]
    return [labels == index for index in kept[:limit]]


def tight_box(mask: ArrayLike) -> tuple[int, int, int, int]:
    """The smallest (y0, x0, y1, x1) around a (H, W) mask, half-open: rows r0..r1 give y0 = r0, y1 = r1 + 1.

    Raises:
        InputError: the mask is empty.
    """
    values = _filled(mask)
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def draw_shift(rng: np.random.Generator, mode: Literal["outward", "both"] = "outward") -> NDArray[np.float64]:
    """Four numbers, one per side (y0, x0, y1, x1): 0 to 1 outward, or -1 (inward) to 1 (outward)."""
    if mode not in ("outward", "both"):
        raise InputError(f"mode: got {mode!r}, wanted 'outward' or 'both'")
    return rng.uniform(0.0 if mode == "outward" else -1.0, 1.0, size=4)


def shift_box(
    box: Sequence[float],
    shift: Sequence[float] | NDArray[np.float64],
    amount: float,
    shape: tuple[int, int],
    unit: Literal["fraction", "pixels"] = "fraction",
) -> Box:
    """Move each side outward by `shift * amount`, inside the (H, W) image, keeping a pixel each way.

    Args:
        amount: of the box's own height or width ("fraction"), or in pixels.
    """
    y0, x0, y1, x1 = (float(v) for v in box)
    if unit not in ("fraction", "pixels"):
        raise InputError(f"unit: got {unit!r}, wanted 'fraction' or 'pixels'")
    reach_y, reach_x = (amount * (y1 - y0), amount * (x1 - x0)) if unit == "fraction" else (amount, amount)
    top, bottom = _keep_one(y0 - shift[0] * reach_y, y1 + shift[2] * reach_y, shape[0])
    left, right = _keep_one(x0 - shift[1] * reach_x, x1 + shift[3] * reach_x, shape[1])
    return top, left, bottom, right


def jitter_box(
    box: Sequence[float],
    amount: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
    mode: Literal["outward", "both"] = "outward",
    unit: Literal["fraction", "pixels"] = "fraction",
) -> Box:
    """The box (y0, x0, y1, x1), each side moved by up to `amount`; see `draw_shift` and `shift_box`."""
    return shift_box(box, draw_shift(rng, mode), amount, shape, unit)


def center_point(mask: ArrayLike) -> tuple[int, int]:
    """The pixel (y, x) of a (H, W) mask that is deepest inside; the image's border counts as outside.

    Of several equally deep ones the first in reading order.

    Raises:
        InputError: the mask is empty.
    """
    depth = _depth(_filled(mask))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y), int(x)


def random_point(mask: ArrayLike, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel (y, x) of a (H, W) mask, all equally likely.

    Raises:
        InputError: the mask is empty.
    """
    values = _filled(mask)
    places = np.flatnonzero(values)
    y, x = divmod(int(places[rng.integers(len(places))]), values.shape[1])
    return y, x


def error_click(pred: ArrayLike, truth: ArrayLike, rng: np.random.Generator) -> tuple[int, int, bool] | None:
    """The click (y, x, positive) a person would correct `pred` with, or None where both (H, W) masks agree.

    It lies deepest inside the largest 8-connected wrong region (missed or too much); `rng` decides among
    equally large regions and equally deep pixels. Positive when the truth holds the pixel.
    """
    guess, wanted = _flat(pred), _flat(truth)
    if guess.shape != wanted.shape:
        raise InputError(f"pred: got shape {guess.shape}, wanted {wanted.shape} as the truth")
    regions = components(wanted & ~guess, 1, None) + components(guess & ~wanted, 1, None)
    if not regions:
        return None
    sizes = np.array([np.count_nonzero(region) for region in regions])
    largest = np.flatnonzero(sizes == sizes.max())
    depth = _depth(regions[int(largest[rng.integers(len(largest))])])
    deepest = np.argwhere(depth == depth.max())
    y, x = (int(v) for v in deepest[rng.integers(len(deepest))])
    return y, x, bool(wanted[y, x])


def ellipse_mask(box: Sequence[float], shape: tuple[int, int]) -> Mask:
    """The (H, W) pixels whose centres lie in the ellipse inscribed in (y0, x0, y1, x1), never none.

    Where the ellipse is too thin to hold a pixel's centre, the pixel under its own centre stands for it.
    """
    y0, x0, y1, x1 = (float(v) for v in box)
    if not (y1 > y0 and x1 > x0):
        raise InputError(f"box: got {tuple(box)}, wanted y0 < y1 and x0 < x1")
    y = (np.arange(shape[0]) + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
    x = (np.arange(shape[1]) + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
    mask: Mask = (y * y)[:, None] + (x * x)[None, :] <= 1.0
    if not mask.any() and mask.size:
        row = min(max(int((y0 + y1) / 2), 0), shape[0] - 1)
        column = min(max(int((x0 + x1) / 2), 0), shape[1] - 1)
        mask[row, column] = True
    return mask


def _keep_one(low: float, high: float, size: int) -> tuple[float, float]:
    """Clip a side to 0..size and widen it round its middle where less than one pixel is left."""
    low, high = min(max(low, 0.0), float(size)), min(max(high, 0.0), float(size))
    if high - low < 1:
        start = min(max((low + high) / 2 - 0.5, 0.0), float(size) - 1)
        low, high = start, start + 1
    return low, high


def _depth(mask: Mask) -> NDArray[np.float64]:
    """Distance in pixels to the nearest pixel outside the (H, W) mask; beyond the image is outside."""
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])


def _flat(mask: ArrayLike) -> Mask:
    values = np.asarray(mask)
    if values.ndim != 2:
        raise InputError(f"mask: got shape {values.shape}, wanted (H, W)")
    return values.astype(bool)


def _filled(mask: ArrayLike) -> Mask:
    values = _flat(mask)
    if not values.any():
        raise InputError("mask: is empty, wanted at least one pixel")
    return values
