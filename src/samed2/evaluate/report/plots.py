"""The report's plots, each a matplotlib figure made from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samed2.evaluate.metrics.calibration import reliability
from samed2.evaluate.report.figures import (
    BASELINE_COLOURS,
    GRID,
    INK,
    MODEL,
    MOST_MARKS,
    MUTED,
    OTHER,
    SURFACE,
    add_legend,
    new_figure,
    unit_axis,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Values = NDArray[np.float64]
_TICKS = ("|", 2, 3, "x")  # full tick, tick up, tick down, cross: told apart without colour too


@dataclass
class TaskLine:
    """One row of the per-task plot: mean, 95 % interval, the cases' own values, the baselines' means."""

    name: str
    mean: float
    low: float
    high: float
    values: Values
    baselines: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Difference:
    """One row of the forest plot: mean of A minus B with its 95 % interval, who is better, and if significantly so."""

    name: str
    mean: float
    low: float
    high: float
    a_better: bool
    significant: bool = False
    bold: bool = False


def baseline_style(number: int) -> tuple[str, Any]:
    """Colour and marker of the baseline at a place in the list."""
    return BASELINE_COLOURS[number % len(BASELINE_COLOURS)], _TICKS[number % len(_TICKS)]


def task_plot(lines: Sequence[TaskLine], macro: float, label: str = "Dice") -> Figure:
    """Tasks from best to worst: mean with interval, single cases as faint dots, baselines as ticks."""
    lines = sorted(lines, key=lambda line: -line.mean)
    figure, (ax,) = new_figure(8.2, 1.1 + 0.3 * len(lines))
    names = list(dict.fromkeys(name for line in lines for name in line.baselines))
    rng = np.random.default_rng(0)  # only spreads dots of one value
    ax.errorbar([], [], xerr=[], fmt="o", color=MODEL, markersize=6, linewidth=2.2, label="mean, 95 % interval")
    ax.scatter([], [], s=8, color=MODEL, alpha=0.4, linewidths=0, label="a case")
    for row, line in enumerate(lines):
        spread = rng.uniform(-0.22, 0.22, len(line.values))
        dense = len(line.values) > MOST_MARKS // 10
        ax.scatter(line.values, row + spread, s=5, color=MODEL, alpha=0.22, linewidths=0, rasterized=dense)
        ax.plot([line.low, line.high], [row, row], color=MODEL, linewidth=2.2, solid_capstyle="round")
    for number, name in enumerate(names):
        colour, marker = baseline_style(number)
        means = [line.baselines.get(name, np.nan) for line in lines]
        ax.scatter(means, range(len(lines)), s=64, marker=marker, color=colour, linewidths=1.8, label=name, zorder=3)
    means = [line.mean for line in lines]
    ax.scatter(means, range(len(lines)), s=42, color=MODEL, edgecolors=SURFACE, linewidths=1, zorder=4)
    ax.axvline(macro, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1, label="macro mean")
    ax.set_yticks(range(len(lines)), [line.name for line in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.set_xlim(-0.02, 1.02)
    ax.grid(False, axis="y")
    unit_axis(ax.xaxis, label)
    add_legend(ax, min(7, len(names) + 3), first="mean, 95 % interval")
    return figure


def size_plot(size: Values, score: Values, baselines: Mapping[str, Values], label: str = "Dice") -> Figure:
    """Score of every case against the object's size in pixels (log), with smooth median lines."""
    figure, (ax,) = new_figure(8.2, 3.5)
    keep = (size > 0) & np.isfinite(score)
    size, score = size[keep], score[keep]
    dense = len(size) > MOST_MARKS
    ax.scatter(size, score, s=11, color=MODEL, alpha=0.35, linewidths=0, rasterized=dense, label="a case")
    ax.set_xscale("log")
    for number, (name, values) in enumerate(baselines.items()):
        colour, _ = baseline_style(number)
        x, median = smooth_median(size, np.asarray(values)[keep])
        dashes = (0, ((4, 2), (1, 1.5), (5, 2, 1, 2), (2, 2))[number % 4])
        ax.plot(x, median, color=colour, linewidth=1.4, linestyle=dashes, label=f"median, {name}")
    x, median = smooth_median(size, score)
    ax.plot(x, median, color=SURFACE, linewidth=3.6)
    ax.plot(x, median, color=MODEL, linewidth=2.4, label="median")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("object size (pixels, log)")
    unit_axis(ax.yaxis, label)
    add_legend(ax, 6, first="median")
    return figure


def smooth_median(size: Values, score: Values, points: int = 60) -> tuple[Values, Values]:
    """Running median of score over log size: at each point the median weighted by a Gaussian of distance.

    Gives sizes (points,) and medians (points,); NaN where fewer than about three cases are near. Empty for no case.
    """
    keep = (size > 0) & np.isfinite(score)
    if not keep.any():
        return np.empty(0), np.empty(0)
    x, y = np.log10(size[keep]), score[keep]
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    width = max(float(np.ptp(x)) / 12, 0.05)
    grid = np.linspace(x.min(), x.max(), points)
    weight = np.exp(-0.5 * ((grid[:, None] - x) / width) ** 2)
    cumulated = np.cumsum(weight, axis=1)
    total = cumulated[:, -1:]
    median = y[(cumulated >= total / 2).argmax(axis=1)]
    return 10**grid, np.where(total[:, 0] >= 1.5, median, np.nan)


