"""Figures of continual learning from the matrix of scores; definitions in docs/continual.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError

FIGURES = ("acc", "bwt", "forgetting", "fwt", "plasticity", "intransigence")


def continual_figures(
    scores: Sequence[Sequence[float]] | NDArray[np.float64],
    base: Sequence[float] | NDArray[np.float64],
    joint: Sequence[float] | NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """The figures of one sequence of T tasks; NaN where one is not defined (one task, no joint training).

    Args:
        scores: R, (T, T): R[i][j] is the score on task j after stage i; columns in the order of the stages.
        base: (T,) scores before the first stage.
        joint: (T,) scores of joint training.

    Raises:
        InputError: shapes that do not fit each other.
    """
    matrix, before = np.asarray(scores, dtype=float), np.asarray(base, dtype=float)
    ceiling = np.full_like(before, np.nan) if joint is None else np.asarray(joint, dtype=float)
    count = len(matrix)
    if count == 0 or matrix.shape != (count, count) or before.shape != (count,) or ceiling.shape != (count,):
        raise InputError(
            f"scores: got shape {matrix.shape}, base {before.shape}, joint {ceiling.shape}; wanted (T, T), (T,), (T,)"
        )
    learned, last = np.diag(matrix), matrix[-1]
    found = {
        "acc": float(last.mean()),
        "plasticity": float(learned.mean()),
        "intransigence": float((ceiling - learned).mean()),
    }
    if count == 1:
        return {name: found.get(name, float("nan")) for name in FIGURES}
    found |= {
        "bwt": float((last - learned)[:-1].mean()),
        "forgetting": float((matrix[:-1].max(axis=0) - last)[:-1].mean()),
        "fwt": float(np.mean([matrix[j - 1, j] - before[j] for j in range(1, count)])),
    }
    return {name: found[name] for name in FIGURES}
