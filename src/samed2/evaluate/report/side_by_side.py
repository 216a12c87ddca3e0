"""Several runs on the same cases side by side: Dice and NSD of every data set, with the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from samed2.errors import InputError
from samed2.evaluate.report import words
from samed2.evaluate.results import Results

if TYPE_CHECKING:
    import pandas as pd

KEY = ["dataset", "case", "object"]


def by_dataset(runs: Sequence[Results]) -> dict[str, Any]:
    """Means over the objects that all runs scored.

    Returns:
        `columns`: titles, a run's being "MODEL, PROTOCOL"; baselines are the first run's. `rows`: per data set (mean
        over its objects of the mean over cases), then the macro mean over all objects and the mean over cases: the
        name, how many cases and objects of a case were scored, and (Dice, NSD) per column. `left_out`: how many rows
        that some run scored another one did not.

    Raises:
        InputError: no runs, or no object that all of them scored.
    """
    if not runs:
        raise InputError("table: got no runs, wanted at least one")
    frames = [run.frame() for run in runs]
    keys = [set(map(tuple, frame[KEY].itertuples(index=False))) for frame in frames]
    common = sorted(set.intersection(*keys))
    if not common:
        raise InputError("table: no object has a score in every run; were they made on the same cases?")
    aligned = [frame.set_index(KEY).loc[common].reset_index() for frame in frames]
    columns = [
        (f"{run.config['model']}, {run.config['protocol']}", frame, "")
        for run, frame in zip(runs, aligned, strict=True)
    ]
    columns += [(name, aligned[0], f"baseline_{name}_") for name in _baselines(runs[0])]
    rows = []
    for dataset in sorted({key[0] for key in common}):
        rows.append(_row(dataset, columns, lambda frame, d=dataset: frame[frame["dataset"] == d], macro=True))
    rows.append(_row("macro mean", columns, lambda frame: frame, macro=True))
    rows.append(_row("mean over cases", columns, lambda frame: frame, macro=False))
    return {
        "columns": [title for title, _, _ in columns],
        "rows": rows,
        "left_out": len(set.union(*keys)) - len(common),
    }


def as_markdown(table: dict[str, Any]) -> str:
    """The table as Markdown, "Dice / NSD" in every cell."""
    titles = ["data set", "cases", *table["columns"]]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in table["rows"]:
        cells = [" / ".join(words.number(value) for value in pair) for pair in row["values"]]
        lines.append("| " + " | ".join([row["name"], str(row["cases"]), *cells]) + " |")
    return "\n".join(lines)


def _baselines(run: Results) -> list[str]:
    return [name for name in run.baselines if f"baseline_{name}_nsd" in run.frame()]


def _row(name: str, columns: Sequence[tuple[str, pd.DataFrame, str]], pick: Any, *, macro: bool) -> dict[str, Any]:
    """One line: the mean over tasks of the mean over cases, or with `macro` off the mean over all rows."""
    values = []
    for _, frame, prefix in columns:
        chosen = pick(frame)
        pair = []
        for metric in ("dice", "nsd"):
            column = f"{prefix}{metric}"
            mean = chosen.groupby("task")[column].mean().mean() if macro else chosen[column].mean()
            pair.append(float(mean))
        values.append(tuple(pair))
    first = pick(columns[0][1])
    return {
        "name": name,
        "cases": int(first.groupby(["dataset", "case"]).ngroups),
        "objects": len(first),
        "values": values,
    }
