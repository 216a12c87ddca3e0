"""Tiny models with weights large enough that every part matters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from tests.nn.official import normal
from transformers import Sam2VideoConfig

from samed2.nn import SAMed2Config, SAMed2Model
from samed2.nn.builders import small_config

SIDE = 64


def tiny_config(**settings: object) -> SAMed2Config:
    """64 px input, seven blocks of which one is global, windows that need padding."""
    values = {"image_size": SIDE, "box_prior": "none", "adapter_dim": 8, "hidden": 64, **settings}
    return small_config(8, (1, 2, 3, 1), global_blocks=(4,), windows=(8, 4, 6, 3), **values)  # type: ignore[arg-type]


def sam2_settings(config: SAMed2Config) -> dict[str, Any]:
    """The settings of a configuration that transformers' video model knows."""
    known = {field.name for field in fields(Sam2VideoConfig)}
    return {name: value for name, value in config.to_dict().items() if name in known and name != "model_type"}


def tiny_model(*, adapters: str = "random", **settings: object) -> SAMed2Model:
    """A model with random weights that depend on their names only.

    adapters: "random", or "identity" to leave the up-projections at zero as in a new model.
    """
    return randomise(SAMed2Model(tiny_config(**settings)), adapters).eval()


@torch.no_grad()
def randomise(model: SAMed2Model, adapters: str = "random") -> SAMed2Model:
    for name, value in model.named_parameters():
        z = torch.from_numpy(normal(name, value.shape))
        if value.ndim < 2:
            value.copy_(0.1 * z + float(name.endswith("weight")))
        elif not (".adapter.up." in name and adapters == "identity"):
            value.copy_(z / value[0].numel() ** 0.5)
        if ".adapter.up." in name and adapters == "identity":
            value.zero_()
    code = model.shared_image_embedding.positional_embedding
    code.copy_(torch.from_numpy(normal("fourier", code.shape)))
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(code)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(9.0)  # every object is present
    return model


def images(batch: int, frames: int = 1, seed: str = "images", side: int = SIDE) -> torch.Tensor:
    return torch.from_numpy(normal(seed, (batch, frames, 3, side, side)))
