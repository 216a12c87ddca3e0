"""Overlap of two masks: Dice and intersection over union."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError

Mask = NDArray[np.bool_]


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Dice coefficient 2|A and B| / (|A| + |B|) of two (H, W) or (D, H, W) masks.

    Both empty: 1. One empty: 0.

    Raises:
        InputError: the masks differ in shape, have other axes, or hold fractions.
    """
    first, second = as_masks(a, b)
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else 1.0


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Intersection over union |A and B| / |A or B| of two (H, W) or (D, H, W) masks.

    Both empty: 1. One empty: 0.

    Raises:
        InputError: as `dice`.
    """
    first, second = as_masks(a, b)
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def as_masks(a: ArrayLike, b: ArrayLike) -> tuple[Mask, Mask]:
    """Both as bool arrays of one shape; integers count as set where they are not 0.

    Raises:
        InputError: the masks differ in shape, are neither (H, W) nor (D, H, W), or hold fractions.
    """
    first, second = _mask(a), _mask(b)
    if first.shape != second.shape:
        raise InputError(f"masks: got shapes {first.shape} and {second.shape}, wanted one shape for both")
    return first, second


def _mask(values: ArrayLike) -> Mask:
    array = np.asarray(values)
    if array.ndim not in (2, 3):
        raise InputError(f"mask: got shape {array.shape}, wanted (H, W) or (D, H, W)")
    if array.dtype.kind not in "bui":
        raise InputError(f"mask: got {array.dtype} values, wanted bool; put a threshold on probabilities first")
    return array.astype(bool, copy=False)
