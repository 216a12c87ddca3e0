"""One training step: from a batch to a loss. An episode is an image, a stream, or cases that remember each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from samed2.data.samples import Batch, BatchPlan
from samed2.nn import Features, PromptTensors, SAMed2Model
from samed2.nn.decoder import Candidates, choose
from samed2.nn.streaming import Trace, Track, reach, read
from samed2.train.losses import Goal, segmentation_loss
from samed2.train.prompting import Carried, first_prompts, rough_masks, with_clicks
from samed2.train.recipe import LossRecipe

SAME_TASK = 0.75  # chance of an entry to be of the row's task where it need not be
LATER = 0.5  # weight of a pass after a corrective click


class Rounds(NamedTuple):
    """What became of rows: the loss of all passes, figures of the first, and the last answer."""

    loss: torch.Tensor
    figures: dict[str, float]
    candidates: Candidates
    chosen: torch.Tensor

    @property
    def logits(self) -> torch.Tensor:
        """Of the answers, (N, 1, S/4, S/4)."""
        return self.candidates.logits[torch.arange(len(self.chosen)), self.chosen][:, None]


def step_loss(
    model: SAMed2Model, batch: Batch, plan: BatchPlan, weights: LossRecipe, rng: np.random.Generator
) -> tuple[torch.Tensor, dict[str, float]]:
    """Loss of a batch and figures to log; `rng` decides about entries, prompts and corrections."""
    features = encode(model, batch)
    counted = torch.ones_like(batch.present)
    clicks = int(rng.integers(1, plan.clicks + 1)) if rng.random() < plan.correction else 0
    if batch.episode == "stream":
        goal = Goal(batch.target, batch.present, batch.hidden, counted)
        carried = Carried() if rng.random() < plan.carried else None
        return stream_loss(model, features, batch, goal, weights, clicks, carried, rng)
    memory = None
    if batch.episode == "memory":
        index, counted = draw_entries(batch, plan, rng)
        memory = remembered(model, features, batch, plan, rng)[index.to(features.low.device)] if index.numel() else None
    features = features._replace(low=model.condition(features.low, memory))
    goal = Goal(batch.target, batch.present, batch.hidden, counted.to(batch.target.device))
    prompts = first_prompts(batch, rng)
    rounds = answer(model, features, prompts, goal, weights, clicks, is_click(prompts))
    return rounds.loss, rounds.figures


def encode(model: SAMed2Model, batch: Batch) -> Features:
    """Features of the batch's rows."""
    mean = torch.tensor(model.config.pixel_mean, device=batch.pixels.device)[:, None, None]
    std = torch.tensor(model.config.pixel_std, device=batch.pixels.device)[:, None, None]
    frames = batch.pixels.shape[1]
    if model.config.adapter_layout == "released" and frames == 1:  # a lone map is paired with itself, as in prediction
        paired = batch.pixels.expand(-1, 2, -1, -1, -1)
        return model.encode((paired - mean) / std).select(slice(0, None, 2))
    features = model.encode((batch.pixels - mean) / std)
    return features if batch.every or frames == 1 else features.select(slice(frames // 2, None, frames))


def is_click(prompts: PromptTensors) -> bool:
    """A single click says little: the model answers with three masks and chooses."""
    single = prompts.points is not None and prompts.points.shape[1] == 1
    return single and prompts.boxes is None and prompts.masks is None


def answer(
    model: SAMed2Model,
    features: Features,
    prompts: PromptTensors,
    goal: Goal,
    weights: LossRecipe,
    clicks: int,
    ambiguous: bool,
) -> Rounds:
    """Ask once, then again after each of some corrective clicks; `features.low` is conditioned."""
    total, counted = torch.zeros((), device=goal.target.device), 0.0
    first: dict[str, float] = {}
    for number in range(clicks + 1):
        candidates = model.candidates(features, prompts)
        loss, figures = segmentation_loss(candidates, goal, weights, ambiguous)
        index = choose(candidates, ambiguous, 0.0, None)
        share = LATER if number else 1.0
        total, counted = total + share * loss, counted + share
        first = first or figures
        if number < clicks:
            logits = candidates.logits[torch.arange(len(index)), index][:, None]
            prompts, ambiguous = with_clicks(prompts, logits, goal.target), False
    return Rounds(total / counted, first, candidates, index)


def draw_entries(batch: Batch, plan: BatchPlan, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Which rows each row remembers, (N, k), never of its own patient and only such that show the object.

    Without a prompt the first is of the same task; rows that have none such are not counted.

    Returns:
        (N, k) int64 and (N,) bool.
    """
    rows = len(batch.tasks)
    unprompted = batch.prompt == "none"
    present = batch.present.tolist()
    count = int(rng.integers(1 if unprompted else 0, plan.entries + 1))
    index, counted = np.zeros((rows, count), dtype=np.int64), np.ones(rows, dtype=bool)
    for row in range(rows):
        fit = [j for j in range(rows) if present[j] and batch.patients[j] != batch.patients[row]]
        same = [j for j in fit if batch.tasks[j] == batch.tasks[row]]
        other = [j for j in fit if batch.tasks[j] != batch.tasks[row]]
        counted[row] = bool(same) or not (unprompted or (count and not other))
        for place in range(count if counted[row] else 0):
            pool = same if same and ((unprompted and not place) or not other or rng.random() < SAME_TASK) else other
            index[row, place] = pool[rng.integers(len(pool))]
    return torch.from_numpy(index), torch.from_numpy(counted)


def remembered(
    model: SAMed2Model, features: Features, batch: Batch, plan: BatchPlan, rng: np.random.Generator
) -> torch.Tensor:
    """Memory entries of all rows with their true masks, some made worse, (N, M, h, w)."""
    side = batch.target.shape[-1]
    clean = batch.target - 0.5
    worse = torch.nn.functional.interpolate(rough_masks(batch.target, rng), size=(side, side), mode="bilinear")
    noisy = torch.from_numpy(rng.random(len(clean)) < plan.noisy).to(clean.device)[:, None, None, None]
    return model.encode_memory(features.low, torch.where(noisy, worse, clean), binary=True)


def stream_loss(
    model: SAMed2Model,
    features: Features,
    batch: Batch,
    goal: Goal,
    weights: LossRecipe,
    clicks: int,
    carried: Carried | None,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Frames of a visit one after another: the first from its prompt, the rest from the streaming memory.

    Args:
        carried: hands masks on from frame to frame beside the memory; None: nothing does.
    """
    first = first_prompts(batch, rng)

    def ask(now: Features, rows: slice, prompted: bool) -> Rounds:
        prompts, several = next_prompts(model, batch, rows, first if prompted else None, carried)
        rounds = answer(model, now, prompts, goal.select(rows), weights, clicks if prompted else 0, several)
        if carried is not None:
            carried.note(rounds.logits, rounds.candidates.object_score, prompted)
        return rounds

    rounds = list(visit(model, features, batch, ask))
    later = [r.figures for r in rounds[1:]]
    means = {name: float(np.mean([row[name] for row in later if name in row])) for row in later for name in row}
    return torch.stack([r.loss for r in rounds]).mean(), means


def next_prompts(
    model: SAMed2Model, batch: Batch, rows: slice, first: PromptTensors | None, carried: Carried | None
) -> tuple[PromptTensors, bool]:
    """What rows of a stream are told on a frame, a prompted one `first`, and whether one of three masks answers."""
    if first is not None:
        return first, is_click(first)
    if carried is not None:
        return carried.prompts(batch.moves[rows]), False
    return PromptTensors(), chooses(model)


def chooses(model: SAMed2Model) -> bool:
    """Whether the model chooses among three masks on frames without a prompt, as SAM-2's checkpoints do."""
    return bool(model.config.multimask_output_for_tracking and model.config.multimask_min_pt_num == 0)


def visit(
    model: SAMed2Model, features: Features, batch: Batch, ask: Callable[[Features, slice, bool], Rounds]
) -> Iterator[Rounds]:
    """The frames of a stream in order, each conditioned on the traces of those before, as in `predict.tracking`.

    Args:
        features: raw, of all rows.
        ask: answers (conditioned features of one frame of every row, which rows they are, whether it is prompted).
    """
    tracks = [Track() for _ in range(len(batch.target) // batch.steps)]
    for step in range(batch.steps):
        rows = slice(step, None, batch.steps)
        now = features.select(rows)
        known = read(model, tracks, step, False, batch.total)
        low = model.condition(now.low, *(known or ()))
        rounds = ask(now._replace(low=low), rows, known is None)
        leave_traces(model, tracks, now, rounds, step)
        yield rounds


def leave_traces(model: SAMed2Model, tracks: list[Track], features: Features, rounds: Rounds, frame: int) -> None:
    """Write what one frame's answers leave behind into the rows' tracks; gradients stay."""
    found, rows = rounds.candidates, torch.arange(len(tracks))
    feature = model.encode_memory(features.low, rounds.logits, binary=frame == 0, object_score=found.object_score)
    pointer = model.object_pointer_proj(found.tokens[rows, rounds.chosen])
    pointer = torch.where((found.object_score > 0)[:, None], pointer, model.no_object_pointer)
    for row, track in enumerate(tracks):
        track.write(frame, Trace(feature[row], pointer[row]), prompted=frame == 0, reach=reach(model))
