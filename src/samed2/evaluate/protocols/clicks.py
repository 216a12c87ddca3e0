"""Clicks one after another on every frame, each where a person would correct the last answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samed2.evaluate.models.base import PREVIOUS, Segmenter
from samed2.evaluate.protocols.base import (
    Hint,
    PromptProtocol,
    Subject,
    Trial,
    arguments,
    ask,
    bounds,
    gather,
    register_protocol,
    whole_number,
)
from samed2.evaluate.selection import Pick
from samed2.prompts import Prompts, center_point, error_click

MOST = 64


@dataclass(frozen=True)
class Clicks(PromptProtocol):
    """The deepest pixel of the object, then clicks on the largest error, up to `count` in all on each frame."""

    count: int = 5

    @property
    def words(self) -> str:
        return (
            f"{self.count} clicks: the deepest pixel of the object, then the deepest of the largest wrong region; "
            "the previous mask is fed back to models that take it"
        )

    def run(self, model: Segmenter, subject: Subject) -> Trial:
        runs = [self._one_frame(model, subject, frame) for frame in subject.frames]
        outcome = gather(subject.frames, [picks[-1] for picks, _ in runs])
        outcome.steps = [np.stack([picks[step].mask for picks, _ in runs]) for step in range(self.count)]
        hints = {frame: hint for frame, (_, hint) in zip(subject.frames, runs, strict=True)}
        outcome.prompts = {"points": sum(len(h.points) for h in hints.values()), "boxes": 0, "masks": 0}
        return Trial(outcome, hints)

    def _one_frame(self, model: Segmenter, subject: Subject, frame: int) -> tuple[list[Pick], Hint]:
        """The answer after each click, and the clicks; once nothing is wrong, the answer stays."""
        truth, rng = subject.truth[frame], subject.rng(frame, self.text)
        clicks: list[tuple[float, float, bool]] = []
        picks: list[Pick] = []
        click: tuple[int, int, bool] | None = (*center_point(truth), True)
        while len(picks) < self.count:
            if click is None:
                picks.append(picks[-1])
                continue
            clicks.append(click)
            prompts = Prompts()
            for y, x, positive in clicks:
                prompts.add_point(1, frame, y, x, positive)
            if PREVIOUS in model.abilities and picks and picks[-1].mask.any():
                prompts.add_mask(1, frame, picks[-1].mask)
            picks.append(ask(model, subject, frame, prompts, {1: truth}))
            click = error_click(picks[-1].mask, truth, rng)
        return picks, Hint([bounds(truth)], clicks)

    def step_columns(self, steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {f"dice_{number}": scores["dice"] for number, scores in enumerate(steps, start=1)}


@register_protocol("clicks", "clicks:N", "N clicks per frame, each on the largest error of the last answer")
def _clicks(name: str, given: list[str]) -> PromptProtocol:
    (text,) = arguments(name, given, 1, 1)
    count = whole_number(name, text, 1, MOST)
    return Clicks(f"{name}:{count}", count=count)
