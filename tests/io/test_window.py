"""Windows: what becomes black and white, and which one is chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samed2.errors import InputError
from samed2.io import PRESETS, Scan, Window, resolve_window

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint64", "float16", "float32", "float64"]


@settings(deadline=None)
@given(
    frame=st.sampled_from(DTYPES).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    ),
    low=st.floats(-1e6, 1e6),
    width=st.floats(0, 1e6),
)
def test_apply_keeps_its_promises(frame: np.ndarray, low: float, width: float) -> None:
    before = frame.copy()
    shown = Window(low, low + width).apply(frame)
    assert shown.dtype == np.float32
    assert shown.shape == frame.shape
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert np.array_equal(frame, before, equal_nan=frame.dtype.kind == "f")
    order = np.argsort(frame[np.isfinite(frame)].ravel(), kind="stable")
    assert (np.diff(shown[np.isfinite(frame)].ravel()[order]) >= 0).all()


@settings(deadline=None)
@given(frame=hnp.arrays("float64", (3, 4)))
def test_every_way_to_choose_survives_any_number(frame: np.ndarray) -> None:
    scan = Scan.from_array(frame)
    for spec in (None, "auto", "full", "percentiles", "percentiles:10,90", "50,400"):
        shown = resolve_window(scan, spec).apply(scan.frame(0))
        assert np.isfinite(shown).all()
        assert shown.min() >= 0
        assert shown.max() <= 1


def test_apply_values() -> None:
    frame = np.array([[-200.0, -150, 50, 250, 900, np.nan, np.inf, -np.inf]])
    assert Window.from_center(50, 400).apply(frame).tolist() == [[0, 0, 0.5, 1, 1, 0, 1, 0]]
    eight = np.array([[0, 51, 255]], np.uint8)
    assert np.allclose(Window(0, 255).apply(eight), [[0, 0.2, 1]])
    assert Window(5, 5).apply(np.array([[4, 5, 6]])).tolist() == [[0, 0, 1]]
    colour = np.zeros((2, 3, 3), np.uint16)
    assert Window(0, 65535).apply(colour).shape == (2, 3, 3)


def test_sixteen_bits_keep_more_than_256_steps() -> None:
    frame = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert len(np.unique(Window(0, 4095).apply(frame))) == 4096


def scan_of(dtype: str = "int16", lowest: float = 0, **options: object) -> Scan:
    values = np.linspace(lowest, 100, 10_000).reshape(100, 100).astype(dtype)
    return Scan.from_array(values, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scan", "spec", "expected"),
    [
        (scan_of("uint8"), None, (0, 255, "dtype")),
        (scan_of("uint8", file_window=(50, 10)), "auto", (0, 255, "dtype")),
        (scan_of("uint8", file_window=(50, 10)), "file", (45, 55, "dicom")),
        (scan_of(modality="ct", lowest=-1000), None, (-150, 250, "preset:abdomen")),
        (scan_of("float64", modality="ct"), None, (0.5, 99.5, "percentiles:0.5-99.5")),
        (scan_of(modality="ct", file_window=(40, 100)), None, (-10, 90, "dicom")),
        (scan_of(modality="mr", file_window=(40, 100)), None, (-10, 90, "dicom")),
        (scan_of("float64", modality="mr"), None, (0.5, 99.5, "percentiles:0.5-99.5")),
        (scan_of("float64"), "percentiles:10,90", (10, 90, "percentiles:10-90")),
        (scan_of(), "full", (0, 100, "full")),
        (scan_of(), "LUNG", (-1350, 150, "preset:lung")),
        (scan_of(), " 50,400 ", (-150, 250, "manual")),
        (scan_of(), "-600,1500", (-1350, 150, "manual")),
        (scan_of(), Window(1, 2), (1, 2, "manual")),
        (Scan.from_array(np.zeros((4, 4, 3), np.uint16)), None, (0, 65535, "dtype")),
        (Scan.from_array(np.zeros((4, 4, 3), np.uint8)), None, (0, 255, "dtype")),
        (Scan.from_array(np.ones((4, 4, 3), np.float32)), None, (0, 1, "dtype")),
        (Scan.from_array(np.full((4, 4), np.nan)), None, (0, 1, "percentiles:0.5-99.5")),
        (Scan.from_array(np.full((4, 4), 7.0)), None, (7, 8, "percentiles:0.5-99.5")),
    ],
)
def test_resolve(scan: Scan, spec: str | Window | None, expected: tuple[float, float, str]) -> None:
    window = resolve_window(scan, spec)
    assert window.low == pytest.approx(expected[0], abs=0.02)
    assert window.high == pytest.approx(expected[1], abs=0.02)
    assert window.source == expected[2]
    assert Window.from_dict(json.loads(json.dumps(window.to_dict()))) == window


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets(name: str) -> None:
    window = resolve_window(scan_of(), name)
    assert (window.low + window.high) / 2 == PRESETS[name][0]
    assert window.high - window.low == PRESETS[name][1]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lungs", "unknown 'lungs'.*abdomen"),
        ("", "unknown"),
        ("file", "no window of its own"),
        ("50,0", "width"),
        ("50,-3", "width"),
        ("nan,400", "finite"),
        ("50,inf", "finite"),
        ("1,2,3", "two numbers"),
        ("a,b", "two numbers"),
        ("percentiles:90,10", "LO < HI"),
        ("percentiles:-1,50", "LO < HI"),
        ("percentiles:nan,50", "LO < HI"),
        ("percentiles:5", "two numbers"),
    ],
)
def test_bad_specs(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve_window(scan_of(), spec)


@pytest.mark.parametrize("limits", [(2, 1), (np.nan, 1), (0, np.inf), (-1.7e308, 1.7e308)])
def test_bad_limits(limits: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="window"):
        Window(*limits)


def test_percentiles_look_at_all_parts_of_a_volume() -> None:
    volume = np.zeros((40, 8, 8), np.int16)
    volume[30:] = 1000
    assert resolve_window(Scan.from_array(volume)).high == 1000


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.97])
def test_padding_does_not_push_the_window_down(share):
    values = np.random.default_rng(0).integers(100, 1100, (4, 50, 50)).astype(np.int16)
    values.reshape(4, -1)[:, : int(share * 2500)] = -1000
    window = resolve_window(Scan.from_array(values, kind="volume", modality="mr"), None)
    assert 1050 < window.high < 1100
    assert window.low == (-1000 if share else pytest.approx(105, abs=8))
