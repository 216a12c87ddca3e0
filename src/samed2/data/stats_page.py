"""The statistics as files: PNG pictures, the tables as JSON, and one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from samed2 import __version__
from samed2.data.cases import file_name
from samed2.data.stats import Stats
from samed2.data.stats_plots import draw_plots, draw_sheet, encode
from samed2.io.atomic import atomic_write, make_folder

TITLES = {
    "cases": "Cases by data set and split",
    "areas": "Area by task (box: quartiles; whiskers: 5th to 95th percentile)",
    "area-histograms": "Area by task (frames with the object; the line is the median)",
    "size-histograms": "Size by task (frames with the object; the line is the median)",
    "intensities": "Intensities by data set (frames looked at, without the outer 0.1 %; heights are square roots)",
}
DATASET_HEADINGS = (
    "data set", "modality", "kind", "cases", "patients", "splits", "frames", "with objects",
    "height × width", "spacing (frame, y, x) mm", "type", "intensities (1 %, median, 99 %)",
)  # fmt: skip
TASK_HEADINGS = (
    "task", "modality", "cases", "with it", "splits", "frames", "area %", "diameter px", "diameter mm",
    "parts", "at border", "contrast",
)  # fmt: skip

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width">
<style>
 body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; padding: 0 1em; color: #222 }
 h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd }
 h3 { font-size: 1em; margin: 1.6em 0 .3em }
 .wide { overflow-x: auto } table { border-collapse: collapse; font-size: 12.5px }
 th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
 th { border-bottom: 2px solid #999; vertical-align: bottom } td:first-child, th:first-child { text-align: left }
 img { max-width: 100%; height: auto } .note { color: #666 } nav a { margin-right: 1em }
</style></head><body>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
<nav><a href="#datasets">Data sets</a><a href="#tasks">Tasks</a><a href="#plots">Plots</a>
<a href="#sheets">Pictures</a></nav>
{% for id, heading, headings, rows, note in tables %}
<h2 id="{{ id }}">{{ heading }}</h2>
<div class="wide"><table><tr>{% for h in headings %}<th>{{ h }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div><p class="note">{{ note }}</p>
{% endfor %}
<h2 id="plots">Plots</h2>
{% for heading, data in plots %}<h3>{{ heading }}</h3><img alt="{{ heading }}" src="data:image/png;base64,{{ data }}">
{% endfor %}
<h2 id="sheets">Pictures</h2>
<p class="note">Cases spread evenly over each task, the middle one of their frames with the object, through the window
that a model gets by default; below each frame the object from near, or the frame without outline where the object fills
most of it. Caption: case, #frame, area.</p>
{% for heading, data in sheets %}<h3>{{ heading }}</h3><img loading="lazy" alt="{{ heading }}"
 src="data:image/jpeg;base64,{{ data }}">
{% endfor %}
<p class="note">samed2 {{ version }}</p>
</body></html>
"""
TASK_NOTE = (
    "Area and diameter: 5th percentile, median and 95th over frames with the object; diameter of a disc as large. "
    "Parts (8-connected), share of objects that reach the image's border, and contrast (inside less just outside, in "
    "standard deviations of the frame) are means over the frames looked at."
)


def write_stats(stats: Stats, out: Path, title: str) -> list[Path]:
    """Write `stats.json`, `plots/*.png`, `sheets/*.png` and `index.html` into a folder; returns their paths.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    import jinja2

    plots = draw_plots(stats)
    sheets = {task: draw_sheet(found) for task, found in stats.examples.items() if found}
    for folder in (out / "plots", out / "sheets"):
        make_folder(folder)
    written = [atomic_write(out / "stats.json", json.dumps(_finite(stats.to_dict()), indent=1) + "\n")]
    written += [atomic_write(out / "plots" / f"{name}.png", data) for name, data in plots.items()]
    written += [atomic_write(out / "sheets" / f"{file_name(task)}.png", encode(s)) for task, s in sheets.items()]
    page = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    text = page.render(
        title=title,
        version=__version__,
        summary=summary(stats),
        tables=[
            ("datasets", "Data sets", DATASET_HEADINGS, dataset_rows(stats), "Height × width and spacing: medians."),
            ("tasks", "Tasks", TASK_HEADINGS, task_rows(stats), TASK_NOTE),
        ],
        plots=[(TITLES[name], _base64(data)) for name, data in plots.items()],
        sheets=[(task, _base64(encode(sheet, "JPEG"))) for task, sheet in sheets.items()],
    )
    return [*written, atomic_write(out / "index.html", text)]


def summary(stats: Stats) -> str:
    """One line: how much there is."""
    rows = stats.datasets
    total = {name: sum(row[name] for row in rows) for name in ("cases", "frames", "frames_with_objects")}
    modalities = sorted({part for row in rows for part in row["modality"].split(", ")})
    return (
        f"{len(rows)} data sets, {len(stats.tasks)} tasks, {total['cases']} cases, {total['frames']} frames, "
        f"{total['frames_with_objects']} of them with an object; {', '.join(modalities)}"
    )


def dataset_rows(stats: Stats) -> list[list[str]]:
    """The cells under `DATASET_HEADINGS`."""
    rows = []
    for row in stats.datasets:
        levels = row["intensities"]
        size = [row[side][1] if row[side][0] == row[side][2] else f"~{row[side][1]}" for side in ("height", "width")]
        cells = [row[name] for name in ("dataset", "modality", "kind", "cases", "patients")]
        cells += [_splits(row["splits"]), row["frames"], row["frames_with_objects"], f"{size[0]} × {size[1]}"]
        cells += [_numbers(row["spacing_mm"]), row["dtype"], _numbers(levels[p] for p in ("p1", "p50", "p99"))]
        rows.append([str(cell) for cell in cells])
    return rows


def task_rows(stats: Stats) -> list[list[str]]:
    """The cells under `TASK_HEADINGS`."""
    rows = []
    for row in stats.tasks:
        share = None if row["share"] is None else [100 * value for value in row["share"]]
        cells = [row[name] for name in ("task", "modality", "cases", "cases_with")]
        cells += [_splits(row["splits"]), row["frames"], _numbers(share)]
        cells += [_numbers(row[name]) for name in ("diameter_px", "diameter_mm")]
        cells += [_number(row[name]) for name in ("parts", "at_border", "contrast")]
        rows.append([str(cell) for cell in cells])
    return rows


def _splits(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _numbers(values: Iterable[float] | None) -> str:
    return "-" if values is None else " ".join(_number(value) for value in values)


def _number(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _finite(value: Any) -> Any:
    """NaN as null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if value != value else value
