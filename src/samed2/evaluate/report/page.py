"""The report of one run: a page that opens from disk without network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samed2.errors import InputError
from samed2.evaluate.report import words
from samed2.evaluate.report.figures import to_svg
from samed2.evaluate.report.gallery import task_pictures
from samed2.evaluate.report.plots import TaskLine, calibration_plot, size_plot, steps_plot, task_plot
from samed2.evaluate.report.tables import best_baseline, prompt_budget, summary_table, task_table
from samed2.evaluate.results import Results
from samed2.io.atomic import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

REPORT = "report.html"
_CALIBRATION = {
    "ece": "expected calibration error (15 bins)",
    "bias": "bias: predicted minus true",
    "mae": "mean absolute error",
    "spearman": "Spearman's rank correlation",
    "aurc": "area under the risk-coverage curve, lower is better",
    "aurc_best": "… of perfect ranking",
    "aurc_random": "… without ranking",
    "pixel_ece": "pixels: expected calibration error",
    "border_ece": "pixels near the border: expected calibration error",
}


def write_report(folder: Path | str) -> Path:
    """Write `report.html` into the folder of a finished run and return its path.

    Raises:
        InputError: not a finished run's folder, damaged files, or it cannot be written.
    """
    results = Results.load(folder)
    return atomic_write(Path(folder) / REPORT, render("report.html.j2", report_content(results)))


def render(template: str, content: Mapping[str, Any]) -> str:
    """A page of this folder's templates; everything in it is escaped but the figures."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(**content) + "\n"


def report_content(results: Results) -> dict[str, Any]:
    """Everything that the report's template shows.

    Raises:
        InputError: the run's pictures are damaged.
    """
    document, frame = results.document, results.frame()
    pictures, notes = task_pictures(results)
    return {
        "title": f"{results.config['model']} under {results.config['protocol']}",
        "lead": lead(results),
        "warnings": warnings(results),
        "headline": headline(results),
        "summary": summary_table(results),
        "tasks": task_table(results),
        "figures": {
            "tasks": _task_figure(results, frame),
            "steps": _steps_figure(frame),
            "size": _size_figure(results, frame),
            "calibration": _calibration_figure(frame),
        },
        "calibration": calibration_facts(document.get("calibration", {})),
        "pictures": pictures,
        "picture_notes": notes,
        "failed": [_line(row) for row in document.get("failed", [])],
        "skipped": [_line(row) for row in document.get("skipped", [])],
        "notes": [f"{text} ({count} ×)" for text, count in document.get("notes", {}).items()],
        "run": run_facts(results),
    }


def lead(results: Results) -> str:
    """Prompts, selection rule and scored frames in words."""
    config = results.config
    parts = [config.get("protocol_words", config["protocol"]), f"counted is {config.get('select_words', 'the answer')}"]
    if set(results.frame()["kind"]) - {"image"} and not _whole(str(config["protocol"])):
        parts.append(f"of volumes and videos {words.slices_words(str(config.get('slices', '')))}")
    text = "; ".join(str(part).rstrip(".") for part in parts if part)
    return text[:1].upper() + text[1:] + "."


def _whole(protocol: str) -> bool:
    """Whether a protocol scores whole cases, so that the choice of slices has no effect."""
    from samed2.evaluate.protocols import parse_protocol

    try:
        return parse_protocol(protocol).whole
    except InputError:  # of a later version
        return False


def warnings(results: Results) -> list[str]:
    """What a reader must not overlook."""
    lines = []
    if results.config.get("select") == "oracle":
        lines.append("Masks were chosen with the help of the truth: these numbers are an upper bound, not a result.")
    failed = results.document.get("counts", {}).get("failed", 0)
    if failed:
        lines.append(f"{failed} objects failed and are in no number; they are listed below.")
    best, own = best_baseline(results), results.summary.get("macro_dice")
    if best is not None and own is not None and best[1] > own:
        lines.append(
            f"The baseline {best[0]} has a higher macro Dice than the model ({best[1]:.3f} against {own:.3f})."
        )
    return lines


def headline(results: Results) -> list[dict[str, str]]:
    """The tiles on top."""
    summary, frame = results.summary, results.frame()
    tiles = []
    for key, label in (
        ("macro_dice", "Dice, macro mean over tasks"),
        ("case_dice", "Dice, mean over cases"),
        ("macro_nsd", "NSD, macro mean over tasks"),
        ("case_nsd", "NSD, mean over cases"),
    ):
        limits = words.interval(summary.get(f"{key}_ci"))
        tiles.append(tile(label, words.number(summary.get(key)), f"95 %: {limits}" if limits else ""))
    best = best_baseline(results)
    if best is not None:
        tiles.append(tile(f"best baseline: {best[0]}", words.number(best[1]), "macro Dice"))
    cases = len(frame[["dataset", "case"]].drop_duplicates())
    tiles.append(tile("scored objects", str(len(frame)), f"{cases} cases, {frame['task'].nunique()} tasks"))
    tiles.append(tile("prompts per object", prompt_budget(results), "mean"))
    seconds = results.document.get("seconds", {})
    tiles.append(tile("time per frame", words.seconds(seconds.get("per_prediction_median")), "median, model alone"))
    return tiles


