"""Bootstrap of task means over patients; what every choice is and why: `docs/metrics.md`."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
LEVEL = 0.95
MIN_PATIENTS = 6  # below this neither interval nor test: of five pairs even the exact test cannot give p < 0.05
BLOCK = 4_000_000  # drawn patients held at once

Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A 95 % interval; both ends NaN where there are too few patients for one."""

    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan)


@dataclass(frozen=True)
class Bootstrap:
    """Task means under resampling.

    Attributes:
        tasks: names, (T,).
        means, cases, patients: (T,) of the rows themselves.
        draws: (R, T) task means of each resample.
        people: different patients in tasks with at least two; a task of one patient has no spread to show.
    """

    tasks: list[str]
    means: Values
    cases: NDArray[np.int64]
    patients: NDArray[np.int64]
    draws: Values
    people: int

    def position(self, task: str) -> int | None:
        """Index of a task, None where it has no value."""
        return self.tasks.index(task) if task in self.tasks else None

    def macro(self) -> Values:
        """(R,) mean over tasks."""
        return self.draws.mean(axis=1) if self.tasks else np.full(len(self.draws), np.nan)

    def case(self) -> Values:
        """(R,) mean over cases: every task keeps the weight that its cases give it."""
        return self.draws @ (self.cases / self.cases.sum()) if self.tasks else np.full(len(self.draws), np.nan)


def bootstrap(used: pd.DataFrame, column: str, seed: int, resamples: int = RESAMPLES) -> Bootstrap:
    """Task means of resampled patients; `used` is a `tidy` table without NaN in `column`.

    In each resample n - 1 of a task's n patients are drawn with replacement (Rao and Wu 1988: this makes the
    variance of the mean unbiased, which n draws do not), each with all of its cases. The tasks of a data set read
    the same stream of drawn patients, each skipping those it lacks, so tasks that share patients vary together.
    The stream depends on the seed, the data set's name and its patients only.
    """
    if resamples < 1:
        raise InputError(f"resamples: got {resamples}, wanted at least 1")
    blocks: list[tuple[Values, ...]] = []
    names: list[str] = []
    total = 0
    for dataset, group in used.groupby("dataset", sort=True):
        people, person = np.unique(group["patient"].to_numpy(dtype=str), return_inverse=True)
        tasks, task = np.unique(group["task"].to_numpy(dtype=str), return_inverse=True)
        shape, place = (len(tasks), len(people)), task * len(people) + person
        counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        values = group[column].to_numpy(dtype=np.float64)
        sums = np.bincount(place, weights=values, minlength=counts.size).reshape(shape).astype(np.float64)
        cases, patients = counts.sum(axis=1), (counts > 0).sum(axis=1)
        draws = _resample(sums, counts, seed, str(dataset), resamples)
        blocks.append((sums.sum(axis=1) / cases, cases, patients, draws))
        names += tasks.tolist()
        total += int((counts[patients > 1] > 0).any(axis=0).sum())
    if not names:
        return Bootstrap([], np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((resamples, 0)), 0)
    order = np.argsort(np.asarray(names), kind="stable")
    means, cases, patients, draws = (np.concatenate(parts, axis=-1)[..., order] for parts in zip(*blocks, strict=True))
    return Bootstrap([names[i] for i in order], means, cases.astype(np.int64), patients, draws, total)


def interval(draws: Values, patients: int) -> Interval:
    """The central 95 % of resampled means; undefined below six patients."""
    if patients < MIN_PATIENTS or not np.isfinite(draws).all():
        return NO_INTERVAL
    low, high = np.percentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], method="linear")
    return Interval(float(low), float(high))


def _resample(sums: Values, counts: Values, seed: int, dataset: str, resamples: int) -> Values:
    """(R, T) means of T tasks over N shared patients; sums and counts (T, N) of each patient's values."""
    people = sums.shape[1]
    member = counts > 0
    wanted = member.sum(axis=1) - 1
    length = max(people - 1, 1) if member.all() else 2 * people  # enough for nearly every row of a sparse task
    stream, rest = (np.random.default_rng([seed, zlib.crc32(dataset.encode()), part]) for part in (0, 1))
    result = np.empty((resamples, len(sums)))
    step = max(1, BLOCK // length)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = stream.integers(people, size=(rows, length))
        shared: Values | None = None
        for task in range(len(sums)):
            if wanted[task] == 0:
                result[start : start + rows, task] = sums[task].sum() / counts[task].sum()
                continue
            if member[task].all():
                shared = _weights(drawn[:, : people - 1], people) if shared is None else shared
                weights = shared
            else:
                weights = _weights_of(drawn, member[task], int(wanted[task]), rest)
            result[start : start + rows, task] = (weights @ sums[task]) / (weights @ counts[task])
    return result


def _weights_of(drawn: NDArray[np.int64], member: NDArray[np.bool_], wanted: int, rng: np.random.Generator) -> Values:
    """How often each patient is among the first `wanted` members of each row of draws, (R, N)."""
    hit = member[drawn]
    rank = np.cumsum(hit, axis=1)
    people = len(member)
    picked = np.where(hit & (rank <= wanted), drawn, people)  # index N collects what is skipped
    weights = _weights(picked, people + 1)[:, :people]
    short = np.maximum(wanted - rank[:, -1], 0)
    if short.any():  # a stream that ran out goes on with draws of the task's own
        rows = np.repeat(np.arange(len(drawn)), short)
        np.add.at(weights, (rows, rng.choice(np.flatnonzero(member), size=len(rows))), 1)
    return weights


def _weights(drawn: NDArray[np.int64], people: int) -> Values:
    """How often each of N patients is in each row, (R, N)."""
    rows = len(drawn)
    places = drawn + people * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * people).reshape(rows, people).astype(np.float64)
