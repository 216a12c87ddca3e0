"""Tables of a report as the templates take them, and the same for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samed2.evaluate.metrics import METRICS
from samed2.evaluate.report import words
from samed2.evaluate.results import Results

Table = dict[str, Any]
SUMMARY = (
    ("macro_dice", "macro Dice"),
    ("case_dice", "case Dice"),
    ("macro_nsd", "macro NSD"),
    ("case_nsd", "case NSD"),
)


def cell(text: str, note: str = "") -> dict[str, str]:
    """One cell with a small addition."""
    return {"text": text, "note": note}


def summary_table(results: Results) -> Table:
    """Model and baselines: macro and case means of Dice and NSD with intervals."""
    named = [(results.config["model"], results.summary, True)]
    named += [(name, found, False) for name, found in results.baselines.items()]
    rows = []
    for name, found, main in named:
        cells = [cell(name)]
        cells += [cell(words.number(found.get(key)), words.interval(found.get(f"{key}_ci"))) for key, _ in SUMMARY]
        rows.append({"cells": cells, "main": main})
    return {"columns": ["", *(title for _, title in SUMMARY)], "rows": rows}


def task_table(results: Results) -> Table:
    """Every task: cases, all metrics, and the baselines' Dice."""
    frame = results.frame()
    shown = [name for name in METRICS if name in frame]
    units = sorted(set(frame["unit"])) if "unit" in frame else []
    rows = []
    for task, found in sorted(results.tasks.items()):
        modality = str(frame.loc[frame["task"] == task, "modality"].iloc[0])
        cells = [cell(task), cell(modality), cell(str(found["cases"]), f"{found['patients']} patients")]
        for name in shown:
            digits = 1 if METRICS[name].unit else 3
            undefined = found.get(f"undefined_{name}")
            note = f"{undefined} undefined" if undefined else ""
            if name in ("dice", "nsd"):
                note = words.interval(found.get(f"{name}_ci"))
            cells.append(cell(words.number(found.get(name), digits), note))
        cells += [cell(words.number(found.get("baselines", {}).get(name))) for name in results.baselines]
        rows.append({"cells": cells, "main": False})
    titles = [METRICS[n].title + (f" ({'/'.join(units)})" if METRICS[n].unit and units else "") for n in shown]
    return {"columns": ["task", "modality", "objects", *titles, *results.baselines], "rows": rows}


def best_baseline(results: Results) -> tuple[str, float] | None:
    """Name and macro Dice of the best baseline, None without any."""
    found = {name: b.get("macro_dice") for name, b in results.baselines.items()}
    known = {name: float(value) for name, value in found.items() if value is not None}
    name = max(known, key=lambda key: known[key], default=None)
    return None if name is None else (name, known[name])


def prompt_budget(results: Results) -> str:
    """Prompts of each kind per object in words, such as "1.3 boxes"."""
    given: Mapping[str, Any] = results.document.get("prompts_per_case", {})
    names = {"boxes": "box", "points": "point", "masks": "mask"}
    parts = [f"{given[k]:.3g} {one if given[k] == 1 else k}" for k, one in names.items() if given.get(k)]
    return " + ".join(parts) or "none"
