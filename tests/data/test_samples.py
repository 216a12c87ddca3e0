"""Rows of training batches: right targets, boxes, points and views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samed2.data import open_cases
from samed2.data.augment import Intensity, ViewRange, apply_intensity, draw_intensity, draw_view
from samed2.data.frames import frame_table
from samed2.data.render import OpenCases, Shared, draw_click_view, move, render, render_stream
from samed2.data.samples import BatchPlan, draw_points, hidden_pixels, seen, shrunk
from samed2.data.sampling import Sampler
from samed2.data.unseen import render_unseen
from samed2.predict.zoom import View, sample

LIMITS = ViewRange(margin=(1.3, 1.8))
PLAN = BatchPlan(image_size=64, absent=0.0, missing=0.0)


@pytest.fixture(scope="module")
def sampler(folder):
    return Sampler(frame_table(open_cases(folder, ["train"])))


def rows(sampler, plan=PLAN, count=8, clips=1, **shared):
    made = Shared(**{"prompt": "box", "frames": clips, "limits": LIMITS, "every": True, **shared})
    opened = OpenCases()
    return [(c, render(c, opened, plan, made)) for c in sampler.draw(0, count, frames=clips, stacks=clips > 1)]


@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("augment", [True, False])
def test_boxes_hold_their_targets(sampler, clips, augment):
    plan = PLAN.model_copy(update={"augment": augment})
    for _, row in rows(sampler, plan, clips=clips):
        assert row.pixels.shape == (1, clips, 3, 64, 64) and row.target.shape == (clips, 1, 64, 64)
        assert row.pixels.min() >= 0 and row.pixels.max() <= 1
        for target, box, present in zip(row.target[:, 0], row.boxes, row.present, strict=True):
            assert (box[2] > box[0]) and (box[3] > box[1])
            if present:
                ys, xs = torch.nonzero(target > 0.5, as_tuple=True)
                width, height = box[2] - box[0], box[3] - box[1]
                assert box[0] - 0.15 * width <= xs.min() and xs.max() + 1 <= box[2] + 0.15 * width
                assert box[1] - 0.15 * height <= ys.min() and ys.max() + 1 <= box[3] + 0.15 * height


def test_first_points_are_inside_whatever_the_view(sampler):
    for prompt in ("point", "box"):
        for _, row in rows(sampler, count=16, prompt=prompt):
            assert row.present.all() and (row.labels[:, 0] == 1).all()
            (x, y), target = row.points[0, 0], row.target[0, 0]
            assert target[round(float(y)), round(float(x))] > 0 or target.max() < 0.6


def test_details_show_a_piece_of_the_object_and_some_of_its_outline(sampler):
    """Larger than as a whole, with object and surroundings in view; other prompts are seen as without details."""
    plan = PLAN.model_copy(update={"detail": 1.0})
    pairs = zip(rows(sampler, plan, 24, prompt="mask"), rows(sampler, count=24, prompt="mask"), strict=True)
    hidden = []
    for (_, near), (_, whole) in pairs:
        assert 0 < near.target.mean() < 1 and near.present.all()
        hidden.append(float(near.hidden) > float(whole.hidden))
    assert np.mean(hidden) > 0.7
    for (_, near), (_, whole) in zip(rows(sampler, plan), rows(sampler), strict=True):
        assert torch.equal(near.pixels, whole.pixels)


def test_what_a_view_cuts_off_is_counted(sampler):
    found = [row for _, row in rows(sampler, count=40, prompt="point")]
    hidden = torch.cat([row.hidden for row in found])
    shown = torch.cat([row.target.flatten(1).sum(1) for row in found])
    assert (hidden > 0).any() and (hidden == 0).any() and (shown > 0).all()
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    for view, share in ((View(20, 20, 40, 64), 0.0), (View(20, 10, 20, 64), 0.5)):
        lost = hidden_pixels(mask, seen(mask, view), view)
        assert lost == pytest.approx(share * 400 * (64 / view.side) ** 2, rel=0.05)


def test_whole_frames_show_all_of_the_object_and_may_lack_it(sampler):
    for clip, row in rows(sampler, prompt="none", whole=1.0, every=False):
        case = clip.case.load()
        _, height, width = case.masks.shape
        share = case.masks.on_frame(clip.object, clip.middle).sum() / max(height, width) ** 2
        assert float(row.target.mean()) == pytest.approx(share, rel=0.5) and row.hidden.sum() == 0


@pytest.mark.parametrize(("share", "prompt", "other"), [("missing", "none", "box"), ("absent", "box", "none")])
def test_frames_that_lack_the_object(sampler, share, prompt, other):
    without = PLAN.model_copy(update={share: 0.99})
    assert all(row.present.item() for _, row in rows(sampler, without, count=24, prompt=other, every=False))
    found = rows(sampler, without, count=24, prompt=prompt, whole=1.0, every=False)
    for clip, row in found:
        assert row.present.item() == bool(row.target.any())
        assert row.present.item() or clip.case.kind != "image"
    assert not all(row.present.item() for _, row in found)


def test_streams_are_visited_in_order(sampler):
    opened, made = OpenCases(), Shared("box", 3, LIMITS)
    seen_absent = False
    for step in range(12):
        for clip in sampler.draw_streams(step, 3, 4):
            moves = np.diff(clip.frames)
            assert clip.middle == clip.frames[0] and len(set(np.sign(moves)) - {0}) <= 1 and abs(moves).max() <= 3
            row = render_stream(clip, opened, PLAN, made)
            assert row.pixels.shape == (4, 3, 3, 64, 64) and row.target.shape == (4, 1, 64, 64)
            assert row.present[0] and row.points.shape == (4, 3, 2)
            masks = clip.case.load().masks
            for frame, present in zip(clip.frames, row.present, strict=True):
                assert not present or masks.on_frame(clip.object, frame).any()
            seen_absent |= not row.present.all()
    assert seen_absent


def test_moves_lead_to_the_view_before():
    one, two = View(20, 30, 40, 64, 0.4, True, 1.1), View(24, 27, 50, 64, 0.4, True, 1.1)
    places = np.random.default_rng(0).uniform(0, 64, (5, 2))
    frame = places @ one.matrix()[:, :2].T + one.matrix()[:, 2]
    affine = move(one, two).numpy()
    moved = (places / 32 - 1) @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose((moved + 1) * 32, two.to_model(frame), atol=1e-4)
    np.testing.assert_allclose(move(one, one).numpy(), np.eye(3)[:2], atol=1e-6)


def test_points_of_specks():
    target = torch.zeros(64, 64)
    target[20, 30] = 0.3
    for seed in range(5):
        points, labels = draw_points(target, np.random.default_rng(seed))
        assert labels[0] == 1 and abs(points[0, 0] - 30) <= 1.5 and abs(points[0, 1] - 20) <= 1.5
    _, labels = draw_points(torch.ones(64, 64), np.random.default_rng(0))
    assert labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("upright", "least", "most"), [(0.0, 0.0, 0.25), (0.7, 0.6, 0.85), (1.0, 1.0, 1.0)])
def test_views_stay_upright_as_often_as_they_should(upright, least, most):
    """Up is up where a view is turned by 10 degrees at most; else every quarter turn comes up."""
    part = np.zeros((90, 120), bool)
    part[30:60, 40:90] = True
    plan = BatchPlan(image_size=64, upright=upright)
    drawn = {
        "box": lambda rng: draw_view((30.0, 40.0, 60.0, 90.0), 64, ViewRange(upright=upright), rng),
        "click": lambda rng: draw_click_view(part, 90, 120, plan, rng),
    }
    for name, draw in drawn.items():
        angles = np.degrees([draw(np.random.default_rng(seed)).angle for seed in range(300)])
        up = np.abs((angles + 180) % 360 - 180) <= 10
        assert least <= up.mean() <= most, name
        quarters = set(np.round(angles[~up] / 90).astype(int) % 4)
        assert not quarters or {1, 2, 3} <= quarters, name


def test_shrinking_in_two_steps_changes_little():
    frame = torch.rand(1, 300, 401, generator=torch.Generator().manual_seed(0))
    for view in (View(150, 200, 400, 64), View(100.5, 90.2, 330, 64, 0.4, True, 1.1), View(20, 20, 60, 64)):
        assert (shrunk(frame, view) - sample(frame, view)).abs().mean() < 0.04


def test_intensities_are_drawn_then_applied():
    pixels = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(apply_intensity(pixels, Intensity()), pixels)
    for seed in range(20):
        change = draw_intensity(np.random.default_rng(seed))
        changed = apply_intensity(pixels, change)
        assert changed.shape == pixels.shape and changed.min() >= 0 and changed.max() <= 1
        torch.testing.assert_close(changed, apply_intensity(pixels, change))


@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("stream", [True, False])
def test_objects_that_nobody_labelled(sampler, clips, stream):
    opened, made = OpenCases(), Shared("box", clips, LIMITS, every=not stream)
    images = sampler.draw(0, 8, frames=clips, stacks=clips > 1)
    drawn, plain = (sampler.draw_streams(0, 4, 5), render_stream) if stream else (images, render)
    for clip in drawn:
        row, again, real = (paint(clip, opened, PLAN, made) for paint in (render_unseen, render_unseen, plain))
        if row is None:
            continue
        assert all(torch.equal(a, b) for a, b in zip(row, again, strict=True))
        assert [v.shape for v in row] == [v.shape for v in real]
        assert row.present[0 if stream else clips // 2] and row.pixels.min() >= 0 and row.pixels.max() <= 1
        assert not torch.equal(row.target, real.target)
