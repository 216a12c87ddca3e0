"""Prompts as JSON. Coordinates are x before y, as on the command line:

    {"objects": [{"id": 1, "name": "liver",
                  "boxes": [{"frame": 0, "box": [x0, y0, x1, y1]}],
                  "points": [{"frame": 0, "point": [x, y], "positive": true}],
                  "mask": "file.png"}]}

"frame" is 0 and "positive" true when left out; a box or point may also be the bare list. "id" defaults to the
position, from 1. "mask" is a file for frame 0, or for as many frames as it has; "masks" is a list of
{"frame": 3, "mask": "file.png"} or {"frame": 3, "rle": {"size": [H, W], "counts": [...]}}, counts running row
by row and starting with the zeros. Files are sought in the JSON file's folder. For many images:

    {"images": {"a.png": {"objects": [...]}, "b.png": {"objects": [...]}}}
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.readers import read
from samed2.prompts.types import ObjectPrompts, Prompts

Source = str | os.PathLike[str] | dict[str, Any]
_MAX_JSON_BYTES = 2**28
_OBJECT_FIELDS = ("id", "name", "text", "points", "boxes", "mask", "masks")


def from_json(source: Source, folder: str | os.PathLike[str] | None = None) -> Prompts:
    """The prompts of one image.

    Args:
        source: path of a JSON file, or what it holds.
        folder: where mask files are sought; the JSON file's folder, or for a dict the current one, when None.

    Raises:
        InputError: the file or a field is not as described above; the message names the field.
    """
    data, where, base = _load(source, folder)
    if "images" in data:
        raise InputError(f"{where}: holds prompts of many images under 'images', wanted 'objects' of one image")
    return _prompts(data, where, base)


def images_from_json(source: Source, folder: str | os.PathLike[str] | None = None) -> dict[str, Prompts]:
    """The prompts of many images, by the image's name as the JSON gives it.

    Raises:
        InputError: see `from_json`.
    """
    data, where, base = _load(source, folder)
    images = data.get("images")
    if not isinstance(images, dict) or not images:
        raise InputError(f"{where}: field 'images' is {_kind(images)}, wanted an object such as {{\"a.png\": {{...}}}}")
    return {name: _prompts(entry, f"{where}: images[{name!r}]", base) for name, entry in images.items()}


def is_for_many_images(source: Source) -> bool:
    """Whether the JSON has an 'images' field, that is, speaks of many images."""
    return "images" in _load(source, None)[0]


def to_json(prompts: Prompts) -> dict[str, Any]:
    """The form described above, complete in itself: masks become run lengths."""
    return {"objects": [_object_json(key, entry) for key, entry in prompts.objects.items()]}


def _object_json(key: int, entry: ObjectPrompts) -> dict[str, Any]:
    out: dict[str, Any] = {"id": int(key), "name": entry.name}
    if entry.text is not None:
        out["text"] = entry.text
    if entry.boxes:
        out["boxes"] = [
            {"frame": int(f), "box": [float(x0), float(y0), float(x1), float(y1)]} for f, y0, x0, y1, x1 in entry.boxes
        ]
    if entry.points:
        out["points"] = [
            {"frame": int(f), "point": [float(x), float(y)], "positive": bool(positive)}
            for f, y, x, positive in entry.points
        ]
    if entry.masks:
        out["masks"] = [{"frame": int(f), "rle": _to_rle(mask)} for f, mask in sorted(entry.masks.items())]
    return out


def _load(source: Source, folder: str | os.PathLike[str] | None) -> tuple[dict[str, Any], str, Path]:
    if isinstance(source, dict):
        return source, "prompts", Path(folder) if folder is not None else Path()
    path = Path(source)
    if not str(path).isprintable():
        raise InputError(f"{str(path)!r}: is not a usable file name, it holds control characters; rename it")
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, wanted a JSON file of prompts")
        if not path.exists():
            raise InputError(f"{path}: does not exist; check the path")
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(f"{path}: has {path.stat().st_size} bytes, wanted at most {_MAX_JSON_BYTES} of prompts")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f'{path}: is not JSON ({reason}); wanted prompts such as {{"objects": [...]}}') from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds {_kind(data)}, wanted an object with the field 'objects'")
    return data, str(path), Path(folder) if folder is not None else path.parent


def _prompts(data: Any, where: str, base: Path) -> Prompts:
    entries = data.get("objects") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{where}: field 'objects' is {_kind(entries)}, wanted a list of objects with prompts")
    if not entries:
        raise InputError(f"{where}: field 'objects' is an empty list, wanted at least one object with prompts")
    prompts = Prompts()
    for index, entry in enumerate(entries):
        _add_object(prompts, entry, index, f"{where}: objects[{index}]", base)
    return prompts


def _add_object(prompts: Prompts, entry: Any, index: int, where: str, base: Path) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is {_kind(entry)}, wanted an object with 'boxes', 'points' or 'mask'")
    unknown = sorted(set(entry) - set(_OBJECT_FIELDS))
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}, wanted one of {', '.join(_OBJECT_FIELDS)}")
    key = entry.get("id", index + 1)
    if isinstance(key, bool) or not isinstance(key, int):
        raise InputError(f"{where}.id: got {key!r}, wanted a whole number from 1")
    if key in prompts.objects:
        raise InputError(f"{where}.id: {key} is used twice, wanted each id once")
    try:
        prompts.add_object(key, _text(entry, "name", where) or "", _text(entry, "text", where))
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}.id: {error}") from None
    for i, item in enumerate(_list(entry, "boxes", where)):
        frame, (x0, y0, x1, y1) = _placed(item, "box", 4, f"{where}.boxes[{i}]")
        prompts.add_box(key, frame, y0, x0, y1, x1)
    for i, item in enumerate(_list(entry, "points", where)):
        frame, (x, y) = _placed(item, "point", 2, f"{where}.points[{i}]")
        positive = item.get("positive", True) if isinstance(item, dict) else True
        if not isinstance(positive, bool):
            raise InputError(f"{where}.points[{i}].positive: got {positive!r}, wanted true or false")
        prompts.add_point(key, frame, y, x, positive)
    if entry.get("mask") is not None:
        _add_file(prompts, key, entry["mask"], f"{where}.mask", base, None)
    for i, item in enumerate(_list(entry, "masks", where)):
        _add_mask(prompts, key, item, f"{where}.masks[{i}]", base)


def _add_mask(prompts: Prompts, key: int, item: Any, where: str, base: Path) -> None:
    if not isinstance(item, dict) or ("rle" in item) == ("mask" in item):
        raise InputError(f"{where}: is {_kind(item)}, wanted an object with 'frame' and either 'mask' or 'rle'")
    frame = _frame(item, where)
    if "rle" in item:
        prompts.add_mask(key, frame, _from_rle(item["rle"], f"{where}.rle"))
    else:
        _add_file(prompts, key, item["mask"], f"{where}.mask", base, frame)


def _add_file(prompts: Prompts, key: int, name: Any, where: str, base: Path, frame: int | None) -> None:
    """Pixels of the file other than 0 belong to the object; `frame` None takes the file's frames in order."""
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: got {name!r}, wanted the name of a mask file")
    try:
        scan = read(base / name)
        if frame is not None and scan.num_frames != 1:
            raise InputError(f"{scan.label}: has {scan.num_frames} frames, wanted the mask of one frame")
        masks = [plane.any(axis=-1) if plane.ndim == 3 else plane != 0 for plane in scan]
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    for index, mask in enumerate(masks):
        if len(masks) == 1 or mask.any():
            prompts.add_mask(key, index if frame is None else frame, mask)


