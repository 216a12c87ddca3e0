"""What a model must offer to be evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samed2.io import Scan
from samed2.prompts import Prompts

PROMPTS, PREVIOUS, MEMORY, PROPAGATE, PIXELS = "prompts", "previous", "memory", "propagate", "pixels"


@dataclass
class Proposals:
    """What a model answers for one object on one frame.

    Attributes:
        masks: (M, H, W) bool on the frame's grid, in the model's own order.
        confidence: (M,) predicted IoU in [0, 1]; NaN where the model has none.
        chosen: index of the mask that the model itself would give to a user.
        probability: (H, W) foreground probability of the chosen mask, None where the model has none.
    """

    masks: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    chosen: int = 0
    probability: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Support:
    """A confirmed example for a model's memory: frame and (H, W) mask of a scan, its task, and how sure it is.

    With `near` it is remembered as a prompt on it would be seen, for questions with prompts; else as a whole frame, for
    `recall`.
    """

    scan: Scan
    frame: int
    mask: NDArray[np.bool_]
    task: str
    confidence: float = 1.0
    near: bool = False


class Segmenter(Protocol):
    """A model under test. It must answer the same whatever it was asked before, memory given aside.

    `abilities` says what it can do: `PROMPTS` (points and boxes), `PREVIOUS` (a mask prompt beside points is the
    previous answer, to be corrected), `MEMORY` (`remember`, `recall`), `PROPAGATE` (`propagate`), `PIXELS` (gives
    probabilities). Only the methods of its abilities are called.
    """

    name: str
    fingerprint: str  # hash of the weights, "" for methods without any
    abilities: frozenset[str]

    def predict(self, scan: Scan, prompts: Prompts) -> dict[tuple[int, int], Proposals]:
        """Proposals by (object id, frame), for every object and frame that has a prompt."""
        ...

    def remember(self, support: Sequence[Support]) -> None:
        """Replace the memory by these examples; an empty list empties it."""
        ...

    def recall(self, scan: Scan, frame: int, task: str) -> Proposals:
        """The object of a task on a frame, found by the memory alone."""
        ...

    def propagate(self, scan: Scan, prompts: Prompts) -> Iterator[tuple[int, dict[int, Proposals]]]:
        """Proposals by object id for every frame of the scan, from prompts on some."""
        ...
