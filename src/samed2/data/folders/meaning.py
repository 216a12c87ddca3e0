"""What the values of label files mean: one object, several, soft edges, counted instances, colours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samed2.data.convert.files import open_image, open_labels
from samed2.data.convert.names import slug
from samed2.data.convert.values import whole_numbers
from samed2.errors import InputError

FEW, MANY = 24, 256  # values that are classes without being named; values that are classes at all
SOLID = 0.9  # share of an object's pixels at the full value where only its edges are soft
FILES = 400  # label files looked at, evenly spaced


@dataclass
class Values:
    """The values of some label files.

    Attributes:
        pixels: value -> number of pixels, background included.
        files: value -> number of files that have it.
        colours: coloured pixels' (r, g, b) -> number of pixels.
        counted: files whose values are 1 to n without a gap.
        grey_rgb, lossy, looked_at: numbers of files: stored as RGB but grey, JPEG, all.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    files: Counter[int] = field(default_factory=Counter)
    colours: Counter[tuple[int, ...]] = field(default_factory=Counter)
    counted: int = 0
    grey_rgb: int = 0
    lossy: int = 0
    looked_at: int = 0

    @property
    def above(self) -> list[int]:
        """The values that are not 0, sorted."""
        return sorted(value for value in self.pixels if value != 0)


@dataclass(frozen=True)
class Meaning:
    """Object -> rule (see `convert.values`), and what should be told about it."""

    objects: dict[str, Any]
    notes: tuple[str, ...] = ()
    ignore_other: bool = False


def look_at_labels(paths: Sequence[Path]) -> Values:
    """Read label files (at most 400, evenly spaced); those that cannot be read are left to the check of the cases."""
    found = Values()
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), FILES)).round().astype(int))
    for path in (paths[index] for index in chosen):
        try:
            _look_at(path, found)
        except InputError:
            continue
    return found


def _look_at(path: Path, found: Values) -> None:
    label = open_labels(path)
    values = whole_numbers(label.values, path)
    there, counts = np.unique(values, return_counts=True)
    if there.size and (there[0] < -(2**15) or there.size > 2**16):
        raise InputError(f"{path}: has {there.size} values, wanted labels")
    found.looked_at += 1
    found.lossy += label.lossy
    found.pixels.update(dict(zip(there.tolist(), counts.tolist(), strict=True)))
    found.files.update(there.tolist())
    above = [value for value in there.tolist() if value]
    found.counted += len(above) > 1 and above == list(range(1, len(above) + 1))
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"):
        frames = open_image(path).frames()
        if frames.ndim == 4:
            pixels = frames.reshape(-1, frames.shape[-1])
            coloured = pixels[np.ptp(pixels.astype(np.int32), axis=1) > (48 if label.lossy else 0)]
            found.grey_rgb += not len(coloured)
            if len(coloured):
                shades, counts = np.unique(coloured, axis=0, return_counts=True)
                found.colours.update(dict(zip(map(tuple, shades.tolist()), counts.tolist(), strict=True)))


def meaning_of(
    values: Values, name: str, named: Mapping[str, int], given: Mapping[str, int], what: str, single: bool = False
) -> Meaning:
    """What the label values stand for.

    Args:
        name: of the object where there is only one and nobody says what it is.
        named: object -> value, of a file beside the data; those that never occur stay objects.
        given: the same, said by the user; then all other values are background.
        what: how messages call the label files.
        single: all that is labelled is one object, whose name is known.

    Raises:
        InputError: no labels, colours that would have to be told apart, or pictures instead of labels.
    """
    if not values.looked_at or not values.above:
        why = "not one can be read" if not values.looked_at else "all pixels are 0"
        raise InputError(f"{what}: nothing is labelled ({why}); wanted values above 0 where the objects are")
    notes: list[str] = []
    _check_colours(values, what, notes)
    if given:
        missing = [one for one, value in given.items() if value not in values.pixels]
        if missing:
            have = ", ".join(map(str, values.above[:12]))
            raise InputError(
                f"--label {missing[0]}={given[missing[0]]}: no label file has that value; there are {have}"
            )
        return Meaning({one: [value] for one, value in given.items()}, tuple(notes), ignore_other=True)
    above = values.above
    if values.lossy:
        notes.append(f"{values.lossy} label files are JPEG, which blurs edges: cut at 128; PNG keeps labels exact")
        return Meaning({name: None}, tuple(notes))
    if named and not single:
        other = [value for value in above if value not in named.values()]
        if other:
            notes.append(f"label values without a name are background: {_short(other)}")
        return Meaning({one: [value] for one, value in named.items()}, tuple(notes), ignore_other=bool(other))
    if len(above) == 1:
        return Meaning({name: above}, tuple(notes))
    if _soft(values):
        notes.append(f"label files have {len(above)} grey values, nearly all 0 or {above[-1]}: cut at half")
        return Meaning({name: f">={(above[-1] + 1) // 2}"}, tuple(notes))
    if single:
        notes.append(f"{name}: {len(above)} values in its label files are one object")
        return Meaning({name: ">0"}, tuple(notes))
    if values.counted > 0.6 * values.looked_at and max(values.files[v] for v in above[-2:]) < values.looked_at / 2:
        notes.append(f"label files seem to number their objects (1 to {above[-1]}): all of them are one kind of object")
        return Meaning({name: ">0"}, tuple(notes))
    void = 255 in above and above[-2] < 64
    classes = above[:-1] if void and len(above) > 1 else above
    common = sum(values.files[value] >= max(2, values.looked_at / 4) for value in classes) >= 0.8 * len(classes)
    if len(classes) <= FEW or (common and len(classes) < MANY):
        if void:
            notes.append("label value 255 beside small ones is taken as not labelled (background)")
        notes.append(f"label values have no names: give them with --label NAME=VALUE, values {_short(classes)}")
        return Meaning({f"label_{value}": [value] for value in classes}, tuple(notes), ignore_other=void)
    raise InputError(
        f"{what}: have {len(above)} different values ({_short(above)}), these look like pictures, not labels; wanted "
        "one value for each object, such as 0 and 255; or name the values that count with --label NAME=VALUE"
    )


