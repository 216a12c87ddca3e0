"""Prompts from the command line: which object each --box, --point and --mask belongs to.

The rule, also in docs/cli.md:
1. A prompt may name its object: `--box liver=10,20,90,80`.
2. Without a name it belongs to the one object there is: the single `--object`, or an unnamed one.
3. With several `--object`, unnamed prompts of a kind are dealt out in order, one for each object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.io import Scan
    from samed2.prompts import CasePrompts, Prompts


@dataclass
class ObjectOptions:
    """What was asked for one object, in the command line's (x, y) order, in pixels."""

    name: str
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    points: list[tuple[float, float, bool]] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)


def parse_objects(
    boxes: Sequence[str], points: Sequence[str], masks: Sequence[str], objects: Sequence[str]
) -> list[ObjectOptions]:
    """Return one entry per object, in the order of --object, else of first appearance.

    Raises:
        InputError: a value that is no box or point, a name that is not among --object, two --object of one
            name, or unnamed prompts that cannot be dealt out.
    """
    for name in objects:
        if not name.strip() or "=" in name:
            raise InputError(f"--object {name!r}: wanted a name without '='")
        if list(objects).count(name) > 1:
            raise InputError(f"--object {name}: was given twice; several prompts may share one --object")
    given: list[tuple[str, str, str | None, Any]] = []  # option, its text, object name, value
    given += [("--box", text, *_box(text)) for text in boxes]
    given += [("--point", text, *_point(text)) for text in points]
    given += [("--mask", text, *_mask(text)) for text in masks]
    names = _names(given, list(objects))
    found = {name: ObjectOptions(name) for name in names}
    for option, kind in (("--box", "boxes"), ("--point", "points"), ("--mask", "masks")):
        for name, value in _dealt(option, [entry for entry in given if entry[0] == option], names):
            getattr(found[name], kind).append(value)
    empty = [name for name, options in found.items() if not (options.boxes or options.points or options.masks)]
    if empty and given:
        raise InputError(f"--object {empty[0]}: has no prompt; add --box {empty[0]}=x0,y0,x1,y1 or --point")
    return [] if not given else list(found.values())


def parse_tasks(given: Sequence[str]) -> dict[str, str]:
    """Return the task of each object of --recall by its name, which is the task's last part where none is said.

    Raises:
        InputError: an empty name or task, or two objects of one name.
    """
    tasks: dict[str, str] = {}
    for text in given:
        name, task = _split(text)
        name = (name or task.rsplit("/", 1)[-1]).strip()
        if not (name and task.strip()):
            raise InputError(f"--recall {text}: wanted TASK or NAME=TASK (samed2 memory info FILE lists the tasks)")
        if name in tasks:
            raise InputError(f"--recall {text}: {name!r} was given twice; write another NAME=TASK")
        tasks[name] = task.strip()
    return tasks


def _names(given: list[tuple[str, str, str | None, Any]], objects: list[str]) -> list[str]:
    used = list(dict.fromkeys(name for _, _, name, _ in given if name is not None))
    if objects:
        for option, text, name, _ in given:
            if name is not None and name not in objects:
                raise InputError(f"{option} {text}: unknown object {name!r}, --object gave {', '.join(objects)}")
        return objects
    unnamed = [(option, text) for option, text, name, _ in given if name is None]
    if used and unnamed:
        option, text = unnamed[0]
        raise InputError(f"{option} {text}: names no object while others do; write {used[0]}={text}")
    return used or [""]


def _dealt(option: str, given: list[tuple[str, str, str | None, Any]], names: list[str]) -> list[tuple[str, Any]]:
    unnamed = sum(name is None for _, _, name, _ in given)
    if len(names) > 1 and unnamed not in (0, len(names)):
        raise InputError(
            f"{option}: got {unnamed} without a name for {len(names)} objects ({', '.join(names)}); give one "
            f"for each --object in order, or write NAME=VALUE"
        )
    turn = iter(names)
    dealt = []
    for _, _, name, value in given:
        owner = name if name is not None else (names[0] if len(names) == 1 else next(turn))
        dealt.append((owner, value))
    return dealt


