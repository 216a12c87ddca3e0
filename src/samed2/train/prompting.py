"""Prompts of training rows: the first ones, rough masks, and clicks into what is still wrong."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from samed2.data.samples import Batch
from samed2.nn import PromptTensors
from samed2.predict.rows import MASK_LOGIT
from samed2.predict.tracking import Tracking

SLACK = Tracking().slack


def first_prompts(batch: Batch, rng: np.random.Generator) -> PromptTensors:
    """The prompts that the rows of a batch start with, one structure for all; of a stream those of its first frames."""
    first = slice(None, None, batch.steps)
    boxes, points, labels = batch.boxes[first], batch.points[first], batch.labels[first]
    if batch.prompt == "none":
        return PromptTensors()
    if batch.prompt == "box":
        return PromptTensors(boxes=boxes)
    if batch.prompt == "point":
        count = int(rng.choice((1, 2, 3), p=(0.7, 0.15, 0.15)))
        return PromptTensors(points=points[:, :count], labels=labels[:, :count])
    if batch.prompt == "box+point":
        return PromptTensors(points=points[:, :1], labels=labels[:, :1], boxes=boxes)
    target = batch.target[first]
    rough = rough_masks(target, rng)
    if batch.prompt == "mask":
        return PromptTensors(masks=rough)
    return with_clicks(PromptTensors(masks=rough), rough, target)


def rough_masks(target: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Worse versions of true masks, (N, 1, S/4, S/4) logits: blurred, moved, cut at another level, half crisp."""
    small = F.avg_pool2d(target, 4)
    reach = int(rng.integers(0, 4))
    blurred = F.avg_pool2d(small, 2 * reach + 1, stride=1, padding=reach)
    moved = blurred.roll((int(rng.integers(-2, 3)), int(rng.integers(-2, 3))), dims=(-2, -1))
    logits = (moved - float(rng.uniform(0.25, 0.75))) * 12
    if rng.random() < 0.5:
        logits = torch.where(logits > 0, MASK_LOGIT, -MASK_LOGIT)
    return logits.clamp(-MASK_LOGIT, MASK_LOGIT)


def with_clicks(prompts: PromptTensors, logits: torch.Tensor, target: torch.Tensor) -> PromptTensors:
    """The same prompts with a click more each, into the largest error of logits (N, 1, h, w), which become the mask."""
    guess, truth = logits.detach().float().cpu(), target.cpu()
    clicks = [click(guess[i, 0] > 0, truth[i, 0]) for i in range(len(guess))]
    points = torch.tensor([[c[:2]] for c in clicks], device=target.device)
    labels = torch.tensor([[c[2]] for c in clicks], device=target.device)
    if prompts.points is not None and prompts.labels is not None:
        points = torch.cat([prompts.points, points], dim=1)
        labels = torch.cat([prompts.labels, labels], dim=1)
    return PromptTensors(points, labels, prompts.boxes, logits.detach().float().clamp(-MASK_LOGIT, MASK_LOGIT))


class Carried:
    """The last masks of the rows of a stream, as hints for the next frame, as `predict.tracking` hands them on."""

    def __init__(self) -> None:
        self._held: torch.Tensor | None = None

    def note(self, logits: torch.Tensor, score: torch.Tensor, prompted: bool) -> None:
        """Take over masks (N, 1, h, w) of rows where the object is, by its score (N,) or because it was prompted."""
        crisp = torch.where(logits.detach() > 0, MASK_LOGIT, -MASK_LOGIT)
        found = (crisp > 0).flatten(1).any(dim=1) & ((score > 0) | prompted)
        held = -torch.full_like(crisp, MASK_LOGIT) if self._held is None else self._held
        self._held = torch.where(found[:, None, None, None], crisp, held)

    def prompts(self, moves: torch.Tensor) -> PromptTensors:
        """The masks and boxes around them through the next views; `moves` (N, 2, 3) as in `Batch`."""
        assert self._held is not None, "note the prompted frame first"
        grid = F.affine_grid(moves, list(self._held.shape), align_corners=False)
        seen = F.grid_sample(self._held + MASK_LOGIT, grid, mode="bilinear", align_corners=False) - MASK_LOGIT
        self._held = seen
        return PromptTensors(boxes=torch.stack([_grown_box(mask > 0) for mask in seen[:, 0]]), masks=seen)


def _grown_box(mask: torch.Tensor) -> torch.Tensor:
    """(x0, y0, x1, y1) in model pixels around a (S/4, S/4) mask, `SLACK` larger; all of it where it is empty."""
    ys, xs = (torch.nonzero(mask.any(dim=d)).flatten() for d in (1, 0))
    size = 4.0 * mask.shape[-1]
    if not len(ys):
        return torch.tensor([0.0, 0.0, size, size], device=mask.device)
    box = 4.0 * torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
    grow = SLACK * (box[2:] - box[:2])
    return torch.cat([box[:2] - grow, box[2:] + grow]).clamp(0, size)


def click(guess: torch.Tensor, target: torch.Tensor) -> tuple[float, float, int]:
    """(x, y, label) in model pixels, deepest inside the wrong pixels of a (h, w) mask against a (S, S) target."""
    grid = guess.shape[-1]
    truth = F.adaptive_avg_pool2d(target[None], grid)[0].numpy() > 0.5
    wrong = guess.numpy() != truth
    if not wrong.any():
        wrong = truth if truth.any() else ~truth
    depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    step = target.shape[-1] / grid
    return (x + 0.5) * step - 0.5, (y + 0.5) * step - 0.5, int(truth[y, x])
