"""Hiera blocks with a temporal adapter after the attention, in both layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.models.sam2.modeling_sam2 import (
    Sam2HieraDetModel,
    Sam2MultiScaleAttention,
    Sam2MultiScaleBlock,
    Sam2VisionModel,
    do_pool,
    window_partition,
    window_unpartition,
)

from samed2.nn.adapter import TemporalAdapter, inner_frames
from samed2.nn.stamps import stamp


class HieraBlock(Sam2MultiScaleBlock):
    """A block of SAM-2's trunk that may send its attention output through a `TemporalAdapter`.

    The adapter sits after the attention (and after query pooling), before the residual sum. With layout
    "frames" it sees whole maps; with "released" it sees attention windows, as the released code does.
    """

    adapter: TemporalAdapter | None
    layout: str
    first: bool  # of those that have an adapter

    def forward(
        self, hidden_states: torch.Tensor, num_frames: int = 1, shallow: bool = False, **_: Any
    ) -> torch.Tensor:
        """(B*T, H, W, C_in) -> (B*T, H', W', C_out); `num_frames` is T.

        With `shallow` the first block that has an adapter leaves out the first and last frames of the clips, (B*(T-2),
        H', W', C_out), and the adapters after it take neighbours to look like the frame itself.
        """
        hidden_states = hidden_states.contiguous()  # patches come channels first, which slows all that comes after
        normed = self.layer_norm1(hidden_states)
        residual = hidden_states
        if self.dim != self.dim_out:
            residual = do_pool(self.proj(normed), self.query_stride)
        attended = self._attend(normed, residual.shape[1:3], num_frames)
        if self.adapter is not None and self.layout == "frames":
            if not shallow:
                attended = self.adapter(attended, num_frames)
            elif self.first:
                attended, residual = self.adapter.inner(attended, num_frames), inner_frames(residual, num_frames)
            else:
                attended = self.adapter.still(attended)
        hidden_states = residual + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))

    def _attend(self, normed: torch.Tensor, out_size: torch.Size, num_frames: int) -> torch.Tensor:
        """Attention inside windows (or over the whole map), (B*T, H, W, C_in) -> (B*T, H', W', C_out)."""
        windowed = self.window_size > 0
        if windowed:
            normed, padded = window_partition(normed, self.window_size)
        attended = attend(self.attn, normed)
        if self.adapter is not None and self.layout == "released":
            attended = self.adapter(attended, num_frames)
        if not windowed:
            return attended
        window = self.window_size
        if self.query_stride:
            window //= self.query_stride[0]
            height, width = out_size
            padded = (height + (-height) % window, width + (-width) % window)
        return window_unpartition(attended, window, padded, tuple(out_size))


def attend(attention: Sam2MultiScaleAttention, tokens: torch.Tensor) -> torch.Tensor:
    """Multi-head attention with the module's weights, (B, H, W, C_in) -> (B, H', W', C_out).

    The same sums as the module's own forward, without the per-token products it computes and drops. On a CPU
    plain matrix products are used while training, for the fused kernel's backward pass is several times slower, and
    in lower precision, from which it gains nothing.
    """
    batch, height, width, _ = tokens.shape
    heads = attention.num_attention_heads
    query, key, value = attention.qkv(tokens).reshape(batch, height * width, 3, heads, -1).unbind(2)
    if attention.query_stride:
        pooled = do_pool(query.reshape(batch, height, width, -1), attention.query_stride)
        height, width = pooled.shape[1:3]
        query = pooled.reshape(batch, height * width, heads, -1)
    query, key, value = (t.transpose(1, 2) for t in (query, key, value))  # [b, heads, hw, c]
    on_processor = tokens.device.type == "cpu"
    if on_processor and torch.is_grad_enabled():
        mixed = ((query * attention.scale) @ key.transpose(-2, -1)).softmax(dim=-1).to(value.dtype) @ value
        mixed = mixed.transpose(1, 2)
    elif on_processor and query.dtype != torch.float32:
        scores = torch.matmul(query * attention.scale, key.transpose(-2, -1))
        weights = torch.softmax(scores, -1, out=torch.empty_like(scores))  # autocast leaves calls with `out` alone
        mixed = torch.matmul(weights, value).transpose(1, 2)
    else:
        mixed = F.scaled_dot_product_attention(query, key, value, scale=attention.scale).transpose(1, 2)
    return attention.proj(mixed.reshape(batch, height, width, -1))


def feature_maps(
    encoder: Sam2VisionModel, pixels: torch.Tensor, num_frames: int, shallow: bool = False
) -> list[torch.Tensor]:
    """The encoder's maps of (B*T, 3, S, S) pixels, (B*T, d, S/4, S/4), (.., S/8, ..) and (.., S/16, ..).

    With `shallow` those of the B*(T-2) inner frames, see `HieraBlock`.

    The same sums as its forward, without the codes of places that its neck computes for every map and nobody reads.
    """
    neck = encoder.neck
    stages = encoder.backbone(pixels, num_frames=num_frames, shallow=shallow).intermediate_hidden_states
    if shallow:  # before the first adapter all frames are there
        stages = [inner_frames(stage, num_frames) if len(stage) == len(pixels) else stage for stage in stages]
    maps: list[torch.Tensor] = []
    for number, conv in zip(reversed(range(len(stages))), neck.convs, strict=True):
        lateral = conv(stages[number].permute(0, 3, 1, 2))
        if maps and number in neck.fpn_top_down_levels:
            lateral = lateral + F.interpolate(maps[-1].float(), scale_factor=2, mode="nearest").to(lateral.dtype)
        maps.append(lateral)
    return maps[: -encoder.num_feature_levels - 1 : -1]


class AdaptedTrunk(Sam2HieraDetModel):
    """The trunk, which gives its adapters their first weights.

    transformers asks the innermost model, and only about modules that have weights of their own.
    """

    zero_init = True
    _codes: tuple[tuple[Any, ...], torch.Tensor] | None = None

    def _get_pos_embed(self, hw: tuple[int, int]) -> torch.Tensor:
        """(1, H, W, C) codes of places; without gradients those of the last call where nothing has changed since."""
        known = stamp(self.pos_embed, self.pos_embed_window)
        if known is None:
            return super()._get_pos_embed(hw)
        key = (hw, *known)
        if self._codes is None or self._codes[0] != key:
            self._codes = (key, super()._get_pos_embed(hw))
        return self._codes[1]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # biases are zero
        role = getattr(module, "adapter_role", None)
        if role == "conv":
            init.kaiming_normal_(module.weight, mode="fan_out")
        elif role == "up" and self.zero_init:
            init.zeros_(module.weight)
        elif role is not None:
            init.xavier_uniform_(module.weight)


def adapt_trunk(
    trunk: Sam2HieraDetModel, adapted: Callable[[int], bool], hidden: int, layout: str, zero_init: bool
) -> None:
    """Turn, in place, the blocks into `HieraBlock`s, with an adapter where `adapted(index)` holds."""
    trunk.__class__ = AdaptedTrunk
    trunk.zero_init = zero_init
    with_adapter = [index for index in range(len(trunk.blocks)) if adapted(index)]
    for index, block in enumerate(trunk.blocks):
        block.__class__ = HieraBlock
        block.adapter = TemporalAdapter(block.dim_out, hidden) if index in with_adapter else None
        block.layout, block.first = layout, with_adapter[:1] == [index]
