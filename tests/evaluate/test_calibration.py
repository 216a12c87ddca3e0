"""Calibration against values worked out by hand, scikit-free references, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samed2.errors import InputError
from samed2.evaluate.metrics import confidence_calibration, pixel_calibration, reliability
from samed2.evaluate.metrics.calibration import border_band

UNIT = st.floats(0, 1)


def test_confidence_by_hand() -> None:
    # differences .1, .3, -.1, 0; bins of 1/15: .9 in [.867, .933), .8 = 12/15 in [.8, .867), .5 in [.467, .533),
    # .2 = 3/15 in [.2, .267): one per bin, so ECE is the MAE
    got = confidence_calibration([0.9, 0.8, 0.5, 0.2], [0.8, 0.5, 0.6, 0.2])
    assert got.count == 4 and got.undefined == 0
    assert got.bias == pytest.approx(0.3 / 4) and got.mae == pytest.approx(0.5 / 4) and got.ece == pytest.approx(0.125)
    # ranks 4 3 2 1 against 4 2 3 1: 1 - 6 * 2 / (4 * 15)
    assert got.spearman == pytest.approx(0.8)
    # risks in order of confidence .2 .5 .4 .8: running means .2, .35, 1.1/3, 1.9/4
    assert got.aurc == pytest.approx((0.2 + 0.35 + 1.1 / 3 + 1.9 / 4) / 4)
    # in order of risk .2 .4 .5 .8
    assert got.aurc_best == pytest.approx((0.2 + 0.3 + 1.1 / 3 + 1.9 / 4) / 4)
    assert got.aurc_random == pytest.approx(1.9 / 4)


def test_errors_in_one_bin_cancel_in_ece_but_not_in_mae() -> None:
    got = confidence_calibration([0.51, 0.51], [0.61, 0.41])
    assert got.ece == pytest.approx(0, abs=1e-12) and got.mae == pytest.approx(0.1) and got.bias == pytest.approx(0)


def test_equal_confidences_share_their_risk() -> None:
    got = confidence_calibration([0.7, 0.7, 0.7], [1.0, 0.5, 0.0])
    assert got.aurc == got.aurc_random == pytest.approx(0.5) and math.isnan(got.spearman)


def test_missing_values_are_left_out_and_counted() -> None:
    got = confidence_calibration([0.9, math.nan, 0.4], [0.7, 0.5, math.nan])
    assert (got.count, got.undefined) == (1, 2) and got.bias == pytest.approx(0.2)
    nothing = confidence_calibration([math.nan], [0.5])
    assert nothing.count == 0 and all(
        math.isnan(v) for k, v in nothing.to_dict().items() if k not in ("count", "undefined")
    )
    assert confidence_calibration([], []).count == 0


def test_a_confidence_beyond_one_counts_in_full() -> None:
    got = confidence_calibration([1.2, -0.1], [1.0, 0.0])
    assert got.mae == pytest.approx(0.15) and got.ece == pytest.approx(0.15)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_confidence_properties(pairs: list[tuple[float, float]], random) -> None:
    got = confidence_calibration(*zip(*pairs, strict=True))
    shuffled = random.sample(pairs, len(pairs))
    again = confidence_calibration(*zip(*shuffled, strict=True))
    for name, value in got.to_dict().items():
        assert again.to_dict()[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name
    assert abs(got.bias) <= got.ece + 1e-9 and got.ece <= got.mae + 1e-9
    assert 0 <= got.aurc_best <= got.aurc + 1e-9 and got.aurc <= 1
    assert math.isnan(got.spearman) or -1 - 1e-9 <= got.spearman <= 1 + 1e-9
    perfect = confidence_calibration([iou for _, iou in pairs], [iou for _, iou in pairs])
    assert perfect.mae == perfect.ece == perfect.bias == 0 and perfect.aurc == pytest.approx(perfect.aurc_best)


def test_reliability_bins() -> None:
    table = reliability([0.0, 0.1, 0.5, 1.0, 1.0], [0, 1, 0, 1, 0], bins=2)
    assert table.count.tolist() == [2, 3]  # [0, .5) and [.5, 1]
    np.testing.assert_allclose(table.confidence, [0.05, 2.5 / 3])
    np.testing.assert_allclose(table.outcome, [0.5, 1 / 3])
    assert table.ece == pytest.approx((2 * 0.45 + 3 * 0.5) / 5) and table.ace == pytest.approx((0.45 + 0.5) / 2)
    sparse = reliability([0.05], [1], bins=10)
    assert np.isnan(sparse.confidence[1:]).all() and sparse.ace == pytest.approx(0.95)


def test_pixels_by_hand() -> None:
    truth = np.zeros((4, 4), bool)
    truth[:, 2:] = True
    chance = np.where(truth, 0.9, 0.3)
    got = pixel_calibration(chance, truth, band=5)
    # 8 px say .3 where nothing is, 8 say .9 where all is: gaps .3 and .1
    for region in (got.everywhere, got.border):
        assert region.pixels == 16
        assert region.ece == pytest.approx(0.2) and region.ace == pytest.approx(0.2)
        assert region.brier == pytest.approx((0.09 + 0.01) / 2)
        assert region.nll == pytest.approx(-(math.log(0.7) + math.log(0.9)) / 2)
    # within 1 px: the columns on both sides; inside the box its two upper rows and only the left one of the columns
    narrow = pixel_calibration(chance, truth, box=(0, 0, 2, 2), band=1).border
    assert narrow.pixels == 2 and narrow.ece == pytest.approx(0.3) and narrow.brier == pytest.approx(0.09)


def test_ace_weighs_bins_equally() -> None:
    truth = np.zeros((10, 10), bool)
    truth[0, 0] = True
    got = pixel_calibration(np.where(truth, 0.5, 0.0), truth).everywhere
    assert got.ece == pytest.approx(0.005) and got.ace == pytest.approx(0.25)


def test_sure_and_wrong_costs_a_finite_amount() -> None:
    truth = np.eye(3, dtype=bool)
    got = pixel_calibration((~truth).astype(np.float32), truth).everywhere
    assert got.brier == 1 and got.ece == 1 and got.nll == pytest.approx(-math.log(1e-7), rel=1e-6)


@pytest.mark.parametrize("fill", [False, True])
def test_without_a_border_there_is_no_band(fill: bool) -> None:
    got = pixel_calibration(np.full((6, 6), 0.5), np.full((6, 6), fill))
    assert got.border.pixels == 0 and all(math.isnan(v) for v in (got.border.ece, got.border.ace, got.border.nll))
    assert got.everywhere.pixels == 36 and got.everywhere.ece == pytest.approx(0.5)


@pytest.mark.parametrize("band", [1, 2.5, 5])
def test_band_is_the_plain_definition(band: float) -> None:
    rng = np.random.default_rng(3)
    truth = np.zeros((30, 24), bool)
    truth[8:15, 0:9] = rng.random((7, 9)) < 0.8  # touches the border
    truth[20, 20] = True
    places = np.argwhere(np.ones_like(truth))
    flat = truth.ravel()
    wanted = [
        np.linalg.norm(places[flat != flat[index]] - place, axis=1).min() <= band for index, place in enumerate(places)
    ]
    assert (border_band(truth, band).ravel() == wanted).all()


def test_pixel_rows_are_named() -> None:
    names = list(pixel_calibration(np.zeros((3, 3)), np.eye(3, dtype=bool)).to_dict())
    assert names == [
        f"{where}_{what}" for where in ("pixel", "border") for what in ("pixels", "ece", "ace", "brier", "nll")
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 4), st.integers(0, 4))
def test_pixel_properties(seed: int, top: int, left: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((9, 11)) < rng.random()
    chance = rng.random((9, 11))
    got = pixel_calibration(chance, truth, (1, 2, 8, 10)).to_dict()
    mirrored = pixel_calibration(chance[::-1, ::-1], truth[::-1, ::-1], (1, 1, 8, 9)).to_dict()
    swapped = pixel_calibration(1 - chance, ~truth, (1, 2, 8, 10)).to_dict()
    assert mirrored == pytest.approx(got, abs=1e-12, nan_ok=True)
    assert swapped == pytest.approx(got, abs=1e-9, nan_ok=True)  # foreground and background are on equal terms
    assert all(math.isnan(v) or v >= 0 for v in got.values())
    # far from the object more image changes nothing near the border
    if truth.any() and not truth.all():
        wide = [(top + 6, 6), (left + 6, 6)]
        one = pixel_calibration(np.pad(chance, 6), np.pad(truth, 6)).border
        more = pixel_calibration(np.pad(np.pad(chance, 6), wide), np.pad(np.pad(truth, 6), wide)).border
        assert (one.pixels, one.ece, one.nll) == pytest.approx((more.pixels, more.ece, more.nll))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: confidence_calibration([0.1], [0.1, 0.2]), "1 values for 2"),
        (lambda: confidence_calibration([0.1], [1.5]), "true_iou"),
        (lambda: reliability([math.nan], [0]), "none missing"),
        (lambda: reliability([0.5], [0], bins=0), "at least one bin"),
        (lambda: pixel_calibration(np.full((2, 2), 3.0), np.ones((2, 2))), "not logits"),
        (lambda: pixel_calibration(np.full((2, 2), np.nan), np.ones((2, 2))), "NaN"),
        (lambda: pixel_calibration(np.zeros((2, 2)), np.ones((2, 3))), "shape"),
        (lambda: pixel_calibration(np.zeros((2, 2)), np.eye(2), box=(1, 0, 1, 2)), "box"),
        (lambda: pixel_calibration(np.zeros((2, 2)), np.eye(2), band=0), "band"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
