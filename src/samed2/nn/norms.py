"""Layer norms of maps with few channels.

torch normalises cell by cell, and starts anew for each: of four channels that takes a processor thirty times as long as
a few passes over whole channels do. The masks that the memory encoder reads have 4 and 16 channels at full size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoLayerNorm

FEW = 16  # channels


class MapLayerNorm(Sam2VideoLayerNorm):  # transformers gives first weights to what has LayerNorm in its name
    """Sam2VideoLayerNorm that goes channel by channel where channels are few and no gradients are wanted."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W), or (B, H, W, C) where `data_format` is "channels_last" -> the same shape."""
        few = self.data_format == "channels_first" and features.shape[1] <= FEW
        if not few or features.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(features)
        found = features.float().contiguous()
        found = found - found.mean(1, keepdim=True)
        found *= found.square().mean(1, keepdim=True).add_(self.eps).rsqrt_()
        found *= self.weight[:, None, None]
        found += self.bias[:, None, None]
        return found.to(features.dtype)


def by_channels(model: nn.Module) -> None:
    """Turn, in place, the layer norms of maps in a model into `MapLayerNorm`s, with the same weights and names."""
    for module in model.modules():
        if type(module) is Sam2VideoLayerNorm:
            module.__class__ = MapLayerNorm
