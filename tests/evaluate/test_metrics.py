"""Metrics against pairs worked out by hand, MONAI and scipy; and what must hold for any pair."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.evaluate.pairs import PAIRS, HandPair

from samed2.errors import InputError
from samed2.evaluate import metrics
from samed2.evaluate.metrics import METRICS, assd, dice, hd95, interactive_auc, iou, measure, nsd, prompts_to_reach
from samed2.evaluate.metrics import surface as surface_module
from samed2.io import Geometry

NAMES = ("dice", "iou", "nsd", "hd95")


def same(got: float, wanted: float, margin: float = 1e-6) -> bool:
    return got == pytest.approx(wanted, abs=margin, nan_ok=True)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_pairs_worked_out_by_hand(pair: HandPair) -> None:
    a, b = pair.masks()
    for first, second in ((a, b), (b, a)):
        scores = measure(first, second, pair.spacing, pair.tolerance, NAMES)
        for name in NAMES:
            assert same(scores[name], getattr(pair, name)), name
    assert same(dice(a, b), pair.dice) and same(iou(a, b), pair.iou)
    assert same(nsd(a, b, pair.spacing, pair.tolerance), pair.nsd) and same(hd95(a, b, pair.spacing), pair.hd95)


def test_there_are_twenty_pairs_of_every_kind() -> None:
    assert len(PAIRS) == len({pair.name for pair in PAIRS}) == 20
    assert {len(pair.shape) for pair in PAIRS} == {2, 3}
    assert sum(pair.spacing is not None and len(set(pair.spacing)) > 1 for pair in PAIRS) >= 6


@pytest.mark.parametrize("pair", [p for p in PAIRS if not math.isnan(p.hd95) and any(p.a)], ids=lambda pair: pair.name)
def test_agrees_with_monai(pair: HandPair) -> None:
    a, b = pair.masks()
    # MONAI compares distances rounded to float32 with the tolerance, so it is asked a hair beyond it
    expected = _monai(a, b, pair.spacing, pair.tolerance * 1.00001)
    assert same(pair.hd95, expected["hd95"], 1e-5) and same(pair.nsd, expected["nsd"])
    assert same(pair.dice, expected["dice"]) and same(pair.iou, expected["iou"])


@pytest.mark.parametrize("spacing", [None, (0.8, 0.8), (3.0, 0.7), (4.0, 0.5, 1.3)])
def test_agrees_with_monai_on_blobs(spacing: tuple[float, ...] | None) -> None:
    axes = len(spacing or (1, 1))
    for seed in range(4):
        a, b = _blobs(seed, (26,) * axes)
        expected = _monai(a, b, spacing, 1.77)
        got = measure(a, b, spacing, 1.77)
        assert {name: same(got[name], expected[name], 1e-5) for name in expected} == dict.fromkeys(expected, True)


def test_assd_is_the_mean_over_both_surfaces() -> None:
    a, b = np.zeros((2, 12), bool), np.zeros((2, 12), bool)
    a[0, [0, 9]], b[0, 0] = True, True  # a->b: 0 and 9, b->a: 0
    assert assd(a, b) == pytest.approx(3) and assd(a, b, (1, 0.5)) == pytest.approx(1.5)
    assert assd(a & False, a & False) == 0 and math.isnan(assd(a, a & False))


def test_tree_and_distance_transform_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    for spacing in ((1.0, 1.0), (2.5, 0.4)):
        for seed in range(5):
            a, b = _blobs(seed, (40, 33))
            answers = []
            for share in (0.0, 2.0):
                monkeypatch.setattr(surface_module, "DENSE", share)
                answers.append(metrics.surface_distances(a, b, spacing))
            np.testing.assert_allclose(answers[0].a_to_b, answers[1].a_to_b, rtol=0, atol=1e-9)
            np.testing.assert_allclose(answers[0].b_to_a, answers[1].b_to_a, rtol=0, atol=1e-9)


def test_a_large_pair_is_quick() -> None:
    y, x = np.ogrid[:512, :512]
    discs = ((y - 256) ** 2 + (x - 256) ** 2 <= 250**2, (y - 250) ** 2 + (x - 262) ** 2 <= 240**2)
    noise = np.random.default_rng(0).random((2, 512, 512)) < 0.5
    measure(*discs)
    for pair, limit in ((discs, 0.02), (noise, 0.5)):
        best = min(_seconds(lambda pair=pair: measure(*pair, (0.7, 0.9))) for _ in range(5))
        assert best < limit


MASKS = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
STEPS = st.lists(st.floats(0.2, 5.0), min_size=3, max_size=3)


@settings(max_examples=120, deadline=None)
@given(MASKS, STEPS, st.floats(0, 6))
def test_symmetry_bounds_and_identity(pair: tuple[np.ndarray, np.ndarray], step: list[float], tolerance: float) -> None:
    a, b = pair
    spacing = step[: a.ndim]
    forth, back = measure(a, b, spacing, tolerance), measure(b, a, spacing, tolerance)
    assert all(same(forth[name], back[name], 1e-9) for name in METRICS)
    diagonal = math.dist([0] * a.ndim, [s * n for s, n in zip(spacing, a.shape, strict=True)])
    for name, metric in METRICS.items():
        if not math.isnan(forth[name]):
            assert 0 <= forth[name] <= (1 if metric.higher_is_better else diagonal)
        assert measure(a, a, spacing, tolerance)[name] == metric.best
    assert forth["iou"] <= forth["dice"] <= 2 * forth["iou"] + 1e-12
    assert math.isnan(forth["hd95"]) == (a.any() != b.any())


@settings(max_examples=120, deadline=None)
@given(
    MASKS, STEPS, st.floats(0, 6), st.floats(0.1, 20), st.lists(st.integers(0, 3), min_size=6, max_size=6), st.data()
)
def test_what_must_not_matter(pair, step, tolerance, factor, margins, data) -> None:
    a, b = pair
    spacing = step[: a.ndim]
    scores = measure(a, b, spacing, tolerance)

    wide = [(margins[2 * axis], margins[2 * axis + 1]) for axis in range(a.ndim)]
    moved = measure(np.pad(a, wide), np.pad(b, wide), spacing, tolerance)
    assert all(same(moved[name], scores[name], 1e-9) for name in METRICS), "place in the image, and cropping"

    order = data.draw(st.permutations(range(a.ndim)))
    turned = measure(a.transpose(order), b.transpose(order), [spacing[axis] for axis in order], tolerance)
    assert all(same(turned[name], scores[name], 1e-9) for name in METRICS), "order of the axes"

    flipped = measure(a[::-1, ::-1], b[::-1, ::-1], spacing, tolerance)
    assert all(same(flipped[name], scores[name], 1e-9) for name in METRICS), "mirrors"

    scaled = measure(a, b, [s * factor for s in spacing], tolerance * factor)
    for name, metric in METRICS.items():
        assert same(scaled[name], scores[name] * (factor if metric.unit else 1), 1e-7), "unit of length"


@settings(max_examples=60, deadline=None)
@given(MASKS, st.floats(0, 3), st.floats(0, 3))
def test_nsd_grows_with_the_tolerance(pair: tuple[np.ndarray, np.ndarray], first: float, more: float) -> None:
    assert nsd(*pair, None, first) <= nsd(*pair, None, first + more)


def test_spacing_comes_from_the_geometry() -> None:
    geometry = Geometry.from_spacing((5.0, 0.5, 0.75))
    assert metrics.spacing_of(geometry, 2) == (0.5, 0.75) and metrics.spacing_of(geometry, 3) == (5.0, 0.5, 0.75)
    assert metrics.spacing_of(Geometry.unknown(), 3) is None
    with pytest.raises(InputError, match="axes"):
        metrics.spacing_of(geometry, 1)


SQUARE = np.ones((3, 3), bool)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dice(SQUARE, SQUARE[:2]), r"\(3, 3\) and \(2, 3\)"),
        (lambda: iou(SQUARE[0], SQUARE[0]), r"wanted \(H, W\) or \(D, H, W\)"),
        (lambda: dice(SQUARE * 0.7, SQUARE), "threshold"),
        (lambda: nsd(SQUARE, SQUARE, (1, 1, 1)), "wanted 2 millimetre values"),
        (lambda: hd95(SQUARE, SQUARE, (1, math.nan)), "above 0"),
        (lambda: hd95(SQUARE, SQUARE, (1, 0)), "above 0"),
        (lambda: nsd(SQUARE, SQUARE, None, -1), "tolerance"),
        (lambda: nsd(SQUARE, SQUARE, None, math.nan), "tolerance"),
        (lambda: measure(SQUARE, SQUARE, names=["dise"]), "dise.*wanted one of dice, iou"),
        (lambda: interactive_auc([0.5]), "at least 2"),
        (lambda: interactive_auc([0.5, math.nan]), "scores"),
        (lambda: prompts_to_reach([], 0.5), "at least 1"),
        (lambda: prompts_to_reach([0.1, 0.2], 0.5, [2, 1]), "do not fall"),
        (lambda: prompts_to_reach([0.1, 0.2], 0.5, [1]), "2 counts"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_integer_masks_count_as_set_where_not_zero() -> None:
    assert dice(SQUARE.astype(np.uint8) * 255, SQUARE) == 1.0


def test_inputs_are_not_changed() -> None:
    a, b = _blobs(1, (20, 20))
    kept = a.copy(), b.copy()
    measure(a, b)
    assert (a == kept[0]).all() and (b == kept[1]).all()


def test_interactive_scores() -> None:
    # trapezoids .5, .75, .9, .9
    assert interactive_auc([0.4, 0.6, 0.9, 0.9, 0.9]) == pytest.approx(0.5 + 0.75 + 0.9 + 0.9)
    assert interactive_auc([1.0] * 5) == 4 and interactive_auc([0.0] * 5) == 0
    steps = [0.5, 0.8, 0.7, 0.9]
    assert (
        prompts_to_reach(steps, 0.8) == 2 and prompts_to_reach(steps, 0.85) == 4 and prompts_to_reach(steps, 0.1) == 1
    )
    assert math.isnan(prompts_to_reach(steps, 0.95))
    assert prompts_to_reach(steps, 0.8, given=[1, 3, 5, 7]) == 3  # a box, then two clicks a step


def _blobs(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(2, *shape)), (0, *[2.5] * len(shape)))
    both = noise[0] * 0.6 + noise
    return both[0] > 0.05, both[1] > 0.05


def _monai(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...] | None, tolerance: float) -> dict[str, float]:
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        compute_surface_dice,
    )

    first, second = (torch.from_numpy(mask)[None, None].float() for mask in (a, b))
    spacing = None if spacing is None else tuple(float(step) for step in spacing)
    plain = {"include_background": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "dice": float(compute_dice(first, second, **plain)),
            "iou": float(compute_iou(first, second, **plain)),
            "nsd": float(compute_surface_dice(first, second, [tolerance], spacing=spacing, **plain)),
            "hd95": float(compute_hausdorff_distance(first, second, percentile=95, spacing=spacing, **plain)),
            "assd": float(compute_average_surface_distance(first, second, symmetric=True, spacing=spacing, **plain)),
        }


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
