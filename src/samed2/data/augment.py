"""Random views and intensities for training: parameters are drawn first, then applied by pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from samed2.predict.zoom import View


@dataclass(frozen=True)
class ViewRange:
    """How views are drawn around a box.

    Attributes:
        margin: limits of the side over the longer side of the box. offset: share of the spare room.
        rotate: probability of a free rotation up to 30 degrees, beside quarter turns.
        upright: probability of no quarter turn and a third of that rotation.
    """

    margin: tuple[float, float] = (1.25, 1.9)
    offset: float = 0.5
    rotate: float = 0.5
    upright: float = 0.0
    stretch: float = 0.15
    augment: bool = True


def draw_view(box: tuple[float, float, float, float], size: int, limits: ViewRange, rng: np.random.Generator) -> View:
    """A random view that holds the frame box (y0, x0, y1, x1)."""
    y0, x0, y1, x1 = box
    longest = max(y1 - y0, x1 - x0)
    margin = math.exp(rng.uniform(math.log(limits.margin[0]), math.log(limits.margin[1])))
    side = max(margin * longest, 12.0)
    cy, cx = (y0 + y1) / 2, (x0 + x1) / 2
    if not limits.augment:
        return View(cy, cx, side, size)
    spare = (side - longest) / 2 * limits.offset
    cy, cx = cy + rng.uniform(-spare, spare), cx + rng.uniform(-spare, spare)
    quarters, by = rng.integers(4), 0.0
    if rng.random() < limits.rotate:
        by = rng.uniform(-math.pi / 6, math.pi / 6)
        side *= 1.12  # a turned box needs more room
    angle = draw_angle(quarters * math.pi / 2, by, limits.upright, rng)
    stretch = math.exp(rng.uniform(-limits.stretch, limits.stretch))
    return View(cy, cx, side, size, angle, bool(rng.random() < 0.5), stretch)


def draw_angle(turn: float, by: float, upright: float, rng: np.random.Generator) -> float:
    """A turn and a rotation by some more (radians); with the probability `upright` a third of the latter alone."""
    return float(by / 3 if upright and rng.random() < upright else turn + by)


@dataclass(frozen=True)
class Intensity:
    """A change of brightness and texture; the neutral one has gamma 1, gain 1, bias 0 and nothing else."""

    gamma: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    invert: bool = False
    grey: bool = False
    blur: bool = False
    noise: float = 0.0
    seed: int = 0


def draw_intensity(rng: np.random.Generator) -> Intensity:
    """Moderate changes, each with its own probability."""
    gain = np.full(3, math.exp(rng.normal(0, 0.15))) * np.exp(rng.normal(0, 0.06, 3) * (rng.random() < 0.5))
    bias = np.full(3, rng.normal(0, 0.06)) + rng.normal(0, 0.03, 3) * (rng.random() < 0.5)
    return Intensity(
        gamma=math.exp(rng.normal(0, 0.25)) if rng.random() < 0.5 else 1.0,
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        bias=(float(bias[0]), float(bias[1]), float(bias[2])),
        invert=bool(rng.random() < 0.05),
        grey=bool(rng.random() < 0.15),
        blur=bool(rng.random() < 0.1),
        noise=float(rng.uniform(0.01, 0.06)) if rng.random() < 0.15 else 0.0,
        seed=int(rng.integers(2**31)),
    )


def apply_intensity(pixels: torch.Tensor, change: Intensity) -> torch.Tensor:
    """Apply to (T, 3, S, S) in [0, 1]; returns the same shape, clamped to [0, 1]."""
    if change.gamma != 1.0:
        pixels = pixels.clamp(min=1e-4) ** change.gamma
    if change.grey:
        pixels = pixels.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    gain, bias = torch.tensor(change.gain)[:, None, None], torch.tensor(change.bias)[:, None, None]
    pixels = (pixels - 0.5) * gain + 0.5 + bias
    if change.invert:
        pixels = 1 - pixels
    if change.blur:
        pixels = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    if change.noise:
        generator = torch.Generator().manual_seed(change.seed)
        pixels = pixels + change.noise * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(0, 1)
