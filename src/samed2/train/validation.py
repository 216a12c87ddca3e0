"""How good a model in training is: fixed questions about `val` with a box, with a click, and from frame to frame."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from samed2.data.augment import ViewRange
from samed2.data.frames import FrameTable
from samed2.data.render import OpenCases, Shared, render, render_stream
from samed2.data.samples import Batch, BatchPlan
from samed2.data.sampling import Sampler
from samed2.data.stream import collect
from samed2.errors import InputError
from samed2.nn import Features, PromptTensors, SAMed2Model
from samed2.nn.decoder import choose
from samed2.train.losses import mask_iou
from samed2.train.prompting import Carried
from samed2.train.steps import Rounds, encode, next_prompts, visit

KINDS = ("box", "point", "stream")
STREAM_FRAMES = 5


class Validation:
    """Questions about every task of a table, made once: `rows` with a box, as many with a click, and streams.

    Views, prompts and frames are the same at every call and for every model.
    """

    def __init__(self, table: FrameTable, size: int, rows: int = 6, streams: int = 3) -> None:
        sampler, opened = Sampler(table, seed=1), OpenCases()
        plan = BatchPlan(image_size=size, margin=(1.4, 1.4), augment=False, absent=0.0, follow=1.0)
        limits = ViewRange(margin=plan.margin, augment=False)
        self.batches: list[tuple[str, str, Batch]] = []
        for number, task in enumerate(sampler.tasks):
            for kind in KINDS:
                shared = Shared("point" if kind == "point" else "box", 1, limits, every=kind != "stream")
                try:
                    if kind == "stream":
                        clips = sampler.draw_streams(number, streams, STREAM_FRAMES, task=task)
                    else:
                        clips = sampler.draw(number, rows, frames=1, task=task)
                except InputError:
                    continue  # nothing of the task is large enough, or it has images only
                paint, steps = (render_stream, STREAM_FRAMES) if kind == "stream" else (render, 1)
                drawn = [paint(clip, opened, plan, shared) for clip in clips]
                batch = collect(drawn, clips, "stream" if steps > 1 else "image", shared, steps, [number] * len(clips))
                self.batches.append((kind, task, batch))

    @torch.inference_mode()
    def score(self, model: SAMed2Model) -> dict[str, float]:
        """Mean Dice over tasks by kind of question ("val/box"), their mean ("val_dice"), and by task with a box.

        "val/carried", of streams to which masks are handed on, is not in the mean.
        """
        model.eval()
        device = next(model.parameters()).device
        found: dict[str, dict[str, float]] = {kind: {} for kind in (*KINDS, "carried")}
        for kind, task, batch in self.batches:
            for way in ("stream", "carried") if kind == "stream" else (kind,):
                found[way][task] = float(ask(model, batch.to(device), way).mean())
        means = {kind: float(np.mean(list(values.values()))) for kind, values in found.items() if values}
        judged = [means[kind] for kind in KINDS if kind in means]
        return (
            {"val_dice": round(float(np.mean(judged)), 5)}
            | {f"val/{kind}": round(value, 5) for kind, value in means.items()}
            | {f"val/{task}": round(value, 4) for task, value in found["box"].items()}
        )


def ask(model: SAMed2Model, batch: Batch, kind: str) -> torch.Tensor:
    """Dice of every row as a user would get it, (N,); of streams without the prompted frames.

    Streams are told nothing but the memory, or with kind "carried" the last mask too.
    """
    features, first = encode(model, batch), slice(None, None, batch.steps)
    box = PromptTensors(boxes=batch.boxes[first])
    start = PromptTensors(points=batch.points[:, :1], labels=batch.labels[:, :1]) if kind == "point" else box
    carried = Carried() if kind == "carried" else None
    scores: list[torch.Tensor] = []

    def asked(now: Features, rows: slice, prompted: bool) -> Rounds:
        prompts, several = next_prompts(model, batch, rows, start if prompted else None, carried)
        found = model.candidates(now, prompts)
        rounds = Rounds(torch.zeros(()), {}, found, choose(found, several, 0.0, None))
        if carried is not None:
            carried.note(rounds.logits, found.object_score, prompted)
        if batch.steps == 1:
            scores.append(_dice(rounds.logits, batch.target, batch.present, batch.hidden))
        elif not prompted:
            there = (found.object_score > 0)[:, None, None, None]
            logits = torch.where(there, rounds.logits, -rounds.logits.abs())
            scores.append(_dice(logits, batch.target[rows], batch.present[rows], batch.hidden[rows]))
        return rounds

    for _ in visit(model, features, batch, asked):
        pass
    return torch.cat(scores)


def _dice(logits: torch.Tensor, target: torch.Tensor, present: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    logits = F.interpolate(logits.float(), size=target.shape[-1], mode="bilinear", align_corners=False)[:, 0]
    iou = mask_iou(logits, target[:, 0] * present[:, None, None], hidden * present)
    return 2 * iou / (1 + iou)