def names_beside(root: Path) -> tuple[dict[str, int], str]:
    """Object -> value and the modality as `dataset.json` (nnU-Net, Decathlon) or `labels.json` says.

    Raises:
        InputError: such a file that cannot be understood.
    """
    for file in (root / "dataset.json", root / "labels.json"):
        if not file.is_file():
            continue
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            labels = told.get("labels", {}) if file.name == "dataset.json" else told
            channels = told.get("channel_names", told.get("modality", {})) if file.name == "dataset.json" else {}
            found = dict(_entry(key, value) for key, value in labels.items() if not isinstance(value, list))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{file}: cannot be read as names of labels ({error}); correct or move it") from error
        first = str(next(iter(channels.values()), "")) if isinstance(channels, dict) else str(channels)
        return {name: value for name, value in found.items() if value != 0}, _modality(first)
    return {}, ""


def _entry(key: str, value: Any) -> tuple[str, int]:
    """{"liver": 1} and {"1": "liver"} mean the same."""
    return (slug(str(value)), int(key)) if str(key).isdigit() else (slug(str(key)), int(value))


def _modality(text: str) -> str:
    text = text.lower()
    for word, modality in (("ct", "ct"), ("mr", "mr"), ("t1", "mr"), ("t2", "mr"), ("flair", "mr"), ("pet", "pet")):
        if text.startswith(word):
            return modality
    return ""


def _check_colours(values: Values, what: str, notes: list[str]) -> None:
    if values.grey_rgb:
        notes.append(f"{values.grey_rgb} label files are RGB images without colour: their grey value is read")
    if not values.colours:
        return
    total = sum(values.colours.values())
    main = [colour for colour, count in values.colours.most_common(8) if count >= 0.02 * total]
    hues = {tuple(channel * 2 > max(colour) for channel in colour) for colour in main}
    shown = ", ".join(str(colour) for colour in main[:5])
    if len(hues) > 1 or len(values.colours) > 4096:
        raise InputError(
            f"{what}: are coloured ({len(values.colours)} colours, such as {shown}), wanted one number for each "
            "object; save them as grey or palette PNG with values 0, 1, 2, ..., or as one folder of masks for each "
            "object (masks_NAME/)"
        )
    notes.append(f"label files are coloured ({shown}): everything that is not black is one object")


def _soft(values: Values) -> bool:
    """Whether values between 0 and the largest are only the soft edges of masks."""
    top = values.above[-1]
    if top not in (255, 65535):
        return False
    inside = sum(count for value, count in values.pixels.items() if value >= top * 0.98)
    return inside >= SOLID * sum(count for value, count in values.pixels.items() if value > top * 0.5) and (
        sum(count for value, count in values.pixels.items() if 0 < value < top * 0.98)
        < 0.2 * sum(count for value, count in values.pixels.items() if value > 0)
    )


def _short(values: Iterable[int]) -> str:
    several = list(values)
    return ", ".join(map(str, several[:10])) + (f", ... {several[-1]}" if len(several) > 10 else "")
