"""Which parameters train, learning rates by depth, LoRA that leaves no trace, recomputed activations."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.nn.tiny import images, tiny_model

from samed2.errors import InputError
from samed2.train.optim import build_optimizers
from samed2.train.parts import choose_parts, depth_scale, merge_lora, recompute
from samed2.train.recipe import OptimizerRecipe


@pytest.mark.parametrize(
    ("train", "trunk", "adapters", "decoder"),
    [
        ("all", True, True, True),
        ("adapters+decoder", False, True, True),
        ("adapters", False, True, False),
        ("lora", False, True, True),
    ],
)
def test_chosen_parts_train(train, trunk, adapters, decoder):
    if train == "lora":
        pytest.importorskip("peft")
    model = tiny_model()
    choose_parts(model, train)
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("mlp" in n and n.startswith("vision_encoder.backbone") for n in trains) == trunk
    assert any(".adapter." in n for n in trains) == adapters
    assert any(n.startswith("mask_decoder.") for n in trains) == decoder
    assert any(".lora_A." in n for n in trains) == (train == "lora")


def test_nothing_to_train_is_named():
    with pytest.raises(InputError, match="adapter_dim"):
        choose_parts(tiny_model(adapter_dim=0), "adapters")


def test_lora_is_merged_into_the_weights():
    pytest.importorskip("peft")
    plain = tiny_model()
    model, pixels = copy.deepcopy(plain), images(1)
    choose_parts(model, "lora")
    with torch.no_grad():
        torch.testing.assert_close(model.encode(pixels).low, plain.encode(pixels).low)
        for name, value in model.named_parameters():
            if ".lora_B." in name:
                value.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.05)
        learned = model.encode(pixels).low
        merge_lora(model)
        assert list(model.state_dict()) == list(plain.state_dict())
        assert not torch.allclose(learned, plain.encode(pixels).low, atol=1e-3)
        torch.testing.assert_close(model.encode(pixels).low, learned, atol=1e-4, rtol=1e-4)


def test_recomputed_activations_change_nothing():
    plain = tiny_model().train()
    model, pixels = copy.deepcopy(plain), images(1, 2)
    recompute(model)
    for one in (plain, model):
        torch.manual_seed(0)
        one.encode(pixels).low.square().sum().backward()
    for (name, one), two in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        assert one.grad is None or torch.equal(one.grad, two.grad), name


def test_learning_rates_fall_with_depth():
    assert depth_scale("mask_decoder.x", 7, 0.5) == depth_scale("vision_encoder.neck.x", 7, 0.5) == 1
    assert depth_scale("vision_encoder.backbone.blocks.6.mlp.w", 7, 0.5) == 0.5
    assert depth_scale("vision_encoder.backbone.blocks.0.mlp.w", 7, 0.5) == 0.5**7
    assert depth_scale("vision_encoder.backbone.blocks.0.adapter.up.w", 7, 0.5) == 1
    assert depth_scale("vision_encoder.backbone.patch_embed.w", 7, 0.5) == 0.5**8
    model = tiny_model()
    for name in ("adamw", "muon"):
        groups = [
            g for o in build_optimizers(model, OptimizerRecipe(name=name, layer_decay=0.5)) for g in o.param_groups
        ]
        assert {g["scale"] for g in groups} == {0.5**i for i in range(9)}
        assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
