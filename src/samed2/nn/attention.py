"""Memory attention without waste: the same numbers as transformers' layers, with less arithmetic and memory traffic.

Three things differ, none of them in the result: rotary codes are applied as one complex product; values are never
projected for every memory token, since a weighted sum of projections is the projection of the weighted sum; and
objects are attended one after another, so that only one matrix of scores exists at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoMemoryAttention,
    Sam2VideoMemoryAttentionLayer,
    Sam2VideoRoPEAttention,
)


def attend_memory(
    attention: Sam2VideoMemoryAttention,
    tokens: Tensor,
    keys: Tensor,
    key_position: Tensor,
    rotary: tuple[Tensor, Tensor],
    placeless: int,
) -> Tensor:
    """All layers of the memory attention, in evaluation mode.

    Args:
        tokens: (N, hw, d) image tokens with their position added.
        keys, key_position: (N, K, M) memory tokens, whole maps of hw tokens first, then `placeless` pointers.
        rotary: cosine and sine of transformers' rotary embedding, (..., hw, d).

    Returns:
        (N, hw, d).
    """
    turn = _as_complex(rotary)
    for layer in attention.layers:
        tokens = _layer(layer, tokens, keys, key_position, turn, placeless)
    return attention.layer_norm(tokens)


def can_attend(attention: Sam2VideoMemoryAttention) -> bool:
    """Whether `attend_memory` covers this module: evaluation (no dropout) and a single head, as SAM-2 has."""
    return not attention.training and attention.layers[0].self_attn.num_attention_heads == 1


def _layer(
    layer: Sam2VideoMemoryAttentionLayer, tokens: Tensor, keys: Tensor, position: Tensor, turn: Tensor, placeless: int
) -> Tensor:
    own = layer.self_attn
    x = layer.layer_norm1(tokens)
    query, key = _turned(own.q_proj(x), turn), _turned(own.k_proj(x), turn)
    found = F.scaled_dot_product_attention(query[:, None], key[:, None], own.v_proj(x)[:, None], scale=own.scaling)
    tokens = tokens + own.o_proj(found[:, 0])
    query = _turned(layer.cross_attn_image.q_proj(layer.layer_norm2(tokens)), turn)
    rows = [
        _cross(layer.cross_attn_image, q, k, p, turn, placeless) for q, k, p in zip(query, keys, position, strict=True)
    ]
    tokens = tokens + torch.stack(rows)
    x = layer.layer_norm3(tokens)
    return tokens + layer.linear2(layer.activation(layer.linear1(x)))


def _cross(
    module: Sam2VideoRoPEAttention, query: Tensor, keys: Tensor, position: Tensor, turn: Tensor, placeless: int
) -> Tensor:
    """One object's image tokens (hw, d) to its memory tokens (K, M)."""
    key = module.k_proj(keys + position)  # [k, d]
    placed = len(key) - placeless
    maps = _turned(key[:placed].unflatten(0, (-1, len(turn))), turn).flatten(0, 1)
    key = torch.cat([maps, key[placed:].to(maps)]) if placeless else maps
    scores = torch.matmul(query * module.scaling, key.T)
    weights = scores.softmax(dim=-1)
    return module.o_proj(module.v_proj(torch.matmul(weights, keys.to(weights))))


def _as_complex(rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Cosine and sine, given twice for each pair of channels, as (hw, d/2) complex numbers."""
    cos, sin = (part.reshape(-1, part.shape[-1])[:, ::2].float() for part in rotary)
    return torch.complex(cos.contiguous(), sin.contiguous())


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels of (..., hw, d), in float32, back to the dtype given."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
