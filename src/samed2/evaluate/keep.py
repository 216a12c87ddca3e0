"""Answers kept for pictures: of every task the best, the median and the worst case.

`masks/index.json` is a list of {task, dataset, case, object, rank, dice, frame, boxes, points, truth, answer, image};
the last three name files beside it: 1-bit PNGs of truth and answer and an 8-bit picture of the frame, all of one size,
the longer side at most 512 px. Boxes (y0, x0, y1, x1) and points (y, x, positive) are in pixels of these files.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from samed2.data.cases import Case, LoadedCase
from samed2.errors import InputError
from samed2.evaluate.protocols.base import Hint, Subject, Trial
from samed2.io import atomic_write, resolve_window

SIDE = 512
ANSWERS, INDEX = "answers", "index.json"
RANKS = ("best", "median", "worst")
Mask = NDArray[np.bool_]


def keep_answer(folder: Path, name: str, subject: Subject, trial: Trial) -> None:
    """Write the answer on the scored frame with most of the object, and its prompts, as one PNG."""
    frames = trial.outcome.frames
    place = int(np.count_nonzero(subject.truth[frames], axis=(1, 2)).argmax())
    hint = trial.hints.get(frames[place], Hint())
    about = {"frame": frames[place], "boxes": hint.boxes, "points": hint.points}
    atomic_write(folder / f"{name}.png", _png(trial.outcome.masks[place], json.dumps(about)))


def keep_pictures(folder: Path, rows: Sequence[Mapping[str, Any]], cases: Iterable[Case], names: Sequence[str]) -> None:
    """Write `index.json` and the files of the best, median and worst row of every task.

    Args:
        folder: the run's `masks` folder, with what `keep_answer` wrote in `answers`.
        rows: those with a score.
        names: the file name of every row.
    """
    known = {(case.dataset, case.name): case for case in cases}
    loaded: dict[str, LoadedCase] = {}
    entries = []
    for rank, index in _chosen(rows):
        row, name = rows[index], names[index]
        pending = folder / ANSWERS / f"{name}.png"
        if not pending.is_file():
            continue
        case = known[row["dataset"], row["case"]]
        if case.label not in loaded:
            loaded = {case.label: case.load()}
        entries.append({"rank": rank, **_picture(folder, name, row, loaded[case.label], pending)})
    atomic_write(folder / INDEX, json.dumps(entries, indent=1))
    wanted = {entry[kind] for entry in entries for kind in ("truth", "answer", "image")} | {INDEX}
    for path in folder.iterdir():
        if path.is_file() and path.name not in wanted:
            path.unlink()


def _chosen(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Rank and position of the rows to show, no row twice; ties go by dataset, case and object."""
    tasks: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        tasks.setdefault(row["task"], []).append(index)
    chosen = []
    for _, members in sorted(tasks.items()):
        members.sort(key=lambda i: (-rows[i]["dice"], rows[i]["case"]))
        places = {"best": 0, "median": len(members) // 2, "worst": len(members) - 1}
        taken: set[int] = set()
        for rank in RANKS:
            if places[rank] not in taken:
                taken.add(places[rank])
                chosen.append((rank, members[places[rank]]))
    return chosen


def _picture(folder: Path, name: str, row: Mapping[str, Any], loaded: LoadedCase, pending: Path) -> dict[str, Any]:
    answer, about = _read(pending)
    frame = int(about["frame"])
    truth = np.asarray(loaded.masks.on_frame(row["object"], frame))
    scale = min(1.0, SIDE / max(truth.shape))
    size = (max(round(truth.shape[1] * scale), 1), max(round(truth.shape[0] * scale), 1))  # (width, height)
    shown = np.rint(resolve_window(loaded.scan).apply(loaded.scan.frame(frame)) * 255).astype(np.uint8)
    files = {"truth": f"{name}_truth.png", "answer": f"{name}_answer.png", "image": f"{name}_image.jpg"}
    atomic_write(folder / files["truth"], _png(_shrunk(truth, size)))
    atomic_write(folder / files["answer"], _png(_shrunk(answer, size)))
    held = io.BytesIO()
    Image.fromarray(shown).resize(size, Image.Resampling.BOX).save(held, format="JPEG", quality=85)
    atomic_write(folder / files["image"], held.getvalue())
    fy, fx = size[1] / truth.shape[0], size[0] / truth.shape[1]
    return {
        **{key: row[key] for key in ("task", "dataset", "case", "object", "dice")},
        "frame": frame,
        "boxes": [[y0 * fy, x0 * fx, y1 * fy, x1 * fx] for y0, x0, y1, x1 in about["boxes"]],
        "points": [[(y + 0.5) * fy - 0.5, (x + 0.5) * fx - 0.5, positive] for y, x, positive in about["points"]],
        **files,
    }


def _shrunk(mask: Mask, size: tuple[int, int]) -> Mask:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=bool)


def _png(mask: Mask, about: str = "") -> bytes:
    info = PngImagePlugin.PngInfo()
    if about:
        info.add_text("about", about)
    held = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask)).save(held, format="PNG", bits=1, optimize=True, pnginfo=info)
    return held.getvalue()


def _read(path: Path) -> tuple[Mask, dict[str, Any]]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture, dtype=bool), json.loads(str(picture.info["about"]))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: is no kept answer ({error}); remove the folder and run again") from error
