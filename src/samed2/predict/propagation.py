"""From prompts on some frames to all frames: forward, backward, or both and merged."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from samed2.errors import InputError
from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.predict.engine import Engine
from samed2.predict.results import ObjectPrediction
from samed2.predict.rows import seen_logits
from samed2.predict.settings import Settings
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
) -> Iterator[tuple[int, list[ObjectPrediction]]]:
    """(frame, predictions) of every frame that was looked at, each frame once, in the order they become final.

    Forward goes from an object's first prompt to the end, backward from its last prompt to the start. With "both",
    a frame between two prompts is seen twice, and the surer answer stays. What waits for the second pass is held
    compressed, so that memory does not grow with the length of the scan.

    Raises:
        InputError: an unknown direction.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"direction: got {direction!r}, wanted one of {', '.join(DIRECTIONS)}")

    def tracker(reverse: bool) -> Tracker:
        return Tracker(engine, scan, prompts, window, settings, tracking, memory, reverse)

    if direction != "both":
        yield from tracker(direction == "backward")
        return
    last = prompts.frames()[-1]
    waiting: dict[int, list[_Held]] = {}
    for frame, found in tracker(False):
        if frame > last:
            yield frame, found
        else:
            waiting[frame] = [_Held.of(prediction) for prediction in found]
    for frame, found in tracker(True):
        before = [held.back() for held in waiting.pop(frame, [])]
        yield frame, _merged(before, found)
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


@dataclass(frozen=True)
class _Held:
    """A prediction in few bytes."""

    id: int
    packed: bytes
    shape: tuple[int, int]
    confidence: float
    object_score: float

    @classmethod
    def of(cls, found: ObjectPrediction) -> _Held:
        height, width = found.mask.shape
        packed = zlib.compress(np.packbits(found.mask).tobytes(), 1)
        return cls(found.id, packed, (height, width), found.confidence, found.object_score)

    def back(self) -> ObjectPrediction:
        bits = np.unpackbits(np.frombuffer(zlib.decompress(self.packed), np.uint8), count=int(np.prod(self.shape)))
        mask = bits.reshape(self.shape).astype(bool)
        return ObjectPrediction(self.id, mask, seen_logits(mask), self.confidence, self.object_score)
