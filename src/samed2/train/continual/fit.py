"""Training for some steps on episodes, with something added to the loss: all that the methods need of a trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from samed2.errors import InputError
from samed2.nn import Features, SAMed2Model
from samed2.nn.decoder import Candidates
from samed2.predict.device import autocast
from samed2.train.continual.episodes import Draw, Episode
from samed2.train.continual.recipe import FitPart
from samed2.train.losses import bce_loss, dice_loss

MEMORY_LOGIT = 10.0
Extra = Callable[[SAMed2Model, Episode, Candidates], torch.Tensor]  # added to the loss of a step
Tell = Callable[[float], None]  # after each step, its loss


@dataclass(frozen=True)
class Way:
    """Where and how precisely to compute, and the first word of every seed."""

    device: torch.device
    dtype: torch.dtype | None
    seed: int


def fit(model: SAMed2Model, draw: Draw, steps: int, part: FitPart, way: Way, extra: Extra | None, tell: Tell) -> None:
    """Train what requires a gradient for some steps, in place.

    Raises:
        InputError: the loss is not finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": part.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=part.lr, betas=(0.9, 0.98))
    model.train()
    for step in range(steps):
        rate = part.lr * min(1.0, (step + 1) / max(1, min(part.warmup, steps // 4)))
        rate *= 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(way.seed * 1_000_003 + step)  # dropout
        episode = draw(step).to(way.device)
        with autocast(way.device, way.dtype):
            candidates = propose(model, episode)
        loss = mask_loss(candidates, episode.target)
        if extra is not None:
            loss = loss + extra(model, episode, candidates)
        if not torch.isfinite(loss):
            raise InputError(f"step {step}: the loss is {float(loss.detach())}; lower fit.lr, ewc or lwf")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, part.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tell(float(loss.detach()))
    model.eval()


def propose(model: SAMed2Model, episode: Episode) -> Candidates:
    """The masks for the rows of an episode, which look at each other where it says so."""
    features = encode(model, episode.pixels)
    memory = None
    if episode.memories:
        entries = encode_entries(model, features.low, episode.whole)
        grouped = entries.unflatten(0, (episode.groups, -1))
        count = min(episode.memories, grouped.shape[1] - 1)
        turned = [grouped.roll(shift + 1, dims=1).flatten(0, 1) for shift in range(count)]
        memory = torch.stack(turned, dim=1) if turned else None
    conditioned = features._replace(low=model.condition(features.low, memory))
    return model.candidates(conditioned, episode.prompts)


def encode(model: SAMed2Model, pixels: torch.Tensor) -> Features:
    """Features of (N, 3, S, S) single frames in [0, 1]."""
    mean = torch.tensor(model.config.pixel_mean, device=pixels.device)[:, None, None]
    std = torch.tensor(model.config.pixel_std, device=pixels.device)[:, None, None]
    return model.encode(((pixels - mean) / std)[:, None])


def encode_entries(model: SAMed2Model, low: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Memory features (N, M, h, w) of raw embeddings and the confirmed masks (N, 1, S, S)."""
    return model.encode_memory(low, (masks - 0.5) * 2 * MEMORY_LOGIT)


def mask_loss(candidates: Candidates, target: torch.Tensor) -> torch.Tensor:
    """Dice and cross-entropy of the single mask, mean over rows."""
    logits = F.interpolate(candidates.logits[:, :1].float(), scale_factor=2, mode="bilinear", align_corners=False)
    target = F.adaptive_avg_pool2d(target, logits.shape[-1])
    return (dice_loss(logits, target) + bce_loss(logits, target)).mean()
