"""Confirmed cases of the same task in the model's memory: without any prompt, or beside those of another protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from samed2.data.noise import apply_change, draw_change, parse_noise
from samed2.errors import InputError
from samed2.evaluate.metrics import dice
from samed2.evaluate.models.base import MEMORY, Segmenter, Support
from samed2.evaluate.protocols.base import (
    Hint,
    PromptProtocol,
    Subject,
    Trial,
    arguments,
    bounds,
    gather,
    number,
    register_protocol,
    whole_number,
)
from samed2.evaluate.selection import answer
from samed2.prompts import components

MOST = 640
NOISE = ("dilate-or-erode:10%,20%", "shift:5%,15%")  # shares of the diameter of a disc of the object's size


@dataclass(frozen=True)
class MemoryOnly(PromptProtocol):
    """K confirmed cases of the same task, of other patients; `noisy` is the share whose masks are made worse."""

    count: int = 1
    noisy: float = 0.0
    needs: ClassVar[str] = MEMORY

    @property
    def per_part(self) -> bool:
        return True  # the baselines get the boxes of components

    @property
    def support(self) -> int:
        return self.count

    @property
    def words(self) -> str:
        noise = f", the masks of {self.noisy:.0%} of them made worse" if self.noisy else ""
        return f"no prompt; {self.count} confirmed case(s) of the same task in the memory{noise}"

    def run(self, model: Segmenter, subject: Subject) -> Trial:
        examples, notes = drawn(self.text, self.count, subject)
        if self.noisy:
            examples = self._with_noise(examples, subject)
        model.remember(examples)
        task, picks, hints = subject.loaded.case.task(subject.name), [], {}
        for frame in subject.frames:
            truth = subject.truth[frame]
            picks.append(answer({1: model.recall(subject.scan, frame, task)}, {1: truth}, truth, subject.select))
            hints[frame] = Hint([bounds(part) for part in components(truth)])
        model.remember([])
        outcome = gather(subject.frames, picks)
        outcome.notes = notes
        columns = {"support": float(len(examples)), "support_dice": float(np.mean([e.confidence for e in examples]))}
        return Trial(outcome, hints, examples=[e.mask for e in examples], columns=columns)

    def _with_noise(self, examples: list[Support], subject: Subject) -> list[Support]:
        """A drawn share of the examples with worse masks, each as confident as its Dice to the clean one."""
        rng = subject.rng("noise", self.text)
        worse = set(rng.permutation(len(examples))[: round(self.noisy * len(examples))].tolist())
        return [degrade(example, rng) if i in worse else example for i, example in enumerate(examples)]


@dataclass(frozen=True)
class WithMemory(PromptProtocol):
    """Another protocol with K confirmed cases of the same task, of other patients, in the model's memory."""

    inner: PromptProtocol
    count: int
    needs: ClassVar[str] = MEMORY

    @property
    def whole(self) -> bool:
        return self.inner.whole

    @property
    def per_part(self) -> bool:
        return self.inner.per_part

    @property
    def support(self) -> int:
        return self.count

    @property
    def words(self) -> str:
        return f"{self.inner.words}; {self.count} confirmed case(s) of the same task in the memory"

    def step_columns(self, steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return self.inner.step_columns(steps)

    def run(self, model: Segmenter, subject: Subject) -> Trial:
        examples, notes = drawn(self.text, self.count, subject)
        model.remember([replace(example, near=True) for example in examples])
        try:
            trial = self.inner.run(model, subject)
        finally:
            model.remember([])
        trial.outcome.notes = [*trial.outcome.notes, *notes]
        trial.columns = {**trial.columns, "support": float(len(examples))}
        return trial


def drawn(text: str, count: int, subject: Subject) -> tuple[list[Support], list[str]]:
    """Up to `count` confirmed cases of the task of a subject, and notes.

    Raises:
        InputError: there are none.
    """
    if subject.support is None:
        raise InputError(f"{text}: there are no support cases; give some, or the data to draw them from")
    return subject.support.draw(subject.loaded.case, subject.name, count)


def degrade(example: Support, rng: np.random.Generator) -> Support:
    """The example with its mask grown or shrunk and moved (`NOISE`), as confident as its Dice to the clean one."""
    mask = example.mask
    for text in NOISE:
        worse = apply_change(mask, draw_change(parse_noise(text), rng))
        mask = worse if worse.any() else mask  # a thin object that would vanish keeps what it has
    return replace(example, mask=mask, confidence=dice(mask, example.mask))


@register_protocol("memory-only", "memory-only:K", "no prompt, K confirmed cases of the task in the memory")
def _memory_only(name: str, given: list[str]) -> PromptProtocol:
    (count,) = arguments(name, given, 1, 1)
    k = whole_number(name, count, 1, MOST)
    return MemoryOnly(f"{name}:{k}", count=k)


@register_protocol("memory-noisy", "memory-noisy:K:FRACTION", "the same with a share of the masks made worse")
def _memory_noisy(name: str, given: list[str]) -> PromptProtocol:
    count, share = arguments(name, given, 2, 2)
    k, fraction = whole_number(name, count, 1, MOST), number(name, share, 0.0, 1.0)
    return MemoryOnly(f"{name}:{k}:{fraction:g}", count=k, noisy=fraction)
