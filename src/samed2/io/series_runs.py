"""A stack of unevenly spaced slices cut into runs of even spacing, each of which is a scan of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.series_headers import Slice

ALIKE = 0.05  # of the distance: how much distances between slices of a run differ
_LISTED = 8
_RUN = re.compile(r"(.*):(\d{1,5})", re.DOTALL)


@dataclass(frozen=True)
class Run:
    """Slices `start` to `stop` - 1 of a stack, every `step` mm (0: one slice alone)."""

    start: int
    stop: int
    step: float

    def __len__(self) -> int:
        return self.stop - self.start

    def to_dict(self, series: str, slices: list[Slice]) -> dict[str, Any]:
        """JSON-able facts; `series` is what chooses it."""
        return {
            "series": series,
            "slices": len(self),
            "spacing_mm": round(self.step, 4) or None,
            "first": str(slices[self.start]),
            "last": str(slices[self.stop - 1]),
        }


def even_runs(origins: NDArray[np.float64], limit: float, sideways: float) -> list[Run]:
    """The runs of slices at the LPS+ mm `origins` (T, 3), in order; the longest are cut out first.

    Args:
        limit: of a run's own distance: how far a slice may lie from its place on the run's even grid.
        sideways: mm that it may lie beside the run's line.
    """
    found: list[Run] = []
    gaps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    parts = [(0, len(origins))]
    while parts:
        start, stop = parts.pop()
        if stop - start < 2:
            found += [Run(start, stop, 0.0)] * (stop - start)
            continue
        left, right = _longest(gaps[start : stop - 1])
        left, right = start + left, start + right
        while not fits(origins[left:right], limit, sideways):
            right -= max(1, (right - left) // 8)
        found.append(Run(left, right, float(np.linalg.norm(origins[right - 1] - origins[left])) / (right - left - 1)))
        parts += [(start, left), (right, stop)]
    return sorted(found, key=lambda run: run.start)


def _longest(gaps: NDArray[np.float64]) -> tuple[int, int]:
    """Slices from and to (past the end) with the most distances alike, the first of several."""
    best = start = 0
    longest = 0
    for index in range(1, len(gaps) + 1):
        if index == len(gaps) or abs(gaps[index] - gaps[start]) > ALIKE * gaps[start]:
            if index - start > longest:
                best, longest = start, index - start
            start = index
    return best, best + longest + 1


def offsets(origins: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The step (3,) of an even grid from the first to the last slice, and how far each slice lies from its place
    there: along the step and beside it, (T,) each, in mm."""
    step = (origins[-1] - origins[0]) / (len(origins) - 1)
    off = origins - (origins[0] + np.arange(len(origins))[:, None] * step)
    way = step / np.linalg.norm(step)
    along = off @ way
    return step, along, np.linalg.norm(off - along[:, None] * way, axis=1)


def fits(origins: NDArray[np.float64], limit: float, sideways: float) -> bool:
    """Whether slices lie evenly; arguments as of `even_runs`."""
    if len(origins) <= 2:
        return True
    step, along, beside = offsets(origins)
    return bool(np.abs(along).max() <= limit * np.linalg.norm(step) and beside.max() <= sideways)


def split_choice(series: str | int | None) -> tuple[str | int | None, int | None]:
    """What chooses a series, and a run of it: "0:1" is run 1 of series 0."""
    found = _RUN.fullmatch(series.strip()) if isinstance(series, str) else None
    return (series, None) if found is None else (found[1], int(found[2]))


def choose_run(runs: list[Run], number: int, label: object) -> Run:
    """The run of that number.

    Raises:
        InputError: there is none.
    """
    if number < len(runs):
        return runs[number]
    last = len(runs) - 1
    raise InputError(f"{label}: its slices make {len(runs)} even runs, got run {number}; wanted 0 to {last}")


def listing(runs: list[Run], series: str) -> str:
    """The runs as one line, each with what chooses it."""
    shown = []
    for number, run in enumerate(runs[:_LISTED]):
        every = f" every {run.step:.4g} mm" if run.step else ""
        shown.append(f"{series}:{number} ({len(run)} slice{'s' if len(run) > 1 else ''}{every})")
    return ", ".join(shown) + (f" and {len(runs) - _LISTED} more" if len(runs) > _LISTED else "")
