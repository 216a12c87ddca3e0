"""Two or more results on the same cases: paired differences, tests, Holm's correction. No pages, only numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError
from samed2.evaluate.metrics import METRICS
from samed2.evaluate.resampling import MIN_PATIENTS, NO_INTERVAL, RESAMPLES, Bootstrap, Interval, bootstrap, interval
from samed2.evaluate.statistics import holm, tidy

if TYPE_CHECKING:
    import pandas as pd

EXACT = 50  # up to this many unequal pairs the signed-rank test is exact
SAME = 12  # differences are told apart by this many decimals; smaller ones are rounding


@dataclass(frozen=True)
class TaskComparison:
    """One task; differences are A - B.

    Attributes:
        cases, patients: paired, with a value on both sides.
        undefined: paired cases left out because one side has no value.
        mean_a, mean_b, difference: means over these cases.
        ci: 95 % bootstrap interval of the difference.
        a_better, b_better, equal: patients by the mean difference over their cases.
        p: two-sided Wilcoxon signed-rank test over patients; NaN below six patients.
        p_holm: adjusted over all tested tasks.
    """

    cases: int
    patients: int
    undefined: int
    mean_a: float
    mean_b: float
    difference: float
    ci: Interval
    a_better: int
    b_better: int
    equal: int
    p: float
    p_holm: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """Results A and B on the cases that both have; differences are A - B.

    Attributes:
        macro_a, macro_b, macro: mean over tasks of A, of B, of the difference; `macro_p` two-sided from the
            bootstrap, never below 2 / (resamples + 1).
        case_a, case_b, case: the same over all cases.
        only_a, only_b: cases that the other side lacks, as (task, case); they count nowhere.
        undefined: paired cases left out because one side has no value.
    """

    metric: str
    higher_is_better: bool
    macro_a: float
    macro_b: float
    macro: float
    macro_ci: Interval
    macro_p: float
    case_a: float
    case_b: float
    case: float
    case_ci: Interval
    tasks: dict[str, TaskComparison]
    cases: int
    patients: int
    undefined: int
    only_a: tuple[tuple[str, str], ...]
    only_b: tuple[tuple[str, str], ...]
    seed: int
    resamples: int

    def verdict(self, task: str | None = None, alpha: float = 0.05) -> Literal["a", "b", "open", "untested"]:
        """Who is better, in one task (Holm-adjusted test) or, without one, in the macro mean."""
        p = self.macro_p if task is None else self.tasks[task].p_holm
        difference = self.macro if task is None else self.tasks[task].difference
        if math.isnan(p):
            return "untested"
        if p >= alpha or difference == 0:
            return "open"
        return "a" if (difference > 0) == self.higher_is_better else "b"

    def table(self) -> pd.DataFrame:
        """One row per task, with low and high of the interval and the verdict."""
        import pandas as pd

        rows = []
        for name, part in self.tasks.items():
            row = {"task": name, **{key: value for key, value in asdict(part).items() if key != "ci"}}
            rows.append({**row, "low": part.ci.low, "high": part.ci.high, "verdict": self.verdict(name)})
        return pd.DataFrame(rows)


def compare(
    rows_a: pd.DataFrame,
    rows_b: pd.DataFrame,
    metric: str = "dice",
    seed: int = 0,
    resamples: int = RESAMPLES,
    higher_is_better: bool | None = None,
) -> Comparison:
    """Pair two results by (task, case) and test the difference A - B of one column.

    Args:
        rows_a, rows_b: as in `summarise`.
        higher_is_better: needed for a column that is no registered metric.

    Raises:
        InputError: unusable rows, no case in common, or the direction of the column is not known.
    """
    if higher_is_better is None:
        if metric not in METRICS:
            raise InputError(f"metric: {metric!r} is no registered one, say with higher_is_better what is better")
        higher_is_better = METRICS[metric].higher_is_better
    both, only_a, only_b = _pair(tidy(rows_a, metric), tidy(rows_b, metric), metric)
    used = both[both["difference"].notna()]
    parts = bootstrap(used, "difference", seed, resamples)
    groups = {str(name): group for name, group in used.groupby("task")}
    tasks = {}
    for name, group in both.groupby("task", sort=True):
        undefined = int(group["difference"].isna().sum())
        tasks[str(name)] = _task(groups.get(str(name)), parts, str(name), higher_is_better, undefined)
    adjusted = holm([part.p for part in tasks.values()])
    tasks = {name: replace(tasks[name], p_holm=float(p)) for name, p in zip(tasks, adjusted, strict=True)}
    defined = [part for part in tasks.values() if part.cases]
    macro_draws, patients = parts.macro(), parts.people
    macro_ci = interval(macro_draws, patients)
    return Comparison(
        metric=metric,
        higher_is_better=higher_is_better,
        macro_a=_mean([part.mean_a for part in defined]),
        macro_b=_mean([part.mean_b for part in defined]),
        macro=_mean([part.difference for part in defined]),
        macro_ci=macro_ci,
        macro_p=bootstrap_p(macro_draws) if math.isfinite(macro_ci.low) else math.nan,
        case_a=_mean(used["a"]),
        case_b=_mean(used["b"]),
        case=_mean(used["difference"]),
        case_ci=interval(parts.case(), patients),
        tasks=tasks,
        cases=len(used),
        patients=len(used[["dataset", "patient"]].drop_duplicates()),
        undefined=len(both) - len(used),
        only_a=only_a,
        only_b=only_b,
        seed=seed,
        resamples=resamples,
    )


def compare_many(
    runs: Mapping[str, pd.DataFrame], reference: str, metric: str = "dice", **settings: Any
) -> dict[str, Comparison]:
    """Compare every other run (A) with the reference (B); Holm over all tasks of all runs together.

    The p-values of the macro differences are adjusted over the runs. `settings` are those of `compare`.

    Raises:
        InputError: as `compare`, or the reference is not among the runs.
    """
    if reference not in runs:
        raise InputError(f"reference: got {reference!r}, wanted one of {', '.join(runs)}")
    plain = {
        name: compare(rows, runs[reference], metric, **settings) for name, rows in runs.items() if name != reference
    }
    places = [(name, task) for name, result in plain.items() for task in result.tasks]
    adjusted = dict(zip(places, holm([plain[name].tasks[task].p for name, task in places]), strict=True))
    macro = holm([result.macro_p for result in plain.values()])
    return {
        name: replace(
            result,
            macro_p=float(p),
            tasks={task: replace(part, p_holm=float(adjusted[name, task])) for task, part in result.tasks.items()},
        )
        for (name, result), p in zip(plain.items(), macro, strict=True)
    }


def config_differences(
    a: Mapping[str, Any], b: Mapping[str, Any], ignore: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Where two results' settings differ: dotted field -> (in A, in B), None where a side lacks it.

    `ignore` names fields (with everything below them) that may differ.
    """
    flat_a, flat_b = _flatten(a), _flatten(b)
    skipped = tuple(f"{name}." for name in ignore)
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in sorted({*flat_a, *flat_b})
        if flat_a.get(name) != flat_b.get(name) and not f"{name}.".startswith(skipped)
    }


