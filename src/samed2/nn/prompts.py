"""Prompts as tensors, and their embedding with the modules of SAM-2's prompt encoder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPromptEncoder

PAD, NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
ELLIPSE_LOGIT = 6.0


@dataclass
class PromptTensors:
    """Prompts of N rows (one row = one object on one frame), in pixels of the square model input.

    Attributes:
        points: (N, P, 2) as (x, y), or None.
        labels: (N, P) integers: 1 object, 0 background, -1 padding (ignored point).
        boxes: (N, 4) as (x0, y0, x1, y1), or None.
        masks: (N, 1, S/4, S/4) logits, or None.
    """

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    masks: torch.Tensor | None = None

    def select(self, rows: Any) -> PromptTensors:
        """The prompts of some rows (any index into the first axis)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return PromptTensors(**{name: None if v is None else v[rows] for name, v in values.items()})


def ellipse_logits(boxes: torch.Tensor, size: int, scale: float) -> torch.Tensor:
    """Soft ellipses inscribed in boxes, as mask-prompt logits.

    Args:
        boxes: (N, 4) as (x0, y0, x1, y1) in input pixels.
        size: side of the map to return.
        scale: input pixels per map pixel (4 for SAM-2).

    Returns:
        (N, 1, size, size): 6 at the centre, 0 on the ellipse, never below -6.
    """
    grid = (torch.arange(size, device=boxes.device, dtype=torch.float32) + 0.5) * scale
    x0, y0, x1, y1 = boxes.float()[:, :, None, None].unbind(1)  # each [n, 1, 1]
    dx = (grid[None, None, :] - (x0 + x1) / 2) / ((x1 - x0) / 2).clamp(min=1e-3)
    dy = (grid[None, :, None] - (y0 + y1) / 2) / ((y1 - y0) / 2).clamp(min=1e-3)
    radius = (dx.square() + dy.square()).sqrt()
    return (ELLIPSE_LOGIT * (1 - radius)).clamp(min=-ELLIPSE_LOGIT)[:, None]


def embed_prompts(
    encoder: Sam2VideoPromptEncoder, prompts: PromptTensors, rows: int, grid: int, box_tokens: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse and dense prompt embeddings.

    Args:
        encoder: SAM-2's prompt encoder.
        prompts: what is known of each row; everything None means "no prompt".
        rows: N, needed when there is no prompt.
        grid: side of the image embedding, S/16.
        box_tokens: "points" (two labelled points and a padding token) or "corners" (two tokens).

    Returns:
        sparse (N, tokens, d) and dense (N, d, grid, grid).
    """
    device = encoder.no_mask_embed.weight.device
    points = torch.zeros(rows, 0, 2, device=device)
    labels = torch.zeros(rows, 0, dtype=torch.long, device=device)
    if prompts.points is not None:
        assert prompts.labels is not None, "points need labels"
        points, labels = prompts.points.to(device).float(), prompts.labels.to(device).long()
    if prompts.boxes is not None:
        corners = prompts.boxes.to(device).float().reshape(rows, 2, 2)
        kinds = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=device).expand(rows, 2)
        points, labels = torch.cat([points, corners], 1), torch.cat([labels, kinds], 1)
    if prompts.boxes is None or box_tokens == "points":
        padding = 1 if points.shape[1] else 2  # SAM-2 stands an ignored point in where there is none, then pads
        points, labels = F.pad(points, (0, 0, 0, padding)), F.pad(labels, (0, padding), value=PAD)
    sparse = _embed_points(encoder, points, labels, side=16 * grid)
    if prompts.masks is not None:
        dense = encoder.mask_embed(prompts.masks.to(encoder.no_mask_embed.weight))
    else:
        dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(rows, -1, grid, grid)
    return sparse, dense


def _embed_points(
    encoder: Sam2VideoPromptEncoder, points: torch.Tensor, labels: torch.Tensor, side: int
) -> torch.Tensor:
    """Fourier code of the pixel centres plus the learned vector of each kind; padding has its own vector."""
    places = encoder.shared_embedding((points + 0.5)[:, None], (side, side))[:, 0]
    kinds = F.embedding(labels.clamp(min=0), encoder.point_embed.weight)
    padding = (labels == PAD)[..., None]
    return torch.where(padding, encoder.not_a_point_embed.weight, places + kinds)
