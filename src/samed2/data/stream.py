"""Training batches read from cases as they are needed: decoded, cropped and augmented, with worker processes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from samed2.data.augment import ViewRange, apply_intensity, draw_intensity, draw_view
from samed2.data.cases import Case, LoadedCase
from samed2.data.samples import (
    PROMPTS,
    Batch,
    BatchPlan,
    draw_part,
    draw_points,
    jitter,
    look,
    target_box,
    touching,
    training_windows,
)
from samed2.data.sampling import BATCH, RENDER, Clip, Sampler
from samed2.io import Scan, Window
from samed2.predict.zoom import sample

HELD_CASES = 32  # opened cases kept by each process; those of a store hold no pixels
WINDOW_FRAMES, WINDOW_SIDE = 16, 128  # what windows are taken from: frames of a case, about so many pixels a side


@dataclass
class ClipBatch(Batch):
    """A `Batch`, the clips it was made of, and confirmed cases of the same tasks to remember.

    `support` has T = 1, or is None; its row i belongs to clip `support_of[i]`.
    """

    clips: list[Clip]
    support: Batch | None
    support_of: list[int]


@dataclass(frozen=True)
class StepPlan:
    """What is drawn once for all rows of a step, in every process alike."""

    prompt: str
    memory: bool
    frames: int
    limits: ViewRange
    task: str | None


class OpenCases:
    """Cases opened when first used, the last `HELD_CASES` kept."""

    def __init__(self, limit: int = HELD_CASES) -> None:
        self._limit = limit
        self._held: OrderedDict[str, LoadedCase] = OrderedDict()
        self._windows: dict[str, list[Window]] = {}

    def get(self, case: Case) -> LoadedCase:
        """The opened case.

        Raises:
            InputError: it cannot be opened.
        """
        if case.label not in self._held:
            while len(self._held) >= self._limit:
                self._held.popitem(last=False)
            self._held[case.label] = case.load()
        self._held.move_to_end(case.label)
        return self._held[case.label]

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


def render(clip: Clip, opened: OpenCases, plan: BatchPlan, limits: ViewRange) -> tuple[torch.Tensor, ...]:
    """Read, crop and augment a clip; a pure function of clip and plan.

    Returns:
        pixels (T, 3, S, S) and target (T, 1, S, S) in [0, 1], boxes (T, 4), points (T, P, 2), labels (T, P).
    """
    rng = np.random.default_rng([RENDER, *clip.key])
    loaded = opened.get(clip.case)
    masks = {n: loaded.masks.on_frame(clip.object, n) for n in {clip.middle, *clip.frames}}
    part = draw_part(masks[clip.middle], rng)
    ys, xs = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    box = (float(ys[0]), float(xs[0]), float(ys[-1] + 1), float(xs[-1] + 1))
    view = draw_view(box, plan.image_size, limits, rng)
    windows = opened.windows(clip.case)
    window = windows[int(rng.integers(len(windows))) if plan.augment else 0]
    change = draw_intensity(rng) if plan.augment else None
    pixels = {n: look(loaded.scan.frame(n), window, view) for n in dict.fromkeys(clip.frames)}
    seen = torch.stack([pixels[n] for n in clip.frames])
    if change is not None:
        seen = apply_intensity(seen, change)
    parts = [part if n == clip.middle else touching(masks[n], part) for n in clip.frames]
    target = torch.stack([sample(torch.from_numpy(p.astype(np.float32))[None], view) for p in parts])
    own = target_box(target[len(clip.frames) // 2, 0], view, box)
    boxes = torch.stack([jitter(target_box(t[0], view, None, own), plan.image_size, rng) for t in target])
    found = [draw_points(t[0], rng) for t in target]
    return seen, target, boxes, torch.stack([p for p, _ in found]), torch.stack([v for _, v in found])


class ClipStream(torch.utils.data.IterableDataset):
    """The batches of the steps `start` to `stop`; each is a pure function of the sampler's seed and the step.

    Worker w of n makes every n-th batch and the loader takes them in turn, so the order never depends on the
    workers; process `rank` of `world` makes rows rank::world of each. To resume, start at the step to be made next.

    Args:
        plan: of all steps, or of a step.
        support: for each row this many cases of its task and of other patients, where there are.
    """

    def __init__(
        self,
        sampler: Sampler,
        plan: BatchPlan | Callable[[int], BatchPlan],
        stop: int,
        *,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        support: int = 0,
    ) -> None:
        self.sampler, self.plan, self.start, self.stop = sampler, plan, start, stop
        self.rank, self.world, self.support = rank, world, support
        self._opened = OpenCases()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OpenCases()}  # open files do not travel to other processes

    def __iter__(self) -> Iterator[ClipBatch]:
        info = torch.utils.data.get_worker_info()
        first, every = (info.id, info.num_workers) if info else (0, 1)
        for step in range(self.start + first, self.stop, every):
            yield self.batch(step)

    def batch(self, step: int) -> ClipBatch:
        """This process's part of the batch of a step.

        Raises:
            InputError: a case cannot be read, or the plan has fewer rows than there are processes.
        """
        plan = self.plan(step) if callable(self.plan) else self.plan
        drawn = self.step_plan(plan, step)
        count = max(1, plan.rows // drawn.frames)
        clips = self.sampler.draw(
            step,
            count,
            rank=self.rank,
            world=self.world,
            frames=drawn.frames,
            task=drawn.task,
            stacks=drawn.frames > 1 and drawn.task is None,
        )
        asked = [(i, c) for i, clip in enumerate(clips) for c in self.sampler.support(clip, self.support, step)]
        plain = replace(drawn, prompt="none", frames=1)
        return ClipBatch(
            **vars(self._render(clips, plan, drawn)),
            clips=clips,
            support=self._render([c for _, c in asked], plan, plain) if asked else None,
            support_of=[i for i, _ in asked],
        )

    def step_plan(self, plan: BatchPlan, step: int) -> StepPlan:
        """Draw what all rows of a step share."""
        sampler = self.sampler
        rng = np.random.default_rng([BATCH, sampler.seed, step])
        prompt = PROMPTS[rng.choice(len(PROMPTS), p=plan.prompts)]
        memory = bool(rng.random() < plan.memory)
        clip = bool(rng.random() < plan.clips) and not memory and sampler.has_stacks
        if memory:
            prompt = ("none", "box", "point")[rng.choice(3, p=(0.4, 0.35, 0.25))]
        wide = bool(rng.random() < 0.6) and prompt in ("point", "none")
        limits = ViewRange(margin=(1.25, 3.5) if wide else plan.margin, augment=plan.augment)
        task = sampler.draw_task(step) if memory else None
        return StepPlan(prompt, memory, plan.frames if clip else 1, limits, task)

    def _render(self, clips: list[Clip], plan: BatchPlan, drawn: StepPlan) -> Batch:
        rows = [render(clip, self._opened, plan, drawn.limits) for clip in clips]
        pixels, target, boxes, points, labels = (torch.cat([row[i] for row in rows]) for i in range(5))
        present = target.flatten(1).amax(dim=1) > 0.5
        tasks = [self.sampler.tasks.index(clip.task) for clip in clips]
        pixels = pixels.unflatten(0, (len(clips), drawn.frames))
        return Batch(pixels, target, present, boxes, points, labels, drawn.prompt, drawn.memory, tasks)


def clip_loader(stream: ClipStream, workers: int = 0, prefetch: int = 4) -> torch.utils.data.DataLoader:
    """The stream's batches in order, made by worker processes (0: in this one)."""
    return torch.utils.data.DataLoader(
        stream, batch_size=None, num_workers=workers, prefetch_factor=prefetch if workers else None
    )
