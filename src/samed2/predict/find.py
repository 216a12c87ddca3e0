"""Objects found by the memory alone: on frames looked at one by one, and where each is seen most surely."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, SegmentedObject, Window
from samed2.predict.results import ObjectPrediction
from samed2.prompts import Prompts

if TYPE_CHECKING:
    from samed2.predict.predictor import Predictor

LOOKS = 9  # frames of a volume or video on which an object is sought before it is followed
Answers = Iterable[tuple[int, list[ObjectPrediction]]]


def named(tasks: Mapping[str, str]) -> Prompts:
    """Objects without prompts, numbered from 1, by the names of what is looked for.

    Raises:
        InputError: nothing is looked for.
    """
    if not tasks:
        raise InputError("tasks: got none, wanted at least one")
    prompts = Prompts()
    for number, name in enumerate(tasks, start=1):
        prompts.add_object(number, name=name)
    return prompts


def spread(total: int, count: int) -> list[int]:
    """`count` of `total` frames, spread evenly.

    Raises:
        InputError: a count below 1.
    """
    if count < 1:
        raise InputError(f"looks: got {count}, wanted at least 1")
    count = min(count, total)
    return sorted({int(at) for at in (np.arange(count) + 0.5) * total / count})


def look_for(
    predictor: Predictor,
    scan: Scan,
    tasks: Iterable[str],
    frames: Sequence[int],
    window: Window,
    settings: Mapping[str, Any],
) -> Iterator[tuple[int, list[ObjectPrediction]]]:
    """(frame, what `Predictor.recall` says of each task); of several frames those without the object stay empty."""
    for frame in frames:
        found = []
        for number, task in enumerate(tasks, start=1):
            answer = replace(predictor.recall(scan, frame, task=task, window=window, **settings), id=number)
            if len(frames) > 1 and answer.object_score <= 0:
                answer.mask = np.zeros_like(answer.mask)
            found.append(answer)
        yield frame, found


def surest(answers: Answers, progress: Callable[[int], None] | None = None) -> dict[int, tuple[int, ObjectPrediction]]:
    """By object the frame on which it is seen most surely, and what was found there; the first of equals."""
    best: dict[int, tuple[int, ObjectPrediction]] = {}
    for frame, found in answers:
        for answer in found:
            if answer.id not in best or _sureness(answer) > _sureness(best[answer.id][1]):
                best[answer.id] = frame, answer
        if progress is not None:
            progress(frame)
    return best


def shown(best: Mapping[int, tuple[int, ObjectPrediction]], names: Prompts) -> Prompts:
    """The masks of the objects that were found at all, as prompts."""
    prompts = Prompts()
    for number, (frame, answer) in best.items():
        if _sureness(answer) >= 0:
            prompts.add_object(number, name=names.objects[number].name)
            prompts.add_mask(number, frame, answer.mask)
    return prompts


def with_lost(result: Segmentation, best: Mapping[int, tuple[int, ObjectPrediction]], names: Prompts) -> Segmentation:
    """Add the objects that were looked for and not found, absent on the frame where they would have been likeliest."""
    known = {entry.id for entry in result.objects}
    for number in set(best) - known:
        frame, answer = best[number]
        sure = {frame: round(answer.confidence, 4)}
        result.objects.append(SegmentedObject(number, names.objects[number].name, None, sure, {frame: False}))
    result.objects.sort(key=lambda entry: entry.id)
    return result


def _sureness(found: ObjectPrediction) -> float:
    return found.confidence if found.mask.any() and found.object_score > 0 else -1.0
