"""Which object is on which frame of which case, and how large: what sampling and statistics need without pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.data.cases import Case, tasks_of

if TYPE_CHECKING:
    from samed2.data.store import Store

Column = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrameTable:
    """One row per (case, object, frame) on which the object has pixels.

    Attributes:
        cases: those looked at, in order; an object of `Case.objects` without a row is absent from the case.
        tasks: "DATASET/OBJECT" of every object looked for, sorted.
        shapes: (cases, 3) grid (T, H, W).
        spacings: (cases, 3) millimetres between neighbours along (frame, y, x), NaN where unknown.
        case, task, frame, pixels: (rows,) index into `cases`, index into `tasks`, frame number, area in pixels;
            sorted by case, task and frame.
    """

    cases: list[Case]
    tasks: list[str]
    shapes: Column
    spacings: NDArray[np.float64]
    case: Column
    task: Column
    frame: Column
    pixels: Column

    def __len__(self) -> int:
        return len(self.case)

    @property
    def share(self) -> NDArray[np.float64]:
        """(rows,) area as a share of the frame."""
        return self.pixels / np.prod(self.shapes[self.case, 1:], axis=1)


def open_table(
    path: Path | str,
    splits: Iterable[str] | None = None,
    progress: Callable[[list[Case]], Iterable[Case]] = lambda cases: cases,
) -> FrameTable:
    """The table of a MedBank store, where nothing has to be decoded, or of what else `open_cases` opens.

    Raises:
        InputError: none of these, a split that it does not have, or a case that cannot be loaded.
    """
    chosen = None if splits is None else list(splits)
    if (Path(path) / "items.csv").is_file() or Path(path).suffix in (".yaml", ".yml"):
        from samed2.data import open_cases

        return frame_table(progress(open_cases(path, chosen)))
    from samed2.data.store import Store

    store = Store.open(path)
    return store_table(store, store.cases(chosen))


def frame_table(cases: Iterable[Case]) -> FrameTable:
    """Look at every mask of the cases; each case is loaded once, its pixels are not read.

    Raises:
        InputError: a case cannot be loaded.
    """
    listed: list[Case] = []
    shapes, spacings, rows = [], [], []
    for case in cases:
        loaded = case.load()
        masks, geometry = loaded.masks, loaded.scan.geometry
        for name in masks.names:
            for frame in range(masks.shape[0]):
                pixels = int(np.count_nonzero(masks.on_frame(name, frame)))
                if pixels:
                    rows.append((len(listed), case.task(name), frame, pixels))
        listed.append(case)
        shapes.append(masks.shape)
        spacings.append(geometry.spacing if geometry.known else (np.nan,) * 3)
    return make_table(listed, shapes, spacings, rows)


def make_table(
    cases: list[Case], shapes: ArrayLike, spacings: ArrayLike, rows: list[tuple[int, str, int, int]]
) -> FrameTable:
    """A table out of rows (index of the case, task, frame, pixels) in any order."""
    tasks = sorted({*tasks_of(cases), *(row[1] for row in rows)})
    number = {task: index for index, task in enumerate(tasks)}
    columns: Any = np.array([(c, number[t], f, p) for c, t, f, p in rows], dtype=np.int64).reshape(-1, 4)
    columns = columns[np.lexsort(columns[:, [2, 1, 0]].T)]
    grids = np.asarray(shapes, dtype=np.int64).reshape(-1, 3)
    steps = np.asarray(spacings, dtype=np.float64).reshape(-1, 3)
    return FrameTable(cases, tasks, grids, steps, *columns.T)


def store_table(store: Store, cases: list[Case]) -> FrameTable:
    """The table of some cases of a store (as of `Store.cases`), from its index alone."""
    import pyarrow.compute as pc

    index = store.index
    number = {case.label: i for i, case in enumerate(cases)}
    labels = pc.binary_join_element_wise(index["dataset"], index["case"], "/").to_pylist()
    of_row = np.array([number.get(label, -1) for label in labels], dtype=np.int64)
    frame = np.asarray(index["frame"])
    first = np.flatnonzero((frame == 0) & (of_row >= 0))
    heads = index.select(["frames", "height", "width", "spacing"]).take(first).to_pylist()
    shapes, spacings = np.zeros((len(cases), 3), dtype=np.int64), np.full((len(cases), 3), np.nan)
    for case, head in zip(of_row[first], heads, strict=True):
        shapes[case] = head["frames"], head["height"], head["width"]
        spacings[case] = head["spacing"]
    parents = np.asarray(pc.list_parent_indices(index["masks"]))
    masks = pc.list_flatten(index["masks"])
    names, pixels = pc.struct_field(masks, "object").to_pylist(), np.asarray(pc.struct_field(masks, "pixels"))
    wanted = [set(case.objects) for case in cases]
    rows = [
        (case, cases[case].task(name), row_frame, count)
        for case, name, row_frame, count in zip(
            of_row[parents].tolist(), names, frame[parents].tolist(), pixels.tolist(), strict=True
        )
        if case >= 0 and name in wanted[case]
    ]
    return make_table(cases, shapes, spacings, rows)
