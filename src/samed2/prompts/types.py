"""What a person says about an image: points, boxes and masks per object."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError
from samed2.io.scan import Scan

MAX_ID = 65535


class Point(NamedTuple):
    """A click at pixel (y, x) of a frame; positive: inside the object, negative: outside."""

    frame: int
    y: float
    x: float
    positive: bool = True


class Box(NamedTuple):
    """A box on a frame, half-open in pixels: rows r0..r1 have y0 = r0 and y1 = r1 + 1."""

    frame: int
    y0: float
    x0: float
    y1: float
    x1: float


@dataclass
class ObjectPrompts:
    """The prompts of one object. Several boxes on one frame are several parts of it, to be united."""

    name: str = ""
    points: list[Point] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    masks: dict[int, NDArray[np.bool_]] = field(default_factory=dict)  # frame -> (H, W)
    text: str | None = None

    def frames(self) -> list[int]:
        """The frames with a point, box or mask, in order."""
        return sorted({p[0] for p in self.points} | {b[0] for b in self.boxes} | set(self.masks))

    def on_frame(self, frame: int) -> ObjectPrompts:
        """Only what is said about one frame."""
        return ObjectPrompts(
            self.name,
            [p for p in self.points if p[0] == frame],
            [b for b in self.boxes if b[0] == frame],
            {f: m for f, m in self.masks.items() if f == frame},
            self.text,
        )


@dataclass
class Prompts:
    """Prompts by object id (1 to 65535, the value the object gets in the label map)."""

    objects: dict[int, ObjectPrompts] = field(default_factory=dict)

    def add_object(self, object_id: int, name: str = "", text: str | None = None) -> ObjectPrompts:
        """The object, made when new; a name or text given replaces the old one."""
        number = _whole(object_id, "object id")
        if not 1 <= number <= MAX_ID:
            raise InputError(f"object id: got {object_id}, wanted 1 to {MAX_ID}")
        entry = self.objects.setdefault(number, ObjectPrompts())
        entry.name = name or entry.name
        entry.text = text if text is not None else entry.text
        return entry

    def add_point(self, object_id: int, frame: int, y: float, x: float, positive: bool = True) -> Prompts:
        """Add a click; give the prompts back so that calls can follow each other."""
        self.add_object(object_id).points.append(Point(frame, y, x, bool(positive)))
        return self

    def add_box(self, object_id: int, frame: int, y0: float, x0: float, y1: float, x1: float) -> Prompts:
        """Add a box, (y0, x0, y1, x1) half-open in pixels."""
        self.add_object(object_id).boxes.append(Box(frame, y0, x0, y1, x1))
        return self

    def add_mask(self, object_id: int, frame: int, mask: ArrayLike) -> Prompts:
        """Add a (H, W) mask; where the object has one on that frame already, both are united."""
        masks = self.add_object(object_id).masks
        values = np.asarray(mask).astype(bool)
        number = _whole(frame, f"object {object_id}, mask: frame")
        if number in masks and masks[number].shape == values.shape:
            values = masks[number] | values
        masks[number] = values
        return self

    def frames(self) -> list[int]:
        """The frames that any object has a prompt on, in order."""
        return sorted({frame for entry in self.objects.values() for frame in entry.frames()})

    def on_frame(self, frame: int) -> Prompts:
        """The objects prompted on one frame, with only those prompts."""
        chosen = {key: entry.on_frame(frame) for key, entry in self.objects.items()}
        return Prompts({key: entry for key, entry in chosen.items() if entry.frames()})

    def validate(self, scan: Scan, *, allow_text: bool = False) -> Prompts:
        """The same prompts fit for `scan`, as a copy: numbers made plain, boxes cut to the image.

        Args:
            allow_text: accept objects that have only a text.

        Raises:
            InputError: no object or an object without a prompt; an unknown frame; NaN or infinity; a point or
                box outside the image; a box turned round or below one pixel; a mask of another size or empty.
        """
        if not self.objects:
            raise InputError("prompts: there is no object; give at least one point, box or mask")
        checked: dict[int, ObjectPrompts] = {}
        for object_id, entry in self.objects.items():
            shown = " ".join(entry.name.split())
            where = f"object {object_id}" + (f" ({shown})" if shown else "")
            if not (entry.points or entry.boxes or entry.masks or (allow_text and entry.text)):
                only = f"only the text {entry.text!r}" if entry.text else "no prompt"
                raise InputError(f"{where}: has {only}; give it at least one point, box or mask")
            checked[object_id] = replace(
                entry,
                points=[_point(p, f"{where}, point {i + 1}", scan) for i, p in enumerate(entry.points)],
                boxes=[_box(b, f"{where}, box {i + 1}", scan) for i, b in enumerate(entry.boxes)],
                masks={
                    _frame(f, f"{where}, mask", scan): _mask(m, f"{where}, mask", scan) for f, m in entry.masks.items()
                },
            )
        return Prompts(checked)

    def to_json(self) -> dict[str, Any]:
        """JSON-able form, x before y; see `samed2.prompts.json_form`."""
        from samed2.prompts.json_form import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, source: Any) -> Prompts:
        """From a JSON file or the parsed dict; see `samed2.prompts.json_form`."""
        from samed2.prompts.json_form import from_json

        return from_json(source)


def _point(point: Any, where: str, scan: Scan) -> Point:
    frame, y, x, positive = _fields(point, 4, where, "(frame, y, x, positive)")
    number = _frame(frame, where, scan)
    y, x = _finite((y, x), where)
    if not (0 <= y < scan.height and 0 <= x < scan.width):
        raise InputError(
            f"{where}: x={x:g}, y={y:g} lies outside the image, "
            f"wanted 0 <= x < {scan.width} and 0 <= y < {scan.height} ({scan.label})"
        )
    return Point(number, y, x, bool(positive))


def _box(box: Any, where: str, scan: Scan) -> Box:
    frame, *sides = _fields(box, 5, where, "(frame, y0, x0, y1, x1)")
    number = _frame(frame, where, scan)
    y0, x0, y1, x1 = _finite(sides, where)
    said = f"x0={x0:g}, y0={y0:g}, x1={x1:g}, y1={y1:g}"
    if y1 < y0 or x1 < x0:
        raise InputError(f"{where}: {said} is turned round, wanted x0 < x1 and y0 < y1")
    if y1 - y0 < 1 or x1 - x0 < 1:
        raise InputError(f"{where}: {said} is empty, wanted at least one pixel each way")
    cut = (max(y0, 0.0), max(x0, 0.0), min(y1, float(scan.height)), min(x1, float(scan.width)))
    if cut[2] - cut[0] < 1 or cut[3] - cut[1] < 1:
        raise InputError(f"{where}: {said} lies outside the image of {scan.width} x {scan.height} ({scan.label})")
    return Box(number, *cut)


def _mask(mask: Any, where: str, scan: Scan) -> NDArray[np.bool_]:
    values = np.asarray(mask)
    if values.shape != (scan.height, scan.width):
        raise InputError(
            f"{where}: has shape {values.shape} (rows, columns), "
            f"wanted {(scan.height, scan.width)} as the image ({scan.label})"
        )
    values = values.astype(bool)
    if not values.any():
        raise InputError(f"{where}: is empty, wanted at least one pixel")
    return values


def _frame(frame: Any, where: str, scan: Scan) -> int:
    number = _whole(frame, f"{where}: frame")
    if not 0 <= number < scan.num_frames:
        raise InputError(f"{where}: frame {number} is unknown, wanted 0 to {scan.num_frames - 1} ({scan.label})")
    return number


def _fields(value: Any, count: int, where: str, form: str) -> tuple[Any, ...]:
    try:
        parts = tuple(value)
    except TypeError:
        parts = ()
    if len(parts) != count:
        raise InputError(f"{where}: got {value!r}, wanted {form}")
    return parts


def _finite(values: Any, where: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: got {tuple(values)!r}, wanted numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{where}: holds NaN or infinity, wanted finite pixel coordinates")
    return numbers


def _whole(value: Any, where: str) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise InputError(f"{where}: got {value!r}, wanted a whole number") from None
