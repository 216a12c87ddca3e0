"""Small models with random weights: SAM 2 (image and video), SAM, SAMed-2 and a U-Net, and scans to ask them about."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel

from samed2.evaluate.models.unet_config import build_unet, make_config
from samed2.io import Scan
from samed2.nn.builders import vision_config
from samed2.prompts import Prompts

SIDE = 64
TASKS = ("spots/disc", "spots/dot")


def disc(shape, cy, cx, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - cy) ** 2 + (x - cx) ** 2 < radius**2


def sam2_model(seed: int = 0) -> Sam2Model:
    vision = vision_config(8, 1, (1, 2, 3, 1), (4,), (8, 4, 8, 4), (8, 8), 64, SIDE)
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"image_size": SIDE, "hidden_size": 64},
        mask_decoder_config={"hidden_size": 64, "mlp_dim": 64, "iou_head_hidden_dim": 64},
    )
    return shaken(Sam2Model, config, seed)


def sam_model(seed: int = 0) -> SamModel:
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "window_size": 2,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
        },
        prompt_encoder_config={"image_size": SIDE, "hidden_size": 32},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
    )
    return shaken(SamModel, config, seed)


def unet_model(tasks=TASKS, network: str = "basic", size: int = SIDE, seed: int = 0):
    config = make_config(network=network, width=4, size=size, tasks=tasks)
    return build_unet(config, seed).eval(), config


@torch.no_grad()
def shaken(kind, config, seed: int):
    """A model whose parameters are all large enough to matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config).eval()
        for name, value in model.named_parameters():
            spread = 0.2 if value.ndim < 2 else 1.5 / value[0].numel() ** 0.5
            value.copy_(float(name.endswith("norm.weight")) + spread * torch.randn(value.shape))
    return model


def image(height: int = 60, width: int = 90, seed: int = 0) -> Scan:
    """A bright disc on noise, uint8."""
    values = np.random.default_rng(seed).integers(0, 80, (height, width)).astype(np.uint8)
    values[disc(values.shape, height * 0.4, width * 0.6, min(height, width) * 0.25)] += 150
    return Scan.from_array(values, kind="image")


def volume(frames: int = 3) -> Scan:
    values = np.stack([image(48, 40, seed).frame(0) for seed in range(frames)]).astype(np.float32) * 7 - 900
    return Scan.from_array(values, kind="volume", modality="ct")


def prompts_of(kind: str, number: int = 1, frame: int = 0, prompts: Prompts | None = None) -> Prompts:
    """A box, a point, two points, a box and a point, or a point and the previous mask, on a 60 x 90 image."""
    prompts = prompts or Prompts()
    prompts.add_object(number, TASKS[0])
    if "box" in kind:
        prompts.add_box(number, frame, 8, 38, 40, 70)
    if "point" in kind:
        prompts.add_point(number, frame, 24, 54)
    if "two" in kind:
        prompts.add_point(number, frame, 50, 10, False)
    if "mask" in kind:
        prompts.add_mask(number, frame, disc((60, 90), 24, 50, 12))
    return prompts
