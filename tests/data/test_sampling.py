"""Sampling: pure in (seed, step), the same for any number of processes and workers, clips in order, support apart."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samed2.data import open_cases
from samed2.data.cases import Case
from samed2.data.frames import FrameTable, frame_table, make_table
from samed2.data.samples import PROMPTS, BatchPlan
from samed2.data.sampling import BALANCES, Sampler, clip_frames
from samed2.data.stream import ClipStream, OpenCases, clip_loader, render
from samed2.errors import InputError

PLAN = BatchPlan(image_size=64, rows=6, frames=3, clips=0.5, memory=0.2)


@pytest.fixture(scope="module")
def cases(folder):
    return open_cases(folder, ["train"])


@pytest.fixture(scope="module")
def table(cases) -> FrameTable:
    return frame_table(cases)


def invented(*tasks: tuple[str, str, int, int]) -> FrameTable:
    """A table of (task, modality, cases, pixels of each of two frames); nothing to load."""
    cases, rows = [], []
    for task, modality, count, pixels in tasks:
        dataset, name = task.split("/")
        for number in range(count):
            patient = f"p{number // 2}"  # two cases of each patient
            rows += [(len(cases), task, frame, pixels) for frame in range(2)]
            cases.append(Case(dataset, modality, f"c{number}", "volume", (name,), patient))
    return make_table(cases, [(2, 100, 100)] * len(cases), [(1, 1, 1)] * len(cases), rows)


BROAD = invented(("a/x", "ct", 2, 50), ("b/x", "ct", 20, 500), ("c/x", "mr", 4, 5000))


def test_the_table_is_exact(cases, table):
    assert table.tasks == ["film/ball", "spots/disc", "spots/dot", "stack/ball"]
    for row in np.random.default_rng(0).choice(len(table), 12, replace=False):
        case = cases[table.case[row]]
        dataset, name = table.tasks[table.task[row]].split("/")
        masks = case.load().masks
        assert (case.dataset, masks.shape) == (dataset, tuple(table.shapes[table.case[row]]))
        mask = masks.on_frame(name, int(table.frame[row]))
        assert table.pixels[row] == mask.sum() and table.share[row] == pytest.approx(mask.mean())
    total = sum(m.any(axis=(1, 2)).sum() for c in cases for m in c.load().masks.values())
    assert len(table) == total


def names(clips) -> list[tuple]:
    return [(c.task, c.case.name, c.frames, c.middle, c.key) for c in clips]


@pytest.mark.parametrize("balance", BALANCES)
def test_same_seed_same_clips(table, balance):
    first, again, other = (Sampler(table, balance, frames=3, seed=s) for s in (4, 4, 5))
    assert [names(first.draw(s, 8)) for s in range(5)] == [names(again.draw(s, 8)) for s in range(5)]
    assert names(first.draw(9, 8)) == names(pickle.loads(pickle.dumps(first)).draw(9, 8))
    assert names(first.draw(0, 8)) != names(other.draw(0, 8)) != names(other.draw(1, 8))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 8), st.integers(0, 2**40), st.integers(0, 2**40))
def test_any_number_of_processes_draws_the_same_batch(world, more, seed, step):
    sampler = Sampler(BROAD, "modality", frames=3, seed=seed)
    rows = world + more
    whole = names(sampler.draw(step, rows))
    parts = [names(sampler.draw(step, rows, rank=rank, world=world)) for rank in range(world)]
    assert [parts[row % world][row // world] for row in range(rows)] == whole


@pytest.mark.parametrize("rows, rank, world", [(2, 0, 3), (4, 2, 2), (4, -1, 2)])
def test_every_process_needs_a_row(rows, rank, world):
    with pytest.raises(InputError, match="at least one for each"):
        Sampler(BROAD).draw(0, rows, rank=rank, world=world)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 11))
def test_clips_are_neighbours_in_true_order(length, total, middle):
    middle = min(middle, total - 1)
    frames = clip_frames(middle, length, total)
    assert len(frames) == length and frames[length // 2] == middle
    steps = np.diff(frames)
    assert set(steps) <= {0, 1} and min(frames) >= 0 and max(frames) < total
    for frame, step in zip(frames[1:], steps, strict=True):
        assert step == 1 or frame in (0, total - 1)  # only the ends are repeated


@pytest.mark.parametrize(
    "balance, wanted",
    [
        ("task", {"a/x": 1 / 3, "b/x": 1 / 3, "c/x": 1 / 3}),
        ("modality", {"a/x": 1 / 4, "b/x": 1 / 4, "c/x": 1 / 2}),
        ("size", {"a/x": 1 / 3, "b/x": 1 / 3, "c/x": 1 / 3}),  # classes of 0.5 %, 5 % and 50 %
    ],
)
def test_balance(balance, wanted):
    found = Counter(c.task for c in Sampler(BROAD, balance).draw(0, 3000))
    assert {task: count / 3000 for task, count in found.items()} == pytest.approx(wanted, abs=0.035)


def test_size_classes_are_equally_often_drawn():
    mixed = invented(("a/x", "ct", 30, 5), ("b/x", "ct", 30, 5), ("c/x", "mr", 1, 5000))
    found = Counter(c.task for c in Sampler(mixed, "size", min_pixels=1).draw(0, 2000))
    assert found["c/x"] / 2000 == pytest.approx(1 / 2, abs=0.04)
    assert found["a/x"] / 2000 == pytest.approx(1 / 4, abs=0.04)


def test_power_and_weights():
    counts = np.array([2, 20, 4])
    for power, weights in ((1.0, {}), (0.5, {"b/x": 0.25}), (0.0, {"a/x": 0})):
        chance = counts**power * [weights.get(t, 1.0) for t in BROAD.tasks]
        found = Counter(c.task for c in Sampler(BROAD, power=power, weights=weights).draw(0, 3000))
        share = [found[t] / 3000 for t in BROAD.tasks]
        np.testing.assert_allclose(share, chance / chance.sum(), atol=0.035)


def test_weight_nothing_in_one_modality():
    sampler = Sampler(BROAD, "modality", weights={"c/x": 0})
    assert {c.task for c in sampler.draw(0, 200)} == {"a/x", "b/x"}


def test_cases_and_frames_of_a_task_are_equally_likely():
    rows = [(0, "a/x", f, 50) for f in range(9)] + [(1, "a/x", 0, 50)]
    cases = [Case("a", "ct", n, "volume", ("x",)) for n in ("long", "short")]
    clips = Sampler(make_table(cases, [(9, 40, 40)] * 2, [(1, 1, 1)] * 2, rows)).draw(0, 3000)
    assert sum(c.case.name == "short" for c in clips) / 3000 == pytest.approx(0.5, abs=0.04)
    assert {c.middle for c in clips} == set(range(9))


def test_only_what_was_asked_for(table):
    sampler = Sampler(table, frames=3)
    assert {c.case.kind for c in sampler.draw(0, 40, stacks=True)} == {"volume", "video"}
    assert {c.task for c in sampler.draw(0, 9, task="spots/dot")} == {"spots/dot"}
    assert {len(c.frames) for c in sampler.draw(0, 9, frames=5)} == {5}
    large = Sampler(table, min_pixels=200)
    assert "spots/dot" not in {c.task for c in large.draw(0, 60)}


@pytest.mark.parametrize(
    "how, said",
    [
        ({"balance": "colour"}, "wanted one of task, modality, size"),
        ({"frames": 0}, "at least 1"),
        ({"weights": {"d/x": 1}}, "d/x"),
        ({"weights": {"a/x": -1}}, "0 or more"),
        ({"min_pixels": 10**6}, "nothing to draw"),
    ],
)
def test_wrong_settings(how, said):
    with pytest.raises(InputError, match=said):
        Sampler(BROAD, **how)


def test_unknown_task():
    with pytest.raises(InputError, match="'z/x'"):
        Sampler(BROAD).draw(0, 1, task="z/x")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 25))
def test_support_is_of_other_patients_of_the_task(seed, k):
    sampler = Sampler(BROAD, seed=seed)
    (clip,) = sampler.draw(seed, 1)
    found = sampler.support(clip, k, 7)
    assert names(found) == names(sampler.support(clip, k, 7))
    assert {s.task for s in found} <= {clip.task}
    assert clip.case.patient not in {s.case.patient for s in found}
    cases = {"a/x": 2, "b/x": 20, "c/x": 4}[clip.task]
    assert len({s.case.name for s in found}) == len(found) == min(k, cases - 2)
    patients = Counter(s.case.patient for s in found)
    assert max(patients.values(), default=0) - min(patients.values(), default=0) <= 1
    assert len({s.key for s in found}) == len(found)


def test_support_changes_with_the_step():
    sampler = Sampler(BROAD)
    clip = next(c for c in sampler.draw(0, 50) if c.task == "b/x")
    assert len({tuple(names(sampler.support(clip, 2, step))) for step in range(6)}) > 1


def equal(a, b) -> bool:
    fields = ("pixels", "target", "present", "boxes", "points", "labels")
    same = all(torch.equal(getattr(a, f), getattr(b, f)) for f in fields)
    return same and (a.prompt, a.memory, a.tasks) == (b.prompt, b.memory, b.tasks)


def test_workers_and_resuming_change_nothing(table):
    sampler = Sampler(table, seed=2)
    batches = list(clip_loader(ClipStream(sampler, PLAN, 6, support=2)))
    assert len(batches) == 6
    for workers, start in ((2, 0), (0, 4), (1, 3)):
        again = list(clip_loader(ClipStream(sampler, PLAN, 6, start=start, support=2), workers))
        assert len(again) == 6 - start
        for one, two in zip(batches[start:], again, strict=True):
            assert equal(one, two) and names(one.clips) == names(two.clips)
            assert one.support_of == two.support_of
            assert (one.support is None) == (two.support is None)
            assert one.support is None or equal(one.support, two.support)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_batch(table, world):
    sampler = Sampler(table, seed=1)
    plan = replace(PLAN, rows=9)
    for step in range(4):
        whole = ClipStream(sampler, plan, 9).batch(step)
        parts = [ClipStream(sampler, plan, 9, rank=r, world=world).batch(step) for r in range(world)]
        assert {p.prompt for p in parts} == {whole.prompt}
        for row, pixels in enumerate(whole.pixels):
            assert torch.equal(parts[row % world].pixels[row // world], pixels)


def test_batches_look_as_training_expects(table):
    stream = ClipStream(Sampler(table), PLAN, 20)
    seen = set()
    for step in range(12):
        batch = stream.batch(step)
        rows, frames = batch.pixels.shape[:2]
        seen.add((frames, batch.memory))
        assert batch.pixels.shape[2:] == (3, 64, 64) and batch.pixels.min() >= 0 and batch.pixels.max() <= 1
        assert batch.target.shape == (rows * frames, 1, 64, 64) and batch.boxes.shape == (rows * frames, 4)
        assert batch.points.shape == (rows * frames, 3, 2) and batch.labels.shape == (rows * frames, 3)
        assert batch.prompt in PROMPTS and rows == 6 // frames
        assert not batch.memory or len(set(batch.tasks)) == 1
        assert frames == 1 or all(c.case.kind != "image" for c in batch.clips)
        middles = batch.target.unflatten(0, (rows, frames))[:, frames // 2]
        assert (middles.flatten(1).amax(dim=1) > 0.5).all()
    assert {(1, False), (3, False), (1, True)} <= seen


def test_replicated_ends_are_the_same_picture(table):
    sampler = Sampler(table, frames=5)
    clip = next(c for c in sampler.draw(0, 200, stacks=True) if c.frames[0] == c.frames[1])
    plan = replace(PLAN, augment=False)
    limits = ClipStream(sampler, plan, 1).step_plan(plan, 0).limits
    pixels, target, *_ = render(clip, OpenCases(), plan, limits)
    assert torch.equal(pixels[0], pixels[1]) and torch.equal(target[0], target[1])
    assert not torch.equal(pixels[1], pixels[2])


def test_targets_lie_on_the_bright_object(table):
    batch = ClipStream(Sampler(table), replace(PLAN, clips=0.0, augment=False), 1).batch(0)
    for pixels, target in zip(batch.pixels[:, 0, 0], batch.target[:, 0], strict=True):
        assert pixels[target > 0.5].mean() > pixels[target < 0.5].mean() + 0.2


def test_support_rows_follow_their_clips(table):
    batch = ClipStream(Sampler(table), replace(PLAN, clips=0.0), 1, support=2).batch(0)
    assert batch.support is not None and len(batch.support.pixels) == len(batch.support_of) <= 2 * 6
    for task, owner in zip(batch.support.tasks, batch.support_of, strict=True):
        assert task == batch.tasks[owner]


def test_few_open_cases_are_enough(table):
    clips = Sampler(table, seed=3).draw(0, 12)
    limits = ClipStream(Sampler(table), PLAN, 1).step_plan(PLAN, 0).limits
    one, many = OpenCases(limit=1), OpenCases()
    for clip in clips:
        assert torch.equal(render(clip, one, PLAN, limits)[0], render(clip, many, PLAN, limits)[0])
        assert len(one._held) == 1


def test_the_plan_may_depend_on_the_step(table):
    stream = ClipStream(Sampler(table), lambda step: replace(PLAN, image_size=32 + 32 * (step > 0)), 2)
    assert [b.pixels.shape[-1] for b in stream] == [32, 64]
