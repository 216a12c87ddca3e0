"""Sampling: pure in (seed, step), the same for any number of processes and workers, clips in order, support apart."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samed2.data import open_cases
from samed2.data.augment import ViewRange
from samed2.data.cases import Case
from samed2.data.frames import FrameTable, frame_table, make_table
from samed2.data.render import OpenCases, Shared, render
from samed2.data.samples import PROMPTS, Batch, BatchPlan
from samed2.data.sampling import BALANCES, Sampler, clip_frames
from samed2.data.stream import ClipStream, clip_loader
from samed2.errors import InputError

PLAN = BatchPlan(image_size=64, rows=6, frames=3, clips=0.5, memory=0.3, stream=0.3, stream_rows=2)


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


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_groups_are_of_one_task_and_different_patients(seed, world):
    sampler = Sampler(BROAD, seed=seed)
    parts = [sampler.draw_groups(3, 3, 4, rank=rank, world=world) for rank in range(world)]
    clips = sorted((c for part in parts for c in part), key=lambda c: c.key[2])
    assert names(clips) == names(sampler.draw_groups(3, 3, 4))
    for group in range(3):
        members = [c for c in clips if c.key[2] == group]
        assert len({c.task for c in members}) == 1
        assert len({c.patient for c in members}) >= min(len(members), 2) and len({c.key for c in members}) == len(
            members
        )


def test_streams_pass_the_end_of_the_object():
    rows = [(0, "a/x", f, 50) for f in range(10, 30)]
    table = make_table([Case("a", "ct", "long", "volume", ("x",))], [(40, 40, 40)], [(1, 1, 1)], rows)
    sampler = Sampler(table)
    clips = [c for step in range(100) for c in sampler.draw_streams(step, 2, 5)]
    assert all(10 <= c.frames[0] < 30 and len(c.frames) == 5 for c in clips)
    gone = [any(not 10 <= f < 30 for f in c.frames) for c in clips]
    assert 0.4 < np.mean(gone) < 0.9
    assert {int(np.sign(c.frames[1] - c.frames[0])) for c in clips} == {-1, 1}
    assert {abs(c.frames[1] - c.frames[0]) for c in clips} == {1, 2, 3}


@pytest.mark.parametrize("total", [2, 3])
def test_streams_of_short_volumes_repeat_their_ends(total):
    rows = [(0, "a/x", 0, 50)]
    table = make_table([Case("a", "ct", "short", "volume", ("x",))], [(total, 40, 40)], [(1, 1, 1)], rows)
    for clip in Sampler(table).draw_streams(0, 4, 5):
        assert len(clip.frames) == 5 and min(clip.frames) >= 0 and max(clip.frames) < total


def equal(a: Batch, b: Batch) -> bool:
    def same(x, y):
        return torch.equal(x, y) if torch.is_tensor(x) else x == y

    return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def test_workers_and_resuming_change_nothing(table):
    sampler = Sampler(table, seed=2)
    batches = list(clip_loader(ClipStream(sampler, PLAN, 6)))
    assert len(batches) == 6
    for workers, start in ((2, 0), (0, 4), (1, 3)):
        again = list(clip_loader(ClipStream(sampler, PLAN, 6, start=start), workers))
        assert len(again) == 6 - start
        for one, two in zip(batches[start:], again, strict=True):
            assert equal(one, two)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_batch(table, world):
    sampler = Sampler(table, seed=1)
    plan = PLAN.model_copy(update={"rows": 9, "stream_rows": 6, "memory": 0.0})
    for step in range(6):
        whole = ClipStream(sampler, plan, 9).batch(step)
        parts = [ClipStream(sampler, plan, 9, rank=r, world=world).batch(step) for r in range(world)]
        assert {(p.prompt, p.episode, p.steps) for p in parts} == {(whole.prompt, whole.episode, whole.steps)}
        for clip, pixels in enumerate(whole.pixels):
            row, frame = divmod(clip, whole.steps)
            assert torch.equal(parts[row % world].pixels[row // world * whole.steps + frame], pixels)


def test_batches_look_as_training_expects(table):
    stream = ClipStream(Sampler(table), PLAN, 40)
    episodes = set()
    for step in range(24):
        batch = stream.batch(step)
        count, frames = batch.pixels.shape[:2]
        rows = count * frames if batch.every else count
        episodes.add((batch.episode, frames))
        assert batch.pixels.shape[2:] == (3, 64, 64) and batch.pixels.min() >= 0 and batch.pixels.max() <= 1
        assert batch.target.shape == (rows, 1, 64, 64) and batch.boxes.shape == (rows, 4)
        assert batch.points.shape == (rows, 3, 2) and batch.labels.shape == (rows, 3)
        assert batch.present.shape == batch.hidden.shape == (rows,)
        assert (batch.prompt == "none") <= (batch.episode == "memory") and batch.prompt in (*PROMPTS, "none")
        assert count % batch.steps == 0 and (batch.steps > 1) == (batch.episode == "stream")
        assert len(batch.tasks) == len(batch.patients) == count // batch.steps
        assert batch.episode != "memory" or len(set(batch.tasks)) <= 2
    assert episodes >= {("image", 1), ("image", 3), ("stream", 1), ("stream", 3), ("memory", 1)}


def test_replicated_ends_are_the_same_picture(table):
    sampler = Sampler(table, frames=5)
    clip = next(c for c in sampler.draw(0, 200, stacks=True) if c.frames[0] == c.frames[1])
    plan = PLAN.model_copy(update={"augment": False, "absent": 0.0})
    row = render(clip, OpenCases(), plan, Shared("box", 5, ViewRange(augment=False), every=True))
    assert torch.equal(row.pixels[0, 0], row.pixels[0, 1]) and torch.equal(row.target[0], row.target[1])
    assert not torch.equal(row.pixels[0, 1], row.pixels[0, 2])


def test_targets_lie_on_the_bright_object(table):
    plan = PLAN.model_copy(update={"stream": 0.0, "memory": 0.0, "clips": 0.0, "augment": False, "absent": 0.0})
    batch = ClipStream(Sampler(table), plan, 1).batch(0)
    for pixels, target in zip(batch.pixels[:, 0, 0], batch.target[:, 0], strict=True):
        assert pixels[target > 0.5].mean() > pixels[target < 0.5].mean() + 0.2


def test_little_room_for_open_cases_is_enough(table):
    clips, shared = Sampler(table, seed=3).draw(0, 12), Shared("box", 1, ViewRange(), every=True)
    one, many = OpenCases(limit=1), OpenCases()
    for clip in clips:
        assert torch.equal(render(clip, one, PLAN, shared).pixels, render(clip, many, PLAN, shared).pixels)
        assert len(one._held) == 1


def test_the_plan_may_depend_on_the_step(table):
    plan = PLAN.model_copy(update={"stream": 0.0})
    stream = ClipStream(Sampler(table), lambda step: plan.model_copy(update={"image_size": 32 + 32 * (step > 0)}), 2)
    assert [b.pixels.shape[-1] for b in stream] == [32, 64]
