"""Pictures of the objects on which two runs differ most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.evaluate.keep import ANSWERS
from samed2.evaluate.report import words
from samed2.evaluate.report.gallery import MASKS, Entry, drawn, given_prompts, kept_entries, key_of, read_entry
from samed2.evaluate.report.pictures import Mask
from samed2.evaluate.results import Results
from samed2.evaluate.rows import row_id
from samed2.io import resolve_window

if TYPE_CHECKING:
    from samed2.data.cases import Case

Row = Mapping[str, Any]
Key = tuple[str, str, str]


def differing_pictures(
    a: Results, b: Results, rows: Iterable[Row], count: int, cases: Sequence[Case] = ()
) -> tuple[list[dict[str, str]], list[str]]:
    """The first `count` of the rows (with a, b, difference) that can be drawn, and what the reader must know.

    An answer comes from the pictures a run kept, or from its kept answers; image and truth from the pictures either
    run kept, or from `cases`.
    """
    sides = [_Side(run) for run in (a, b)]
    known = {(case.dataset, case.name): case for case in cases}
    pictures: list[dict[str, str]] = []
    passed = 0
    for row in rows:
        if len(pictures) == count:
            break
        try:
            found = _picture(sides, row, known)
        except InputError:
            found = None
        passed += found is None
        pictures += [found] if found else []
    notes = []
    if passed:
        notes.append(
            f"{passed} objects that differ as much are not shown: a run keeps pictures of the best, median and worst "
            "object of each task, and more can be drawn only with the data (--data) and kept answers."
        )
    return pictures, notes


class _Side:
    """What one run kept, by object."""

    def __init__(self, run: Results) -> None:
        if run.folder is None:
            raise InputError("results: have no folder, wanted a saved run")
        self.folder = run.folder
        kept = given_prompts(kept_entries(run.folder), run.rows)
        self.entries: dict[Key, Entry] = {key_of(entry): entry for entry in kept}

    def answer(self, row: Row) -> tuple[int, Mask] | None:
        """Frame and answer of an object, None where it was not kept."""
        from PIL import Image

        entry = self.entries.get(key_of(row))
        if entry is not None:
            return int(entry["frame"]), read_entry(self.folder, entry)[2]
        path = self.folder / MASKS / ANSWERS / f"{row_id(row)}.png"
        if not path.is_file():
            return None
        try:
            with Image.open(path) as picture:
                return int(json.loads(str(picture.info["about"]))["frame"]), np.asarray(picture, dtype=bool)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path}: is no kept answer ({error})") from error


def _picture(sides: Sequence[_Side], row: Row, cases: Mapping[tuple[str, str], Case]) -> dict[str, str] | None:
    answers = [side.answer(row) for side in sides]
    if None in answers or len({found[0] for found in answers if found}) != 1:
        return None
    frame = next(found[0] for found in answers if found)
    shown = _background(sides, row, frame, cases)
    if shown is None:
        return None
    image, truth, entry = shown
    masks = [_resized(found[1], truth.shape) for found in answers if found]
    title = f"{row['task']}: A {words.number(row['a'])}, B {words.number(row['b'])}"
    return drawn({**row, **entry}, image, truth, masks, title)


def _background(
    sides: Sequence[_Side], row: Row, frame: int, cases: Mapping[tuple[str, str], Case]
) -> tuple[NDArray[np.uint8], Mask, dict[str, Any]] | None:
    """Image, truth, and the frame with the prompts that both runs were given."""
    kept = [(side, entry) for side in sides if (entry := side.entries.get(key_of(row)))]
    for side, entry in kept:
        image, truth, _ = read_entry(side.folder, entry)
        same = len(kept) == 2 and all(kept[0][1][name] == kept[1][1][name] for name in ("boxes", "points"))
        return image, truth, {"frame": frame, **{n: entry[n] if same else [] for n in ("boxes", "points")}}
    case = cases.get((str(row["dataset"]), str(row["case"])))
    if case is None:
        return None
    loaded = case.load()
    if row["object"] not in loaded.masks or not 0 <= frame < loaded.scan.num_frames:
        return None
    shown = np.rint(resolve_window(loaded.scan).apply(loaded.scan.frame(frame)) * 255).astype(np.uint8)
    truth = np.asarray(loaded.masks.on_frame(row["object"], frame), dtype=bool)
    return shown, truth, {"frame": frame, "boxes": [], "points": []}


def _resized(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """The mask on a grid of another size of the same proportions."""
    from PIL import Image

    if mask.shape == shape:
        return mask
    return np.asarray(Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.NEAREST), dtype=bool)
