"""Results of a continual-learning experiment: JSON, a table, and the matrices as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samed2.evaluate.report.figures import INK, SURFACE, new_figure, to_png
from samed2.io.atomic import atomic_path, atomic_write
from samed2.train.continual.figures import FIGURES, continual_figures
from samed2.train.continual.recipe import ContinualRecipe

DARK = 0.55  # scores above it are written in a light colour


def results_of(
    recipe: ContinualRecipe,
    tasks: Mapping[str, list[str]],
    base: Mapping[str, float],
    joint: Mapping[str, Any] | None,
    runs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything that was found: the runs with their figures, and each figure's mean and range over orders."""
    done = []
    for run in runs:
        order = run["order"]
        ceiling = None if joint is None else [joint["scores"][stage] for stage in order]
        figures = continual_figures(run["scores"], [base[stage] for stage in order], ceiling)
        done.append({**run, "figures": figures})
    summary = {}
    for name in dict.fromkeys(run["method"] for run in done):
        same = [run for run in done if run["method"] == name]
        values = {figure: [run["figures"][figure] for run in same] for figure in FIGURES}
        values |= {cost: [run["cost"][cost] for run in same] for cost in ("images", "megabytes")}
        summary[name] = {
            key: {"mean": float(np.mean(found)), "low": min(found), "high": max(found)} for key, found in values.items()
        } | {"orders": len(same)}
    return {
        "recipe": recipe.model_dump(mode="json"),
        "tasks": dict(tasks),
        "base": dict(base),
        "joint": None if joint is None else dict(joint),
        "runs": done,
        "summary": summary,
    }


def table_of(results: Mapping[str, Any]) -> str:
    """One line per method as a Markdown table: means over orders, their range in brackets, 100 times Dice."""
    heads = ["method", "orders", "ACC", "BWT", "forgetting", "FWT", "plasticity", "intransigence", "images", "MB"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, row in results["summary"].items():
        cells = [name, str(row["orders"]), *(_cell(row[figure]) for figure in FIGURES)]
        cells += [f"{row['images']['mean']:.0f}", f"{row['megabytes']['mean']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    joint = results["joint"]
    if joint is not None:
        mean = 100 * float(np.mean(list(joint["scores"].values())))
        cost = joint["cost"]
        empty = ["–"] * (len(FIGURES) - 1)
        cells = ["joint", "–", f"{mean:.1f}", *empty, f"{cost['images']:.0f}", f"{cost['megabytes']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    base = 100 * float(np.mean(list(results["base"].values())))
    lines.append("")
    lines.append(f"Before the first stage: {base:.1f}. Dice x 100, mean over orders [lowest, highest].")
    return "\n".join(lines)


def write_results(results: Mapping[str, Any], out: Path) -> None:
    """Write `results.json`, `results.md` and `matrices.png`."""
    atomic_write(out / "results.json", json.dumps(_plain(results), indent=1))
    atomic_write(out / "results.md", table_of(results) + "\n")
    if results["runs"]:
        with atomic_path(out / "matrices.png") as path:
            Path(path).write_bytes(heat_maps(results))


def heat_maps(results: Mapping[str, Any]) -> bytes:
    """A PNG: for every method (row) and order (column) the matrix of scores after each stage."""
    methods = list(results["summary"])
    orders = list(dict.fromkeys(tuple(run["order"]) for run in results["runs"]))
    count = len(orders[0])
    side = 0.52 * count + 1.3
    figure, _ = new_figure(side * len(orders), side * len(methods), columns=1)
    figure.clf()
    for run in results["runs"]:
        place = methods.index(run["method"]) * len(orders) + orders.index(tuple(run["order"]))
        ax = figure.add_subplot(len(methods), len(orders), place + 1)
        scores = np.asarray(run["scores"])
        ax.imshow(scores, vmin=0, vmax=1, cmap="Blues")
        for i in range(count):
            for j in range(count):
                colour = SURFACE if scores[i, j] > DARK else INK
                ax.text(j, i, f"{100 * scores[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=7)
        ax.set_xticks(range(count), run["order"], rotation=45, ha="right", fontsize=7)
        ax.set_yticks(range(count), [f"after {stage}" for stage in run["order"]], fontsize=7)
        ax.set_title(f"{run['method']}: ACC {100 * run['figures']['acc']:.1f}", fontsize=8)
    return to_png(figure)


def _cell(found: Mapping[str, float]) -> str:
    if math.isnan(found["mean"]):
        return "–"
    mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _plain(value: Any) -> Any:
    """The same with null for numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
