"""Rows of training batches out of clips: read, looked at, augmented; pure functions of clip and plan."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from samed2.data.augment import ViewRange, apply_intensity, draw_angle, draw_intensity, draw_view
from samed2.data.cases import Case, LoadedCase
from samed2.data.samples import (
    MIN_PIXELS,
    BatchPlan,
    draw_part,
    draw_points,
    hidden_pixels,
    jitter,
    look,
    seen,
    target_box,
    touching,
    training_windows,
)
from samed2.data.sampling import RENDER, Clip
from samed2.io import Scan, Window
from samed2.predict.zoom import View, as_tensor, content_view

HELD_BYTES = 1500 * 2**20  # decoded cases kept by each process
LARGE_CASE = 64 * 2**20  # of a larger one only what is asked for is read
WINDOW_FRAMES, WINDOW_SIDE = 16, 128  # what windows are taken from: frames of a case, about so many pixels a side
LOOKS = (0.15, 1.0)  # limits of the side of a view around a click, over the frame's longer side
CLICKED = 0.6  # share of rows with points that are seen through such a view
DETAILS = (0.35, 0.9)  # limits of the side of a view of a part of an object, over the longer side of its box
FOLLOWED = (1.4, 1.9)  # side of a view that follows an object, over the longer side of its box

Mask = NDArray[np.bool_]


class Rendered(NamedTuple):
    """A row: pixels (B, T, 3, S, S), the rest of N rows, see `Batch`."""

    pixels: torch.Tensor
    target: torch.Tensor
    present: torch.Tensor
    hidden: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    moves: torch.Tensor


@dataclass(frozen=True)
class Shared:
    """What is drawn once for all rows of a step, in every process alike.

    Attributes:
        whole: share of rows seen as whole frames.
        flip: whole frames are mirrored, all of them: left stays left among cases that remember each other.
        every: see `Batch`.
    """

    prompt: str
    frames: int
    limits: ViewRange
    whole: float = 0.0
    flip: bool = False
    every: bool = False


class Opened(Protocol):
    """Where rows get their cases from."""

    def get(self, case: Case) -> LoadedCase:
        """The opened case."""

    def windows(self, case: Case) -> list[Window]:
        """The windows the case is trained under, the usual one first."""


class OpenCases:
    """Cases opened when first used; small ones are decoded, and kept while there is room.

    Args:
        limit: bytes of decoded pixels and masks kept.
    """

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[str, tuple[LoadedCase, int]] = OrderedDict()
        self._windows: dict[str, list[Window]] = {}

    def get(self, case: Case) -> LoadedCase:
        """The opened case.

        Raises:
            InputError: it cannot be opened.
        """
        if case.label not in self._held:
            loaded = case.load()
            frames, height, width = loaded.masks.shape
            size = frames * height * width * (loaded.scan.dtype.itemsize * loaded.scan.channels + len(loaded.masks))
            if size <= LARGE_CASE:
                loaded = loaded.in_memory()
            while self._held and sum(s for _, s in self._held.values()) + size > self._limit:
                self._held.popitem(last=False)
            self._held[case.label] = (loaded, size)
        self._held.move_to_end(case.label)
        return self._held[case.label][0]

    def windows(self, case: Case) -> list[Window]:
        """The windows the case is trained under, the usual one first; from some pixels of at most 16 frames."""
        if case.label not in self._windows:
            loaded = self.get(case)
            scan = loaded.scan
            chosen = np.unique(np.linspace(0, scan.num_frames - 1, WINDOW_FRAMES).round().astype(int))
            thin = max(1, min(scan.height, scan.width) // WINDOW_SIDE)
            frames = scan.frames(chosen)[:, ::thin, ::thin]
            some = Scan.from_array(frames, kind="volume", channels_last=scan.channels == 3)
            self._windows[case.label] = training_windows(LoadedCase(case, some, loaded.masks))
        return self._windows[case.label]


class _Row:
    """A clip with its case opened, and everything random about it."""

    def __init__(self, clip: Clip, opened: Opened, plan: BatchPlan, shared: Shared) -> None:
        self.clip, self.plan, self.shared = clip, plan, shared
        self.rng = np.random.default_rng([RENDER, *clip.key])
        self.loaded = opened.get(clip.case)
        windows = opened.windows(clip.case)
        self.window = windows[int(self.rng.integers(len(windows))) if plan.augment else 0]
        self.change = draw_intensity(self.rng) if plan.augment else None
        self._looked: dict[tuple[int, View], torch.Tensor] = {}

    def mask(self, frame: int) -> Mask:
        return self.loaded.masks.on_frame(self.clip.object, frame)

    def pixels(self, frames: list[int], views: list[View]) -> torch.Tensor:
        """Frames, each through a view, with the row's change of intensities; (len(frames), 3, S, S)."""
        places = list(zip(frames, views, strict=True))
        for frame, view in places:
            if (frame, view) not in self._looked:
                self._looked[frame, view] = look(self.loaded.scan.frame(frame), self.window, view)
        looked = torch.stack([self._looked[place] for place in places])
        return looked if self.change is None else apply_intensity(looked, self.change)

    def content(self, frame: int) -> View:
        """The view of all that a frame shows, as prediction looks at it; without the row's change of intensities."""
        return content_view(as_tensor(self.window.apply(self.loaded.scan.frame(frame))), self.plan.image_size)

    def answer(self, parts: list[Mask], views: list[View], prompted: Mask, box: Box) -> tuple[torch.Tensor, ...]:
        """Targets and prompts of parts through views; where one is empty, prompts are those of `prompted`."""
        target = torch.stack([seen(part, view) for part, view in zip(parts, views, strict=True)])
        present = torch.tensor([bool(part.any()) for part in parts]) & (target.flatten(1).amax(dim=1) > 0.05)
        pairs = zip(parts, target, views, strict=True)
        hidden = torch.tensor([hidden_pixels(part, shown, view) for part, shown, view in pairs])
        told = [t if on else seen(prompted, view) for t, on, view in zip(target, present, views, strict=True)]
        boxes = torch.stack(
            [
                jitter(target_box(t[0], view, box), self.plan.image_size, self.rng)
                for t, view in zip(told, views, strict=True)
            ]
        )
        points, labels = zip(*(draw_points(t[0], self.rng) for t in told), strict=True)
        moves = torch.stack([move(view, before) for view, before in zip(views, [views[0], *views], strict=False)])
        return target, present, hidden.float(), boxes, torch.stack(points), torch.stack(labels), moves


