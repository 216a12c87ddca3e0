"""Training batches read from cases as they are needed: decoded, cropped and augmented, with worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from samed2.data.augment import ViewRange
from samed2.data.render import OpenCases, Rendered, Shared, render, render_stream
from samed2.data.samples import PROMPTS, Batch, BatchPlan, Episode
from samed2.data.sampling import BATCH, UNSEEN, Clip, Sampler
from samed2.data.unseen import render_unseen


class ClipStream(torch.utils.data.IterableDataset):
    """The batches of the steps `start` to `stop`; each is a pure function of the sampler's seed and the step.

    Worker w of n makes every n-th batch and the loader takes them in turn, so the order never depends on the
    workers; process `rank` of `world` makes a share of each. To resume, start at the step to be made next.

    Args:
        plan: of all steps, or of a step.
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
    ) -> None:
        self.sampler, self.plan, self.start, self.stop = sampler, plan, start, stop
        self.rank, self.world = rank, world
        self._opened = OpenCases()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OpenCases()}  # open files do not travel to other processes

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        first, every = (info.id, info.num_workers) if info else (0, 1)
        for step in range(self.start + first, self.stop, every):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        """This process's part of the batch of a step.

        Raises:
            InputError: a case cannot be read, or the plan has fewer rows than there are processes.
        """
        plan = self.plan(step) if callable(self.plan) else self.plan
        rng = np.random.default_rng([BATCH, self.sampler.seed, step])
        episode = draw_episode(plan, self.sampler.has_stacks, rng)
        shared = draw_shared(plan, episode, self.sampler.has_stacks, rng)
        length = int(rng.integers(plan.stream_frames[0], plan.stream_frames[1] + 1)) if episode == "stream" else 1
        clips = self._clips(step, plan, episode, shared, length)
        rows = [self._row(clip, plan, episode, shared) for clip in clips]
        return collect(rows, clips, episode, shared, length, [self.sampler.tasks.index(c.task) for c in clips])

    def _row(self, clip: Clip, plan: BatchPlan, episode: Episode, shared: Shared) -> Rendered:
        if episode != "memory" and plan.synthetic:
            chance = float(np.random.default_rng([UNSEEN, *clip.key, 1]).random())
            invented = render_unseen(clip, self._opened, plan, shared) if chance < plan.synthetic else None
            if invented is not None:
                return invented
        return (render_stream if episode == "stream" else render)(clip, self._opened, plan, shared)

    def _clips(self, step: int, plan: BatchPlan, episode: Episode, shared: Shared, length: int) -> list[Clip]:
        share: dict[str, Any] = {"rank": self.rank, "world": self.world}
        sampler, frames = self.sampler, shared.frames
        if episode == "stream":
            rows = plan.stream_rows if frames == 1 else plan.stream_rows // 2
            return sampler.draw_streams(step, max(self.world, rows), length, **share)
        rows, stacks = max(self.world, plan.rows // frames), frames > 1
        if episode == "memory":
            groups = max(self.world, 2)
            return sampler.draw_groups(step, groups, max(2, rows // groups), frames=frames, stacks=stacks, **share)
        return sampler.draw(step, rows, frames=frames, stacks=stacks, **share)


def draw_episode(plan: BatchPlan, stacks: bool, rng: np.random.Generator) -> Episode:
    """Which episode a step is; without volumes and videos there are no streams."""
    number = rng.random()
    if number < plan.stream:
        return "stream" if stacks else "image"
    return "memory" if number < plan.stream + plan.memory else "image"


def draw_shared(plan: BatchPlan, episode: Episode, stacks: bool, rng: np.random.Generator) -> Shared:
    """Draw what all rows of a step share."""
    shares = np.array([plan.prompts.get(name, 0.0) for name in PROMPTS])
    prompt = PROMPTS[rng.choice(len(PROMPTS), p=shares / shares.sum())]
    frames = plan.frames if rng.random() < plan.clips and stacks else 1
    limits = ViewRange(margin=plan.margin, upright=plan.upright, augment=plan.augment)
    unprompted, flip = rng.random() < plan.unprompted, bool(rng.random() < 0.5) and plan.augment
    if episode != "memory":
        return Shared(prompt, frames, limits, every=episode == "image")
    if unprompted:
        return Shared("none", frames, limits, 1.0, flip)
    return Shared(prompt, frames, limits, 0.4, flip)


def collect(
    rows: list[Rendered], clips: list[Clip], episode: Episode, shared: Shared, steps: int, tasks: list[int]
) -> Batch:
    """Rows as one batch."""
    tensors = {name: torch.cat([getattr(row, name) for row in rows]) for name in Rendered._fields}
    return Batch(
        episode=episode,
        prompt=shared.prompt,
        steps=steps,
        every=shared.every,
        **tensors,
        tasks=tasks,
        patients=[clip.patient for clip in clips],
        total=max(clips[0].total, steps),
    )


def clip_loader(
    stream: ClipStream, workers: int = 0, prefetch: int = 4, start: Callable[[int], None] | None = None
) -> torch.utils.data.DataLoader:
    """The stream's batches in order, made by worker processes (0: in this one), each of which calls `start` first."""
    return torch.utils.data.DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=start,
    )
