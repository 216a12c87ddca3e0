"""Prompts as JSON. Coordinates are x before y, as on the command line:

    {"objects": [{"id": 1, "name": "liver",
                  "boxes": [{"frame": 0, "box": [x0, y0, x1, y1]}],
                  "points": [{"frame": 0, "point": [x, y], "positive": true}],
                  "mask": "file.png"}]}

"frame" is 0 and "positive" true when left out; a box or point may also be the bare list. "id" defaults to the
position, from 1. "mask" is a file for frame 0, or for as many frames as it has; "masks" is a list of
{"frame": 3, "mask": "file.png"} or {"frame": 3, "rle": {"size": [H, W], "counts": [...]}}, counts running row
by row and starting with the zeros. Files are sought in the JSON file's folder.

In three dimensions, z being the frame:

    "boxes": [[x0, y0, z0, x1, y1, z1]]                  prompts the middle slice, keeps the object to its slices
    "points": [{"point": [x, y, z]}]
    "lines": [{"frame": 3, "line": [x0, y0, x1, y1],     ends of the longest diameter, and of the one across it
               "short": [x0, y0, x1, y1]}]
    {"mm": [x, y, z], "space": "LPS"}                    in place of any list of numbers; a box has six numbers
    {"labels": "old.nii.gz"}                             beside "objects" or alone: each value becomes an object

"space" ("LPS" or "RAS") may also stand once beside "objects". For many images:

    {"images": {"a.png": {"objects": [...]}, "b.png": {"objects": [...]}}}
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from samed2.errors import InputError
from samed2.io.scan import Scan
from samed2.prompts.json_fields import kind, to_rle
from samed2.prompts.json_objects import Case, add_object
from samed2.prompts.types import ObjectPrompts, Prompts
from samed2.prompts.volumes import CasePrompts, widen

Source = str | os.PathLike[str] | dict[str, Any]
_MAX_JSON_BYTES = 2**28


def from_json(source: Source, folder: str | os.PathLike[str] | None = None, scan: Scan | None = None) -> Prompts:
    """The prompts of one image.

    Args:
        source: path of a JSON file, or what it holds.
        folder: where mask files are sought; the JSON file's folder, or for a dict the current one, when None.
        scan: what is prompted; needed for places in mm, label maps and boxes over slices.

    Raises:
        InputError: the file or a field is not as described above; the message names the field.
    """
    return case_from_json(source, scan, folder).prompts


def case_from_json(source: Source, scan: Scan | None, folder: str | os.PathLike[str] | None = None) -> CasePrompts:
    """The prompts of one scan, and the frames that 3-D boxes keep their objects to.

    Raises:
        InputError: see `from_json`.
    """
    data, where, base = load_json(source, folder)
    if "images" in data:
        raise InputError(f"{where}: holds prompts of many images under 'images', wanted 'objects' of one image")
    return read_entry(data, where, base, scan)


def images_from_json(source: Source, folder: str | os.PathLike[str] | None = None) -> dict[str, Prompts]:
    """The prompts of many images, by the image's name as the JSON gives it; in pixels only.

    Raises:
        InputError: see `from_json`.
    """
    data, where, base = load_json(source, folder)
    return {
        name: read_entry(entry, f"{where}: images[{name!r}]", base, None, data.get("space")).prompts
        for name, entry in entries_of(data, where).items()
    }


def entries_of(data: dict[str, Any], where: str) -> dict[str, Any]:
    """What stands under "images", unread, by the image's name."""
    images = data.get("images")
    if not isinstance(images, dict) or not images:
        raise InputError(f"{where}: field 'images' is {kind(images)}, wanted an object such as {{\"a.png\": {{...}}}}")
    return images


def is_for_many_images(source: Source) -> bool:
    """Whether the JSON has an 'images' field, that is, speaks of many images."""
    return "images" in load_json(source, None)[0]


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
        out["masks"] = [{"frame": int(f), "rle": to_rle(mask)} for f, mask in sorted(entry.masks.items())]
    return out


def load_json(source: Source, folder: str | os.PathLike[str] | None) -> tuple[dict[str, Any], str, Path]:
    """What a prompts file holds, how messages call it, and where its files are sought.

    Raises:
        InputError: it cannot be opened or is no JSON object.
    """
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
        raise InputError(f"{path}: holds {kind(data)}, wanted an object with the field 'objects'")
    return data, str(path), Path(folder) if folder is not None else path.parent


def read_entry(data: Any, where: str, base: Path, scan: Scan | None, space: Any = None) -> CasePrompts:
    """The prompts of one scan from parsed JSON.

    Args:
        where: how messages call it.
        base: where its files are sought.
        space: of millimetres, where the entry does not say.
    """
    labels = data.get("labels") if isinstance(data, dict) else None
    entries = data.get("objects", [] if labels is not None else None) if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{where}: field 'objects' is {kind(entries)}, wanted a list of objects with prompts")
    if not entries and labels is None:
        raise InputError(f"{where}: field 'objects' is an empty list, wanted at least one object with prompts")
    case = Case(base, scan, data.get("space", space))
    listed: set[int] = set()
    for index, entry in enumerate(entries):
        add_object(case, entry, index, f"{where}: objects[{index}]", listed)
    if labels is not None:
        if not isinstance(labels, str) or not labels:
            raise InputError(f"{where}: field 'labels' is {kind(labels)}, wanted the name of a label map")
        if scan is None:
            raise InputError(f"{where}: field 'labels' needs the scan that it belongs to; pass scan=")
        from samed2.prompts.labels import add_label_map

        add_label_map(case.prompts, base / labels, scan, f"{where}: labels")
    for object_id in case.spans:  # what is prompted elsewhere belongs to the object, too
        for frame in case.prompts.objects[object_id].frames():
            widen(case.spans, object_id, frame, frame)
    return CasePrompts(case.prompts, case.spans)
