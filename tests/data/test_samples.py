"""Training batches: right boxes and targets, clips in order, the same batch for the same step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samed2.data import open_cases
from samed2.data.augment import Intensity, apply_intensity, draw_intensity
from samed2.data.samples import PROMPTS, BatchPlan, TaskIndex, draw_batch


@pytest.fixture(scope="module")
def index(folder):
    return TaskIndex([case.load().in_memory() for case in open_cases(folder, ["train"])])


def plan(**values) -> BatchPlan:
    return BatchPlan(**{"image_size": 64, "rows": 6, **values})


def only(prompt: str) -> tuple[float, ...]:
    return tuple(float(p == prompt) for p in PROMPTS)


def test_tasks_are_drawn_by_their_balance(index):
    assert index.names == ["film/ball", "spots/disc", "spots/dot", "stack/ball"]
    np.testing.assert_allclose(index.chance, np.array([1, 4, 4, 1]) ** 0.25 / np.sum(np.array([1, 4, 4, 1]) ** 0.25))
    assert set(index.draw_tasks(np.random.default_rng(0), 50, True).tolist()) == {0, 3}


@pytest.mark.parametrize("clips", [0.0, 1.0])
@pytest.mark.parametrize("augment", [True, False])
def test_boxes_hold_their_targets(index, clips, augment):
    for step in range(4):
        batch = draw_batch(index, plan(clips=clips, augment=augment, prompts=only("box")), 0, step)
        clip_count, frames = batch.pixels.shape[:2]
        assert frames == (3 if clips else 1)
        assert batch.pixels.shape[2:] == (3, 64, 64)
        assert batch.target.shape == (clip_count * frames, 1, 64, 64)
        assert batch.pixels.min() >= 0 and batch.pixels.max() <= 1
        for target, box, present in zip(batch.target[:, 0], batch.boxes, batch.present, strict=True):
            assert (box[2] > box[0]) and (box[3] > box[1])
            if present:
                ys, xs = torch.nonzero(target > 0.5, as_tuple=True)
                width, height = box[2] - box[0], box[3] - box[1]
                assert box[0] - 0.15 * width <= xs.min() and xs.max() + 1 <= box[2] + 0.15 * width
                assert box[1] - 0.15 * height <= ys.min() and ys.max() + 1 <= box[3] + 0.15 * height


def test_targets_lie_on_the_bright_object(index):
    batch = draw_batch(index, plan(clips=0.0, augment=False), 1, 0)
    for pixels, target in zip(batch.pixels[:, 0, 0], batch.target[:, 0], strict=True):
        assert pixels[target > 0.5].mean() > pixels[target < 0.5].mean() + 0.2


def test_first_points_are_inside(index):
    batch = draw_batch(index, plan(rows=16, clips=0.0, prompts=only("point")), 0, 5)
    assert batch.points.shape == (16, 3, 2) and (batch.labels[:, 0] == 1).all()
    inside = [
        float(t[0, int(p[0, 1] + 0.5), int(p[0, 0] + 0.5)]) for t, p in zip(batch.target, batch.points, strict=True)
    ]
    assert np.mean(np.array(inside) > 0.3) > 0.9


def test_memory_batches_are_of_one_task(index):
    for step in range(5):
        batch = draw_batch(index, plan(memory=1.0), 0, step)
        assert batch.memory and len(set(batch.tasks)) == 1 and batch.prompt in ("none", "box", "point")


def test_a_batch_depends_only_on_seed_and_step(index):
    first, again = (draw_batch(index, plan(), 3, 7) for _ in range(2))
    other = draw_batch(index, plan(), 3, 8)
    assert torch.equal(first.pixels, again.pixels) and torch.equal(first.boxes, again.boxes)
    assert first.pixels.shape != other.pixels.shape or not torch.equal(first.pixels, other.pixels)


def test_intensities_are_drawn_then_applied():
    pixels = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(apply_intensity(pixels, Intensity()), pixels)
    for seed in range(20):
        change = draw_intensity(np.random.default_rng(seed))
        changed = apply_intensity(pixels, change)
        assert changed.shape == pixels.shape and changed.min() >= 0 and changed.max() <= 1
        torch.testing.assert_close(changed, apply_intensity(pixels, change))
