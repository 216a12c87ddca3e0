"""Two runs side by side: differences per task, case against case, and where they differ most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samed2.evaluate.compare import Comparison, compare, config_differences
from samed2.evaluate.metrics import METRICS, get_metric
from samed2.evaluate.report import words
from samed2.evaluate.report.differing import differing_pictures
from samed2.evaluate.report.page import plotted, render, tile
from samed2.evaluate.report.plots import Difference, forest_plot, pair_plot
from samed2.evaluate.report.tables import Table, cell
from samed2.evaluate.results import Results, finite
from samed2.io.atomic import atomic_write

if TYPE_CHECKING:
    import pandas as pd

    from samed2.data.cases import Case

SHOWN = 12
_NAMED = 8  # tasks in a note
# What two runs may differ in and still be compared: the models themselves, and what does not decide the numbers.
EXPECTED = ("model", "weights_hash", "model_settings", "version", "cases", "cases_hash", "splits", "support_hash")
VERDICTS = {"a": "A", "b": "B", "open": "not significant", "untested": "too few"}


def compare_runs(a: Results, b: Results, metric: str = "dice") -> Comparison:
    """Pair two runs case by case.

    Raises:
        InputError: no such metric, or no case in common.
    """
    get_metric(metric)
    return compare(a.frame(), b.frame(), metric, seed=int(a.document.get("seed", 0)))


def names_of(a: Results, b: Results) -> tuple[str, str]:
    """What to call two runs: their models, with the protocols where the models are the same."""
    names = [str(run.config["model"]) for run in (a, b)]
    if names[0] == names[1]:
        names = [f"{name}, {run.config['protocol']}" for name, run in zip(names, (a, b), strict=True)]
    return names[0], names[1]


def write_comparison(
    a: Path | str, b: Path | str, out: Path | str, metric: str = "dice", cases: Sequence[Case] = ()
) -> Path:
    """Write a page that compares two finished runs and return its path.

    Args:
        metric: a name of `METRICS`.
        cases: for pictures of objects of which the runs kept the answer but no picture.

    Raises:
        InputError: not folders of finished runs, no case in common, or it cannot be written.
    """
    first, second = Results.load(a), Results.load(b)
    content = comparison_content(first, second, compare_runs(first, second, metric), cases)
    return atomic_write(out, render("compare.html.j2", content))


def comparison_content(a: Results, b: Results, found: Comparison, cases: Sequence[Case] = ()) -> dict[str, Any]:
    """Everything that the template shows."""
    names = names_of(a, b)
    title = METRICS[found.metric].title
    pairs = paired(a, b, found.metric)
    pictures, notes = differing_pictures(a, b, pairs.to_dict("records"), SHOWN, cases)
    return {
        "title": f"A: {names[0]} — B: {names[1]}",
        "lead": f"{found.cases} objects of {found.patients} patients in {len(found.tasks)} tasks that both runs "
        f"scored. Differences are A − B in {title}.",
        "warnings": differing_settings(a, b),
        "headline": headline(found),
        "tasks": task_table(found),
        "table_words": "Paired by case. p: Wilcoxon signed-rank test over patients (macro: bootstrap), adjusted over "
        "the tasks after Holm; intervals: 95 % bootstrap over patients.",
        "figures": {"forest": _forest_figure(found, names), "pairs": _pair_figure(pairs, found.metric, names)},
        "pictures": pictures,
        "picture_notes": notes,
        "notes": _notes(found),
        "run": run_table(a, b),
    }


def differing_settings(a: Results, b: Results) -> list[str]:
    """Settings beside the model that the two runs do not share, one line each."""
    found = config_differences(a.config, b.config, ignore=EXPECTED)
    lines = [f"{name} differs: A has {x!r}, B has {y!r}." for name, (x, y) in found.items() if "words" not in name]
    return lines


def headline(found: Comparison) -> list[dict[str, str]]:
    """The tiles on top."""
    title, digits = METRICS[found.metric].title, 3
    limits = f"95 %: {words.interval(tuple(found.macro_ci))}" if words.interval(tuple(found.macro_ci)) else ""
    case_limits = f"95 %: {words.interval(tuple(found.case_ci))}" if words.interval(tuple(found.case_ci)) else ""
    return [
        tile(f"{title} of A", words.number(found.macro_a, digits), "macro mean"),
        tile(f"{title} of B", words.number(found.macro_b, digits), "macro mean"),
        tile("macro difference", words.signed(found.macro), limits),
        tile("p of the macro difference", words.p_value(found.macro_p), "bootstrap, two-sided"),
        tile("case difference", words.signed(found.case), case_limits),
        tile("better in tasks", f"{_won(found, 'a')} : {_won(found, 'b')}", "A : B, significant after Holm"),
    ]


def _won(found: Comparison, side: str) -> int:
    return sum(found.verdict(task) == side for task in found.tasks)


def task_table(found: Comparison) -> Table:
    """Every task's means, difference, p-values and verdict."""
    rows = [
        {
            "main": True,
            "cells": [
                cell("macro mean"),
                cell(str(found.cases)),
                cell(words.number(found.macro_a)),
                cell(words.number(found.macro_b)),
                cell(words.signed(found.macro), words.interval(tuple(found.macro_ci))),
                cell(words.p_value(found.macro_p)),
                cell(""),
                cell(VERDICTS[found.verdict()]),
            ],
        }
    ]
    for name, part in found.tasks.items():
        cells = [cell(name), cell(str(part.cases)), cell(words.number(part.mean_a)), cell(words.number(part.mean_b))]
        cells.append(cell(words.signed(part.difference), words.interval(tuple(part.ci))))
        cells += [cell(words.p_value(part.p)), cell(words.p_value(part.p_holm)), cell(VERDICTS[found.verdict(name)])]
        rows.append({"main": False, "cells": cells})
    return {"columns": ["task", "objects", "A", "B", "A − B", "p", "p, Holm", "better"], "rows": rows}


