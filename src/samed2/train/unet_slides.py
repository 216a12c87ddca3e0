"""Frames read once and kept small for U-Net training, and batches drawn from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.data.augment import apply_intensity, draw_intensity
from samed2.data.cases import Case
from samed2.errors import InputError
from samed2.evaluate.models.unet import normalised
from samed2.io import resolve_window
from samed2.predict.zoom import View, as_tensor, sample, three_channels, whole_view

TURN = math.pi / 9  # at most 20 degrees
SCALE = 0.25  # at most e^0.25 larger or smaller
SHIFT = 0.08  # of the side


@dataclass
class Slide:
    """One whole frame in a square of S pixels.

    Attributes:
        image: (C, S, S) uint8, windowed, C 1 or 3.
        inside: (1, S, S) share of each pixel that the frame covers.
        masks: (S, S) bool by channel, of the tasks that its data set labels; empty where the object is absent.
    """

    image: NDArray[np.uint8]
    inside: torch.Tensor
    masks: dict[int, NDArray[np.bool_]]

    def pixels(self) -> torch.Tensor:
        """(3, S, S) as the network sees it, unchanged."""
        return normalised(three_channels(torch.from_numpy(self.image).float() / 255), self.inside)


def read_slides(cases: Sequence[Case], tasks: Sequence[str], size: int, limit: int) -> list[Slide]:
    """The frames of cases that label one of the tasks: up to `limit` with an object, a quarter as many without.

    Raises:
        InputError: a case cannot be loaded.
    """
    slides = []
    for case in cases:
        names = {tasks.index(case.task(name)): name for name in case.objects if case.task(name) in tasks}
        if not names:
            continue
        loaded = case.load()
        scan, window = loaded.scan, resolve_window(loaded.scan)
        view = whole_view(scan.height, scan.width, size)
        inside = sample(torch.ones(1, scan.height, scan.width), view)
        volumes = {channel: loaded.masks[name] for channel, name in names.items()}
        shown = np.any([volume.any(axis=(1, 2)) for volume in volumes.values()], axis=0)
        chosen = [*_spread(np.flatnonzero(shown), limit), *_spread(np.flatnonzero(~shown), max(1, limit // 4))]
        for frame in chosen:
            seen = sample(as_tensor(window.apply(scan.frame(frame))), view)
            masks = {
                channel: (sample(torch.from_numpy(volume[frame].astype(np.float32))[None], view)[0] >= 0.5).numpy()
                for channel, volume in volumes.items()
            }
            slides.append(Slide((seen * 255).round().byte().numpy(), inside, masks))
    return slides


def _spread(values: NDArray[np.int64], limit: int) -> list[int]:
    """At most `limit` of the values, evenly spread."""
    if len(values) <= limit:
        return [int(v) for v in values]
    return [int(values[i]) for i in np.unique(np.linspace(0, len(values) - 1, limit).round().astype(int))]


class SlideIndex:
    """Which slides show, and which label, each task.

    Raises:
        InputError: no slide shows one of the tasks.
    """

    def __init__(self, slides: list[Slide], tasks: Sequence[str]) -> None:
        self.slides = slides
        self.tasks = tuple(tasks)
        channels = range(len(self.tasks))
        self.labelled = [[i for i, slide in enumerate(slides) if c in slide.masks] for c in channels]
        self.shown = [[i for i in found if slides[i].masks[c].any()] for c, found in enumerate(self.labelled)]
        for task, found in zip(self.tasks, self.shown, strict=True):
            if not found:
                raise InputError(f"U-Net training: no training case shows {task}; leave the task out")


def draw_batch(
    index: SlideIndex, step: int, rows: int, seed: int, augment: bool, absent: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The batch of a step: all tasks equally often, the same for the same arguments.

    Returns:
        pixels (B, 3, S, S), target (B, C, S, S) in {0, 1}, known (B, C) bool: which channels are labelled.
    """
    rng = np.random.default_rng([seed, step])
    drawn = []
    for _ in range(rows):
        task = int(rng.integers(len(index.tasks)))
        places = index.labelled[task] if rng.random() < absent else index.shown[task]
        slide = index.slides[places[rng.integers(len(places))]]
        drawn.append(_row(slide, len(index.tasks), rng, augment))
    pixels, target, known = (torch.stack(column) for column in zip(*drawn, strict=True))
    return pixels, target, known


def _row(
    slide: Slide, channels: int, rng: np.random.Generator, augment: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    side = slide.image.shape[-1]
    target = torch.zeros(channels, side, side)
    known = torch.zeros(channels, dtype=torch.bool)
    for channel, mask in slide.masks.items():
        target[channel], known[channel] = torch.from_numpy(mask).float(), True
    if not augment:
        return slide.pixels(), target, known
    view = draw_whole_view(side, rng)
    seen = apply_intensity(three_channels(torch.from_numpy(slide.image).float() / 255)[None], draw_intensity(rng))[0]
    moved = sample(torch.cat([seen, slide.inside, target]), view)
    return normalised(moved[:3], moved[3:4]), (moved[4:] >= 0.5).float(), known


def draw_whole_view(side: int, rng: np.random.Generator) -> View:
    """A view of a whole slide, turned, scaled, moved and sometimes mirrored."""
    cy, cx = side / 2 + rng.uniform(-SHIFT, SHIFT, 2) * side
    return View(
        float(cy),
        float(cx),
        side * math.exp(rng.uniform(-SCALE, SCALE)),
        side,
        float(rng.uniform(-TURN, TURN)),
        bool(rng.random() < 0.5),
        math.exp(rng.uniform(-SCALE / 2, SCALE / 2)),
    )
