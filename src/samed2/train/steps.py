"""One training step: from a batch to a loss, with memory and a corrective click where the batch asks for them."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from samed2.data.samples import Batch
from samed2.nn import Features, PromptTensors, SAMed2Model
from samed2.train.losses import segmentation_loss
from samed2.train.recipe import LossRecipe

MEMORY_LOGIT = 10.0


def normalise(model: SAMed2Model, pixels: torch.Tensor) -> torch.Tensor:
    """(..., 3, S, S) in [0, 1] -> the encoder's input."""
    mean = torch.tensor(model.config.pixel_mean, device=pixels.device)[:, None, None]
    std = torch.tensor(model.config.pixel_std, device=pixels.device)[:, None, None]
    return (pixels - mean) / std


def step_loss(
    model: SAMed2Model, batch: Batch, weights: LossRecipe, rng: np.random.Generator
) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss of a batch and figures to log; `rng` decides about memory entries and corrections."""
    features = model.encode(normalise(model, batch.pixels))
    memory = recall(model, features, batch, rng) if batch.memory else None
    features = features._replace(low=model.condition(features.low, memory))
    prompts = first_prompts(batch, rng)
    candidates = model.candidates(features, prompts)
    ambiguous = batch.prompt == "point" and prompts.points is not None and prompts.points.shape[1] == 1
    loss, figures = segmentation_loss(candidates, batch.target, batch.present, weights, ambiguous)
    if batch.prompt != "none" and rng.random() < weights.correction:
        corrected = corrected_prompts(prompts, candidates.logits.detach().float()[:, :1], batch.target)
        again = model.candidates(features, corrected)
        second, _ = segmentation_loss(again, batch.target, batch.present, weights, False)
        loss = loss + 0.5 * second
    return loss, figures


def recall(model: SAMed2Model, features: Features, batch: Batch, rng: np.random.Generator) -> torch.Tensor | None:
    """Memory of 1 to 4 other rows of the batch, with their true masks, (N, k, M, h, w)."""
    rows = features.low.shape[0]
    count = min(int(rng.integers(0 if batch.prompt != "none" else 1, 5)), rows - 1)
    if count == 0:
        return None
    entries = model.encode_memory(features.low, (batch.target - 0.5) * 2 * MEMORY_LOGIT)
    shifts = rng.permutation(np.arange(1, rows))[:count]
    return torch.stack([entries.roll(int(s), dims=0) for s in shifts], dim=1)


def first_prompts(batch: Batch, rng: np.random.Generator) -> PromptTensors:
    """The prompts a batch starts with."""
    if batch.prompt == "none":
        return PromptTensors()
    if batch.prompt == "box":
        return PromptTensors(boxes=batch.boxes)
    count = int(rng.choice((1, 2, 3), p=(0.6, 0.2, 0.2))) if batch.prompt == "point" else 1
    points, labels = batch.points[:, :count], batch.labels[:, :count]
    if batch.prompt == "point":
        return PromptTensors(points=points, labels=labels)
    if batch.prompt == "box+point":
        return PromptTensors(points=points, labels=labels, boxes=batch.boxes)
    rough = rough_mask(batch.target, rng)
    clicks = [click(rough[i, 0] > 0, batch.target[i, 0], rough.shape[-1]) for i in range(len(rough))]
    return PromptTensors(
        points=torch.tensor([[c[:2]] for c in clicks]),
        labels=torch.tensor([[c[2]] for c in clicks]),
        masks=rough,
    )


def rough_mask(target: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A worse version of the true masks, (N, 1, S/4, S/4) logits: blurred, shifted and cut at another level."""
    small = F.avg_pool2d(target, 4)
    reach = int(rng.integers(1, 4))
    blurred = F.avg_pool2d(small, 2 * reach + 1, stride=1, padding=reach)
    moved = blurred.roll((int(rng.integers(-2, 3)), int(rng.integers(-2, 3))), dims=(-2, -1))
    return (moved - float(rng.uniform(0.25, 0.75))) * 12


def corrected_prompts(prompts: PromptTensors, logits: torch.Tensor, target: torch.Tensor) -> PromptTensors:
    """The same prompts with one click into the largest error and the last logits as mask prompt."""
    clicks = [click(logits[i, 0] > 0, target[i, 0], logits.shape[-1]) for i in range(len(logits))]
    points = torch.tensor([[c[:2]] for c in clicks])
    labels = torch.tensor([[c[2]] for c in clicks])
    if prompts.points is not None and prompts.labels is not None:
        points = torch.cat([prompts.points, points], dim=1)
        labels = torch.cat([prompts.labels, labels], dim=1)
    return PromptTensors(points, labels, prompts.boxes, logits.clamp(-32, 32))


def click(guess: torch.Tensor, target: torch.Tensor, grid: int) -> tuple[float, float, int]:
    """(x, y, label) deepest inside the wrong pixels, found on the grid of the logits; model pixels."""
    truth = F.adaptive_avg_pool2d(target[None], grid)[0].numpy() > 0.5
    wrong = guess.numpy() != truth
    if not wrong.any():
        wrong = truth if truth.any() else ~truth
    depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    step = target.shape[-1] / grid
    return (x + 0.5) * step - 0.5, (y + 0.5) * step - 0.5, int(truth[y, x])
