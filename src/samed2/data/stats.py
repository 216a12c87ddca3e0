"""What a collection of cases holds: tables by data set and task, and the numbers behind the plots."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import LoadedCase, Mask
from samed2.data.frames import Column, FrameTable
from samed2.io import resolve_window

EXAMPLES = 12  # frames looked at for each task
PERCENTILES = (0, 1, 50, 99, 100)
THINNED = 4096  # pixels of a frame that count for the intensities
BINS = 64


@dataclass(frozen=True, eq=False)
class Example:
    """A frame with an object: `shown` (H, W) or (H, W, 3) uint8 through the usual window, and the (H, W) mask.

    `stack`: the case has more frames than this one.
    """

    task: str
    case: str
    frame: int
    shown: NDArray[np.uint8]
    mask: Mask
    stack: bool = False

    @property
    def share(self) -> float:
        """Area as a share of the frame."""
        return float(self.mask.mean())


@dataclass
class Stats:
    """Tables as rows of plain values, and the values that are plotted.

    Attributes:
        datasets, tasks: one dict per data set and task, JSON-able.
        shares, diameters: task -> one value per frame with the object: area as a share of the frame, and diameter
            in pixels of a disc as large.
        intensities: data set -> (edges, shares of pixels) of a histogram of native values in the frames looked at.
        examples: task -> the frames looked at, spread evenly over its cases.
    """

    datasets: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    shares: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    diameters: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    intensities: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The tables, JSON-able."""
        return {"datasets": self.datasets, "tasks": self.tasks}


def collect_stats(table: FrameTable, examples: int = EXAMPLES) -> Stats:
    """Count what the table holds, and look at up to `examples` frames of each task; nothing is drawn at random.

    Raises:
        InputError: a case that is looked at cannot be read.
    """
    stats = Stats([], [])
    pixels: dict[str, list[NDArray[np.float64]]] = {}
    types: dict[str, set[str]] = {}
    for number, task in enumerate(table.tasks):
        rows = np.flatnonzero(table.task == number)
        stats.shares[task] = table.share[rows]
        stats.diameters[task] = 2 * np.sqrt(table.pixels[rows] / math.pi)
        found = []
        looks = []
        for row in _spread(table, rows, examples):
            loaded = table.cases[table.case[row]].load()
            example = example_of(loaded, task, int(table.frame[row]))
            values = loaded.scan.frame(example.frame)
            found.append(example)
            looks.append(_look(example, values))
            dataset = loaded.case.dataset
            pixels.setdefault(dataset, []).append(_thin(values))
            types.setdefault(dataset, set()).add(f"{values.dtype}{' RGB' if values.ndim == 3 else ''}")
        stats.examples[task] = found
        stats.tasks.append(_task_row(table, task, rows, looks))
    for dataset in sorted({case.dataset for case in table.cases}):
        values = np.concatenate(pixels.get(dataset, [np.empty(0)]))
        stats.datasets.append(_dataset_row(table, dataset, values, types.get(dataset, set())))
        stats.intensities[dataset] = _histogram(values)
    return stats


