"""Contrast across outlines tells right masks from moved, grown and shrunk ones; draws follow it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from PIL import Image
from tests.generated import make_folder

from samed2.data import open_cases
from samed2.data.cases import Case, LoadedCase, MaskArrays
from samed2.data.doubts import find_doubts, write_doubts
from samed2.data.frames import frame_table, make_table
from samed2.data.noise import dilate, erode, shift
from samed2.data.outline import doubtful, outline_chances, outline_contrast, row_contrasts, task_ranks
from samed2.data.sampling import Sampler
from samed2.errors import InputError
from samed2.io import Scan


def disc(side: int, radius: float, at: float = 0.5) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return (y - at * side) ** 2 + (x - at * side) ** 2 <= radius**2


def picture(mask: np.ndarray, seed: int = 0, bright: float = 0.3) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.08, mask.shape)
    return np.clip(0.3 + bright * mask + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize("side", [40, 128, 300])
@pytest.mark.parametrize(
    "worse",
    [
        lambda mask, d: shift(mask, round(0.2 * d), 0),
        lambda mask, d: shift(mask, round(-0.12 * d), round(0.12 * d)),
        lambda mask, d: dilate(mask, 0.15 * d),
        lambda mask, d: erode(mask, 0.15 * d),
    ],
)
def test_a_right_outline_has_more_contrast_than_a_wrong_one(side, worse):
    mask = disc(side, 0.2 * side)
    for bright in (0.3, -0.25):  # darker objects as well
        image = picture(mask, bright=bright)
        assert outline_contrast(image, mask) > 1.5 * outline_contrast(image, worse(mask, 0.4 * side))


def test_it_does_not_depend_on_place_brightness_or_orientation():
    mask = disc(128, 20, 0.4)
    image = picture(mask)
    whole = outline_contrast(image, mask)
    assert outline_contrast(np.roll(image, (9, 17), (0, 1)), np.roll(mask, (9, 17), (0, 1))) == pytest.approx(whole)
    assert outline_contrast(1 - image, mask) == pytest.approx(whole, rel=1e-4)
    assert outline_contrast(image[::-1, ::-1].T.copy(), mask[::-1, ::-1].T) == pytest.approx(whole, rel=1e-4)
    grey = np.repeat(image[..., None], 3, axis=2)
    assert outline_contrast(grey, mask) == pytest.approx(whole, rel=1e-4)


def test_colours_of_equal_brightness_are_told_apart():
    mask = disc(96, 20)
    image = np.full((96, 96, 3), 0.5, dtype=np.float32)
    image[mask] = 0.7, 0.5, 0.3
    image += np.random.default_rng(0).normal(0, 0.03, image.shape)
    assert outline_contrast(image, mask) > 1 > 5 * outline_contrast(image.mean(axis=2), mask)


@pytest.mark.parametrize(
    "mask",
    [np.zeros((32, 32), bool), np.ones((32, 32), bool), disc(32, 0.5), np.eye(32, dtype=bool)[:1].repeat(32, 0)],
    ids=["empty", "full", "a pixel", "a column at the border"],
)
def test_what_cannot_be_told_is_a_finite_number(mask):
    assert 0 <= outline_contrast(np.zeros((32, 32), np.float32), mask) < 1e-6


def test_rows_of_a_case_and_object_share_a_number(tmp_path):
    table = frame_table(open_cases(make_folder(tmp_path, items=3), ["train"]))
    seen = []
    found = row_contrasts(table, lambda cases: (seen.append(case) or case for case in cases))
    assert seen == table.cases and found.shape == (len(table),) and (found >= 0).all() and found.max() > 0.3
    keys = np.stack([table.case, table.task], axis=1)
    for key in np.unique(keys, axis=0):
        assert len(np.unique(found[(keys == key).all(axis=1)])) == 1


def test_chances_are_relative_to_the_clear_cases_of_a_task(tmp_path):
    table = frame_table(open_cases(make_folder(tmp_path, items=5), ["train"]))
    contrasts, chances = row_contrasts(table), outline_chances(table, 2.0)
    assert (chances > 0).all() and (chances <= 1).all()
    for task in np.unique(table.task):
        own = table.task == task
        assert chances[own].max() == 1
        assert (np.diff(chances[own][np.argsort(contrasts[own])]) >= 0).all()
    np.testing.assert_allclose(outline_chances(table, 4.0), chances**2)


@pytest.mark.parametrize(
    ("contrasts", "places"),
    [([1.0] * 9 + [0.0], [9]), ([1.0] * 8 + [0.0], []), ([0.2, 1, 1, 1, 1, 1, 1, 1, 1, 0.1], [9, 0]), ([0.0] * 12, [])],
)
def test_far_less_contrast_than_usual_is_doubted(contrasts, places):
    assert doubtful(contrasts) == places


def _pictured(number: int, case: Case) -> LoadedCase:
    """Two frames of a bright disc, larger on the second; the masks of two cases are moved."""
    masks = np.stack([disc(64, 9), disc(64, 12)])
    frames = np.stack([picture(mask, number) for mask in masks])
    labels = np.roll(masks, 20, axis=1) if number in (3, 8) else masks
    return LoadedCase(case, Scan.from_array(frames, kind="volume"), MaskArrays({"ball": labels}))


def test_doubts_are_listed_and_drawn(tmp_path):
    cases = [
        Case("a", "ct", f"c{i}", "volume", ("ball",), split="train", reader=partial(_pictured, i)) for i in range(12)
    ]
    table = frame_table(cases)
    (task,) = find_doubts(table)
    assert (task.task, task.masks) == ("a/ball", 12) and task.usual > 0.5
    assert {(one.case, one.frame) for one in task.found} == {("c3", 1), ("c8", 1)}
    written = write_doubts(table, [task], tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == ["out/doubts.csv", "out/doubts/a-ball.png"]
    lines = written[0].read_text().splitlines()
    assert lines[0] == "task,case,split,frame,contrast,usual" and lines[1].startswith("a/ball,c") and len(lines) == 3
    assert Image.open(written[1]).width > 300
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"):
        write_doubts(table, [task], tmp_path / "file")


def test_ranks_are_within_a_task():
    assert task_ranks(["a", "b", "a", "a", "a"], [0.1, 9.0, 0.3, 0.2, 0.1]) == [0.5, 1.0, 1.0, 0.75, 0.5]
    assert task_ranks([], []) == []


def test_cases_are_drawn_in_proportion_to_their_chances_within_their_task():
    cases = [Case("a", "ct", f"c{i}", "image", ("x",)) for i in range(4)]
    cases += [Case("b", "ct", f"d{i}", "image", ("y",)) for i in range(2)]
    rows = [(i, "a/x" if i < 4 else "b/y", 0, 50) for i in range(6)]
    table = make_table(cases, [(1, 64, 64)] * 6, [(1, 1, 1)] * 6, rows)
    wanted = np.array([1.0, 2.0, 3.0, 4.0, 9.0, 1.0])
    sampler = Sampler(table, chances=wanted)
    drawn = [clip.case.name for step in range(300) for clip in sampler.draw(step, 16)]
    counts = np.array([drawn.count(case.name) for case in cases]) / len(drawn)
    np.testing.assert_allclose(counts, [0.05, 0.1, 0.15, 0.2, 0.45, 0.05], atol=0.02)  # tasks equally often
    firsts = [sampler.support(sampler.draw(step, 1, task="a/x")[0], 1, step)[0].case.name for step in range(2000)]
    shares = [firsts.count(case.name) / len(firsts) for case in cases[:4]]
    assert shares == sorted(shares) and shares[3] > 2 * shares[0]
    equal = Sampler(table, chances=np.ones(6))
    assert [c.case for s in range(9) for c in equal.draw(s, 8)] == [
        c.case for s in range(9) for c in Sampler(table).draw(s, 8)
    ]


@pytest.mark.parametrize("chances", [np.ones(2), np.zeros(3)])
def test_chances_must_fit_the_table(chances):
    cases = [Case("a", "ct", f"c{i}", "image", ("x",)) for i in range(3)]
    table = make_table(cases, [(1, 64, 64)] * 3, [(1, 1, 1)] * 3, [(i, "a/x", 0, 50) for i in range(3)])
    with pytest.raises(InputError, match="chances"):
        Sampler(table, chances=chances)
