"""From prompts on some frames to all frames: forward, backward, or both and merged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from samed2.errors import InputError
from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.predict.engine import Engine
from samed2.predict.held import Held, held_together
from samed2.predict.journal import Journal
from samed2.predict.results import ObjectPrediction
from samed2.predict.settings import Settings
from samed2.predict.spans import Allowed
from samed2.predict.tracking import Tracker, Tracking
from samed2.prompts import Prompts

Direction = Literal["forward", "backward", "both"]
DIRECTIONS = ("forward", "backward", "both")


def propagate(
    engine: Engine,
    scan: Scan,
    prompts: Prompts,
    window: Window,
    settings: Settings,
    tracking: Tracking,
    memory: SelectiveMemory | None,
    direction: Direction = "both",
    limits: tuple[int, int] | None = None,
    allowed: Allowed | None = None,
    journal: Journal | None = None,
) -> Iterator[tuple[int, list[ObjectPrediction]]]:
    """(frame, predictions) of every frame that was looked at, each frame once, in the order they become final.

    Forward goes from an object's first prompt to the end, backward from its last prompt to the start. With "both",
    a frame between two prompts is seen twice, and the surer answer stays. What waits for the second pass is held
    compressed, so that memory does not grow with the length of the scan.

    Args:
        limits: the first and the last frame to answer for; None takes all.
        allowed: by object the frames it may lie on: none is followed beyond its last.
        journal: first gives the answers it has, with logits made from the masks, then goes on from there. Label maps
            are bit for bit those of a run without interruption; to rounding where `Tracking.follow` is off.

    Raises:
        InputError: an unknown direction, or limits that are no range of frames.
    """
    first, end = limits or (0, scan.num_frames - 1)
    if not 0 <= first <= end < scan.num_frames:
        raise InputError(f"frames: got {first} to {end}, wanted a range within 0 to {scan.num_frames - 1}")
    if direction not in DIRECTIONS:
        raise InputError(f"direction: got {direction!r}, wanted one of {', '.join(DIRECTIONS)}")

    last = prompts.frames()[-1] if direction == "both" else -1  # up to here the way back is waited for
    waiting: dict[int, list[Held]] = {}
    for reverse, frame, kept in journal.answers() if journal is not None else ():
        if not reverse and frame <= last:
            waiting[frame] = kept
        else:
            waiting.pop(frame, None)
            yield frame, [held.back() for held in kept]
    for reverse in (False, True) if direction == "both" else (direction == "backward",):
        if journal is not None and journal.passed(reverse):
            continue
        if reverse and engine.dtype is not None:  # views encoded together depend, to rounding, on those known before
            engine.forget()
        tracker = Tracker(engine, scan, prompts, window, settings, tracking, memory, reverse)
        ends = {i: min(own) if reverse else max(own) for i, own in (allowed or {}).items() if own}
        if journal is not None:
            journal.resume(tracker)
        for frame, found in tracker:
            if (frame < first) if reverse else (frame > end):
                break
            tracker.leave([i for i, last_of in ends.items() if (frame <= last_of if reverse else frame >= last_of)])
            if not first <= frame <= end:
                continue
            waits = not reverse and frame <= last
            if waits:
                waiting[frame] = [Held.of(prediction) for prediction in found]
            else:
                found = _merged([held.back() for held in waiting.pop(frame, [])], found)
            if journal is not None:
                journal.add(reverse, frame, waiting[frame] if waits else held_together(found))
                journal.keep(tracker)
            if not waits:
                yield frame, found
        if journal is not None:
            journal.finish(tracker)
    for frame in sorted(waiting, reverse=True):  # the way back ended early
        yield frame, [held.back() for held in waiting[frame]]


def _merged(first: list[ObjectPrediction], second: list[ObjectPrediction]) -> list[ObjectPrediction]:
    """One prediction per object: the surer of the two where the object is present; the first of equals."""
    best: dict[int, ObjectPrediction] = {}
    for found in (*first, *second):
        known = best.get(found.id)
        if known is None or _sureness(found) > _sureness(known):
            best[found.id] = found
    return [best[i] for i in sorted(best)]


def _sureness(found: ObjectPrediction) -> float:
    return found.confidence if found.mask.any() else -1.0