def signed_rank_p(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of (n,) differences; 1 where all are 0.

    Zeros are left out, ties share their mean rank. Up to 50 unequal pairs the null distribution is that of all
    sign flips of the ranks at hand, ties included; above, the normal one with scipy's correction for ties.
    """
    from scipy import stats

    values = np.round(np.asarray(differences, dtype=np.float64), SAME)
    values = values[values != 0]
    if not values.size:
        return 1.0
    if values.size > EXACT:
        return float(stats.wilcoxon(values, zero_method="wilcox", method="approx").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)  # doubled, so that mean ranks are whole
    chance = np.ones(1)
    for rank in ranks:
        chance = np.concatenate([chance, np.zeros(rank)]) / 2 + np.concatenate([np.zeros(rank), chance]) / 2
    reached = int(ranks[values > 0].sum())
    return float(min(1.0, 2 * min(chance[: reached + 1].sum(), chance[reached:].sum())))


def bootstrap_p(draws: NDArray[np.float64]) -> float:
    """Two-sided p of a difference of 0 from its (R,) resampled values, counting the observed sample as one more."""
    beyond = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return float(min(1.0, 2 * (beyond + 1) / (len(draws) + 1)))


def _pair(
    a: pd.DataFrame, b: pd.DataFrame, metric: str
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """The rows of both with columns a, b, difference, and the (task, case) of only one."""
    keys = ["task", "case"]
    other = b[[*keys, metric]].rename(columns={metric: "b"})
    merged = a.rename(columns={metric: "a"}).merge(other, on=keys, how="outer", indicator=True, sort=True)
    both = merged[merged["_merge"] == "both"].reset_index(drop=True)
    if not len(both):
        raise InputError(
            f"results: no (task, case) in common, A has {len(a)} rows and B {len(b)}; wanted the same cases"
        )
    both["difference"] = both["a"] - both["b"]
    only = (merged[merged["_merge"] == side] for side in ("left_only", "right_only"))
    left, right = (tuple((str(t), str(c)) for t, c in zip(part["task"], part["case"], strict=True)) for part in only)
    return both, left, right


def _task(
    group: pd.DataFrame | None, parts: Bootstrap, name: str, higher_is_better: bool, undefined: int
) -> TaskComparison:
    """One task's comparison before Holm; `group` None where no pair has both values."""
    position = parts.position(name)
    if group is None or position is None:
        return TaskComparison(0, 0, undefined, math.nan, math.nan, math.nan, NO_INTERVAL, 0, 0, 0, math.nan)
    per_patient = np.round(group.groupby("patient")["difference"].mean().to_numpy(), SAME)
    gain = per_patient if higher_is_better else -per_patient
    return TaskComparison(
        cases=len(group),
        patients=len(per_patient),
        undefined=undefined,
        mean_a=float(group["a"].mean()),
        mean_b=float(group["b"].mean()),
        difference=float(group["difference"].mean()),
        ci=interval(parts.draws[:, position], len(per_patient)),
        a_better=int((gain > 0).sum()),
        b_better=int((gain < 0).sum()),
        equal=int((gain == 0).sum()),
        p=signed_rank_p(per_patient) if len(per_patient) >= MIN_PATIENTS else math.nan,
    )


def _mean(values: ArrayLike) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else math.nan


def _flatten(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        path = f"{above}{name}"
        flat.update(_flatten(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return flat