def _spread(table: FrameTable, rows: Column, count: int) -> list[int]:
    """Rows of cases evenly spread over those of a task, of each the middle one of its frames with the object."""
    cases, starts, sizes = np.unique(table.case[rows], return_index=True, return_counts=True)
    if len(cases) == 0 or count == 0:
        return []
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int))
    return [int(rows[starts[i] + sizes[i] // 2]) for i in chosen]


def example_of(loaded: LoadedCase, task: str, frame: int) -> Example:
    """A frame of a case with the mask of a task's object."""
    window = resolve_window(loaded.scan)
    shown = np.round(window.apply(loaded.scan.frame(frame)) * 255).astype(np.uint8)
    mask = loaded.masks.on_frame(task.split("/", 1)[1], frame)
    return Example(task, loaded.case.name, frame, shown, mask, loaded.scan.num_frames > 1)


def _look(example: Example, values: NDArray[Any]) -> tuple[int, bool, float]:
    """Number of parts, whether the object reaches the image's border, and its contrast.

    Contrast: mean inside less mean outside but inside the object's box made half as large again, over the frame's
    standard deviation.
    """
    from scipy import ndimage

    mask = example.mask
    parts = int(ndimage.label(mask, structure=np.ones((3, 3), dtype=int))[1])
    border = bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    grey = values.astype(np.float64).mean(axis=2) if values.ndim == 3 else values.astype(np.float64)
    spans = []
    for axis in (1, 0):
        found = np.flatnonzero(mask.any(axis=axis))
        room = max(2, (found[-1] - found[0] + 1) // 4)
        spans.append(slice(max(0, int(found[0] - room)), int(found[-1] + room + 1)))
    near, inside = grey[spans[0], spans[1]], mask[spans[0], spans[1]]
    spread = float(np.nanstd(grey))
    if inside.all() or not spread > 0:
        return parts, border, math.nan
    return parts, border, float((np.nanmean(near[inside]) - np.nanmean(near[~inside])) / spread)


def _thin(values: NDArray[Any]) -> NDArray[np.float64]:
    flat = values.reshape(-1)[:: max(1, values.size // THINNED)].astype(np.float64)
    return np.asarray(flat[np.isfinite(flat)])


def _histogram(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(values) == 0:
        return np.array([0.0, 1.0]), np.zeros(1)
    low, high = np.percentile(values, (0.1, 99.9))
    counts, edges = np.histogram(values, bins=BINS, range=(low, max(high, low + 1e-6)))
    return edges, counts / len(values)


def _dataset_row(table: FrameTable, dataset: str, values: NDArray[np.float64], types: set[str]) -> dict[str, Any]:
    chosen = [i for i, case in enumerate(table.cases) if case.dataset == dataset]
    cases = [table.cases[i] for i in chosen]
    shapes, spacings = table.shapes[chosen], table.spacings[chosen]
    known = spacings[np.isfinite(spacings).all(axis=1)]
    rows = np.isin(table.case, chosen)
    points = np.percentile(values, PERCENTILES) if len(values) else [math.nan] * len(PERCENTILES)
    return {
        "dataset": dataset,
        "modality": ", ".join(sorted({case.modality for case in cases})),
        "kind": ", ".join(sorted({case.kind for case in cases})),
        "cases": len(cases),
        "patients": len({case.patient or case.name for case in cases}),
        "splits": dict(sorted(Counter(case.split or "none" for case in cases).items())),
        "objects": sorted({name for case in cases for name in case.objects}),
        "frames": int(shapes[:, 0].sum()),
        "frames_with_objects": len(np.unique(np.stack([table.case[rows], table.frame[rows]]), axis=1).T),
        "depth": _three(shapes[:, 0]),
        "height": _three(shapes[:, 1]),
        "width": _three(shapes[:, 2]),
        "spacing_known": len(known),
        "spacing_mm": [_round(v) for v in np.median(known, axis=0)] if len(known) else None,
        "spacing_range_mm": [[_round(v) for v in f(known, axis=0)] for f in (np.min, np.max)] if len(known) else None,
        "dtype": ", ".join(sorted(types)),
        "intensities": {f"p{p}": _round(v) for p, v in zip(PERCENTILES, points, strict=True)},
        "licence": ", ".join(sorted({case.licence for case in cases} - {""})),
    }


def _task_row(table: FrameTable, task: str, rows: Column, looks: list[tuple[int, bool, float]]) -> dict[str, Any]:
    dataset, name = task.split("/", 1)
    asked = [case for case in table.cases if case.dataset == dataset and name in case.objects]
    present = np.unique(table.case[rows])
    steps = table.spacings[table.case[rows], 1:]
    areas = table.pixels[rows] * np.prod(steps, axis=1)
    diameters = 2 * np.sqrt(areas[np.isfinite(areas)] / math.pi)
    contrast = [c for _, _, c in looks if math.isfinite(c)]
    return {
        "task": task,
        "modality": ", ".join(sorted({case.modality for case in asked})),
        "cases": len(asked),
        "cases_with": len(present),
        "splits": dict(sorted(Counter(table.cases[i].split or "none" for i in present).items())),
        "frames": len(rows),
        "pixels": _quantiles(table.pixels[rows]),
        "share": _quantiles(table.share[rows]),
        "diameter_px": _quantiles(2 * np.sqrt(table.pixels[rows] / math.pi)),
        "diameter_mm": _quantiles(diameters),
        "looked_at": len(looks),
        "parts": _round(np.mean([p for p, _, _ in looks])) if looks else None,
        "at_border": _round(np.mean([b for _, b, _ in looks])) if looks else None,
        "contrast": _round(np.mean(contrast)) if contrast else None,
    }


def _three(values: Column) -> list[int]:
    """Least, median and most."""
    return [int(values.min()), int(np.median(values)), int(values.max())]


def _quantiles(values: NDArray[Any]) -> list[float] | None:
    """5th, 50th and 95th percentile."""
    return [_round(v) for v in np.percentile(values, (5, 50, 95))] if len(values) else None


def _round(value: Any) -> float:
    """Five significant digits: enough to read, and the same on every machine."""
    return float(f"{float(value):.5g}")
