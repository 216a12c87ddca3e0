"""Attention without waste.

The memory attention: the same numbers as transformers' layers, with less arithmetic and memory traffic. What
differs, none of it in the result: rotary codes are applied as one complex product; values are never projected
for every memory token, since a weighted sum of projections is the projection of the weighted sum; what objects have
in common before they read their memories is computed once; and large maps are attended one after another, in blocks
that stay in the processor's cache.

Memory maps may be smaller than the image's (`streaming.pooled`): their tokens are turned to the middle of what they
stand for.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoMemoryAttention,
    Sam2VideoMemoryAttentionLayer,
    Sam2VideoRoPEAttention,
)

from samed2.nn.products import product

LOG2E = math.log2(math.e)
QUERY_TOKENS, KEY_TOKENS = 1024, 2048  # whose scores exist at a time: as many as a processor's caches hold
TOKENS_AT_ONCE = 8192  # image tokens of all objects that go through a layer together


def attend_memory(
    attention: Sam2VideoMemoryAttention,
    tokens: Tensor,
    keys: Tensor,
    key_position: Tensor,
    rotary: tuple[Tensor, Tensor],
    key_rotary: tuple[Tensor, Tensor],
    placeless: int,
) -> Tensor:
    """All layers of the memory attention, in evaluation mode and without gradients.

    Args:
        tokens: (N, hw, d) image tokens with their position added.
        keys, key_position: (N, K, M) memory tokens, whole maps of n tokens first, then `placeless` pointers.
        rotary, key_rotary: cosine and sine of transformers' rotary embedding, (..., hw, d) of the image's tokens and
            (..., n, d) of one memory map's.

    Returns:
        (N, hw, d).
    """
    turn, key_turn = _as_complex(rotary), _as_complex(key_rotary)
    first, alike = attention.layers[0], bool((tokens == tokens[:1]).all())
    if alike:
        tokens = (tokens[:1] + _own(first, tokens[:1], turn)).expand_as(tokens)
    together = max(1, TOKENS_AT_ONCE // tokens.shape[1])
    rows = []
    for start in range(0, len(tokens), together):
        some = slice(start, start + together)
        row, memories = tokens[some], list(zip(keys[some] + key_position[some], keys[some], strict=True))
        for layer in attention.layers:
            if layer is not first or not alike:
                row = row + _own(layer, row, turn)
            module = layer.cross_attn_image
            queries = _turn(module.q_proj(layer.layer_norm2(row)), turn)
            read = [_cross(module, q, k, v, key_turn, placeless) for q, (k, v) in zip(queries, memories, strict=True)]
            row = row + module.o_proj(module.v_proj(torch.stack(read)))
            row = row + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(row))))
        rows.append(attention.layer_norm(row))
    return torch.cat(rows)


def can_attend(attention: Sam2VideoMemoryAttention) -> bool:
    """Whether `attend_memory` covers this module: no dropout, no gradients, and a single head, as SAM-2 has."""
    return (
        not (attention.training or torch.is_grad_enabled()) and attention.layers[0].self_attn.num_attention_heads == 1
    )


def _own(layer: Sam2VideoMemoryAttentionLayer, tokens: Tensor, turn: Tensor) -> Tensor:
    """The self-attention of objects' tokens (N, hw, d)."""
    own = layer.self_attn
    x = layer.layer_norm1(tokens)
    query, key, value = _turn(own.q_proj(x), turn) * own.scaling, _turn(own.k_proj(x), turn), own.v_proj(x)
    return own.o_proj(torch.stack([_attend(*each) for each in zip(query, key, value, strict=True)]))


def _cross(
    module: Sam2VideoRoPEAttention, query: Tensor, placed_keys: Tensor, values: Tensor, turn: Tensor, placeless: int
) -> Tensor:
    """What one object's image tokens (hw, d) find in its memory tokens (K, M), not yet projected: (hw, M).

    `placed_keys` are the values with the codes of their places and times.
    """
    key = module.k_proj(placed_keys)  # [k, d]
    _turn(key[: len(key) - placeless].unflatten(0, (-1, len(turn))), turn)
    lone = math.log(len(query) / len(turn))  # a pooled token speaks for several, a pointer for itself
    return _attend(query * module.scaling, key, values.to(key), placeless, lone)


def _attend(query: Tensor, key: Tensor, value: Tensor, last: int = 0, less: float = 0.0) -> Tensor:
    """softmax(query @ key.T) @ value for (n, d), (k, d), (k, m); the scores of the `last` keys are made `less`."""
    value, key = value.to(query), key.to(query)
    blocks = _blocks(len(key), last if less else 0)
    if len(blocks) == 1 or query.dtype != torch.float32:
        scores = product(query, key)
        if last and less:
            scores[:, -last:] -= less
        return torch.mm(torch.softmax(scores, -1, out=torch.empty_like(scores)), value)
    query, less = query * LOG2E, less * LOG2E
    rows = (query[start : start + QUERY_TOKENS] for start in range(0, len(query), QUERY_TOKENS))
    return torch.cat([_blockwise(some, key, value, blocks, less) for some in rows])


def _blockwise(query: Tensor, key: Tensor, value: Tensor, blocks: list[tuple[int, int, bool]], less: float) -> Tensor:
    """The same in blocks of keys that stay in the processor's cache; sums are rescaled as larger scores turn up.

    Scores are logarithms to the base 2: torch computes powers of 2 four times as fast as powers of e.
    """
    top = query.new_full((len(query), 1), -torch.inf)
    total, found = torch.zeros_like(top), query.new_zeros(len(query), value.shape[1])
    for start, end, lowered in blocks:
        scores = product(query, key[start:end])
        if lowered:
            scores -= less
        above = torch.maximum(top, scores.amax(1, keepdim=True))
        fading = (top - above).exp2_()
        scores.sub_(above).exp2_()
        total.mul_(fading).add_(scores.sum(1, keepdim=True))
        found.mul_(fading).add_(product(scores, value[start:end].T.contiguous()))
        top = above
    return found / total


def _blocks(count: int, last: int) -> list[tuple[int, int, bool]]:
    """Cut `count` keys into blocks (start, end, whether of the `last`)."""
    edges = [*range(0, count - last, KEY_TOKENS), count - last]
    out = [(a, b, False) for a, b in pairwise(edges)]
    return [*out, (count - last, count, True)] if last else out


def _as_complex(rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Cosine and sine, given twice for each pair of channels, as (hw, d/2) complex numbers."""
    cos, sin = (part.reshape(-1, part.shape[-1])[:, ::2].float() for part in rotary)
    return torch.complex(cos.contiguous(), sin.contiguous())


def _turn(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels of (..., hw, d) in place, reckoned in float32, and return them."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))).mul_(turn)
    return x if x.dtype == torch.float32 else x.copy_(torch.view_as_real(pairs).flatten(-2))
