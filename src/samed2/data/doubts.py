"""Masks of a collection that hardly follow the image: which ones, and pictures of them to look at."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from samed2.data.cases import file_name
from samed2.data.frames import FrameTable
from samed2.data.outline import Track, doubtful, row_contrasts
from samed2.data.stats import example_of
from samed2.data.stats_plots import draw_sheet, encode
from samed2.io.atomic import atomic_write, make_folder

DRAWN = 24  # masks of a task in its picture
CSV, SHEETS = "doubts.csv", "doubts"


@dataclass(frozen=True)
class Doubt:
    """One object of one case. frame: the one that shows most of it; contrast: see `samed2.data.outline`."""

    task: str
    case: str
    split: str
    frame: int
    contrast: float
    place: int  # of the case in the table


@dataclass
class TaskDoubts:
    """Masks of a task (cases with the object), the median of their contrast, and those with far less."""

    task: str
    masks: int
    usual: float
    found: list[Doubt] = field(default_factory=list)


def find_doubts(table: FrameTable, track: Track = lambda cases: cases) -> list[TaskDoubts]:
    """Look at every case of a table; by task.

    Raises:
        InputError: a case cannot be read.
    """
    contrasts, tasks = row_contrasts(table, track), []
    for number, task in enumerate(table.tasks):
        rows = np.flatnonzero(table.task == number)
        if not len(rows):
            continue
        starts = np.unique(table.case[rows], return_index=True)[1]
        values = contrasts[rows[starts]].tolist()
        one = TaskDoubts(task, len(starts), float(np.median(values)))
        parts = np.split(rows, starts[1:])
        for place in doubtful(values):
            row = parts[place][np.argmax(table.pixels[parts[place]])]
            case = table.cases[table.case[row]]
            frame, of = int(table.frame[row]), int(table.case[row])
            one.found.append(Doubt(task, case.name, case.split, frame, round(values[place], 4), of))
        tasks.append(one)
    return tasks


def write_doubts(table: FrameTable, tasks: Sequence[TaskDoubts], out: Path) -> list[Path]:
    """Write `doubts.csv`, and for each task that has some `doubts/TASK.png` with the first 24; return the paths.

    Raises:
        InputError: a file cannot be written.
    """
    make_folder(out / SHEETS, "--out")
    text = io.StringIO(newline="")
    names = ["task", "case", "split", "frame", "contrast", "usual"]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(doubt), "usual": round(task.usual, 4)} for task in tasks for doubt in task.found)
    written = [atomic_write(out / CSV, text.getvalue())]
    for task in tasks:
        shown = [example_of(table.cases[one.place].load(), task.task, one.frame) for one in task.found[:DRAWN]]
        if shown:
            path = out / SHEETS / f"{file_name(task.task)}.png"
            written.append(atomic_write(path, encode(draw_sheet(shown))))
    return written
