"""The objects of a prompts file; the form is described in `samed2.prompts.json_form`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samed2.errors import InputError
from samed2.io.readers import read
from samed2.io.scan import Scan
from samed2.prompts.json_fields import (
    finite,
    frame_field,
    from_rle,
    kind,
    known_fields,
    list_field,
    numbers,
    shown,
    text_field,
)
from samed2.prompts.lines import box_of_lines
from samed2.prompts.types import Prompts
from samed2.prompts.volumes import SPACES, Places, Spans, box_over_slices, widen

_OBJECT_FIELDS = ("id", "name", "text", "points", "boxes", "lines", "mask", "masks")


@dataclass
class Case:
    """What the prompts of one scan are read with and into."""

    base: Path
    scan: Scan | None
    space: Any
    prompts: Prompts = field(default_factory=Prompts)
    spans: Spans = field(default_factory=dict)

    def places(self, where: str) -> Places:
        """Where mm are on the scan."""
        if self.scan is None:
            raise InputError(f"{where}: is in mm, which only the scan that it belongs to can place; pass scan=")
        return Places(self.scan, where)


def add_object(case: Case, entry: Any, index: int, where: str, listed: set[int]) -> None:
    """Add the object at position `index`; `listed` are the ids that stand before it."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is {kind(entry)}, wanted an object with 'boxes', 'points' or 'mask'")
    known_fields(entry, _OBJECT_FIELDS, where)
    key = entry.get("id", index + 1)
    if isinstance(key, bool) or not isinstance(key, int):
        raise InputError(f"{where}.id: got {key!r}, wanted a whole number from 1")
    if key in listed:
        raise InputError(f"{where}.id: {key} is used twice, wanted each id once")
    listed.add(key)
    try:
        case.prompts.add_object(key, text_field(entry, "name", where) or "", text_field(entry, "text", where))
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}.id: {error}") from None
    for i, item in enumerate(list_field(entry, "boxes", where)):
        _add_box(case, key, _item(item, "box", f"{where}.boxes[{i}]"), f"{where}.boxes[{i}]")
    for i, item in enumerate(list_field(entry, "points", where)):
        _add_point(case, key, item, f"{where}.points[{i}]")
    for i, item in enumerate(list_field(entry, "lines", where)):
        _add_line(case, key, _item(item, "line", f"{where}.lines[{i}]"), f"{where}.lines[{i}]")
    if entry.get("mask") is not None:
        _add_file(case, key, entry["mask"], f"{where}.mask", None)
    for i, item in enumerate(list_field(entry, "masks", where)):
        _add_mask(case, key, item, f"{where}.masks[{i}]")


def _item(item: Any, name: str, where: str) -> dict[str, Any]:
    """{"frame": .., name: ..}, which a bare list or {"mm": ..} stands for as well."""
    if isinstance(item, list):
        return {name: item}
    if not isinstance(item, dict):
        raise InputError(f"{where}: is {kind(item)}, wanted an object with 'frame' and {name!r}")
    if "mm" in item:
        return {**{k: v for k, v in item.items() if k not in ("mm", "space")}, name: item}
    return item


def _in_mm(case: Case, item: dict[str, Any], name: str, count: int, where: str) -> tuple[list[float], str] | None:
    """The millimetres and their space of {name: {"mm": .., "space": ..}}; None where it is in pixels."""
    value = item.get(name)
    if not isinstance(value, dict):
        return None
    form = "[x, y, z]" if count == 3 else "[x0, y0, z0, x1, y1, z1]"
    values = finite(numbers(value.get("mm"), (count,), f"{where}.mm", f"{form} in mm"), f"{where}.mm")
    space = value.get("space", case.space)
    if space not in SPACES:
        got = "nothing" if space is None else shown(space)
        raise InputError(f'{where}.space: got {got}, wanted "RAS" or "LPS", the directions in which x and y grow')
    if "frame" in item:
        raise InputError(f"{where}.frame: cannot be given beside mm, which say the slice themselves; leave it out")
    return values, space


