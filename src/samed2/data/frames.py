"""Which object is on which frame of which case, and how large: what sampling and statistics need without pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case

Column = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrameTable:
    """One row per (case, object, frame) on which the object has pixels.

    Attributes:
        cases: those looked at, in order; an object of `Case.objects` without a row is absent from the case.
        tasks: "DATASET/OBJECT" of every object looked for, sorted.
        shapes: (cases, 3) grid (T, H, W).
        case, task, frame, pixels: (rows,) index into `cases`, index into `tasks`, frame number, area in pixels;
            sorted by case, task and frame.
    """

    cases: list[Case]
    tasks: list[str]
    shapes: Column
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


def frame_table(cases: Iterable[Case]) -> FrameTable:
    """Look at every mask of the cases; each case is loaded once, its image is not read.

    Raises:
        InputError: a case cannot be loaded.
    """
    listed: list[Case] = []
    shapes, rows = [], []
    for case in cases:
        masks = case.load().masks
        for name in masks.names:
            for frame in range(masks.shape[0]):
                pixels = int(np.count_nonzero(masks.on_frame(name, frame)))
                if pixels:
                    rows.append((len(listed), case.task(name), frame, pixels))
        listed.append(case)
        shapes.append(masks.shape)
    return make_table(listed, np.array(shapes, dtype=np.int64).reshape(-1, 3), rows)


def make_table(cases: list[Case], shapes: Column, rows: list[tuple[int, str, int, int]]) -> FrameTable:
    """A table out of rows (index of the case, task, frame, pixels) in any order."""
    tasks = sorted({case.task(name) for case in cases for name in case.objects} | {row[1] for row in rows})
    number = {task: index for index, task in enumerate(tasks)}
    columns: Any = np.array([(c, number[t], f, p) for c, t, f, p in rows], dtype=np.int64).reshape(-1, 4)
    columns = columns[np.lexsort(columns[:, [2, 1, 0]].T)]
    return FrameTable(cases, tasks, shapes, *columns.T)
