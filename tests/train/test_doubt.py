"""Worse masks to train on, and rows that count less because their masks are doubted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.generated import make_folder

from samed2.data import open_cases
from samed2.errors import InputError
from samed2.nn.decoder import Candidates
from samed2.train.losses import Goal, gate_weight, segmentation_loss
from samed2.train.recipe import GateRecipe, LossRecipe, NoiseRecipe
from samed2.train.start import given_cases, read_table, wrong_cases

GATE = GateRecipe(sure=0.6, margin=0.2, least=0.1, warmup=10)


@pytest.mark.parametrize(
    ("sure", "found", "weight"),
    [
        (0.9, 0.9, 1.0),
        (0.9, 0.7, 1.0),  # within the margin
        (0.9, 0.6, 0.55),  # half of the way
        (0.9, 0.4, 0.1),
        (0.9, 0.0, 0.1),
        (0.5, 0.0, 1.0),  # not sure enough
        (0.7, 0.95, 1.0),  # better than expected
    ],
)
def test_sure_rows_that_disagree_count_less(sure, found, weight):
    assert gate_weight(torch.tensor([sure]), torch.tensor([found]), GATE).item() == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize(("step", "strength"), [(0, 0.0), (8, 0.0), (9, 0.0), (14, 0.5), (19, 1.0), (500, 1.0)])
def test_the_gate_grows_after_its_warm_up(step, strength):
    gate = LossRecipe(gate=GATE).at(step).gate
    assert gate is not None and gate.strength == pytest.approx(strength)
    assert LossRecipe().at(step) == LossRecipe()


def rows(count: int) -> tuple[Candidates, Goal]:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 4, 8, 8, generator=g)
    target = torch.rand(count, 1, 32, 32, generator=g).round()
    found = Candidates(logits, torch.full((count, 4), 0.95), torch.randn(count, generator=g), torch.zeros(count, 4, 2))
    yes = torch.ones(count, dtype=torch.bool)
    return found, Goal(target, yes, torch.zeros(count), yes)


def test_a_closed_gate_scales_mask_and_iou_loss_but_not_the_object_score():
    found, goal = rows(3)
    for presence in (0.0, 0.2):
        plain = LossRecipe(presence=presence)
        whole, _ = segmentation_loss(found, goal, plain, False)
        gated, figures = segmentation_loss(found, goal, plain.model_copy(update={"gate": GATE}), False)
        assert figures["believed"] == pytest.approx(0.1)
        score, _ = segmentation_loss(found, goal, LossRecipe(presence=presence, dice=0, bce=0, iou=0), False)
        assert (gated - score).item() == pytest.approx(0.1 * (whole - score).item(), rel=1e-5)


def pulls(found: Candidates, goal: Goal, weights: LossRecipe) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss, and its gradients with regard to mask logits and predicted IoUs."""
    parts = [found.logits.clone().requires_grad_(), found.iou.clone().requires_grad_()]
    loss, _ = segmentation_loss(found._replace(logits=parts[0], iou=parts[1]), goal, weights, False)
    loss.backward()
    return loss.detach(), [part.grad for part in parts]


def test_an_open_gate_changes_nothing():
    found, goal = rows(3)
    agreed = found._replace(iou=torch.full((3, 4), 0.3))
    _, figures = segmentation_loss(agreed, goal, LossRecipe(gate=GATE), False)
    plain, gated = (pulls(agreed, goal, LossRecipe(gate=gate)) for gate in (None, GATE))
    assert torch.equal(plain[0], gated[0]) and figures["believed"] == 1
    assert all(one.abs().sum() > 0 and torch.equal(one, other) for one, other in zip(plain[1], gated[1], strict=True))


def test_doubted_rows_pull_less():
    found, goal = rows(3)
    plain, gated = (pulls(found, goal, LossRecipe(gate=gate)) for gate in (None, GATE))
    for one, other in zip(plain[1], gated[1], strict=True):
        torch.testing.assert_close(other, 0.1 * one)


def test_a_share_of_every_data_set_gets_worse_masks(tmp_path):
    root = make_folder(tmp_path, items=4)
    noise = NoiseRecipe(fraction=0.5, kinds=["dilate:30%,30%", "shift:20%,20%"])
    clean, given = open_cases(root, ["train"]), given_cases(root, ["train"], noise)
    wrong = wrong_cases(clean, noise)
    assert [case.label for case in given] == [case.label for case in clean]
    assert sum(label.startswith("spots/") for label in wrong) == 2
    for before, after in zip(clean, given, strict=True):
        masks = before.load().masks, after.load().masks
        same = all(np.array_equal(masks[0][name], masks[1][name]) for name in before.objects)
        assert same == (before.label not in wrong)
    more = wrong_cases(clean, noise.model_copy(update={"fraction": 1.0}))
    assert wrong < more
    table = read_table(root, ["train"], Console(quiet=True), noise)
    plain = read_table(root, ["train"], Console(quiet=True))
    assert table.tasks == plain.tasks and table.pixels.sum() > plain.pixels.sum()


def test_unknown_noise_is_named(tmp_path):
    root = make_folder(tmp_path, items=2)
    with pytest.raises(InputError, match="blur"):
        given_cases(root, ["train"], NoiseRecipe(fraction=1.0, kinds=["blur:3"]))
