"""Which of many answers to the same clicks to believe: the one that the others resemble most.

A click does not say how large its object is. The predicted IoU tells outlines apart better than objects; answers
through views of several sizes that agree with each other are right more often (`docs/results.md`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samed2.predict.results import Answer

COMPARED_PIXELS = 1 << 18  # masks are compared on a coarser grid where they cover more
RECALLED = 0.4  # vote of what the memory alone finds, as a share of all other votes (tuned on `val`)


def most_agreed(
    answers: Sequence[Answer],
    points: Sequence[tuple[float, float, bool]],
    recalled: tuple[NDArray[np.float32], float] | None = None,
) -> tuple[int, Answer, float]:
    """The proposal that all proposals agree on most.

    A proposal's agreement is the mean of its IoU with all of them, weighted by the square of their predicted IoU.
    Proposals that miss a positive click or hold a negative one neither vote nor are chosen, unless all are such.

    Args:
        answers: to one question, through several views.
        points: (y, x, positive) in frame pixels.
        recalled: (H, W) logits of what the memory alone finds there, and its predicted IoU: one more answer, whose
            vote is weighted by `RECALLED` and by all other votes together.

    Returns:
        The number of the answer it is from, this answer with it in front, and its agreement in [0, 1].
    """
    if recalled is not None:
        answers = [*answers, replace(answers[0], logits=recalled[0][None], iou=[recalled[1]])]
    masks = np.concatenate([answer.logits for answer in answers]) > 0
    sure = np.concatenate([answer.iou for answer in answers]).clip(min=0.0)
    fits = np.array([_fits(mask, points) for mask in masks])
    votes = sure**2 * (fits if fits.any() else 1)
    if recalled is not None:
        votes[-1] *= RECALLED * (votes[:-1].sum() or 1.0)
    score = similarities(masks) @ (votes / max(votes.sum(), 1e-9)) * (votes > 0)
    best = max(range(len(masks)), key=lambda i: (score[i], sure[i]))
    owner = [(number, i) for number, answer in enumerate(answers) for i in range(len(answer.logits))]
    number, first = owner[best]
    answer = answers[number]
    order = [first, *(i for i in range(len(answer.logits)) if i != first)]
    chosen = replace(answer, logits=answer.logits[order], iou=[answer.iou[i] for i in order])
    return number, chosen, float(score[best])


def similarities(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of every two of (N, H, W) masks, (N, N); 0 where both are empty."""
    rows, columns = (np.flatnonzero(masks.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    if not len(rows):
        return np.zeros((len(masks), len(masks)))
    part = masks[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    step = math.ceil(math.sqrt(max(1.0, part[0].size / COMPARED_PIXELS)))
    flat = part[:, ::step, ::step].reshape(len(masks), -1).astype(np.float32)
    both, area = (flat @ flat.T).astype(np.float64), flat.sum(axis=1, dtype=np.float64)
    return np.asarray(both / np.maximum(area[:, None] + area[None] - both, 1.0))


def _fits(mask: NDArray[np.bool_], points: Sequence[tuple[float, float, bool]]) -> bool:
    """Whether a (H, W) mask holds the positive clicks and no negative one."""
    height, width = mask.shape
    return all(mask[min(int(y), height - 1), min(int(x), width - 1)] == positive for y, x, positive in points)
