"""Losses against hand-computed values; nothing pooled over the batch."""

from __future__ import annotations

import math

import pytest
import torch

from samed2.nn.decoder import Candidates
from samed2.train.losses import Goal, bce_loss, dice_loss, focal_loss, iou_loss, mask_iou, segmentation_loss
from samed2.train.recipe import LOSSES, LossRecipe

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


def goal(rows: int, present: list[bool] | None = None, seed: int = 1) -> Goal:
    target = (torch.rand(rows, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) > 0.5).float()
    shown = torch.tensor(present or [True] * rows)
    return Goal(target * shown[:, None, None, None], shown, torch.zeros(rows), torch.ones(rows, dtype=torch.bool))


@pytest.mark.parametrize("weights", [LossRecipe(), *LOSSES.values()], ids=["own", *LOSSES])
@pytest.mark.parametrize("ambiguous", [True, False])
def test_the_loss_is_the_mean_over_rows(weights, ambiguous):
    found, wanted = make(4), goal(4)
    together, _ = segmentation_loss(found, wanted, weights, ambiguous)
    alone = [
        segmentation_loss(
            Candidates(*(v[i : i + 1] for v in found)), wanted.select(slice(i, i + 1)), weights, ambiguous
        )
        for i in range(4)
    ]
    assert together.item() == pytest.approx(torch.stack([loss for loss, _ in alone]).mean().item(), abs=1e-5)


def gradients(wanted: Goal) -> Candidates:
    found = make(2)
    for tensor in found[:3]:
        tensor.requires_grad_()
    loss, _ = segmentation_loss(found, wanted, LossRecipe(), True)
    loss.backward()
    return found


def test_absent_objects_train_scores_but_no_masks():
    found = gradients(goal(2, [True, False]))
    assert found.logits.grad[0].abs().max() > 0 and found.logits.grad[1].abs().max() == 0
    assert (found.iou.grad[1] > 0).all() and found.object_score.grad.abs().min() > 0  # no mask is worth anything


def test_rows_that_do_not_count_teach_nothing():
    found = gradients(goal(2)._replace(counted=torch.tensor([True, False])))
    assert all(tensor.grad[1].abs().max() == 0 and tensor.grad[0].abs().max() > 0 for tensor in found[:3])


@pytest.mark.parametrize("kind", ["bce", "l1", "mse"])
def test_predicted_iou_is_right_at_the_truth(kind):
    truth = torch.tensor([0.0, 0.3, 0.9, 1.0])
    assert iou_loss(truth, truth, kind).abs().max() < 1e-3
    guess = truth.clone().clamp(0.1, 0.9).requires_grad_()
    iou_loss(guess + 0.05, truth, kind).sum().backward()
    assert guess.grad[0] > 0 and guess.grad[3] < 0


def test_what_is_hidden_lowers_the_iou():
    mask = square(8, 0, 0, 4, 4)
    assert mask_iou((mask * 2 - 1) * SURE, mask, 16.0).item() == pytest.approx(0.5)
    found = make(1)._replace(logits=((square(16, 0, 0, 8, 8) * 2 - 1) * SURE).expand(1, 4, 16, 16))
    wanted = Goal(square(32, 0, 0, 16, 16)[None, None], *(v[:1] for v in goal(1)[1:]))
    wanted = wanted._replace(hidden=torch.tensor([256.0]))
    _, figures = segmentation_loss(found, wanted, LossRecipe(), False)
    assert figures["iou"] == pytest.approx(0.5, abs=0.03)


def test_focal_loss_of_no_opinion():
    wanted = square(4, 0, 0, 2, 2)
    mean = (0.25 * 4 + 0.75 * 12) / 16
    assert focal_loss(torch.zeros(4, 4), wanted).item() == pytest.approx(mean * 0.25 * math.log(2))
