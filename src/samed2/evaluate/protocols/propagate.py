"""One prompt on one frame, then the whole volume or video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from samed2.errors import InputError
from samed2.evaluate.models.base import PROPAGATE, Segmenter
from samed2.evaluate.protocols.base import (
    Box,
    Hint,
    Mask,
    PromptProtocol,
    Subject,
    Trial,
    arguments,
    ask,
    bounds,
    count_prompts,
    gather,
    register_protocol,
)
from samed2.evaluate.selection import Pick, answer
from samed2.prompts import Prompts, center_point

FALLBACK = "per-slice boxes"  # the note of a model that cannot propagate
KINDS = ("point", "first", "point-first")


@dataclass(frozen=True)
class Propagate(PromptProtocol):
    """One box or point on the middle (or first) frame of the object; all frames are scored together."""

    point: bool = False
    first: bool = False

    @property
    def whole(self) -> bool:
        return True

    @property
    def words(self) -> str:
        what = "one point at the deepest pixel" if self.point else "one tight box"
        where = "first" if self.first else "middle"
        return f"{what} on the {where} frame of the object, propagated; the whole volume or video is scored"

    def run(self, model: Segmenter, subject: Subject) -> Trial:
        frame = subject.frames[0 if self.first else (len(subject.frames) - 1) // 2]
        truth = subject.truth[frame]
        prompts, hint = Prompts(), Hint([bounds(truth)])
        if self.point:
            y, x = center_point(truth)
            prompts.add_point(1, frame, y, x)
            hint.points.append((float(y), float(x), True))
        else:
            prompts.add_box(1, frame, *hint.boxes[0])
        prompts.objects[1].name = subject.loaded.case.task(subject.name)
        if PROPAGATE in model.abilities:
            picks, notes = by_model(model, subject, prompts), []
        else:
            notes = [FALLBACK] if subject.scan.num_frames > 1 else []
            picks = by_frames(model, subject, {frame: ask(model, subject, frame, prompts, {1: truth})})
        outcome = gather(list(range(len(picks))), picks)
        outcome.probability = None
        outcome.prompts, outcome.notes = count_prompts(prompts), notes
        return Trial(outcome, {frame: hint})


def by_model(model: Segmenter, subject: Subject, prompts: Prompts) -> list[Pick]:
    """The answer on every frame by the model's own propagation of object 1."""
    picks: dict[int, Pick] = {}
    for frame, found in model.propagate(subject.scan, prompts):
        truth = subject.truth[frame]
        picks[frame] = _light(answer(found, dict.fromkeys(found, truth), truth, subject.select))
    missing = [f for f in range(subject.scan.num_frames) if f not in picks]
    if missing:
        raise InputError(f"{model.name}: propagated to {len(picks)} frames, frame {missing[0]} is missing")
    return [picks[frame] for frame in range(subject.scan.num_frames)]


def by_frames(
    model: Segmenter, subject: Subject, fixed: Mapping[int, Pick], extent: tuple[int, int] | None = None
) -> list[Pick]:
    """The answer on every frame: each frame is prompted with the tight box of its neighbour's answer; see `spread`."""

    def on(frame: int, box: Box) -> Pick:
        prompts = Prompts().add_box(1, frame, *box)
        return _light(ask(model, subject, frame, prompts, {1: subject.truth[frame]}))

    count, (height, width) = subject.scan.num_frames, subject.truth.shape[1:]
    found = spread(on, fixed, extent or (0, count - 1))
    return [found.get(frame) or Pick(np.zeros((height, width), dtype=bool)) for frame in range(count)]


def spread(on: Callable[[int, Box], Pick], fixed: Mapping[int, Pick], extent: tuple[int, int]) -> dict[int, Pick]:
    """Answers outward from the frames that have one, each prompted with the box of the answer before it.

    From every answered frame that is not empty it goes both ways, until an answer is empty, the extent (first
    and last frame) ends, or the next fixed frame: half the way to one with an answer, all the way to an empty one.
    """
    found = dict(fixed)
    for start in sorted(fixed):
        for step in (1, -1):
            last, frame = _reach(fixed, start, step, extent), start
            while found[frame].mask.any() and frame != last:
                found[frame + step] = on(frame + step, bounds(found[frame].mask))
                frame += step
    return found


def _reach(fixed: Mapping[int, Pick], start: int, step: int, extent: tuple[int, int]) -> int:
    """The last frame that the answer on `start` may be carried to in one direction."""
    beyond = [f for f in fixed if (f - start) * step > 0]
    if not beyond:
        return max(extent[1], start) if step > 0 else min(extent[0], start)
    near = min(beyond, key=lambda f: abs(f - start))
    if not fixed[near].mask.any():
        return near - step
    middle = (start + near) // 2  # belongs to the lower of the two
    return middle if step > 0 else middle + 1


def _light(pick: Pick) -> Pick:
    """Without the probability: a volume of floats is not kept."""
    return Pick(pick.mask, pick.confidence)


def whole_truth(subject: Subject) -> tuple[Mask, tuple[int, int]]:
    """The (T, H, W) truth and its first and last frame."""
    held = np.flatnonzero(subject.truth.any(axis=(1, 2)))
    return subject.truth, (int(held[0]), int(held[-1]))


@register_protocol("propagate", "propagate[:point|first|point-first]", "one prompt on one frame, then all frames")
def _propagate(name: str, given: list[str]) -> PromptProtocol:
    given = arguments(name, given, 0, 1)
    if given and given[0] not in KINDS:
        raise InputError(f"protocol {name}: got {given[0]!r}, wanted one of {', '.join(KINDS)}")
    kind = "".join(given)
    return Propagate(":".join([name, *given]), point="point" in kind, first="first" in kind)
