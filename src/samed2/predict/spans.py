"""Where objects may lie: "the liver on slices 10 to 40 only"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from samed2.errors import InputError
from samed2.io import Scan
from samed2.predict.results import ObjectPrediction
from samed2.prompts import Prompts

Span = tuple[int, int]  # first and last frame
Allowed = dict[int, Collection[int]]  # object id -> frames


def checked_spans(spans: Mapping[int, Span], prompts: Prompts, scan: Scan) -> dict[int, Span]:
    """The spans by object id, widened to every frame on which their object is prompted: what is said there counts.

    Raises:
        InputError: a span of an object that has no prompts, or one that is no range of the scan's frames.
    """
    widened = {}
    for object_id, (first, last) in spans.items():
        if object_id not in prompts.objects:
            known = ", ".join(map(str, prompts.objects)) or "none"
            raise InputError(f"spans: object {object_id} is unknown, the objects are {known}")
        if not 0 <= first <= last < scan.num_frames:
            raise InputError(
                f"spans: object {object_id}: got {first} to {last}, wanted a range within 0 to {scan.num_frames - 1}"
            )
        prompted = prompts.objects[object_id].frames()
        widened[object_id] = (min([first, *prompted]), max([last, *prompted]))
    return widened


def allowed_frames(prompts: Prompts, spans: Mapping[int, Span], count: int, *, follow: bool) -> Allowed:
    """The frames on which each object may lie: its span, or without one all `count`.

    Args:
        follow: off, an object without a span is only looked for where it is prompted.
    """
    allowed: Allowed = {}
    for object_id, entry in prompts.objects.items():
        if object_id in spans:
            allowed[object_id] = range(spans[object_id][0], spans[object_id][1] + 1)
        else:
            allowed[object_id] = range(count) if follow else frozenset(entry.frames())
    return allowed


def limits_of(allowed: Allowed, frames: Span | None = None) -> Span | None:
    """First and last frame on which any object may lie, cut to `frames`; None where nothing is left."""
    first = min((min(own) for own in allowed.values() if own), default=0)
    last = max((max(own) for own in allowed.values() if own), default=-1)
    if frames is not None:
        first, last = max(first, frames[0]), min(last, frames[1])
    return (first, last) if first <= last else None


def only(
    answers: Iterable[tuple[int, list[ObjectPrediction]]], allowed: Allowed
) -> Iterator[tuple[int, list[ObjectPrediction]]]:
    """The answers less those of objects that may not lie on the frame."""
    for frame, found in answers:
        kept = [one for one in found if frame in allowed[one.id]]
        if kept:
            yield frame, kept
