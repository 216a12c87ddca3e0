"""What an interactive session is worth, from its score after each step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from samed2.errors import InputError


def interactive_auc(scores: Sequence[float]) -> float:
    """Area under the score over clicks: trapezoids of width 1, so 0 to len(scores) - 1 for scores of 0 to 1.

    The interactive 3D challenge of CVPR 2025 takes the scores after its five clicks, without that after the box
    (range 0 to 4). A step that was not made counts as 0 there: the caller says so by a 0.

    Raises:
        InputError: fewer than two scores, or one that is not a number.
    """
    values = _scores(scores, least=2)
    return float(((values[1:] + values[:-1]) / 2).sum())


def prompts_to_reach(scores: Sequence[float], target: float, given: Sequence[int] | None = None) -> float:
    """How many prompts were given when the score first reached `target`; NaN where it never did.

    Args:
        scores: after each step, in order.
        given: prompts given up to and including each step; default 1, 2, 3, ...

    Raises:
        InputError: no scores, one that is not a number, or `given` of another length or falling.
    """
    values = _scores(scores, least=1)
    counts = np.arange(1, len(values) + 1) if given is None else np.asarray(given)
    if counts.shape != values.shape or (np.diff(counts) < 0).any():
        raise InputError(f"given: got {list(counts)}, wanted {len(values)} counts that do not fall")
    reached = np.flatnonzero(values >= target - 1e-12)
    return float(counts[reached[0]]) if reached.size else math.nan


def _scores(scores: Sequence[float], least: int) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) < least or not np.isfinite(values).all():
        raise InputError(f"scores: got {list(scores)}, wanted at least {least} numbers, one per step")
    return values
