"""One box or point per connected component, or one box around everything; frame by frame, answers united."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from samed2.evaluate.models.base import Segmenter
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
    number,
    register_protocol,
)
from samed2.prompts import Prompts, center_point, components, draw_shift, jitter_box, random_point, shift_box

PAPER_SIDE = 1024  # pixels a side of the frame the paper's shifts are told in


@dataclass(frozen=True)
class FrameProtocol(PromptProtocol):
    """All prompts of a frame at once, each object id answered apart, their masks united."""

    @abstractmethod
    def draw(self, subject: Subject, frame: int) -> tuple[Prompts, dict[int, Mask]]:
        """The prompts of one frame, and by object id the (H, W) mask that they aim at."""

    def run(self, model: Segmenter, subject: Subject) -> Trial:
        picks, hints = [], {}
        counts = {"points": 0, "boxes": 0, "masks": 0}
        for frame in subject.frames:
            prompts, targets = self.draw(subject, frame)
            picks.append(ask(model, subject, frame, prompts, targets))
            hints[frame] = hint_of(prompts, targets)
            counts = {kind: counts[kind] + given for kind, given in count_prompts(prompts).items()}
        outcome = gather(subject.frames, picks)
        outcome.prompts = counts
        return Trial(outcome, hints)


def hint_of(prompts: Prompts, targets: dict[int, Mask]) -> Hint:
    """The boxes given, or else the tight boxes of what was aimed at, and the points."""
    entries = prompts.objects
    boxes: list[Box] = [(b.y0, b.x0, b.y1, b.x1) for entry in entries.values() for b in entry.boxes]
    points = [(float(p.y), float(p.x), p.positive) for entry in entries.values() for p in entry.points]
    return Hint(boxes or [bounds(target) for target in targets.values()], points)


@dataclass(frozen=True)
class Boxes(FrameProtocol):
    """Tight boxes, moved outward or not.

    Attributes:
        union: one box around the whole object instead of one per component.
        jitter: largest outward shift of a side as a share of the box.
        shift: largest outward shift in pixels of the frame squashed to 1024 x 1024.
    """

    union: bool = False
    jitter: float = 0.0
    shift: float = 0.0

    @property
    def per_part(self) -> bool:
        return not self.union

    @property
    def words(self) -> str:
        what = "one box around the whole object" if self.union else "one box per component"
        if self.jitter:
            return f"{what}, each side outward by up to {self.jitter:.0%} of the box"
        if self.shift:
            return f"{what}, each side outward by up to {self.shift:g} px of the frame at 1024 x 1024"
        return f"{what}, tight"

    def draw(self, subject: Subject, frame: int) -> tuple[Prompts, dict[int, Mask]]:
        truth = subject.truth[frame]
        targets = dict(enumerate([truth] if self.union else components(truth), start=1))
        # The key of relative shifts is that of the project's first benchmark: its figures stay comparable.
        rng = subject.rng(frame, "" if self.jitter else self.text)
        prompts = Prompts()
        for index, target in targets.items():
            prompts.add_box(index, frame, *self._moved(bounds(target), rng, (truth.shape[0], truth.shape[1])))
        return prompts, targets

    def _moved(self, box: Box, rng: np.random.Generator, shape: tuple[int, int]) -> Box:
        if self.jitter:
            return jitter_box(box, self.jitter, rng, shape)
        if self.shift:
            y, x = shape[0] * self.shift / PAPER_SIDE, shape[1] * self.shift / PAPER_SIDE
            return shift_box(box, draw_shift(rng) * np.array([y, x, y, x]), 1.0, shape, "pixels")
        return box


@dataclass(frozen=True)
class Points(FrameProtocol):
    """One positive point per component: its deepest pixel, or any."""

    random: bool = False

    @property
    def per_part(self) -> bool:
        return True

    @property
    def words(self) -> str:
        return f"one point per component, {'anywhere inside' if self.random else 'at its deepest pixel'}"

    def draw(self, subject: Subject, frame: int) -> tuple[Prompts, dict[int, Mask]]:
        targets = dict(enumerate(components(subject.truth[frame]), start=1))
        rng = subject.rng(frame, self.text)
        prompts = Prompts()
        for index, target in targets.items():
            y, x = random_point(target, rng) if self.random else center_point(target)
            prompts.add_point(index, frame, y, x)
        return prompts, targets


@register_protocol("box", "box", "one tight box per connected component")
@register_protocol("box-union", "box-union", "one tight box around the whole object (the paper's, unmoved)")
def _boxes(name: str, given: list[str]) -> PromptProtocol:
    arguments(name, given, 0, 0)
    return Boxes(name, union="union" in name)


@register_protocol("box-jitter", "box-jitter:FRACTION", "boxes per component, sides outward by a share of the box")
@register_protocol("box-union-jitter", "box-union-jitter:FRACTION", "the same with one box around the whole object")
def _jittered(name: str, given: list[str]) -> PromptProtocol:
    (text,) = arguments(name, given, 1, 1)
    amount = number(name, text, 0.0, 1.0)
    if not amount:
        return _boxes(name.removesuffix("-jitter"), [])
    return Boxes(f"{name}:{amount:g}", union="union" in name, jitter=amount)


@register_protocol("box-shift", "box-shift:PIXELS", "boxes per component, sides outward by pixels at 1024 x 1024")
@register_protocol("box-union-shift", "box-union-shift:PIXELS", "the paper's: one box, 0 to 20 px at 1024 x 1024")
def _shifted(name: str, given: list[str]) -> PromptProtocol:
    (text,) = arguments(name, given, 1, 1)
    amount = number(name, text, 0.0, PAPER_SIDE)
    if not amount:
        return _boxes(name.removesuffix("-shift"), [])
    return Boxes(f"{name}:{amount:g}", union="union" in name, shift=amount)


@register_protocol("point", "point", "one point per connected component, at its deepest pixel")
@register_protocol("point-random", "point-random", "one point per connected component, anywhere inside")
def _points(name: str, given: list[str]) -> PromptProtocol:
    arguments(name, given, 0, 0)
    return Points(name, random=name == "point-random")
