"""Losses of promptable segmentation. Every function returns one value per row; nothing is pooled over a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from samed2.nn.decoder import Candidates
from samed2.train.recipe import GateRecipe, LossRecipe

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # as SAM-2 and SAMed-2 train


class Goal(NamedTuple):
    """What N rows should become.

    target: (N, 1, S, S) in [0, 1]; present: (N,) bool; hidden: (N,) model pixels of the object outside of the view;
    counted: (N,) bool, the other rows teach nothing.
    """

    target: torch.Tensor
    present: torch.Tensor
    hidden: torch.Tensor
    counted: torch.Tensor

    def select(self, rows: slice) -> Goal:
        """Some of the rows."""
        return Goal(*(value[rows] for value in self))


def dice_loss(logits: torch.Tensor, target: torch.Tensor, squared: bool = False) -> torch.Tensor:
    """1 - soft Dice with smoothing 1, of squares in the denominator if `squared`; (..., H, W) -> (...)."""
    p = logits.sigmoid()
    overlap = (p * target).sum((-2, -1))
    power = 2 if squared else 1
    return 1 - (2 * overlap + 1) / ((p**power).sum((-2, -1)) + (target**power).sum((-2, -1)) + 1)


def bce_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over pixels; (..., H, W) -> (...)."""
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none").mean((-2, -1))


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean focal loss over pixels, alpha .25 and gamma 2; (..., H, W) -> (...)."""
    target = target.expand_as(logits)
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    wrong = p * (1 - target) + (1 - p) * target
    weight = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return (weight * wrong**FOCAL_GAMMA * cross).mean((-2, -1))


def mask_iou(logits: torch.Tensor, target: torch.Tensor, hidden: torch.Tensor | float = 0.0) -> torch.Tensor:
    """IoU of logits > 0 and target > 0.5; two empty masks agree; (..., H, W) -> (...).

    hidden: pixels of the object that the target does not show, missed by any answer; broadcast to (...).
    """
    guess, truth = logits > 0, target > 0.5
    union = (guess | truth).sum((-2, -1)).float() + hidden
    return torch.where(union > 0, (guess & truth).sum((-2, -1)) / union.clamp(min=1), 1.0)


def iou_loss(predicted: torch.Tensor, truth: torch.Tensor, kind: str) -> torch.Tensor:
    """How wrong predicted IoUs are: "l1", "mse", or "bce" (cross-entropy less the truth's own, so 0 when right)."""
    if kind == "l1":
        return (predicted - truth).abs()
    if kind == "mse":
        return (predicted - truth).square()
    p, t = predicted.clamp(1e-4, 1 - 1e-4), truth.clamp(1e-4, 1 - 1e-4)
    return t * (t / p).log() + (1 - t) * ((1 - t) / (1 - p)).log()


def segmentation_loss(
    candidates: Candidates, goal: Goal, weights: LossRecipe, ambiguous: bool
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one decoder pass.

    Rows without the object teach the object score, and that no mask of theirs is worth anything.

    Args:
        candidates: of N rows.
        ambiguous: the prompt does not tell the mask, the multimask tokens carry full weight and one of them answers.

    Returns:
        the mean over rows, and figures to log: IoU of the answer and of the best mask, error of the predicted IoU.
    """
    logits = F.interpolate(candidates.logits.float(), scale_factor=2, mode="bilinear", align_corners=False)
    target = F.adaptive_avg_pool2d(goal.target, logits.shape[-1])
    per_mask = weights.dice * dice_loss(logits, target, weights.squared)  # [n, 4]
    if weights.bce:
        per_mask = per_mask + weights.bce * bce_loss(logits, target)
    if weights.focal:
        per_mask = per_mask + weights.focal * focal_loss(logits, target)
    best = per_mask[:, 1:].min(dim=1).values
    masks = per_mask[:, 0] + (1.0 if ambiguous else weights.multimask) * best
    hidden = goal.hidden[:, None] * (logits.shape[-1] / goal.target.shape[-1]) ** 2
    truth = mask_iou(logits.detach(), target, hidden) * goal.present[:, None]
    predicted = candidates.iou.float()
    iou = iou_loss(predicted, truth, weights.iou_kind).mean(dim=1)
    score = F.binary_cross_entropy_with_logits(candidates.object_score.float(), goal.present.float(), reduction="none")
    counted, shown = goal.counted.float(), (goal.counted & goal.present).float()
    with torch.no_grad():
        chosen = (
            predicted[:, 1:].argmax(dim=1, keepdim=True) + 1 if ambiguous else torch.zeros_like(truth[:, :1]).long()
        )
        found, sure = truth.gather(1, chosen)[:, 0], predicted.gather(1, chosen)[:, 0]
        figures = {"off": float(mean_of((sure - found).abs(), counted))}
        if shown.any():
            figures |= {"iou": float(mean_of(found, shown)), "best": float(mean_of(truth.amax(dim=1), shown))}
    if weights.gate is not None:
        likely = truth.amax(dim=1) if ambiguous else found  # a mask that one of several answers has is sound
        believed = gate_weight(sure, likely, weights.gate) * shown + (1 - shown)
        figures |= {"believed": float(mean_of(believed, shown))} if shown.any() else {}
        masks, iou = masks * believed, iou * believed
    loss = mean_of(masks, shown) + mean_of(weights.iou * iou + weights.presence * score, counted)
    return loss, figures


def gate_weight(sure: torch.Tensor, found: torch.Tensor, gate: GateRecipe) -> torch.Tensor:
    """How much rows with a predicted IoU (N,) and an IoU with the given mask (N,) count, (N,) in [`least`, 1]."""
    doubt = ((sure - found - gate.margin) / gate.margin).clamp(0, 1) * (sure >= gate.sure)
    return 1 - gate.strength * (1 - gate.least) * doubt


def mean_of(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of (N,) values, 0 where no row counts."""
    return (values * weights).sum() / weights.sum().clamp(min=1)
