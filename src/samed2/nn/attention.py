"""Attention without waste.

The memory attention: the same numbers as transformers' layers, with less arithmetic and memory traffic. What
differs, none of it in the result: rotary codes are applied as one complex product; values are never projected
for every memory token, since a weighted sum of projections is the projection of the weighted sum; what objects have
in common before they read their memories is computed once; and large maps are attended one after another, in blocks
that stay in the processor's cache.

A memory map may speak for several (`counts`), as if it were there so many times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

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

Runs = list[tuple[int, int, float]]  # of keys (start, end) and by how much their scores are lowered


def attend_memory(
    attention: Sam2VideoMemoryAttention,
    tokens: Tensor,
    keys: Tensor,
    key_position: Tensor,
    rotary: tuple[Tensor, Tensor],
    placeless: int,
    counts: Sequence[float] | None = None,
) -> Tensor:
    """All layers of the memory attention, in evaluation mode and without gradients.

    Args:
        tokens: (N, hw, d) image tokens with their position added.
        keys, key_position: (N, K, M) memory tokens, whole maps of hw tokens first, then `placeless` pointers.
        rotary: cosine and sine of transformers' rotary embedding, (..., hw, d) of the image's tokens and of one memory
            map's.
        counts: for how many maps each map speaks; None: one each.

    Returns:
        (N, hw, d).
    """
    turn = _as_complex(rotary)
    size = tokens.shape[1]
    runs = _lowered(counts or [1.0] * ((keys.shape[1] - placeless) // size), size, placeless)
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
            read = [_cross(module, q, k, v, turn, placeless, runs) for q, (k, v) in zip(queries, memories, strict=True)]
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
    module: Sam2VideoRoPEAttention,
    query: Tensor,
    placed_keys: Tensor,
    values: Tensor,
    turn: Tensor,
    placeless: int,
    runs: Runs,
) -> Tensor:
    """What one object's image tokens (hw, d) find in its memory tokens (K, M), not yet projected: (hw, M).

    `placed_keys` are the values with the codes of their places and times.
    """
    key = module.k_proj(placed_keys)  # [k, d]
    _turn(key[: len(key) - placeless].unflatten(0, (-1, len(turn))), turn)
    return _attend(query * module.scaling, key, values.to(key), runs)


def _attend(query: Tensor, key: Tensor, value: Tensor, runs: Runs | None = None) -> Tensor:
    """softmax(query @ key.T) @ value for (n, d), (k, d), (k, m); `runs` tell of lowered scores."""
    value, key = value.to(query), key.to(query)
    runs = runs or [(0, len(key), 0.0)]
    if len(key) <= KEY_TOKENS or query.dtype != torch.float32:
        scores = product(query, key)
        for start, end, less in runs:
            if less:
                scores[:, start:end] -= less
        return torch.mm(torch.softmax(scores, -1, out=torch.empty_like(scores)), value)
    query = query * LOG2E
    blocks = [
        (place, min(place + KEY_TOKENS, end), less * LOG2E)
        for start, end, less in runs
        for place in range(start, end, KEY_TOKENS)
    ]
    rows = (query[start : start + QUERY_TOKENS] for start in range(0, len(query), QUERY_TOKENS))
    return torch.cat([_blockwise(some, key, value, blocks) for some in rows])


def _blockwise(query: Tensor, key: Tensor, value: Tensor, blocks: Runs) -> Tensor:
    """The same in blocks of keys that stay in the processor's cache; sums are rescaled as larger scores turn up.

    Scores are logarithms to the base 2: torch computes powers of 2 four times as fast as powers of e.
    """
    top = query.new_full((len(query), 1), -torch.inf)
    total, found = torch.zeros_like(top), query.new_zeros(len(query), value.shape[1])
    for start, end, less in blocks:
        scores = product(query, key[start:end])
        if less:
            scores -= less
        above = torch.maximum(top, scores.amax(1, keepdim=True))
        fading = (top - above).exp2_()
        scores.sub_(above).exp2_()
        total.mul_(fading).add_(scores.sum(1, keepdim=True))
        found.mul_(fading).add_(product(scores, value[start:end].T.contiguous()))
        top = above
    return found / total


def _lowered(counts: Sequence[float], size: int, placeless: int) -> Runs:
    """The keys of maps of `size` keys that speak for `counts` maps, and `placeless` ones that speak for themselves.

    A key that is there c times has c times the weight: log(c) more in its score, or as much less in all others'.
    """
    lengths = [*((count, size) for count in counts), (1.0, placeless)]
    most = max(count for count, _ in lengths)
    runs, end = [], 0
    for count, group in groupby(lengths, key=itemgetter(0)):
        start, end = end, end + sum(length for _, length in group)
        runs.append((start, end, math.log(most / count)))
    return runs


def _as_complex(rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Cosine and sine, given twice for each pair of channels, as (hw, d/2) complex numbers."""
    cos, sin = (part.reshape(-1, part.shape[-1])[:, ::2].float() for part in rotary)
    return torch.complex(cos.contiguous(), sin.contiguous())


def _turn(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels of (..., hw, d) in place, reckoned in float32, and return them."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))).mul_(turn)
    return x if x.dtype == torch.float32 else x.copy_(torch.view_as_real(pairs).flatten(-2))