Box = tuple[float, float, float, float]


def render(clip: Clip, opened: Opened, plan: BatchPlan, shared: Shared) -> Rendered:
    """A clip of neighbours around the frame it was drawn for; B = 1."""
    row = _Row(clip, opened, plan, shared)
    rng, size, (_, height, width) = row.rng, plan.image_size, row.loaded.masks.shape
    whole = rng.random() < shared.whole
    part = row.mask(clip.middle)
    if shared.prompt != "none":
        part = draw_part(part, rng)
    box = bounds(part)
    if whole:
        view = draw_whole(row.content(clip.middle), plan, shared.flip, rng)
    elif shared.prompt == "point" and rng.random() < CLICKED:
        view = draw_click_view(part, height, width, plan, rng)
    elif shared.prompt == "mask" and plan.detail and rng.random() < plan.detail:
        view = draw_detail_view(part, plan, rng)
    else:
        view = draw_view(box, size, shared.limits, rng)
    middle, shift = len(clip.frames) // 2, 0
    if rng.random() < (plan.missing if shared.prompt == "none" else plan.absent):
        shift = without(row, clip.middle, rng) - clip.middle
    numbers = [min(max(n + shift, 0), clip.total - 1) for n in clip.frames] if shift else list(clip.frames)
    views = [view] * len(numbers)
    pixels = row.pixels(numbers, views)
    chosen = range(len(numbers)) if shared.every else [middle]
    parts = [_same_part(row, numbers[i], part) for i in chosen]
    return Rendered(pixels[None], *row.answer(parts, [views[i] for i in chosen], part, box))


