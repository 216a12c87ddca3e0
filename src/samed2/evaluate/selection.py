"""Which of a model's proposals is its answer: the rules `chosen`, `first` and `oracle`, kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.evaluate.metrics import dice
from samed2.evaluate.models.base import Proposals

Mask = NDArray[np.bool_]
Select = Literal["chosen", "first", "oracle"]
SELECT: tuple[Select, ...] = get_args(Select)
MEANING: dict[Select, str] = {
    "chosen": "the mask that the model itself gives to a user",
    "first": "the first mask of the model's output",
    "oracle": "the mask with the best Dice against the truth: an upper bound, not a result",
}


@dataclass
class Pick:
    """One answer: (H, W) mask, predicted IoU (NaN: none) and (H, W) foreground probability or None."""

    mask: Mask
    confidence: float = float("nan")
    probability: NDArray[np.float32] | None = None


def check_select(select: str) -> Select:
    """The rule's name, known.

    Raises:
        InputError: not one of `SELECT`.
    """
    for name in SELECT:
        if name == select:
            return name
    raise InputError(f"select: got {select!r}, wanted one of {', '.join(SELECT)}")


def pick(proposals: Proposals, select: Select, target: Mask) -> Pick:
    """One of the proposals; `target` (H, W) is what the prompt aimed at, and only the oracle looks at it.

    The probability is kept only where it belongs to the picked mask.
    """
    if select == "oracle":
        index = int(np.argmax([dice(mask, target) for mask in proposals.masks]))
    else:
        index = proposals.chosen if select == "chosen" else 0
    return Pick(
        np.asarray(proposals.masks[index], dtype=bool),
        float(proposals.confidence[index]),
        proposals.probability if index == proposals.chosen else None,
    )


def unite(picks: list[Pick], shape: tuple[int, int]) -> Pick:
    """The parts' answers as one: masks united, largest probability, mean confidence weighted by area."""
    if len(picks) == 1:
        return picks[0]
    if not picks:
        return Pick(np.zeros(shape, dtype=bool))
    areas = np.array([np.count_nonzero(p.mask) + 1.0 for p in picks])
    probabilities = [p.probability for p in picks if p.probability is not None]
    return Pick(
        np.any([p.mask for p in picks], axis=0),
        float(np.dot(areas, [p.confidence for p in picks]) / areas.sum()),
        np.max(probabilities, axis=0) if len(probabilities) == len(picks) else None,
    )


def answer(found: Mapping[int, Proposals], targets: Mapping[int, Mask], truth: Mask, select: Select) -> Pick:
    """The united answer to the prompts of one frame.

    Under `oracle` every prompt's proposal is picked against its own target; where proposals reach beyond their
    targets the united `chosen` or `first` masks may be better, so the best of the three is taken: an upper bound
    on both other rules.

    Args:
        found: proposals by object id of the prompts.
        targets: (H, W) by the same ids: what each prompt aimed at.
        truth: the whole object (H, W).
    """

    def by(rule: Select) -> Pick:
        return unite([pick(found[i], rule, targets[i]) for i in sorted(found)], (truth.shape[0], truth.shape[1]))

    if select != "oracle":
        return by(select)
    return max((by(rule) for rule in ("oracle", "chosen", "first")), key=lambda p: dice(p.mask, truth))
