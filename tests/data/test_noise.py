"""Label noise: monotone in its parameters, a pure function of seed and names, recorded as it is."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generated import disc

from samed2.data import open_cases
from samed2.data.noise import KINDS, Change, apply_change, draw_change, mask_dice, parse_noise
from samed2.data.noise_cases import NoisePlan, choose_cases, noise_record, noisy_cases
from samed2.errors import InputError

MASK = disc((96, 120), 48, 60, 25)
EVERY = ["dilate:2,4", "erode:5%,10%", "dilate-or-erode:brats", "markov:S_R", "markov:T=30", "shift", "drop:p=0.5"]


def changed(text: str, seed: int = 0, mask: np.ndarray = MASK) -> np.ndarray:
    return apply_change(mask, draw_change(parse_noise(text), np.random.default_rng(seed)))


@pytest.mark.parametrize("text", [*KINDS, *EVERY])
def test_protocols_are_pure_and_keep_shape(text):
    before = MASK.copy()
    first, again = changed(text, 3), changed(text, 3)
    assert first.shape == MASK.shape and first.dtype == bool
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(MASK, before)
    assert not changed(text, 3, np.zeros_like(MASK)).any()
    assert str(parse_noise(str(parse_noise(text)))) == str(parse_noise(text))


@pytest.mark.parametrize(
    "text, names",
    [
        ("dilate:2,4", {"low": 2, "high": 4}),
        ("dilate", {"low": 9, "high": 11}),
        ("erode:high=10", {"low": 9, "high": 10}),
        ("dilate-or-erode:brats", {"low": 2, "high": 4}),
        ("markov:S_E", {"T": 200, "theta1": 0.2, "theta2": 0.05}),
        ("markov:50,.4", {"T": 50, "theta1": 0.4, "theta2": 0.05}),
        ("markov:theta2=.1,T=10", {"T": 10, "theta1": 0.8, "theta2": 0.1}),
        ("shift:5%,10%", {"low": 0.05, "high": 0.1}),
        ("drop:.5", {"p": 0.5}),
    ],
)
def test_text_means(text, names):
    assert parse_noise(text).options == pytest.approx(names)


@pytest.mark.parametrize(
    "text, said",
    [
        ("melt", "wanted one of dilate"),
        ("dilate:a,2", "low is 'a'"),
        ("dilate:4,2", "at most high"),
        ("dilate:-1,2", "0 or more"),
        ("dilate:1,2,3", "got 3 values"),
        ("dilate:5%,10", "one unit"),
        ("dilate:5%", "one unit"),
        ("dilate:nan,10", "0 or more"),
        ("markov:S_X", "wanted a number"),
        ("markov:theta1=2", "between 0 and 1"),
        ("markov:theta1=20%", "cannot be in %"),
        ("markov:T=1.5", "whole number"),
        ("drop:q=1", "no option or preset 'q'"),
    ],
)
def test_wrong_text(text, said):
    with pytest.raises(InputError, match=said) as caught:
        parse_noise(text)
    assert "\n" not in str(caught.value)


def test_radii_are_euclidean():
    dot = np.zeros((15, 15), bool)
    dot[7, 7] = True
    grown = apply_change(dot, Change("dilate", {"radius": 2.0}))
    y, x = np.mgrid[:15, :15]
    np.testing.assert_array_equal(grown, (y - 7) ** 2 + (x - 7) ** 2 <= 4)
    # the disc that 2 px of growth made loses all but the pixels more than 2 px from the outside
    assert apply_change(grown, Change("erode", {"radius": 2.0})).sum() == 1


def test_the_border_of_the_image_is_no_border_of_the_object():
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    kept = apply_change(mask, Change("erode", {"radius": 3.0}))
    np.testing.assert_array_equal(kept, np.broadcast_to(np.arange(20) < 7, kept.shape))
    full = np.ones((20, 20), bool)
    assert apply_change(full, Change("erode", {"radius": 3.0})).all()
    walked = apply_change(mask, Change("markov", {"T": 10.0, "theta1": 0.0, "theta2": 0.3}, seed=1))
    assert walked[:, 0].all() and walked.sum() < mask.sum()


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 12), st.floats(0, 12), st.sampled_from(["dilate", "erode"]), st.integers(0, 10**6))
def test_more_radius_is_more_noise(first, second, kind, seed):
    low, high = sorted((first, second))
    mask = np.random.default_rng(seed).random((24, 24)) < 0.3
    little, much = (apply_change(mask, Change(kind, {"radius": r})) for r in (low, high))
    inside = (little & ~much) if kind == "dilate" else (much & ~little)
    assert not inside.any()
    assert mask_dice(mask, much) <= mask_dice(mask, little) or not mask.any()


@pytest.mark.parametrize(
    "texts",
    [
        ["dilate:1,2", "dilate:3,4", "dilate:8,9"],
        ["erode:1%,2%", "erode:5%,8%", "erode:15%,20%"],
        ["shift:1,2", "shift:4,6", "shift:10,12"],
        ["markov:T=20,theta1=.9,theta2=.1", "markov:T=60,theta1=.9,theta2=.1", "markov:T=200,theta1=.9,theta2=.1"],
        ["markov:theta2=.01", "markov:theta2=.03", "markov:theta2=.1"],
        ["drop:.0", "drop:.5", "drop:1"],
    ],
)
def test_strength_follows_the_parameters(texts):
    means = [np.mean([mask_dice(MASK, changed(text, seed)) for seed in range(6)]) for text in texts]
    assert means[0] > means[1] > means[2]


def test_rim_walk_grows_or_shrinks_slowly():
    grown, shrunk = changed("markov:S_R", 1), changed("markov:S_E", 1)
    assert grown.sum() > 1.2 * MASK.sum() and shrunk.sum() < 0.8 * MASK.sum()
    # 120 more steps outward than inward, .05 of the rim each: 6 px on a smooth rim, more as it gets rough
    radius = np.sqrt(grown.sum() / np.pi)
    assert 28 < radius < 37


def test_the_crop_changes_nothing(monkeypatch):
    """The rim walk works in crops of the image; one crop for all steps gives the same mask."""
    from samed2.data import noise

    small = changed("markov:S_R", 5)
    monkeypatch.setattr(noise, "STEPS_PER_CROP", 200)
    np.testing.assert_array_equal(changed("markov:S_R", 5), small)


def test_frames_of_a_case_walk_apart_but_shift_together():
    walk, move = (draw_change(parse_noise(text), np.random.default_rng(0)) for text in ("markov", "shift"))
    assert (apply_change(MASK, walk, 0) != apply_change(MASK, walk, 1)).any()
    np.testing.assert_array_equal(apply_change(MASK, move, 0), apply_change(MASK, move, 1))


@pytest.fixture(scope="module")
def cases(folder):
    return open_cases(folder)


def plan(text: str = "dilate:2,3", **values) -> NoisePlan:
    return NoisePlan(parse_noise(text), **values)


def test_fraction_of_the_cases_of_each_data_set(cases):
    counts = []
    previous: set[str] = set()
    for fraction in (0, 0.25, 0.5, 1):
        chosen = {c.label for c in choose_cases(cases, plan(fraction=fraction))}
        assert previous <= chosen and all("train" in label for label in chosen)
        counts.append(sum(label.startswith("spots") for label in chosen))
        previous = chosen
    assert counts == [0, 1, 2, 4]
    half = [{c.label for c in choose_cases(cases, plan(fraction=0.5, seed=s))} for s in range(8)]
    assert len(set(map(frozenset, half))) > 1
    assert choose_cases(cases[::-1], plan(fraction=0.5)) == choose_cases(cases, plan(fraction=0.5))[::-1]


def test_fraction_and_split_are_checked(cases):
    with pytest.raises(InputError, match="between 0 and 1"):
        plan(fraction=1.5)
    with pytest.raises(InputError, match="'trian'"):
        choose_cases(cases, plan(splits=("trian",)))


def test_noisy_cases_differ_where_chosen_only(cases):
    how = plan("markov:T=40", fraction=0.5)
    chosen = {c.label for c in choose_cases(cases, how)}
    for clean, noisy in zip(cases, noisy_cases(cases, how), strict=True):
        before, after = clean.load(), pickle.loads(pickle.dumps(noisy)).load()
        np.testing.assert_array_equal(before.frames, after.frames)
        for name in before.masks:
            same = np.array_equal(before.masks[name], after.masks[name])
            assert same == (clean.label not in chosen)
            assert (after.masks[name] == noisy.load().masks[name]).all()


def test_the_record_is_exact(cases):
    how = plan("markov:T=60", fraction=0.5)
    chosen = choose_cases(cases, how)
    record = json.loads(json.dumps(noise_record((c.load() for c in chosen), how)))
    assert record["plan"] == {
        "protocol": "markov:T=60,theta1=0.8,theta2=0.05",
        "fraction": 0.5,
        "seed": 0,
        "splits": ["train"],
    }
    noisy = {c.label: c.load() for c in noisy_cases(cases, how)}
    clean = {c.label: c.load() for c in cases}
    scores = []
    for entry in record["entries"]:
        label = f"{entry['dataset']}/{entry['case']}"
        before, after = clean[label].masks[entry["object"]], noisy[label].masks[entry["object"]]
        assert sorted(map(int, entry["frames"])) == np.flatnonzero(before.any(axis=(1, 2))).tolist()
        for frame, found in entry["frames"].items():
            a, b = before[int(frame)], after[int(frame)]
            assert found["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-6)
            assert found["pixels"] == [a.sum(), b.sum()]
            values = dict(entry["change"])
            kind, relative, seed = (values.pop(k) for k in ("kind", "relative", "seed"))
            np.testing.assert_array_equal(apply_change(a, Change(kind, values, relative, seed), int(frame)), b)
            scores.append(found["dice"])
    assert record["masks"] == len(scores) and record["mean_dice"] == pytest.approx(np.mean(scores), abs=1e-6)
    assert record["cases"] == len(chosen) == len({(e["dataset"], e["case"]) for e in record["entries"]})


def test_vanished_masks_are_counted(cases):
    how = plan("drop", splits=None)
    record = noise_record((c.load() for c in choose_cases(cases, how)), how)
    assert record["vanished"] == record["masks"] > 0 and record["mean_dice"] == 0
    empty = noise_record([], how)
    assert empty["masks"] == 0 and empty["mean_dice"] is None
