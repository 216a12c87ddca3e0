"""Episodes: who remembers whom, gradients into every part, and streams as prediction sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.generated import make_folder
from tests.nn.tiny import tiny_model

from samed2.data.frames import open_table
from samed2.data.samples import Batch, BatchPlan
from samed2.data.sampling import Sampler
from samed2.data.stream import ClipStream
from samed2.nn.streaming import Trace, Track, read
from samed2.train.losses import Goal
from samed2.train.prompting import Carried, first_prompts, rough_masks
from samed2.train.recipe import LossRecipe
from samed2.train.steps import Rounds, answer, draw_entries, encode, is_click, step_loss, visit

PLAN = BatchPlan(image_size=64, rows=8, stream_rows=2, stream_frames=(4, 4), absent=0.0)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    return Sampler(open_table(make_folder(tmp_path_factory.mktemp("data"), items=4), ["train"]))


def batch_of(sampler, episode: str, step: int = 0, **values) -> tuple[Batch, BatchPlan]:
    plan = PLAN.model_copy(
        update={"stream": float(episode == "stream"), "memory": float(episode == "memory"), **values}
    )
    return ClipStream(sampler, plan, 100).batch(step), plan


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unprompted", [0.0, 1.0])
def test_rows_remember_other_patients(sampler, seed, unprompted):
    batch, plan = batch_of(sampler, "memory", seed, unprompted=unprompted)
    batch = replace(batch, present=torch.tensor([i != 1 for i in range(len(batch.tasks))]))
    index, counted = draw_entries(batch, plan, np.random.default_rng(seed))
    assert index.shape[1] >= (batch.prompt == "none") and index.shape[1] <= plan.entries
    for row in np.flatnonzero(counted.numpy()):
        for place, entry in enumerate(index[row].tolist()):
            assert batch.patients[entry] != batch.patients[row] and entry != 1
            assert batch.prompt != "none" or place or batch.tasks[entry] == batch.tasks[row]


def test_a_row_alone_of_its_task_needs_a_prompt(sampler):
    batch, plan = batch_of(sampler, "memory", unprompted=1.0)
    batch = replace(batch, tasks=[9, *batch.tasks[1:]])
    _, counted = draw_entries(batch, plan, np.random.default_rng(0))
    assert not counted[0] and counted[1:].any()


@pytest.mark.parametrize("carried", [0.0, 1.0])
@pytest.mark.parametrize("episode", ["image", "stream", "memory"])
def test_gradients_reach_what_an_episode_trains(sampler, episode, carried):
    batch, plan = batch_of(sampler, episode, unprompted=1.0, correction=0.0, carried=carried)
    model = tiny_model().train()
    loss, figures = step_loss(model, batch, plan, LossRecipe(), np.random.default_rng(1))
    loss.backward()
    assert torch.isfinite(loss) and {"iou", "best", "off"} <= set(figures)
    reached = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert {"vision_encoder", "mask_decoder"} <= reached
    remembers = {"memory_encoder", "memory_attention"}
    assert remembers <= reached if episode != "image" else not remembers & reached
    assert ("object_pointer_proj" in reached) == (episode == "stream")


@pytest.mark.parametrize("prompt", ["box", "point", "box+point", "mask", "mask+point"])
def test_corrections_add_clicks_one_by_one(sampler, prompt):
    batch, _ = batch_of(sampler, "image", prompts={prompt: 1.0}, clips=0.0)
    model, asked = tiny_model(), []
    features = encode(model, batch)
    features = features._replace(low=model.condition(features.low))
    prompts = first_prompts(batch, np.random.default_rng(0))
    propose = model.candidates
    model.candidates = lambda f, p: asked.append(p) or propose(f, p)
    goal = Goal(batch.target, batch.present, batch.hidden, torch.ones_like(batch.present))
    answer(model, features, prompts, goal, LossRecipe(), 2, is_click(prompts))
    first = 0 if prompts.points is None else prompts.points.shape[1]
    assert [0 if p.points is None else p.points.shape[1] for p in asked] == [first, first + 1, first + 2]
    assert all(p.masks is not None and p.masks.abs().max() <= 6 for p in asked[1:])
    assert all((p.boxes is None) == (prompts.boxes is None) for p in asked)


def test_rough_masks_resemble_the_truth():
    target = torch.zeros(1, 1, 64, 64)
    target[..., 16:48, 16:48] = 1
    for seed in range(10):
        logits = rough_masks(target, np.random.default_rng(seed))
        assert logits.shape == (1, 1, 16, 16) and logits.abs().max() <= 6
        assert ((logits > 0) == (target[..., ::4, ::4] > 0)).float().mean() > 0.7


def test_streams_are_read_as_prediction_reads_them(sampler):
    batch, _ = batch_of(sampler, "stream", clips=0.0)
    model, seen = tiny_model(), []
    features = encode(model, batch)

    def ask(now, rows, prompted):
        seen.append(now.low)
        prompts = (
            first_prompts(batch, np.random.default_rng(0))
            if prompted
            else first_prompts(replace(batch, prompt="none"), np.random.default_rng(0))
        )
        found = model.candidates(now, prompts)
        return Rounds(torch.zeros(()), {}, found, torch.zeros(len(found.iou), dtype=torch.long))

    answers = list(visit(model, features, batch, ask))
    row, steps, tracks = 1, batch.steps, [Track()]  # the second row alone, by hand
    for step in range(steps):
        now = features.select([row * steps + step])
        known = read(model, tracks, step, False, batch.total)
        low = model.condition(now.low, *(known or ()))
        torch.testing.assert_close(low[0], seen[step][row], atol=1e-4, rtol=1e-4)
        found = answers[step].candidates
        feature = model.encode_memory(now.low, found.logits[row : row + 1, :1], step == 0, found.object_score[row:][:1])
        pointer = model.object_pointer_proj(found.tokens[row, 0])
        tracks[0].write(step, Trace(feature[0], pointer), prompted=step == 0, reach=6)


def test_carried_masks_follow_the_view(sampler):
    """Through its own moves the true mask of a still object stays on it, and what is absent keeps the last one."""
    batch, _ = batch_of(sampler, "stream", clips=0.0, follow=1.0, carried=1.0)
    carried = Carried()
    small = torch.nn.functional.avg_pool2d(batch.target, 4) - 0.5
    rows = slice(0, None, batch.steps)
    carried.note(small[rows], torch.ones(2), True)
    first = carried.prompts(torch.eye(2, 3).expand(2, 2, 3))
    assert ((first.masks > 0) == (small[rows] > 0)).all()
    later = slice(1, None, batch.steps)
    prompts = carried.prompts(batch.moves[later])
    for mask, target, box, there in zip(prompts.masks, small[later], prompts.boxes, batch.present[later], strict=True):
        assert (box[2:] > box[:2]).all() and box.min() >= 0 and box.max() <= 64
        if there:
            both = ((mask > 0) & (target > 0)).sum() / ((mask > 0) | (target > 0)).sum()
            assert both > 0.4
    carried.note(-torch.ones_like(prompts.masks), torch.ones(2), False)
    assert torch.equal(carried.prompts(torch.eye(2, 3).expand(2, 2, 3)).masks > 0, prompts.masks > 0)
