"""Random weights for training from scratch."""

from __future__ import annotations

import torch
from torch import nn

from samed2.nn.adapter import TemporalAdapter
from samed2.nn.model import SAMed2Model


@torch.no_grad()
def init_from_scratch(model: SAMed2Model, seed: int) -> None:
    """Scale weights to their fan-in, start position codes small and adapters as the identity.

    transformers starts every matrix at one small deviation, meant for loading a checkpoint; narrow layers
    then pass almost no signal.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
            fan = module.weight[0].numel() if not isinstance(module, nn.ConvTranspose2d) else module.in_channels
            bound = (3.0 / fan) ** 0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
    for module in model.modules():
        if isinstance(module, TemporalAdapter):
            module.up.weight.zero_()
    trunk = model.vision_encoder.backbone
    for block in trunk.blocks:  # residual branches start small, by depth
        for layer in (block.attn.proj, block.mlp.proj_out):
            layer.weight.mul_((2 * len(trunk.blocks)) ** -0.5)
    for parameter in (trunk.pos_embed, trunk.pos_embed_window, model.no_memory_embedding):
        parameter.normal_(0, 0.02, generator=generator)
    for layer in model.memory_encoder.memory_fuser.layers:
        layer.scale.fill_(0.1)
    # one Fourier code for prompts and for the grid: transformers draws two and expects a checkpoint
    code = model.prompt_encoder.shared_embedding.positional_embedding
    code.copy_(model.shared_image_embedding.positional_embedding)
