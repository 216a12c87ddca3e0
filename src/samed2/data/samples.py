"""Training batches drawn from items in memory. A batch is a pure function of (seed, step), so resuming is exact."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from samed2.data.augment import ViewRange, apply_intensity, draw_intensity, draw_view
from samed2.data.cases import LoadedCase
from samed2.io.window import Window
from samed2.predict.zoom import View, as_tensor, sample, three_channels

MIN_PIXELS = 12
EIGHT = np.ones((3, 3), dtype=int)
FrameBox = tuple[float, float, float, float]  # (y0, x0, y1, x1)
PROMPTS = ("box", "point", "box+point", "mask+point", "none")


@dataclass(frozen=True)
class BatchPlan:
    """What the batches of a stage look like. Probabilities of the prompt kinds are in the order of `PROMPTS`."""

    image_size: int = 128
    rows: int = 32
    frames: int = 3  # of a clip; clips are drawn with probability `clips`, else T = 1
    clips: float = 0.2
    memory: float = 0.0  # probability of a batch of one task whose rows serve as each other's memory
    prompts: tuple[float, ...] = (0.7, 0.2, 0.04, 0.06, 0.0)
    margin: tuple[float, float] = (1.25, 1.9)
    augment: bool = True


@dataclass
class Batch:
    """B clips of T frames with one object each.

    pixels (B, T, 3, S, S) in [0, 1]; target (B*T, 1, S, S) in [0, 1]; present (B*T,) bool;
    boxes (B*T, 4) as (x0, y0, x1, y1) in model pixels; points (B*T, P, 2) and labels (B*T, P) or None;
    prompt: one of `PROMPTS`; memory: rows are of one task; tasks: index of each clip's task.
    """

    pixels: torch.Tensor
    target: torch.Tensor
    present: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    prompt: str
    memory: bool
    tasks: list[int]


@dataclass(frozen=True)
class Place:
    """Where a task can be seen: item index and the frames that show the object."""

    item: int
    frames: tuple[int, ...]


class TaskIndex:
    """Tasks (data set and object), their places, and how often each is drawn.

    Args:
        items: loaded items.
        balance: exponent on the number of items of a task: 0 draws all tasks equally often, 1 all items.
        weights: factors by task name ("DATASET/OBJECT").
    """

    def __init__(self, items: list[LoadedCase], balance: float = 0.25, weights: dict[str, float] | None = None):
        self.items = items
        places: dict[str, list[Place]] = defaultdict(list)
        for index, loaded in enumerate(items):
            for name, mask in loaded.masks.items():
                frames = tuple(int(f) for f in np.flatnonzero(mask.sum(axis=(1, 2)) >= MIN_PIXELS))
                if frames:
                    places[f"{loaded.case.dataset}/{name}"].append(Place(index, frames))
        self.names = sorted(places)
        self.places = [places[name] for name in self.names]
        self.is_stack = [items[p[0].item].case.kind != "image" for p in self.places]
        chance = np.array([len(p) ** balance for p in self.places], dtype=float)
        chance *= np.array([(weights or {}).get(name, 1.0) for name in self.names])
        self.chance = chance / chance.sum()
        self.windows = [training_windows(loaded) for loaded in items]

    def draw_tasks(self, rng: np.random.Generator, count: int, stacks_only: bool) -> NDArray[np.int64]:
        """`count` task indices; only volumes and videos when `stacks_only`."""
        chance = self.chance * np.array(self.is_stack) if stacks_only else self.chance
        if chance.sum() == 0:
            chance = self.chance
        return rng.choice(len(self.names), size=count, p=chance / chance.sum())


def draw_batch(index: TaskIndex, plan: BatchPlan, seed: int, step: int) -> Batch:
    """The batch of a step; the same for the same arguments, whoever calls."""
    rng = np.random.default_rng([seed, step])
    prompt = PROMPTS[rng.choice(len(PROMPTS), p=plan.prompts)]
    memory = bool(rng.random() < plan.memory)
    clip = not memory and rng.random() < plan.clips and any(index.is_stack)
    frames = plan.frames if clip else 1
    count = max(1, plan.rows // frames)
    if memory:
        tasks = np.repeat(index.draw_tasks(rng, 1, False), count)
        prompt = ("none", "box", "point")[rng.choice(3, p=(0.4, 0.35, 0.25))]
    else:
        tasks = index.draw_tasks(rng, count, stacks_only=clip)
    wide = prompt in ("point", "none") and rng.random() < 0.6
    limits = ViewRange(margin=(1.25, 3.5) if wide else plan.margin, augment=plan.augment)
    rows = [draw_row(index, int(task), plan, limits, frames, rng.spawn(1)[0]) for task in tasks]
    pixels, target, boxes, points, labels = (torch.cat([row[i] for row in rows]) for i in range(5))
    present = target.flatten(1).amax(dim=1) > 0.5
    return Batch(
        pixels.unflatten(0, (count, frames)),
        target,
        present,
        boxes,
        points,
        labels,
        prompt,
        memory,
        tasks.tolist(),
    )


def draw_row(
    index: TaskIndex, task: int, plan: BatchPlan, limits: ViewRange, frames: int, rng: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    """One clip: pixels (T, 3, S, S), target (T, 1, S, S), boxes (T, 4), points (T, P, 2), labels (T, P)."""
    places = index.places[task]
    place = places[rng.integers(len(places))]
    loaded = index.items[place.item]
    middle = place.frames[rng.integers(len(place.frames))]
    name = index.names[task].split("/", 1)[1]
    part = draw_part(loaded.masks[name][middle], rng)
    ys, xs = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    box = (float(ys[0]), float(xs[0]), float(ys[-1] + 1), float(xs[-1] + 1))
    view = draw_view(box, plan.image_size, limits, rng)
    last = len(loaded.frames) - 1
    numbers = [min(max(middle + i - frames // 2, 0), last) for i in range(frames)]
    windows = index.windows[place.item]
    window = windows[rng.integers(len(windows)) if plan.augment else 0]
    change = draw_intensity(rng) if plan.augment else None
    pixels = torch.stack([look(loaded.frames[n], window, view) for n in numbers])
    if change is not None:
        pixels = apply_intensity(pixels, change)
    masks = [part if n == middle else touching(loaded.masks[name][n], part) for n in numbers]
    target = torch.stack([sample(torch.from_numpy(m.astype(np.float32))[None], view) for m in masks])
    own = target_box(target[frames // 2, 0], view, box)
    boxes = torch.stack([jitter(target_box(t[0], view, None, own), plan.image_size, rng) for t in target])
    found = [draw_points(t[0], rng) for t in target]
    return pixels, target, boxes, torch.stack([p for p, _ in found]), torch.stack([v for _, v in found])


def draw_part(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """One connected part of a (H, W) mask (of at least `MIN_PIXELS`), or sometimes all of it."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    if count <= 1 or rng.random() < 0.15:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    large = np.flatnonzero(sizes >= MIN_PIXELS)
    if len(large) == 0:
        return mask
    return labels == int(large[rng.integers(len(large))]) + 1