def _split(text: str) -> tuple[str | None, str]:
    name, equals, rest = text.rpartition("=")
    return (name.strip(), rest) if equals and name.strip() else (None, rest)


def _numbers(option: str, text: str, rest: str, counts: tuple[int, ...], wanted: str) -> list[float]:
    parts = rest.split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        raise InputError(f"{option} {text}: is not {wanted} in pixels") from None
    if len(values) not in counts:
        raise InputError(f"{option} {text}: got {len(values)} numbers, wanted {wanted} in pixels")
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"{option} {text}: got a number that is not finite, wanted {wanted} in pixels")
    return values


def _box(text: str) -> tuple[str | None, tuple[float, ...]]:
    name, rest = _split(text)
    return name, tuple(_numbers("--box", text, rest, (4, 6), "x0,y0,x1,y1 or x0,y0,z0,x1,y1,z1"))


def _point(text: str) -> tuple[str | None, tuple[float, float, bool]]:
    name, rest = _split(text)
    x, y, *label = _numbers("--point", text, rest, (2, 3), "x,y or x,y,0")
    if label and label[0] not in (0, 1):
        raise InputError(f"--point {text}: the third number is {label[0]:g}, wanted 1 (object) or 0 (background)")
    return name, (x, y, not label or label[0] == 1)


def _mask(text: str) -> tuple[str | None, Path]:
    if "=" not in text or Path(text).exists():
        return None, Path(text)
    name, _, rest = text.partition("=")
    return name.strip() or None, Path(rest)


def build_prompts(objects: Sequence[ObjectOptions], scan: Scan, frame: int | None) -> CasePrompts:
    """Return the prompts of a scan, ids from 1 in the order of the objects; masks are read here.

    A box of six numbers prompts its middle slice and keeps its object to its slices.

    Raises:
        InputError: a scan of several frames without --frame, or a mask that cannot be read.
    """
    from samed2.prompts import CasePrompts, Prompts
    from samed2.prompts.volumes import Spans, box_over_slices, widen

    flat = any(options.points or any(len(box) == 4 for box in options.boxes) for options in objects)
    if frame is None and scan.num_frames > 1 and flat:
        raise InputError(f"{scan.label}: has {scan.num_frames} frames; say with --frame which one, from 0, is prompted")
    at = frame or 0
    prompts = Prompts()
    spans: Spans = {}
    for number, options in enumerate(objects, start=1):
        prompts.add_object(number, name=options.name)
        for box in options.boxes:
            if len(box) == 4:
                prompts.add_box(number, at, box[1], box[0], box[3], box[2])
                continue
            placed, span = box_over_slices(box[2::-1], box[5:2:-1], scan, f"--box {','.join(f'{v:g}' for v in box)}")
            prompts.add_box(number, *placed)
            widen(spans, number, *span)
        for x, y, positive in options.points:
            prompts.add_point(number, at, y, x, positive)
        for path in options.masks:
            _add_mask(prompts, number, path, scan, frame)
        if number in spans:
            for prompted in prompts.objects[number].frames():
                widen(spans, number, prompted, prompted)
    return CasePrompts(prompts, spans)


def _add_mask(prompts: Prompts, number: int, path: Path, scan: Scan, frame: int | None) -> None:
    """Add a mask file: on the one frame that is prompted, or frame by frame where both have as many."""
    from samed2.io import read

    mask = read(path)
    if mask.num_frames == 1:
        if frame is None and scan.num_frames > 1:
            raise InputError(f"--mask {path}: has one frame and {scan.label} has {scan.num_frames}; give --frame")
        pairs = [(frame or 0, 0)]
    elif mask.num_frames == scan.num_frames:
        pairs = [(i, i) for i in range(scan.num_frames) if frame in (None, i)]
    else:
        raise InputError(
            f"--mask {path}: has {mask.num_frames} frames, wanted 1 or {scan.num_frames} as {scan.label} has"
        )
    found = False
    for target, source in pairs:
        pixels = mask.frame(source)
        inside = (pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0
        if inside.any():
            prompts.add_mask(number, target, inside)
            found = True
    if not found:
        raise InputError(f"--mask {path}: is empty, wanted at least one pixel above 0")
