"""Lesions measured as in RECIST: the longest diameter on a slice, and the longest one across it, as a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from samed2.errors import InputError

# Short over long axis where only the long one was measured: a lesion is seldom a circle, and a box that is
# a little too wide does less harm than one that cuts the lesion.
ASPECT = 0.8


def box_of_lines(long: ArrayLike, short: ArrayLike | None, where: str) -> tuple[float, float, float, float]:
    """(y0, x0, y1, x1), half-open, around the ellipse that a lesion's diameters span.

    Args:
        long: (2, 2) ends of the longest diameter as (y, x) in pixels.
        short: ends of the diameter across it; None takes `ASPECT` times the long one.

    Raises:
        InputError: the ends fall together.
    """
    ends = np.asarray(long, dtype=np.float64)
    along = (ends[1] - ends[0]) / 2
    half = float(np.hypot(*along))
    if not half > 0:
        raise InputError(f"{where}: has no length, wanted the two ends of a diameter")
    unit = along / half
    if short is None:
        middle, width, touched = ends.mean(axis=0), ASPECT * half, ends
    else:
        across = np.asarray(short, dtype=np.float64)
        width = float(np.hypot(*(across[1] - across[0]))) / 2
        aside = across.mean(axis=0) - ends.mean(axis=0)  # each line says where the middle is along itself
        middle = ends.mean(axis=0) + aside - unit * (aside @ unit)
        touched = np.concatenate([ends, across])
    reach = np.hypot(unit * half, unit[::-1] * width)  # half the sides of the box around a turned ellipse
    low = np.minimum(middle - reach, touched.min(axis=0))
    high = np.maximum(middle + reach, touched.max(axis=0)) + 1
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
