"""SAM-2's mask decoder run once for all its mask tokens; choosing among the masks is a step of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMaskDecoder


class Candidates(NamedTuple):
    """All masks the decoder proposes for N rows: token 0 (single mask) and tokens 1..3 (multimask).

    logits (N, 4, S/4, S/4), iou (N, 4) in [0, 1], object_score (N,) logits, tokens (N, 4, d).
    """

    logits: torch.Tensor
    iou: torch.Tensor
    object_score: torch.Tensor
    tokens: torch.Tensor


def propose(
    decoder: Sam2VideoMaskDecoder,
    image: torch.Tensor,
    position: torch.Tensor,
    sparse: torch.Tensor,
    dense: torch.Tensor,
    high: torch.Tensor,
    mid: torch.Tensor,
) -> Candidates:
    """Run the two-way transformer and both heads once.

    Args:
        image: (N, d, h, w) conditioned embeddings, one row per object.
        position: (1, d, h, w) Fourier code of the grid.
        sparse: (N, tokens, d); dense: (N, d, h, w).
        high: (N, d/8, 4h, 4w); mid: (N, d/4, 2h, 2w), after the decoder's 1x1 convolutions.
    """
    rows, dim, height, width = image.shape
    own = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(rows, -1, -1), sparse.to(own.dtype)], dim=1)[:, None]  # [n, 1, tokens, d]
    tokens, keys = decoder.transformer(
        point_embeddings=tokens,
        image_embeddings=image + dense,
        image_positional_embeddings=position.expand(rows, -1, -1, -1),
        attention_similarity=None,
    )
    tokens = tokens[:, 0]
    maps = keys[:, 0].transpose(1, 2).reshape(rows, dim, height, width)
    maps = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(maps) + mid))
    maps = decoder.activation(decoder.upscale_conv2(maps) + high)  # [n, d/8, 4h, 4w]
    mask_tokens = tokens[:, 2 : 2 + decoder.num_mask_tokens]
    weights = torch.stack(
        [mlp(mask_tokens[:, i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )  # [n, 4, d/8]
    logits = torch.einsum("nmc,nchw->nmhw", weights, maps)
    iou = decoder.iou_prediction_head(tokens[:, 1])
    object_score = decoder.pred_obj_score_head(tokens[:, 0]).squeeze(-1)
    return Candidates(logits, iou, object_score, mask_tokens)


def stability(logits: torch.Tensor, delta: float) -> torch.Tensor:
    """IoU of the masks cut at +delta and -delta, 1 for an empty mask; (..., H, W) -> (...)."""
    inner = (logits > delta).flatten(-2).sum(-1).float()
    outer = (logits > -delta).flatten(-2).sum(-1).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), 1.0)


def choose(candidates: Candidates, multimask: bool, delta: float, threshold: float | None) -> torch.Tensor:
    """Which token's mask to use for each row.

    Args:
        multimask: take the best of tokens 1..3 by predicted IoU instead of token 0.
        threshold: with token 0, fall back on the multimask tokens where its mask is less stable than this
            (SAM-2's dynamic multimask); None never falls back.

    Returns:
        (N,) indices into the four tokens.
    """
    best = candidates.iou[:, 1:].argmax(dim=1) + 1
    if multimask:
        return best
    if threshold is None:
        return torch.zeros_like(best)
    stable = stability(candidates.logits[:, 0], delta) >= threshold
    return torch.where(stable, torch.zeros_like(best), best)