def _placed(item: Any, name: str, count: int, where: str) -> tuple[int, list[float]]:
    """The frame and numbers of {"frame": .., name: [..]} or of the bare list."""
    if isinstance(item, list):
        item = {name: item}
    if not isinstance(item, dict):
        raise InputError(f"{where}: is {_kind(item)}, wanted an object with 'frame' and {name!r}")
    values = item.get(name)
    good = isinstance(values, list) and len(values) == count
    if not good or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values or []):
        form = "[x0, y0, x1, y1]" if count == 4 else "[x, y]"
        raise InputError(f"{where}.{name}: got {str(values)[:80]}, wanted {form} in pixels")
    try:
        return _frame(item, where), [float(v) for v in values or []]
    except OverflowError:
        raise InputError(f"{where}.{name}: holds a number too large to be a pixel") from None


def _frame(item: dict[str, Any], where: str) -> int:
    frame = item.get("frame", 0)
    if isinstance(frame, bool) or not isinstance(frame, int) or frame < 0:
        raise InputError(f"{where}.frame: got {frame!r}, wanted a whole number from 0")
    return frame


def _list(entry: dict[str, Any], name: str, where: str) -> list[Any]:
    value = entry.get(name, [])
    if not isinstance(value, list):
        raise InputError(f"{where}.{name}: is {_kind(value)}, wanted a list")
    return value


def _text(entry: dict[str, Any], name: str, where: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}.{name}: got {value!r}, wanted text")
    return value


def _to_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [flat.size - 1]]))
    return {"size": [int(n) for n in mask.shape], "counts": counts.tolist()}


def _from_rle(rle: Any, where: str) -> NDArray[np.bool_]:
    size = rle.get("size") if isinstance(rle, dict) else None
    counts = rle.get("counts") if isinstance(rle, dict) else None
    if not _naturals(size, 2) or not _naturals(counts, None):
        raise InputError(f'{where}: wanted {{"size": [H, W], "counts": [...]}} of whole numbers')
    assert size is not None
    assert counts is not None
    if size[0] * size[1] > 2**28 or sum(counts) != size[0] * size[1]:
        raise InputError(
            f"{where}.counts: add up to {sum(counts)}, wanted {size[0]} x {size[1]} pixels, at most {2**28}"
        )
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size)


def _naturals(value: Any, length: int | None) -> bool:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        return False
    return all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "missing"}
    return names.get(type(value), f"the number {value}")
