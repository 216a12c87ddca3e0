"""What passes between protocols, runner, statistics and report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Outcome:
    """What one protocol made of one object of one case.

    Attributes:
        frames: the scored frames, in order.
        masks: (n, H, W) bool, the answer on each scored frame.
        confidence: (n,) predicted IoU of each answer, NaN where the model has none.
        probability: (n, H, W) float32 or None.
        prompts: how many points, boxes and masks were given for the whole case and object.
        seconds: of the model alone.
        steps: for interactive protocols the answers (n, H, W) after each step, the last one being `masks`.
        notes: what the reader of a report must know, such as "fell back to per-slice boxes".
    """

    frames: list[int]
    masks: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    probability: NDArray[np.float32] | None = None
    prompts: dict[str, int] = field(default_factory=lambda: {"points": 0, "boxes": 0, "masks": 0})
    seconds: float = 0.0
    steps: list[NDArray[np.bool_]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
