"""Whole frames held in memory, and episodes drawn from them: rows of a task that serve as each other's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from samed2.data.augment import apply_intensity, draw_intensity
from samed2.data.cases import Case
from samed2.data.synthetic import synthetic_clip
from samed2.errors import InputError
from samed2.nn import PromptTensors
from samed2.predict.zoom import sample, three_channels
from samed2.train.unet_slides import Slide, draw_whole_view, read_slides

MIN_PIXELS = 12
EIGHT = np.ones((3, 3), dtype=bool)
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Shot:
    """One whole frame with one object: image (3, S, S) uint8 and the mask of all its parts, (S, S), not empty."""

    task: str
    image: NDArray[np.uint8]
    mask: Mask

    @property
    def nbytes(self) -> int:
        """Bytes to keep it, the mask as one bit per pixel."""
        return self.image.nbytes + self.mask.size // 8


@dataclass
class Episode:
    """Rows of `groups` tasks, one group after the other.

    pixels (N, 3, S, S) in [0, 1]; target (N, 1, S, S) what the prompt means; whole (N, 1, S, S) all parts of the
    object, for the memory; prompts of the rows; memories: how many other rows of its group each row may look at.
    """

    pixels: torch.Tensor
    target: torch.Tensor
    whole: torch.Tensor
    prompts: PromptTensors
    groups: int = 1
    memories: int = 0

    def to(self, device: torch.device) -> Episode:
        """The same on a device."""
        old = self.prompts
        points, labels, boxes = (None if v is None else v.to(device) for v in (old.points, old.labels, old.boxes))
        prompts = PromptTensors(points, labels, boxes)
        pixels, target, whole = (value.to(device) for value in (self.pixels, self.target, self.whole))
        return Episode(pixels, target, whole, prompts, self.groups, self.memories)


Draw = Callable[[int], Episode]  # step -> what is trained on; pure


def read_shots(cases: Sequence[Case], tasks: Sequence[str], size: int, count: int, frames: int) -> list[Shot]:
    """The frames that show the tasks, of at most `count` cases of each and `frames` of a case.

    Raises:
        InputError: a case cannot be read, or nothing shows a task.
    """
    shots = []
    for task in tasks:
        having = [case for case in cases if task in (case.task(name) for name in case.objects)]
        slides = read_slides(spread(having, count), [task], size, frames)
        found = [_shot(task, slide) for slide in slides if slide.masks[0].sum() >= MIN_PIXELS]
        if not found:
            raise InputError(f"tasks: no case shows {task} with {MIN_PIXELS} pixels or more at {size} px")
        shots += found
    return shots


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the values, evenly spread, in order."""
    if len(values) <= count:
        return list(values)
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))]


def _shot(task: str, slide: Slide) -> Shot:
    image = np.broadcast_to(slide.image, (3, *slide.image.shape[1:]))
    return Shot(task, image.copy(), slide.masks[0])


def by_task(shots: Sequence[Shot]) -> dict[str, list[Shot]]:
    """The shots of each task, in order."""
    found: dict[str, list[Shot]] = {}
    for shot in shots:
        found.setdefault(shot.task, []).append(shot)
    return found