def touching(mask: NDArray[np.bool_], part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a neighbouring frame's mask that overlap `part`."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    if count == 0:
        return mask
    kept = np.unique(labels[part & mask])
    return np.isin(labels, kept[kept > 0])


def look(frame: NDArray, window: Window, view: View) -> torch.Tensor:
    """A frame through window and view, (3, S, S) in [0, 1]; only the part the view needs is windowed."""
    corners = np.array([[0, 0], [view.size, 0], [0, view.size], [view.size, view.size]], dtype=float)
    matrix = view.matrix()
    xy = corners @ matrix[:, :2].T + matrix[:, 2]
    height, width = frame.shape[:2]
    x0, y0 = (max(0, int(v)) for v in np.floor(xy.min(axis=0)) - 2)
    x1, y1 = (min(limit, int(v)) for v, limit in zip(np.ceil(xy.max(axis=0)) + 2, (width, height), strict=True))
    piece = as_tensor(window.apply(frame[y0:y1, x0:x1]))
    moved = View(view.cy - y0, view.cx - x0, view.side, view.size, view.angle, view.flip_x, view.stretch)
    return three_channels(sample(piece, moved))


def target_box(
    target: torch.Tensor, view: View, box: FrameBox | None = None, fallback: torch.Tensor | None = None
) -> torch.Tensor:
    """Tight (x0, y0, x1, y1) of a soft (S, S) mask; of an empty one `fallback`, or the frame box through the view."""
    ys, xs = (torch.nonzero((target > 0.5).any(dim=d)).flatten() for d in (1, 0))
    if len(ys) and len(xs):
        return torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]).float()
    if fallback is not None:
        return fallback
    assert box is not None, "an empty target needs a fallback or the frame box"
    y0, x0, y1, x1 = box
    uv = view.to_model(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]))
    return torch.tensor([*uv.min(axis=0), *uv.max(axis=0)], dtype=torch.float32).clamp(0, view.size)


def jitter(box: torch.Tensor, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Move each side: mostly outward by 0 to 6 % of the box, sometimes either way by up to 12 %."""
    shift = rng.uniform(0, 0.06, 4) if rng.random() < 0.7 else rng.uniform(-0.08, 0.12, 4)
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    moved = box + torch.tensor([-shift[0] * width, -shift[1] * height, shift[2] * width, shift[3] * height]).float()
    return moved.clamp(0, size)


def draw_points(target: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to three points on a (S, S) mask: the first inside, the rest inside or outside; (3, 2) as (x, y), (3,)."""
    small = F.avg_pool2d(target[None], 4)[0].numpy() > 0.5
    step = target.shape[-1] / small.shape[-1]
    points, labels = [], []
    for number in range(3):
        positive = number == 0 or rng.random() < 0.6
        where = small if positive else ~small
        if not where.any():
            where, positive = ~where, not positive
        if number == 0 and rng.random() < 0.5:
            depth = ndimage.distance_transform_edt(np.pad(where, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        else:
            y, x = divmod(int(rng.choice(np.flatnonzero(where))), small.shape[1])
        points.append([(x + rng.random()) * step - 0.5, (y + rng.random()) * step - 0.5])
        labels.append(int(positive))
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)


def training_windows(loaded: LoadedCase) -> list[Window]:
    """The windows an item is trained under, the usual one first."""
    frames = loaded.frames
    if frames.ndim == 4 or (frames.dtype == np.uint8 and loaded.case.kind != "volume"):
        return [Window(0, 255, "dtype")]
    values = frames[:: max(1, len(frames) // 16)].astype(np.float32)
    spans = [np.percentile(values, (lo, hi)) for lo, hi in ((0.5, 99.5), (0.0, 100.0), (2.0, 98.0), (0.5, 99.9))]
    windows = [Window(float(lo), float(max(hi, lo + 1e-3)), "percentiles") for lo, hi in spans]
    if loaded.case.modality == "ct" and frames.dtype != np.uint8:
        offset = 0.0 if values.min() < -200 else 1024.0
        for low, high in ((-160, 240), (-150, 250), (-125, 275), (-450, 1100)):
            windows.append(Window(low + offset, high + offset, "preset"))
    if frames.dtype == np.uint8:
        windows.insert(0, Window(0, 255, "dtype"))
    return windows