def tile(label: str, value: str, note: str = "") -> dict[str, str]:
    """One of the numbers on top."""
    return {"label": label, "value": value, "note": note}


def plotted(figure: Figure, name: str, title: str, text: str, narrow: bool = False) -> dict[str, Any]:
    """A figure as the template takes it; `name` is unique on the page."""
    from markupsafe import Markup

    return {"title": title, "text": text, "svg": Markup(to_svg(figure, name, title)), "narrow": narrow}


def _task_figure(results: Results, frame: pd.DataFrame) -> dict[str, Any]:
    lines = []
    for task, found in results.tasks.items():
        low, high = found.get("dice_ci") or (np.nan, np.nan)
        baselines = {name: _float(value) for name, value in found.get("baselines", {}).items()}
        values = frame.loc[frame["task"] == task, "dice"].to_numpy(float)
        lines.append(TaskLine(task, _float(found.get("dice")), low, high, values, baselines))
    figure = task_plot(lines, _float(results.summary.get("macro_dice")))
    text = "Each task's mean over cases with its 95 % interval, single cases as dots, the baselines' means as ticks."
    return plotted(figure, "tasks", "Dice per task", text)


def _size_figure(results: Results, frame: pd.DataFrame) -> dict[str, Any]:
    columns = {name: f"baseline_{name}_dice" for name in results.baselines}
    baselines = {name: frame[column].to_numpy(float) for name, column in columns.items() if column in frame}
    figure = size_plot(frame["size"].to_numpy(float), frame["dice"].to_numpy(float), baselines)
    text = "Every scored object by its size (pixels on a frame, voxels where a volume is scored whole), with the "
    return plotted(figure, "size", "Dice against object size", text + "running median.")


def _steps_figure(frame: pd.DataFrame) -> dict[str, Any] | None:
    numbers = sorted(int(found[1]) for name in frame if (found := re.fullmatch(r"dice_(\d+)", str(name))))
    if len(numbers) < 2:
        return None
    steps = frame[[f"dice_{number}" for number in numbers]].to_numpy(float)
    text = "Mean over all cases after each interaction; the band holds the middle half of the cases."
    return plotted(steps_plot(steps, numbers), "steps", "Dice after each interaction", text)


def _calibration_figure(frame: pd.DataFrame) -> dict[str, Any] | None:
    if "predicted_iou" not in frame:
        return None
    predicted, true = frame["predicted_iou"].to_numpy(float), frame["true_iou"].to_numpy(float)
    if not (np.isfinite(predicted) & np.isfinite(true)).any():
        return None
    text = "The IoU that the model predicts for its own answer against the true one, per scored object."
    return plotted(calibration_plot(predicted, true), "calibration", "Does the model know how good it is?", text)


def calibration_facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Calibration numbers by what they mean."""
    return [
        (title, words.signed(found[key]) if key == "bias" else words.number(found[key]))
        for key, title in _CALIBRATION.items()
        if found.get(key) is not None
    ]


def run_facts(results: Results) -> list[tuple[str, str]]:
    """Everything needed to make the numbers again."""
    document, config = results.document, results.config
    facts = [
        ("model", config["model"]),
        ("model settings", config.get("model_settings")),
        ("hash of the weights", document.get("weights_hash")),
        ("protocol", config["protocol"]),
        ("selection rule", config.get("select")),
        ("scored slices", config.get("slices")),
        ("splits", ", ".join(config.get("splits", []))),
        ("hash of the data", document.get("data_hash")),
        ("hash of the cases' names", config.get("cases_hash")),
        ("support", ", ".join(config.get("support_splits", []))),
        ("tolerance of NSD", f"{config.get('tolerance_mm')} mm, {config.get('tolerance_px')} px without spacing"),
        ("seed", document.get("seed")),
        ("bootstrap", f"{config.get('resamples')} resamples of patients"),
        ("hash of the configuration", document.get("config_hash")),
        ("hash of the rows", document.get("rows_hash")),
        ("model time in all", words.seconds(document.get("seconds", {}).get("total"))),
        ("peak memory", ", ".join(f"{k}: {v:.0f} MB" for k, v in document.get("peak_memory_mb", {}).items())),
        ("versions", ", ".join(f"{k} {v}" for k, v in document.get("versions", {}).items())),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _line(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']}/{row['case']}, {row['object']}: {row['reason']}"


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
