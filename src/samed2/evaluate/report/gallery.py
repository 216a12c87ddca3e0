"""The pictures of a report, made of what a run keeps in its `masks` folder (see `samed2.evaluate.keep`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.evaluate.keep import INDEX, RANKS
from samed2.evaluate.report import words
from samed2.evaluate.report.pictures import Mask, draw_case, to_uri
from samed2.evaluate.results import Results

MASKS = "masks"
_FIELDS = ("task", "dataset", "case", "object", "rank", "dice", "frame", "boxes", "points", "truth", "answer", "image")
Entry = dict[str, Any]


def kept_entries(results: Path) -> list[Entry]:
    """The list of kept pictures of a results folder; empty where none were kept.

    Raises:
        InputError: the list is damaged, or names files outside of its folder.
    """
    path = results / MASKS / INDEX
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for entry in entries:
            missing = [name for name in _FIELDS if name not in entry]
            if missing:
                raise ValueError(f"an entry has no {missing[0]}")
            if any(Path(entry[name]).name != entry[name] for name in ("truth", "answer", "image")):
                raise ValueError("a file's name holds a folder")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: is no list of pictures ({error}); run the evaluation again") from error
    return list(entries)


def task_pictures(run: Results) -> tuple[list[dict[str, Any]], list[str]]:
    """Best, median and worst case of each task as the template takes them, and why some are missing."""
    if run.folder is None:
        return [], ["Pictures need a saved run."]
    results = run.folder
    groups: dict[str, list[dict[str, str]]] = {}
    notes: list[str] = []
    entries = given_prompts(kept_entries(results), run.rows)
    for entry in sorted(entries, key=lambda e: (e["task"], RANKS.index(e["rank"]) if e["rank"] in RANKS else 9)):
        try:
            image, truth, answer = read_entry(results, entry)
        except InputError as error:
            notes.append(f"{entry['dataset']}/{entry['case']}: no picture: {error}")
            continue
        title = f"{str(entry['rank']).capitalize()}, Dice {words.number(entry['dice'])}"
        picture = drawn(entry, image, truth, [answer], title)
        groups.setdefault(entry["task"], []).append(picture)
    if not entries:
        notes.append("This run kept no pictures.")
    return [{"task": task, "entries": pictures} for task, pictures in groups.items()], notes


def given_prompts(entries: Sequence[Entry], rows: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """The entries with those boxes and points only that the model was given: baselines may have had others."""
    counts = {key_of(row): row for row in rows}
    shown = []
    for entry in entries:
        row = counts.get(key_of(entry), {})
        shown.append({**entry, **{kind: entry[kind] if row.get(kind) else [] for kind in ("boxes", "points")}})
    return shown


def key_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What names an object: data set, case, object."""
    return str(row["dataset"]), str(row["case"]), str(row["object"])


def drawn(entry: Entry, image: NDArray[np.uint8], truth: Mask, answers: Sequence[Mask], title: str) -> dict[str, str]:
    """One picture as the template takes it."""
    picture = draw_case(image, truth, answers, entry["boxes"], entry["points"])
    place = f", frame {entry['frame']}" if entry["frame"] else ""
    return {
        "uri": to_uri(picture),
        "title": title,
        "caption": f"{entry['case']}{place}",
        "alt": f"{entry['object']} of {entry['dataset']}/{entry['case']}",
    }


def read_entry(results: Path, entry: Mapping[str, Any]) -> tuple[NDArray[np.uint8], Mask, Mask]:
    """Image (H, W) or (H, W, 3) uint8, truth (H, W) and answer (H, W) of a kept picture.

    Raises:
        InputError: a file is missing or damaged, or they differ in size.
    """
    folder = results / MASKS
    image = _pixels(folder / entry["image"])
    truth, answer = (_pixels(folder / entry[name]) > 0 for name in ("truth", "answer"))
    for name, mask in (("truth", truth), ("answer", answer)):
        if mask.shape != image.shape[:2]:
            raise InputError(f"{folder / entry[name]}: got shape {mask.shape}, wanted the image's {image.shape[:2]}")
    return image, truth, answer


def _pixels(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            kept = picture if picture.mode in ("L", "RGB") else picture.convert("L")
            return np.array(kept, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
