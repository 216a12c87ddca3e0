"""Losses of promptable segmentation. Every function returns one value per row; nothing is pooled over a batch."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from samed2.nn.decoder import Candidates
from samed2.train.recipe import LossRecipe


def dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - soft Dice with smoothing 1; (..., H, W) logits and targets in [0, 1] -> (...)."""
    p = logits.sigmoid()
    overlap = (p * target).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (p.sum((-2, -1)) + target.sum((-2, -1)) + 1)


def bce_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over pixels; (..., H, W) -> (...)."""
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none").mean((-2, -1))


def mask_iou(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """IoU of logits > 0 and target > 0.5; two empty masks agree; (..., H, W) -> (...)."""
    guess, truth = logits > 0, target > 0.5
    union = (guess | truth).sum((-2, -1)).float()
    return torch.where(union > 0, (guess & truth).sum((-2, -1)) / union.clamp(min=1), 1.0)


def segmentation_loss(
    candidates: Candidates, target: torch.Tensor, present: torch.Tensor, weights: LossRecipe, ambiguous: bool
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one decoder pass.

    Args:
        candidates: of N rows.
        target: (N, 1, S, S) in [0, 1].
        present: (N,) bool; rows without the object only train the object score.
        ambiguous: the prompt is a single point: the multimask tokens carry full weight.

    Returns:
        the mean over rows, and figures to log.
    """
    logits = F.interpolate(candidates.logits.float(), scale_factor=2, mode="bilinear", align_corners=False)
    target = F.adaptive_avg_pool2d(target, logits.shape[-1])
    per_mask = weights.dice * dice_loss(logits, target) + weights.bce * bce_loss(logits, target)  # [n, 4]
    best = per_mask[:, 1:].min(dim=1).values
    masks = per_mask[:, 0] + (1.0 if ambiguous else weights.multimask) * best
    truth = mask_iou(logits.detach(), target)
    iou = (candidates.iou.float() - truth).square().mean(dim=1)
    shown = present.float()
    score = F.binary_cross_entropy_with_logits(candidates.object_score.float(), shown)
    mean = ((masks + weights.iou * iou) * shown).sum() / shown.sum().clamp(min=1)
    figures = {
        "mask": float(((per_mask[:, 0] * shown).sum() / shown.sum().clamp(min=1)).detach()),
        "iou": float((truth[:, 0] * shown).sum() / shown.sum().clamp(min=1)),
    }
    return mean + weights.presence * score, figures
