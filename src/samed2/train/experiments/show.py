"""Results of an experiment: means over seeds with intervals, paired tests, tables, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from samed2.evaluate.compare import Comparison, compare
from samed2.evaluate.results import finite
from samed2.evaluate.statistics import KEYS, holm, summarise
from samed2.io.atomic import atomic_write

if TYPE_CHECKING:
    import pandas as pd

HEADS = [
    "protocol",
    "split",
    "variant",
    "Dice",
    "95 %",
    "seeds",
    "against",
    "difference",
    "95 %",
    "p",
    "tasks",
    "cases",
]
BANK_HEADS = [
    "variant",
    "seeds",
    "offered",
    "wrong",
    "Dice of wrong",
    "sure enough",
    "entries",
    "wrong entries",
    "share",
]


class Scores(NamedTuple):
    """Rows of one variant, trained with one seed, under one protocol on one split."""

    variant: str
    seed: int
    split: str
    protocol: str
    rows: pd.DataFrame


def results_of(
    scores: Sequence[Scores],
    against: Mapping[str, str],
    banks: Mapping[str, Sequence[Mapping[str, Any]]],
    resamples: int,
) -> dict[str, Any]:
    """One row per protocol, split and variant, in the order in which they come, and one per bank.

    A case's score is its mean over seeds; mean, interval, difference and test rest on these, with patients as what is
    drawn; a difference only on the seeds that both have. Holm over all tests of one protocol on one split.

    Args:
        against: whom each variant is compared with; a row has no difference where that one lacks the protocol, or
            all of its seeds.
    """
    groups: dict[tuple[str, str], dict[str, list[Scores]]] = {}
    for one in scores:
        groups.setdefault((one.protocol, one.split), {}).setdefault(one.variant, []).append(one)
    rows = []
    for (protocol, split), by_variant in groups.items():
        means = {name: seed_mean([one.rows for one in runs]) for name, runs in by_variant.items()}
        tests = {}
        for name, runs in by_variant.items():
            mine, theirs = shared_seeds(runs, by_variant.get(against[name], []))
            if against[name] != name and mine:
                tests[name] = compare(seed_mean(mine), seed_mean(theirs), resamples=resamples)
        adjusted = dict(zip(tests, holm([test.macro_p for test in tests.values()]), strict=True))
        for name, table in means.items():
            row = {"protocol": protocol, "split": split, "variant": name, **_means(table, by_variant[name], resamples)}
            if name in tests:
                row |= _difference(tests[name], against[name], adjusted[name])
                row["seeds_better"] = seeds_better(by_variant[name], by_variant[against[name]])
            rows.append(row)
    return {"rows": rows, "banks": [_bank(name, found) for name, found in banks.items()]}


def seed_mean(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean Dice of every (task, case) that all tables have."""
    import pandas as pd

    joined = pd.concat([table[[*KEYS, "dice"]] for table in tables])
    found = joined.groupby(list(KEYS), sort=True)["dice"].agg(["mean", "size"]).reset_index()
    return found[found["size"] == len(tables)].rename(columns={"mean": "dice"}).drop(columns="size")


def shared_seeds(runs: Sequence[Scores], others: Sequence[Scores]) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """The rows of both for the seeds that both have, in the same order."""
    mine, theirs = ({one.seed: one.rows for one in some} for some in (runs, others))
    both = [seed for seed in mine if seed in theirs]
    return [mine[seed] for seed in both], [theirs[seed] for seed in both]


def macro(rows: pd.DataFrame) -> float:
    """Mean over tasks of the mean over cases."""
    return float(rows.groupby("task")["dice"].mean().mean())


def seeds_better(runs: Sequence[Scores], others: Sequence[Scores]) -> str:
    """In how many of the seeds that both have the first is better, such as "2/3"."""
    theirs = {one.seed: macro(one.rows) for one in others}
    pairs = [(macro(one.rows), theirs[one.seed]) for one in runs if one.seed in theirs]
    return f"{sum(a > b for a, b in pairs)}/{len(pairs)}"


def table_of(results: Mapping[str, Any]) -> str:
    """The rows as one Markdown table, 100 times Dice; below it the banks, where there are any."""
    lines = [_line(HEADS), "|" + "---|" * len(HEADS)]
    for row in results["rows"]:
        cells = [row["protocol"], row["split"], row["variant"], _hundred(row["dice"]), _ends(row["ci"])]
        cells.append(" ".join(_hundred(value) for value in row["seeds"].values()))
        if "against" in row:
            cells += [row["against"], _hundred(row["difference"], "+"), _ends(row["difference_ci"], "+"), _p(row["p"])]
        else:
            cells += ["–"] * 4
        lines.append(_line([*cells, str(row["tasks"]), str(row["cases"])]))
    lines += [
        "",
        "Dice x 100, mean over tasks; a case counts with its mean over seeds. Difference: seeds of both. p: Holm.",
    ]
    if results["banks"]:
        lines += ["", _line(BANK_HEADS), "|" + "---|" * len(BANK_HEADS)]
    for row in results["banks"]:
        share = row["wrong"] / row["entries"] if row["entries"] else math.nan
        counts = [f"{row[key]:.0f}" for key in ("offered", "offered_wrong")]
        more = [f"{row[key]:.0f}" for key in ("sure_enough", "entries", "wrong")]
        lines.append(
            _line([row["variant"], str(row["seeds"]), *counts, _hundred(row["wrong_dice"]), *more, f"{share:.0%}"])
        )
    return "\n".join(lines)


def write_results(results: Mapping[str, Any], out: Path) -> None:
    """Write `results.json` and `results.md`."""
    atomic_write(out / "results.json", json.dumps(finite(results), indent=1, allow_nan=False))
    atomic_write(out / "results.md", table_of(results) + "\n")


def _means(table: pd.DataFrame, runs: Sequence[Scores], resamples: int) -> dict[str, Any]:
    found = summarise(table, "dice", resamples=resamples)
    return {
        "dice": found.macro,
        "ci": list(found.macro_ci),
        "seeds": {one.seed: macro(one.rows) for one in runs},
        "tasks": len(found.tasks),
        "cases": found.cases,
    }


def _difference(test: Comparison, other: str, p: float) -> dict[str, Any]:
    return {"against": other, "difference": test.macro, "difference_ci": list(test.macro_ci), "p": float(p)}


def _bank(name: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds."""
    row: dict[str, Any] = {"variant": name, "seeds": len(found)}
    for key in ("offered", "offered_wrong", "sure_enough", "entries", "wrong", "wrong_dice"):
        values = [one[key] for one in found if one[key] is not None]
        row[key] = float(np.mean(values)) if values else math.nan
    return row


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _hundred(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if math.isfinite(value) else "–"


def _ends(ends: Sequence[float], sign: str = "") -> str:
    return f"[{_hundred(ends[0], sign)}, {_hundred(ends[1], sign)}]" if all(map(math.isfinite, ends)) else "–"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
