"""Pictures of a collection: bars of its cases, box plots, histograms, and contact sheets with contours."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Mask
from samed2.data.stats import Example, Stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

# Okabe and Ito's colours, told apart by colour-blind readers
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SPLITS = ("train", "val", "test", "external")
CONTOUR = (255, 214, 0)
TILE, GAP, CAPTION, PER_LINE = 168, 6, 16, 6
ZOOM = 1.6  # side of the lower picture over the longer side of the object's box
LARGE = 0.7  # share of the frame from which on looking from near shows nothing new
COLUMNS = 4


def draw_plots(stats: Stats) -> dict[str, bytes]:
    """Name -> PNG: cases by split, area by task, and histograms of area, diameter and intensities."""
    area = "area of the object, % of the frame"
    plots = {
        "cases": _cases(stats),
        "areas": _boxes(stats, area),
        "area-histograms": _grid(stats.shares, lambda ax, v: _logarithmic(ax, v * 100), area),
        "size-histograms": _grid(stats.diameters, _logarithmic, "diameter of a disc as large, pixels"),
        "intensities": _grid(stats.intensities, _steps, "native intensity"),
    }
    return {name: _png(figure) for name, figure in plots.items() if figure is not None}


def draw_sheet(examples: list[Example], per_line: int = PER_LINE) -> Image:
    """The examples of a task: the frame with the outline of the object, and below it the object from near.

    Where that would be most of the frame again, the lower picture is the frame without the outline.
    """
    from PIL import Image, ImageDraw, ImageFont

    lines = math.ceil(len(examples) / per_line)
    columns = min(len(examples), per_line)
    step_x, step_y = TILE + GAP, 2 * TILE + CAPTION + 2 * GAP
    sheet = Image.new("RGB", (columns * step_x + GAP, lines * step_y + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, example in enumerate(examples):
        x, y = GAP + number % per_line * step_x, GAP + number // per_line * step_y
        sheet.paste(_tile(example.shown, example.mask), (x, y))
        near, mask = _near(example.shown, example.mask)
        if mask.size > LARGE * example.mask.size:
            near, mask = example.shown, np.zeros_like(example.mask)
        sheet.paste(_tile(near, mask), (x, y + TILE + 2))
        draw.text((x, y + 2 * TILE + 4), _caption(example, draw, font), fill=(60, 60, 60), font=font)
    return sheet


def encode(image: Image, kind: str = "PNG") -> bytes:
    """The bytes of a picture file; JPEG for what only has to be looked at."""
    out = io.BytesIO()
    options: dict[str, Any] = {"quality": 85} if kind == "JPEG" else {"compress_level": 3}
    image.save(out, kind, **options)
    return out.getvalue()


def _caption(example: Example, draw: Any, font: Any) -> str:
    number = f" #{example.frame}" if example.stack else ""
    name, tail = example.case, f"{number}, {example.share * 100:.2g} %"
    while draw.textlength(name + tail, font) > TILE and len(name) > 4:
        name = name[:-2].rstrip("…") + "…"
    return name + tail


def _tile(shown: NDArray[np.uint8], mask: Mask) -> Image:
    """A square tile: the picture as large as it fits, the outline of the mask just outside it."""
    from PIL import Image

    height, width = shown.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    picture = np.array(Image.fromarray(np.ascontiguousarray(shown)).convert("RGB").resize(size, how))
    covered = np.array(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, how)) >= 128
    edge = _grow(covered) & ~covered
    if not edge.any() and mask.any():  # smaller than a pixel of the tile
        ys, xs = np.nonzero(mask)
        covered[min(int(ys.mean() * scale), size[1] - 1), min(int(xs.mean() * scale), size[0] - 1)] = True
        edge = _grow(covered)
    around = _grow(edge) & ~edge & ~covered
    picture[around] = picture[around] // 3
    picture[edge] = CONTOUR
    tile = Image.new("RGB", (TILE, TILE), (24, 24, 24))
    tile.paste(Image.fromarray(picture), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile


def _near(shown: NDArray[np.uint8], mask: Mask) -> tuple[NDArray[np.uint8], Mask]:
    """The square around the object's box, cut off at the frame's border."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    longest = max(ys[-1] - ys[0], xs[-1] - xs[0]) + 1
    half = max(8, math.ceil(longest * ZOOM / 2))
    cy, cx = (int(f[0] + f[-1] + 1) // 2 for f in (ys, xs))
    part = (slice(max(0, cy - half), cy + half), slice(max(0, cx - half), cx + half))
    return shown[part], mask[part]


def _grow(mask: Mask) -> Mask:
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(mask))


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
    return out.getvalue()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)