def paired(a: Results, b: Results, metric: str) -> pd.DataFrame:
    """Rows that both runs scored, with columns a, b, difference; the largest differences first."""
    keys = ["dataset", "task", "case", "object"]
    columns = [*keys, metric]
    merged = a.frame()[columns].merge(b.frame()[columns], on=keys, suffixes=("_a", "_b"))
    merged = merged.rename(columns={f"{metric}_a": "a", f"{metric}_b": "b"}).dropna(subset=["a", "b"])
    merged["difference"] = merged["a"] - merged["b"]
    order = merged["difference"].abs().to_numpy()
    return merged.iloc[np.argsort(-order, kind="stable")].reset_index(drop=True)


def _forest_figure(found: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    up = found.higher_is_better
    rows = [
        Difference("macro mean", found.macro, *found.macro_ci, (found.macro > 0) == up, found.verdict() in "ab", True)
    ]
    for name, part in sorted(found.tasks.items(), key=lambda item: -_or_zero(item[1].difference)):
        won = found.verdict(name) in ("a", "b")
        rows.append(Difference(name, part.difference, *part.ci, (part.difference > 0) == up, won))
    title = METRICS[found.metric].title
    figure = forest_plot(rows, *names, title, lower_is_better=not up)
    text = (
        "Mean difference of each task with its 95 % interval; filled where it is significant after Holm's correction."
    )
    return plotted(figure, "forest", f"Difference in {title} per task", text)


def _pair_figure(pairs: pd.DataFrame, metric: str, names: tuple[str, str]) -> dict[str, Any]:
    known = METRICS[metric]
    figure = pair_plot(
        pairs["a"].to_numpy(float), pairs["b"].to_numpy(float), *names, known.title, not known.higher_is_better
    )
    return plotted(figure, "pairs", "Case against case", "Every object that both runs scored.", narrow=True)


def _notes(found: Comparison) -> list[str]:
    lines = [
        f"{len(only)} objects are in {side} only and count nowhere, such as {task}, {case}."
        for side, only in (("A", found.only_a), ("B", found.only_b))
        if only
        for task, case in only[:1]
    ]
    if found.undefined:
        lines.append(f"{found.undefined} pairs have no value on one side and are left out.")
    small = [name for name in found.tasks if found.verdict(name) == "untested"]
    if small:
        more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
        lines.append(f"Too few patients for a test of its own: {', '.join(small[:_NAMED])}{more}.")
    return lines


def run_table(a: Results, b: Results) -> Table:
    """Both runs' settings side by side."""
    named: Sequence[tuple[str, str]] = (
        ("model", "model"),
        ("model_settings", "model settings"),
        ("weights_hash", "hash of the weights"),
        ("protocol", "protocol"),
        ("select", "selection rule"),
        ("slices", "scored slices"),
        ("seed", "seed"),
        ("data_hash", "hash of the data"),
        ("cases_hash", "hash of the cases' names"),
        ("version", "version of samed2"),
    )
    rows = []
    for key, title in named:
        values = [str(run.config.get(key, "")) for run in (a, b)]
        if any(values):
            rows.append({"main": False, "cells": [cell(title), *(cell(value) for value in values)]})
    return {"columns": ["", "A", "B"], "rows": rows}


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def as_dict(found: Comparison, a: Results, b: Results, page: Path | None = None) -> dict[str, Any]:
    """A comparison as JSON; numbers that are not defined are null."""
    names = names_of(a, b)
    tasks = {name: {**asdict(part), "verdict": found.verdict(name)} for name, part in found.tasks.items()}
    whole = {key: value for key, value in asdict(found).items() if key not in ("tasks", "only_a", "only_b")}
    extra = {"only_a": len(found.only_a), "only_b": len(found.only_b), "page": str(page) if page else None}
    result = finite({"a": names[0], "b": names[1], **whole, "verdict": found.verdict(), "tasks": tasks, **extra})
    return dict(result)