def render_stream(clip: Clip, opened: Opened, plan: BatchPlan, shared: Shared) -> Rendered:
    """Frames visited one after another, each with its neighbours through its own view; B = the number of frames."""
    row = _Row(clip, opened, plan, shared)
    rng, first = row.rng, row.mask(clip.middle)
    alone = rng.random() < 0.2
    part = draw_part(first, rng) if alone else first
    parts = [part]
    for before, number in zip(clip.frames, clip.frames[1:], strict=False):
        parts.append(_followed(row, before, number, parts[-1]) if alone else row.mask(number))
    views = draw_stream_views(parts, lambda: row.content(clip.middle), plan, shared, rng)
    reach = range(-(shared.frames // 2), shared.frames - shared.frames // 2)
    clips = [[min(max(n + i, 0), clip.total - 1) for i in reach] for n in clip.frames]
    pixels = [row.pixels(numbers, [view] * len(numbers)) for numbers, view in zip(clips, views, strict=True)]
    return Rendered(torch.stack(pixels), *row.answer(parts, views, part, bounds(part)))


def draw_stream_views(
    parts: list[Mask], content: Callable[[], View], plan: BatchPlan, shared: Shared, rng: np.random.Generator
) -> list[View]:
    """One view for all frames (around all of the object, or `content`), or one that follows the object.

    A view that follows is drawn around what the frame before showed, as prediction does.
    """
    size = plan.image_size
    if rng.random() < 0.1:
        return [draw_whole(content(), plan, False, rng)] * len(parts)
    if rng.random() >= plan.follow:
        return [draw_view(bounds(np.any(parts, axis=0)), size, shared.limits, rng)] * len(parts)
    views = [draw_view(bounds(parts[0]), size, shared.limits, rng)]
    last = parts[0]
    for part in parts[:-1]:
        last = part if part.any() else last
        y0, x0, y1, x1 = bounds(last)
        longest = max(y1 - y0, x1 - x0)
        side = max(float(rng.uniform(*FOLLOWED)) * longest, 16.0)
        cy, cx = ((y0 + y1) / 2, (x0 + x1) / 2) + rng.uniform(-0.06, 0.06, 2) * longest
        views.append(replace(views[0], cy=float(cy), cx=float(cx), side=side))
    return views


def draw_whole(view: View, plan: BatchPlan, flip: bool, rng: np.random.Generator) -> View:
    """The view of a whole frame, or nearly so: turned by up to 10 degrees, scaled and moved a little."""
    if not plan.augment:
        return view
    cy, cx = (view.cy, view.cx) + rng.uniform(-0.04, 0.04, 2) * view.side
    side = view.side * math.exp(rng.uniform(-0.12, 0.12))
    angle = float(rng.uniform(-math.pi / 18, math.pi / 18))
    return replace(view, cy=float(cy), cx=float(cx), side=side, angle=angle, flip_x=flip)


def draw_click_view(part: Mask, height: int, width: int, plan: BatchPlan, rng: np.random.Generator) -> View:
    """A view around a place in the object, of any size from a part of the object to the whole frame.

    Prediction looks at clicks so; see `samed2.predict.rows.looks`.
    """
    place = int(rng.choice(np.flatnonzero(part)))
    cy, cx = divmod(place, width)
    most = plan.image_size * math.sqrt(np.count_nonzero(part) / MIN_PIXELS)  # the object keeps some pixels
    side = math.exp(rng.uniform(math.log(LOOKS[0]), math.log(LOOKS[1]))) * max(height, width)
    return _turned(View(cy + 0.5, cx + 0.5, max(min(side, most), 16.0), plan.image_size), plan, rng)


def draw_detail_view(part: Mask, plan: BatchPlan, rng: np.random.Generator) -> View:
    """A view of a piece of the object, with some of its outline.

    Prediction looks at large objects so; see `samed2.predict.detail`.
    """
    outline = np.flatnonzero(part & ~ndimage.binary_erosion(part))
    cy, cx = divmod(int(rng.choice(outline)), part.shape[1])
    y0, x0, y1, x1 = bounds(part)
    side = max(float(rng.uniform(*DETAILS)) * max(y1 - y0, x1 - x0), 16.0)
    cy, cx = (cy + 0.5, cx + 0.5) + rng.uniform(-0.3, 0.3, 2) * side
    return _turned(View(float(cy), float(cx), side, plan.image_size), plan, rng)


def _turned(view: View, plan: BatchPlan, rng: np.random.Generator) -> View:
    """A view turned, mirrored and stretched at random."""
    if not plan.augment:
        return view
    turn, by = rng.integers(4) * math.pi / 2, (rng.random() < 0.5) * rng.uniform(-math.pi / 6, math.pi / 6)
    angle = draw_angle(turn, by, plan.upright, rng)
    stretch = math.exp(rng.uniform(-0.15, 0.15))
    return replace(view, angle=angle, flip_x=bool(rng.random() < 0.5), stretch=stretch)


def move(view: View, before: View) -> torch.Tensor:
    """(2, 3) affine from places (x, y) in one view to those in another, both in [-1, 1] as for `affine_grid`."""
    here, there = view.matrix(), before.matrix()
    back = np.linalg.inv(there[:, :2])
    turn = back @ here[:, :2]
    shift = back @ (here[:, 2] - there[:, 2]) * 2 / view.size + turn.sum(axis=1) - 1
    return torch.from_numpy(np.concatenate([turn, shift[:, None]], axis=1)).float()


def without(row: _Row, middle: int, rng: np.random.Generator) -> int:
    """A frame of the case that lacks the object, or `middle` where a few tries find none."""
    total = row.clip.total
    for number in rng.integers(0, total, 4 if total > 1 else 0):
        if not row.mask(int(number)).any():
            return int(number)
    return middle


def bounds(part: Mask) -> Box:
    """The tight frame box (y0, x0, y1, x1) of a (H, W) mask that is not empty."""
    ys, xs = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return float(ys[0]), float(xs[0]), float(ys[-1] + 1), float(xs[-1] + 1)


def _same_part(row: _Row, frame: int, part: Mask) -> Mask:
    """The part on another frame: all of the object where it is all of it, else what overlaps it."""
    if frame == row.clip.middle:
        return part
    mask = row.mask(frame)
    return mask if row.shared.prompt == "none" else touching(mask, part)


def _followed(row: _Row, before: int, number: int, part: Mask) -> Mask:
    """The part on a later frame, found from frame to frame."""
    step = 1 if number > before else -1
    for between in range(before + step, number + step, step) if number != before else ():
        part = touching(row.mask(between), part)
    return part