def _add_box(case: Case, key: int, item: dict[str, Any], where: str) -> None:
    placed = _in_mm(case, item, "box", 6, where)
    if placed is not None:
        box, span = case.places(where).box(*placed, where)
        case.prompts.add_box(key, *box)
        if span is not None:
            widen(case.spans, key, *span)
        return
    wanted = "[x0, y0, x1, y1] in pixels, or [x0, y0, z0, x1, y1, z1]"
    values = numbers(item.get("box"), (4, 6), f"{where}.box", wanted)
    if len(values) == 4:
        x0, y0, x1, y1 = values
        case.prompts.add_box(key, frame_field(item, where), y0, x0, y1, x1)
        return
    if "frame" in item:
        raise InputError(f"{where}.frame: cannot be given beside a box of six numbers; leave it out")
    if case.scan is None:
        raise InputError(f"{where}.box: goes over slices of a scan; pass scan=")
    x0, y0, z0, x1, y1, z1 = finite(values, f"{where}.box")
    box, span = box_over_slices((z0, y0, x0), (z1, y1, x1), case.scan, where)
    case.prompts.add_box(key, *box)
    widen(case.spans, key, *span)


def _add_point(case: Case, key: int, item: Any, where: str) -> None:
    counts = (2,) if isinstance(item, list) else (2, 3)  # a bare third number might be meant as a label
    item = _item(item, "point", where)
    positive = item.get("positive", True)
    if not isinstance(positive, bool):
        raise InputError(f"{where}.positive: got {shown(positive)}, wanted true or false")
    placed = _in_mm(case, item, "point", 3, where)
    if placed is not None:
        case.prompts.add_point(key, *case.places(where).point(*placed, where), positive)
        return
    values = numbers(item.get("point"), counts, f"{where}.point", "[x, y] in pixels")
    frame = frame_field(item, where)
    if len(values) == 3:
        if "frame" in item:
            raise InputError(f"{where}.frame: cannot be given beside [x, y, z], which says it itself; leave it out")
        frame = round(finite(values, f"{where}.point")[2])
    case.prompts.add_point(key, frame, values[1], values[0], positive)


def _add_line(case: Case, key: int, item: dict[str, Any], where: str) -> None:
    known_fields(item, ("frame", "line", "short"), where)
    long, frames = _ends(case, item, "line", where)
    short = None
    if item.get("short") is not None:
        short, others = _ends(case, item, "short", where)
        frames = frames + others
    if len(set(frames)) > 1:
        raise InputError(f"{where}: its ends lie on slices {sorted(set(frames))}, wanted a measurement on one slice")
    case.prompts.add_box(key, frames[0], *box_of_lines(long, short, f"{where}.line"))


def _ends(case: Case, item: dict[str, Any], name: str, where: str) -> tuple[list[tuple[float, float]], list[int]]:
    """The two ends of a line as (y, x), and the frames that they lie on."""
    where = f"{where}.{name}"
    placed = _in_mm(case, item, name, 6, where)
    if placed is None:
        x0, y0, x1, y1 = finite(numbers(item.get(name), (4,), where, "[x0, y0, x1, y1] in pixels"), where)
        return [(y0, x0), (y1, x1)], [frame_field(item, where)]
    values, space = placed
    found = [case.places(where).point(place, space, where) for place in (values[:3], values[3:])]
    return [(y, x) for _, y, x in found], [frame for frame, _, _ in found]


def _add_mask(case: Case, key: int, item: Any, where: str) -> None:
    if not isinstance(item, dict) or ("rle" in item) == ("mask" in item):
        raise InputError(f"{where}: is {kind(item)}, wanted an object with 'frame' and either 'mask' or 'rle'")
    frame = frame_field(item, where)
    if "rle" in item:
        case.prompts.add_mask(key, frame, from_rle(item["rle"], f"{where}.rle"))
    else:
        _add_file(case, key, item["mask"], f"{where}.mask", frame)


def _add_file(case: Case, key: int, name: Any, where: str, frame: int | None) -> None:
    """Pixels of the file other than 0 belong to the object; `frame` None takes the file's frames in order."""
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: got {name!r}, wanted the name of a mask file")
    try:
        scan = read(case.base / name)
        if frame is not None and scan.num_frames != 1:
            raise InputError(f"{scan.label}: has {scan.num_frames} frames, wanted the mask of one frame")
        masks = [plane.any(axis=-1) if plane.ndim == 3 else plane != 0 for plane in scan]
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    for index, mask in enumerate(masks):
        if len(masks) == 1 or mask.any():
            case.prompts.add_mask(key, index if frame is None else frame, mask)
