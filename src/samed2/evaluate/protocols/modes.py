"""The five one-shot modes of the SAM study (Mazurowski et al., Medical Image Analysis 89:102918), faults corrected.

Corrected: draws are seeded per item instead of once; boxes are half-open, so that they hold their last row and
column; scores are Dice against the whole object; which proposal counts is the evaluation's selection rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samed2.evaluate.protocols.base import (
    Mask,
    PromptProtocol,
    Subject,
    arguments,
    bounds,
    register_protocol,
)
from samed2.evaluate.protocols.components import FrameProtocol
from samed2.prompts import Prompts, components

PARTS = 3
WORDS = {
    1: "one point in the largest component",
    2: f"one point in each of up to {PARTS} largest components, together",
    3: "one tight box of the largest component",
    4: f"one tight box for each of up to {PARTS} largest components, answers united",
    5: "one tight box around the whole object",
}


@dataclass(frozen=True)
class Mode(FrameProtocol):
    """Mode 1 to 5; components of any size count here."""

    mode: int = 1

    @property
    def per_part(self) -> bool:
        return self.mode != 5

    @property
    def words(self) -> str:
        return WORDS[self.mode]

    def draw(self, subject: Subject, frame: int) -> tuple[Prompts, dict[int, Mask]]:
        truth = subject.truth[frame]
        parts = components(truth, min_pixels=1, limit=PARTS if self.mode in (2, 4) else 1)
        prompts = Prompts()
        if self.mode in (1, 2):
            rng = subject.rng(frame, self.text)
            for part in parts:
                prompts.add_point(1, frame, *deepest(part, rng))
        elif self.mode == 4:
            for index, part in enumerate(parts, start=1):
                prompts.add_box(index, frame, *bounds(part))
            return prompts, dict(enumerate(parts, start=1))
        else:
            prompts.add_box(1, frame, *bounds(truth if self.mode == 5 else parts[0]))
        return prompts, {1: truth}


def deepest(mask: Mask, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel (y, x) as deep inside a (H, W) mask as any, drawn among equals; outside the image is outside."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    places = np.argwhere(depth == depth.max())
    y, x = places[rng.integers(len(places))]
    return int(y), int(x)


def _mode(name: str, given: list[str]) -> PromptProtocol:
    arguments(name, given, 0, 0)
    return Mode(name, mode=int(name.removeprefix("mode")))


for _number, _words in WORDS.items():
    register_protocol(f"mode{_number}", f"mode{_number}", f"SAM study: {_words}")(_mode)