def calibration_plot(confidence: Values, truth: Values) -> Figure:
    """Mean true IoU in bins of predicted IoU against the diagonal, and how many cases each bin holds."""
    figure, (ax, bars) = new_figure(8.2, 3.6, columns=2)
    keep = np.isfinite(confidence) & np.isfinite(truth)
    confidence, truth = confidence[keep], truth[keep]
    dense = len(confidence) > MOST_MARKS
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="perfect")
    ax.scatter(confidence, truth, s=8, color=MODEL, alpha=0.25, linewidths=0, rasterized=dense, label="a case")
    bins = reliability(confidence, truth)
    filled = bins.count > 0
    x, y = bins.confidence[filled], bins.outcome[filled]
    ax.plot(x, y, color=SURFACE, linewidth=4)
    ax.plot(x, y, "o-", color=MODEL, linewidth=2, markersize=6, markeredgecolor=SURFACE, label="mean of a bin")
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    unit_axis(ax.xaxis, "predicted IoU")
    unit_axis(ax.yaxis, "true IoU")
    edges = np.linspace(0, 1, len(bins.count) + 1)
    bars.hist(confidence, edges.tolist(), color=MODEL, alpha=0.85, rwidth=0.9, label="predicted")
    counts, _ = np.histogram(truth, edges)
    bars.stairs(counts, edges, color=OTHER, linewidth=1.8, label="true")
    unit_axis(bars.xaxis, "IoU")
    bars.set_ylabel("cases")
    add_legend(ax, outside=False)
    add_legend(bars, outside=False)
    return figure


def steps_plot(steps: Values, numbers: Sequence[int], label: str = "Dice") -> Figure:
    """Mean and middle half over cases (n, steps) after each of the numbered interactions (0: the box)."""
    figure, (ax,) = new_figure(8.2, 3.0)
    low, high = np.nanpercentile(steps, (25, 75), axis=0)
    ax.fill_between(numbers, low, high, color=MODEL, alpha=0.18, linewidth=0, label="middle half of the cases")
    ax.plot(numbers, np.nanmean(steps, axis=0), "o-", color=MODEL, linewidth=2.2, markersize=6, label="case mean")
    ax.set_xticks(numbers)
    ax.set_xlabel("interaction")
    ax.set_ylim(0, 1.02)
    unit_axis(ax.yaxis, label)
    add_legend(ax, 2)
    return figure


def forest_plot(
    rows: Sequence[Difference], a: str, b: str, label: str = "Dice", lower_is_better: bool = False
) -> Figure:
    """Differences A minus B with intervals, one task a row; filled where significant after Holm's correction."""
    figure, (ax,) = new_figure(8.2, 1.2 + 0.3 * len(rows))
    for number, row in enumerate(rows):
        colour = INK if row.bold else (MODEL if row.a_better else OTHER)
        ax.plot([row.low, row.high], [number, number], color=colour, linewidth=2.2, solid_capstyle="round")
        inside = colour if row.significant or row.bold else SURFACE
        marker = "D" if row.bold else "o"
        ax.scatter([row.mean], [number], s=44, marker=marker, color=inside, edgecolors=colour, linewidths=1.6, zorder=3)
    ax.axvline(0, color=MUTED, linewidth=1, zorder=1)
    reach = max([0.02, *(abs(v) for row in rows for v in (row.low, row.high, row.mean) if np.isfinite(v))]) * 1.08
    ax.set_xlim(-reach, reach)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [row.name for row in rows])
    ax.grid(False, axis="y")
    ax.set_xlabel(f"difference in {label}, A − B")
    left, right = ("A", "B") if lower_is_better else ("B", "A")
    texts, colours = {"A": f"A better: {a}", "B": f"B better: {b}"}, {"A": MODEL, "B": OTHER}
    ax.set_title(f"← {texts[left]}", loc="left", color=colours[left], fontsize=9)
    ax.set_title(f"{texts[right]} →", loc="right", color=colours[right], fontsize=9)
    for colour, filled, text in (
        (MODEL, True, "A better, significant"),
        (OTHER, True, "B better, significant"),
        (MUTED, False, "not significant"),
    ):
        ax.scatter([], [], s=44, color=colour if filled else SURFACE, edgecolors=colour, linewidths=1.6, label=text)
    add_legend(ax, 3)
    return figure


def pair_plot(
    a: Values, b: Values, name_a: str, name_b: str, label: str = "Dice", lower_is_better: bool = False
) -> Figure:
    """Every case's score under A (x) and B (y)."""
    figure, (ax,) = new_figure(5.2, 4.9)
    dense = len(a) > MOST_MARKS
    a_better = a < b if lower_is_better else a > b
    for chosen, colour, text in (
        (a_better, MODEL, "A better"),
        (~a_better & (a != b), OTHER, "B better"),
        (a == b, MUTED, "equal"),
    ):
        count = int(chosen.sum())
        marks: dict[str, Any] = {"s": 14, "color": colour, "alpha": 0.5, "linewidths": 0, "rasterized": dense}
        ax.scatter(a[chosen], b[chosen], label=f"{text}: {count}", **marks)
    top = 1.0 if not lower_is_better else max(float(np.max([a, b], initial=0.0)), 1e-6)
    ax.plot([0, top], [0, top], color=GRID, linewidth=1.2, zorder=1)
    ax.set_aspect("equal")
    ax.set_xlim(-0.02 * top, 1.02 * top)
    ax.set_ylim(-0.02 * top, 1.02 * top)
    for axis, text in ((ax.xaxis, f"{label}, A: {name_a}"), (ax.yaxis, f"{label}, B: {name_b}")):
        axis.set_label_text(text)
        if not lower_is_better:
            unit_axis(axis, text)
    add_legend(ax, 3)
    return figure