def draw_episode(
    sets: Sequence[Mapping[str, Sequence[Shot]]], rows: int, prompt: str, memories: int, key: Sequence[int]
) -> Episode:
    """Of each set of shots by task two tasks (or one twice) with rows / 2 augmented rows each; all made from `key`."""
    rng = np.random.default_rng(list(key))
    drawn = []
    for shots in sets:
        names = sorted(shots)
        chosen = [names[i] for i in rng.permutation(len(names))[:2]]
        for name in [chosen[0], chosen[-1]]:
            for number in rng.permutation(max(rows // 2, len(shots[name])))[: rows // 2] % len(shots[name]):
                drawn.append(_augmented(shots[name][number], rng))
    return _episode(drawn, prompt, rng, 2 * len(sets), _count(memories, prompt, rng))


def synthetic_episode(size: int, rows: int, prompt: str, memories: int, key: Sequence[int]) -> Episode:
    """The same of two made-up clips, whose frames are turned and changed like different cases of one task."""
    rng = np.random.default_rng(list(key))
    drawn = []
    for _ in range(2):
        pixels, masks = synthetic_clip(size, 3, rng)
        shown = [i for i in range(3) if masks[i].sum() >= MIN_PIXELS] or [0]
        images = (pixels.transpose(0, 3, 1, 2) * 255).round().astype(np.uint8)
        drawn += [_augmented(Shot("", images[i], masks[i]), rng) for i in (shown * rows)[: rows // 2]]
    return _episode(drawn, prompt, rng, 2, _count(memories, prompt, rng))


def plain_episode(shots: Sequence[Shot], prompt: str, key: Sequence[int]) -> Episode:
    """Shots as they are, each with one prompt of its own, drawn from `key` and its place."""
    rngs = [np.random.default_rng([*key, number]) for number in range(len(shots))]
    rows = [(torch.from_numpy(shot.image).float() / 255, shot.mask) for shot in shots]
    parts = [_prompted([row], prompt, rng) for row, rng in zip(rows, rngs, strict=True)]
    return _stacked(rows, parts, 1, 0)


def _count(memories: int, prompt: str, rng: np.random.Generator) -> int:
    return int(rng.integers(1 if prompt == "none" else 0, memories + 1)) if memories else 0


def _augmented(shot: Shot, rng: np.random.Generator) -> tuple[torch.Tensor, Mask]:
    """(3, S, S) in [0, 1] and the mask, turned, moved and of other brightness; the object stays in sight."""
    image = torch.from_numpy(shot.image).float() / 255
    seen = apply_intensity(three_channels(image)[None], draw_intensity(rng))[0]
    view = draw_whole_view(shot.mask.shape[0], rng)
    moved = sample(torch.cat([seen, torch.from_numpy(shot.mask).float()[None]]), view)
    mask = (moved[3] >= 0.5).numpy()
    return (moved[:3], mask) if mask.sum() >= MIN_PIXELS else (seen, shot.mask)


def _episode(
    rows: list[tuple[torch.Tensor, Mask]], prompt: str, rng: np.random.Generator, groups: int, memories: int
) -> Episode:
    return _stacked(rows, [_prompted([row], prompt, rng) for row in rows], groups, memories)


Prompted = tuple[Mask, tuple[float, float], tuple[float, float, float, float], str]


def _prompted(rows: list[tuple[torch.Tensor, Mask]], prompt: str, rng: np.random.Generator) -> Prompted:
    """What one prompt means: (the part or all parts, a point (x, y) on it, its box moved by up to 5 %, the kind)."""
    mask = rows[0][1]
    part = mask if prompt == "none" else _part(mask, rng)
    y, x = divmod(int(rng.choice(np.flatnonzero(part))), part.shape[1])
    ys, xs = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    sides = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], dtype=float)
    spans = np.array([sides[2] - sides[0], sides[3] - sides[1]] * 2)
    x0, y0, x1, y1 = (sides + rng.uniform(-0.05, 0.05, 4) * spans).tolist()
    return part, (float(x), float(y)), (x0, y0, x1, y1), prompt


def _part(mask: Mask, rng: np.random.Generator) -> Mask:
    labels, count = ndimage.label(mask, structure=EIGHT)
    large = np.flatnonzero(np.bincount(labels.ravel())[1:] >= MIN_PIXELS)
    return mask if count < 2 or not len(large) else labels == int(rng.choice(large)) + 1


def _stacked(rows: list[tuple[torch.Tensor, Mask]], parts: list[Prompted], groups: int, memories: int) -> Episode:
    kind = parts[0][3]
    prompts = PromptTensors()
    if kind == "point":
        points = torch.tensor([[point] for _, point, _, _ in parts])
        prompts = PromptTensors(points=points, labels=torch.ones(len(parts), 1, dtype=torch.long))
    elif kind == "box":
        prompts = PromptTensors(boxes=torch.tensor([box for _, _, box, _ in parts]))
    target = torch.stack([torch.from_numpy(part).float() for part, _, _, _ in parts])[:, None]
    whole = torch.stack([torch.from_numpy(mask).float() for _, mask in rows])[:, None]
    return Episode(torch.stack([pixels for pixels, _ in rows]), target, whole, prompts, groups, memories)