def _cases(stats: Stats) -> Figure | None:
    rows = stats.datasets
    if not rows:
        return None
    figure = _figure(9, 1 + 0.26 * len(rows))
    ax = figure.subplots()
    splits = sorted(
        {s for row in rows for s in row["splits"]}, key=lambda s: (SPLITS.index(s) if s in SPLITS else 9, s)
    )
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for number, split in enumerate(splits):
        counts = np.array([row["splits"].get(split, 0) for row in rows])
        ax.barh(places, counts, left=left, height=0.7, label=split, color=COLOURS[number % len(COLOURS)])
        left += counts
    for place, total in zip(places, left, strict=True):
        ax.text(total, place, f" {int(total)}", va="center", fontsize=8, color="0.3")
    ax.set_yticks(places, [f"{row['dataset']}  ({row['kind']})" for row in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel("cases", fontsize=9)
    ax.margins(x=0.06)
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=len(splits))
    _tidy(ax)
    return figure


def _boxes(stats: Stats, label: str) -> Figure | None:
    """Box: quartiles and median; whiskers: 5th to 95th percentile; dots: all further out."""
    tasks = [task for task, values in stats.shares.items() if len(values)]
    if not tasks:
        return None
    modality = {row["task"]: row["modality"] for row in stats.tasks}
    tasks.sort(key=lambda task: (modality[task], task))
    kinds = sorted(set(modality.values()))
    figure = _figure(9, 1 + 0.26 * len(tasks))
    ax = figure.subplots()
    found = ax.boxplot(
        [stats.shares[task] * 100 for task in tasks],
        orientation="horizontal",
        positions=np.arange(len(tasks))[::-1],
        whis=(5, 95),
        widths=0.6,
        patch_artist=True,
        medianprops={"color": "black"},
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": "0.6"},
    )
    for task, box in zip(tasks, found["boxes"], strict=True):
        box.set_facecolor(COLOURS[kinds.index(modality[task]) % len(COLOURS)] + "99")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_yticks(np.arange(len(tasks))[::-1], [f"{task}  ({modality[task]})" for task in tasks])
    ax.set_xlabel(label, fontsize=9)
    _tidy(ax)
    return figure


def _grid(values: dict[str, Any], draw: Callable[[Axes, Any], None], label: str) -> Figure | None:
    """Small plots side by side, each with its own scale."""
    if not values:
        return None
    lines = math.ceil(len(values) / COLUMNS)
    figure = _figure(11, 0.5 + 1.6 * lines)
    axes = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
    for ax, (name, found) in zip(axes, values.items(), strict=False):
        draw(ax, found)
        ax.set_title(name, fontsize=8, loc="left")
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_yticks([])
        ax.tick_params(labelsize=7)
    for ax in axes[len(values) :]:
        ax.set_visible(False)
    figure.supxlabel(label, fontsize=9)
    return figure


def _logarithmic(ax: Axes, values: NDArray[np.float64]) -> None:
    if len(values) == 0:
        ax.text(0.5, 0.5, "no frame", ha="center", va="center", transform=ax.transAxes, fontsize=8, color="0.5")
        ax.set_xticks([])
        return
    low, high = np.log10(values.min()), np.log10(values.max())
    if high - low < 0.2:
        low, high = low - 0.1, high + 0.1
    ax.hist(values, bins=list(np.logspace(low, high, 25)), color=COLOURS[0])
    ax.axvline(float(np.median(values)), color=COLOURS[5], linewidth=1)
    ax.set_xscale("log")
    ticks = np.logspace(low, high, 4)
    ax.set_xticks(ticks, [f"{tick:.0f}" if tick >= 10 else f"{tick:.2g}" for tick in ticks])
    ax.minorticks_off()


def _steps(ax: Axes, histogram: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    edges, counts = histogram
    ax.stairs(np.sqrt(counts), edges, fill=True, color=COLOURS[0])  # roots: black background would hide the rest
    ax.locator_params(axis="x", nbins=4)
