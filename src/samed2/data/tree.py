"""Drawing level by level: a value of the first column, then one of the second among its rows, and so on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from samed2.data.frames import Column


class Tree:
    """Rows of sorted columns; a draw picks among the values of the first column, then of the second, and so on.

    Every value of a column has the same chance, but those of column `weighed`: `weigh(value, children)`, and with
    `chances`, a number per row of the columns, those of the column after it: that of the value's first row.
    """

    def __init__(
        self,
        columns: list[Column],
        rows: Column,
        weighed: int,
        weigh: Callable[[int, int], float],
        chances: NDArray[np.float64] | None = None,
    ) -> None:
        values = np.stack([column[rows] for column in columns])
        order = np.lexsort(values[::-1])
        self.rows, values = rows[order], values[:, order]
        new = np.maximum.accumulate(np.diff(values, axis=1, prepend=values[:, :1] - 1) != 0, axis=0)
        self.starts = [np.append(np.flatnonzero(level), len(rows)) for level in new]  # where each prefix begins
        firsts = self.starts[weighed][:-1]
        children = np.diff(np.searchsorted(self.starts[weighed + 1], self.starts[weighed]))
        weights = [weigh(int(v), int(c)) for v, c in zip(values[weighed, firsts], children, strict=True)]
        self.chances = {weighed: np.array(weights)}
        if chances is not None:
            self.chances[weighed + 1] = chances[self.rows[self.starts[weighed + 1][:-1]]]

    def draw(self, rng: np.random.Generator) -> int:
        """A row, by one number per level."""
        span = (0, len(self.rows))
        for level, starts in enumerate(self.starts):
            low, high = (int(i) for i in np.searchsorted(starts, span))
            picked = low + self._pick(level, low, high, float(rng.random()))
            span = (int(starts[picked]), int(starts[picked + 1]))
        return int(self.rows[span[0]])

    def _pick(self, level: int, low: int, high: int, number: float) -> int:
        if level not in self.chances:
            return int(number * (high - low))
        total = np.cumsum(self.chances[level][low:high])
        return int(np.searchsorted(total, number * total[-1], side="right"))
