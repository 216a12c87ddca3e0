"""Means over tasks and cases with bootstrap intervals; what every choice is and why: `docs/metrics.md`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError
from samed2.evaluate.resampling import MIN_PATIENTS, NO_INTERVAL, RESAMPLES, Interval, bootstrap, interval

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("dataset", "task", "case", "patient")

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TaskSummary:
    """One task: mean over its cases, interval, and from how many.

    Attributes:
        cases: with a value; patients: to whom these belong.
        undefined: cases without a value (NaN), not in the mean.
    """

    mean: float
    ci: Interval
    cases: int
    patients: int
    undefined: int


@dataclass(frozen=True)
class Summary:
    """One metric over all tasks.

    Attributes:
        macro: mean over tasks of the mean over cases; tasks without any value are left out (`empty`).
        case: mean over all cases of all tasks.
        tasks: by name, in alphabetical order.
        cases, patients, undefined: sums as in `TaskSummary`, each patient of a data set counted once.
    """

    metric: str
    macro: float
    macro_ci: Interval
    case: float
    case_ci: Interval
    tasks: dict[str, TaskSummary]
    cases: int
    patients: int
    undefined: int
    seed: int
    resamples: int

    @property
    def empty(self) -> list[str]:
        """Tasks in which no case has a value."""
        return [name for name, task in self.tasks.items() if not task.cases]

    @property
    def fixed(self) -> list[str]:
        """Tasks of a single patient: they count in the means but cannot widen an interval."""
        return [name for name, task in self.tasks.items() if task.patients == 1]

    @property
    def small(self) -> list[str]:
        """Tasks with too few patients for an interval of their own."""
        return [name for name, task in self.tasks.items() if 0 < task.patients < MIN_PATIENTS]

    def flat(self) -> dict[str, float | list[float] | int | None]:
        """`macro_dice`, `macro_dice_ci`, `case_dice`, ... for JSON, null where undefined."""
        name = self.metric
        return {
            f"macro_{name}": _number(self.macro),
            f"macro_{name}_ci": _ends(self.macro_ci),
            f"case_{name}": _number(self.case),
            f"case_{name}_ci": _ends(self.case_ci),
            f"undefined_{name}": self.undefined,
        }

    def flat_tasks(self) -> dict[str, dict[str, float | list[float] | int | None]]:
        """Per task `dice`, `dice_ci`, `cases`, `patients`, `undefined_dice`, for JSON."""
        name = self.metric
        return {
            task: {
                name: _number(part.mean),
                f"{name}_ci": _ends(part.ci),
                "cases": part.cases + part.undefined,
                "patients": part.patients,
                f"undefined_{name}": part.undefined,
            }
            for task, part in self.tasks.items()
        }


def summarise(rows: pd.DataFrame, metric: str, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """Macro mean, case mean and per-task means of one column, with 95 % bootstrap intervals over patients.

    Args:
        rows: one per (case, object) with the columns dataset, task, case, patient and `metric`; any order.
        seed: of the bootstrap; the same for every metric, so that their intervals rest on the same draws.

    Raises:
        InputError: no rows, a column is missing, a case is there twice in a task, or a value is infinite.
    """
    table = tidy(rows, metric)
    used = table[table[metric].notna()]
    parts = bootstrap(used, metric, seed, resamples)
    tasks = {}
    for name, group in table.groupby("task", sort=True):
        position = parts.position(str(name))
        values = group[metric].dropna()
        tasks[str(name)] = TaskSummary(
            mean=float(values.mean()) if len(values) else math.nan,
            ci=NO_INTERVAL if position is None else interval(parts.draws[:, position], parts.patients[position]),
            cases=len(values),
            patients=0 if position is None else int(parts.patients[position]),
            undefined=len(group) - len(values),
        )
    patients = len(used[["dataset", "patient"]].drop_duplicates())
    return Summary(
        metric=metric,
        macro=float(parts.means.mean()) if parts.tasks else math.nan,
        macro_ci=interval(parts.macro(), parts.people),
        case=float(used[metric].mean()) if len(used) else math.nan,
        case_ci=interval(parts.case(), parts.people),
        tasks=tasks,
        cases=len(used),
        patients=patients,
        undefined=len(table) - len(used),
        seed=seed,
        resamples=resamples,
    )


def holm(p_values: ArrayLike) -> Values:
    """Holm's step-down adjustment of (n,) p-values; NaN (not tested) stays NaN and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def tidy(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The keys and the columns as numbers, sorted by task and case; a missing patient is the case itself.

    Raises:
        InputError: as `summarise`.
    """
    missing = [name for name in (*KEYS, *columns) if name not in rows.columns]
    if missing:
        raise InputError(f"rows: no column {', '.join(missing)}, got {', '.join(map(str, rows.columns))}")
    if not len(rows):
        raise InputError("rows: got none, wanted at least one case")
    table = rows[[*KEYS, *columns]].copy()
    for name in columns:
        try:
            table[name] = table[name].astype("float64")
        except (TypeError, ValueError) as error:
            raise InputError(f"rows: column {name} holds something that is no number: {error}") from error
        if np.isinf(table[name]).any():
            raise InputError(f"rows: column {name} holds infinite values, wanted numbers or NaN for undefined")
    nameless = table["patient"].isna()
    for name in KEYS:
        table[name] = table[name].astype(str)
    table["patient"] = table["patient"].mask(nameless | (table["patient"] == ""), table["case"])
    if (table.groupby("task")["dataset"].nunique() > 1).any():
        raise InputError("rows: a task is named in two data sets, wanted tasks named DATASET/OBJECT")
    twice = table[table.duplicated(["task", "case"])]
    if len(twice):
        first = twice.iloc[0]
        raise InputError(
            f"rows: {first['task']}, case {first['case']} is there twice, wanted one row per case and task"
        )
    return table.sort_values(["task", "case"], ignore_index=True)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ends(ends: Sequence[float]) -> list[float] | None:
    return [float(end) for end in ends] if all(map(math.isfinite, ends)) else None
