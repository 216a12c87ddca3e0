"""Losses against hand-computed values; nothing pooled over the batch."""

from __future__ import annotations

import math

import pytest
import torch

from samed2.nn.decoder import Candidates
from samed2.train.losses import bce_loss, dice_loss, mask_iou, segmentation_loss
from samed2.train.recipe import LossRecipe

SURE = 50.0


def square(size: int, y0: int, x0: int, y1: int, x1: int) -> torch.Tensor:
    mask = torch.zeros(size, size)
    mask[y0:y1, x0:x1] = 1
    return mask


@pytest.mark.parametrize(
    ("guess", "truth", "overlap", "total", "union"),
    [
        (square(8, 0, 0, 4, 4), square(8, 0, 0, 4, 4), 16, 32, 16),
        (square(8, 0, 0, 4, 4), square(8, 0, 2, 4, 6), 8, 32, 24),
        (square(8, 0, 0, 4, 4), square(8, 4, 4, 8, 8), 0, 32, 32),
        (square(8, 0, 0, 0, 0), square(8, 0, 0, 2, 2), 0, 4, 4),
    ],
)
def test_overlap_measures(guess, truth, overlap, total, union):
    logits = (guess * 2 - 1) * SURE
    assert dice_loss(logits, truth).item() == pytest.approx(1 - (2 * overlap + 1) / (total + 1), abs=1e-5)
    assert mask_iou(logits, truth).item() == pytest.approx(overlap / union)


def test_cross_entropy_of_no_opinion_is_log_two():
    assert bce_loss(torch.zeros(4, 4), square(4, 0, 0, 2, 2)).item() == pytest.approx(math.log(2))


def test_two_empty_masks_agree():
    assert mask_iou(-torch.ones(4, 4), torch.zeros(4, 4)).item() == 1


def make(rows: int, seed: int = 0) -> Candidates:
    g = torch.Generator().manual_seed(seed)
    return Candidates(
        torch.randn(rows, 4, 8, 8, generator=g),
        torch.rand(rows, 4, generator=g),
        torch.randn(rows, generator=g),
        torch.zeros(rows, 4, 2),
    )


def test_the_loss_is_the_mean_over_rows():
    found, target = (
        make(4),
        (torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1)) > 0.5).float(),
    )
    present = torch.ones(4, dtype=torch.bool)
    together, _ = segmentation_loss(found, target, present, LossRecipe(), False)
    alone = [
        segmentation_loss(
            Candidates(*(v[i : i + 1] for v in found)), target[i : i + 1], present[:1], LossRecipe(), False
        )[0]
        for i in range(4)
    ]
    assert together.item() == pytest.approx(torch.stack(alone).mean().item(), abs=1e-5)


def test_absent_objects_only_train_the_object_score():
    found = make(2)
    for tensor in found[:3]:
        tensor.requires_grad_()
    loss, _ = segmentation_loss(found, torch.zeros(2, 1, 32, 32), torch.tensor([True, False]), LossRecipe(), True)
    loss.backward()
    assert found.logits.grad[0].abs().max() > 0 and found.logits.grad[1].abs().max() == 0
    assert found.iou.grad[1].abs().max() == 0 and found.object_score.grad.abs().min() > 0
