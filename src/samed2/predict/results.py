"""From the decoder's answers to predictions of whole objects and a label map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.predict.postprocess import clean
from samed2.predict.settings import Settings

WITHIN = 0.9  # share of an object from which it counts as lying within another


@dataclass
class ObjectPrediction:
    """One object on one frame.

    Attributes:
        mask: (H, W) bool, `logits > 0` after clean-up.
        logits: (H, W) float32 on the frame's grid; the largest over the object's parts.
        confidence: predicted IoU in [0, 1], the mean over parts weighted by area; of clicks alone it is also as low as
            the answers through several views differ.
        object_score: logit that the object is on the frame at all.
        candidates: with `multimask`, (mask, confidence) of the three proposals, best first.
    """

    id: int
    mask: NDArray[np.bool_]
    logits: NDArray[np.float32]
    confidence: float
    object_score: float
    candidates: list[tuple[NDArray[np.bool_], float]] = field(default_factory=list)


@dataclass
class Answer:
    """What the decoder says to one row.

    Attributes:
        logits: (M, H, W) on the frame, best first, and their predicted IoU `iou`.
        object_score: logit that the object is on the frame at all.
        seen: (1, S/4, S/4) logits of the best mask over the row's view, on the model's device.
        pointer: (d,) the object pointer, what the streaming memory keeps of the mask.
    """

    logits: NDArray[np.float32]
    iou: list[float]
    object_score: float
    seen: torch.Tensor
    pointer: torch.Tensor


def unite(object_id: int, parts: list[Answer], settings: Settings) -> ObjectPrediction:
    """The parts of one object as one prediction."""

    def combine(level: int) -> tuple[NDArray[np.float32], float]:
        logits = np.max([part.logits[level] for part in parts], axis=0)
        areas = np.array([np.count_nonzero(part.logits[level] > 0) + 1.0 for part in parts])
        return logits, float(np.dot(areas, [part.iou[level] for part in parts]) / areas.sum())

    logits, confidence = combine(0)
    mask = clean(logits > 0, settings.fill_holes, settings.min_area)
    candidates = []
    if settings.multimask:
        for level in range(min(len(part.logits) for part in parts)):
            proposal, sure = combine(level)
            candidates.append((clean(proposal > 0, settings.fill_holes, settings.min_area), sure))
    return ObjectPrediction(object_id, mask, logits, confidence, max(p.object_score for p in parts), candidates)


def label_map(found: list[ObjectPrediction], dtype: np.dtype) -> NDArray[Any]:
    """(H, W) label map. Of two objects that overlap, one that lies within the other is on top of it (the cup of an
    optic disc, the nucleus of a cell); else a pixel goes to the larger logit, the earlier id where they are equal.
    """
    labels = np.zeros(found[0].mask.shape, dtype)
    best = np.full(labels.shape, -np.inf, np.float32)
    masks = {entry.id: entry.mask for entry in found}
    areas = {number: np.count_nonzero(mask) for number, mask in masks.items()}
    for entry in sorted(found, key=lambda e: (-areas[e.id], e.id)):
        wins = entry.mask & ((entry.logits > best) | ((entry.logits == best) & (entry.id < labels)))
        area = areas[entry.id]
        for below in set(np.unique(labels[entry.mask]).tolist()) - {0}:
            if area < areas[below] and np.count_nonzero(entry.mask & masks[below]) >= WITHIN * area:
                wins |= entry.mask & (labels == below)
        labels[wins] = entry.id
        best[wins] = entry.logits[wins]
    return labels
