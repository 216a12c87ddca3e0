"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math

import torch

from samed2.nn import SAMed2Model
from samed2.train.parts import depth_scale
from samed2.train.recipe import OptimizerRecipe, Recipe
from samed2.train.sharding import local

NO_DECAY = ("bias", "norm", "embed", "token", "no_memory", "no_object", "positional", "scale")


def build_optimizers(model: SAMed2Model, recipe: OptimizerRecipe) -> list[torch.optim.Optimizer]:
    """AdamW, without decay on vectors and embeddings; with "muon" the inner matrices go to Muon instead.

    Every group has a `scale`: its learning rate over the step's.
    """
    blocks = len(model.vision_encoder.backbone.blocks)
    matrices: dict[float, list[torch.nn.Parameter]] = {}
    rest: dict[tuple[bool, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = depth_scale(name, blocks, recipe.layer_decay)
        plain = parameter.ndim < 2 or any(word in name for word in NO_DECAY)
        if recipe.name == "muon" and parameter.ndim == 2 and not plain and min(parameter.shape) > 4:
            matrices.setdefault(scale, []).append(parameter)
        else:
            rest.setdefault((plain, scale), []).append(parameter)
    groups = [
        {"params": rest[plain, scale], "weight_decay": 0.0 if plain else recipe.weight_decay, "scale": scale}
        for plain, scale in sorted(rest)
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=recipe.betas, fused=True)]
    if matrices:
        inner = [{"params": matrices[scale], "scale": scale} for scale in sorted(matrices)]
        optimizers.append(torch.optim.Muon(inner, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a half cosine from `lr` to `lr_end` within each stage."""
    stage, within = recipe.stage_at(step)
    if within < stage.warmup:
        return stage.lr * (within + 1) / stage.warmup
    end = stage.lr if stage.lr_end is None else stage.lr_end
    done = (within - stage.warmup) / max(1, stage.steps - stage.warmup)
    return end + (stage.lr - end) * 0.5 * (1 + math.cos(math.pi * done))


class MovingAverage:
    """Exponential moving average of all weights; early on it follows faster (decay at most (1 + n) / (10 + n))."""

    def __init__(self, model: SAMed2Model, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: SAMed2Model, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        names = list(self.values)
        current = model.state_dict()
        ours, theirs = ([local(values[n]) for n in names] for values in (self.values, current))
        torch._foreach_lerp_(ours, theirs, 1 - decay)
