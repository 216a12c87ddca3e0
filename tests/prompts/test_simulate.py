"""Prompts drawn from masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samed2.errors import InputError
from samed2.prompts import (
    center_point,
    components,
    draw_shift,
    ellipse_mask,
    error_click,
    jitter_box,
    random_point,
    shift_box,
    tight_box,
)

FAST = settings(deadline=None, max_examples=60)
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


@st.composite
def filled(draw: st.DrawFn) -> np.ndarray:
    mask = draw(MASKS)
    assume(mask.any())
    return mask


@FAST
@given(mask=filled())
def test_tight_box_is_tight(mask: np.ndarray) -> None:
    y0, x0, y1, x1 = tight_box(mask)
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


@FAST
@given(mask=MASKS)
def test_components_share_the_mask_out(mask: np.ndarray) -> None:
    parts = components(mask, min_pixels=1, limit=None)
    assert np.array_equal(np.sum(parts, axis=0, initial=0) if parts else np.zeros(mask.shape), mask)
    sizes = [int(part.sum()) for part in parts]
    assert sizes == sorted(sizes, reverse=True)


def test_components_touch_at_corners_and_small_ones_go() -> None:
    mask = np.zeros((12, 40), bool)
    mask[0:4, 0:4] = mask[4:6, 4:6] = True  # joined at a corner: 20 pixels
    mask[8:12, 10:14] = True  # 16
    mask[8:11, 20:25] = True  # 15
    assert [int(part.sum()) for part in components(mask)] == [20, 16]
    assert [int(part.sum()) for part in components(mask, limit=1)] == [20]
    assert [int(part.sum()) for part in components(mask, min_pixels=1)] == [20, 16, 15]
    assert components(np.zeros((4, 4))) == []


@FAST
@given(mask=filled(), seed=st.integers(0, 1000))
def test_points_lie_on_the_mask(mask: np.ndarray, seed: int) -> None:
    assert mask[center_point(mask)]
    assert mask[random_point(mask, np.random.default_rng(seed))]


def test_center_point_is_deepest() -> None:
    mask = np.zeros((21, 31), bool)
    mask[5:16, 5:16] = True
    mask[9:12, 16:31] = True
    assert center_point(mask) == (10, 10)
    assert center_point(np.ones((9, 9))) == (4, 4), "the border of the image counts as outside"


def test_random_point_is_uniform() -> None:
    mask = np.zeros((3, 4), bool)
    mask[0, 1] = mask[2, 3] = True
    rng = np.random.default_rng(0)
    hits = [random_point(mask, rng) for _ in range(400)]
    assert set(hits) == {(0, 1), (2, 3)}
    assert 150 < hits.count((0, 1)) < 250


@FAST
@given(
    box=st.tuples(st.integers(0, 15), st.integers(0, 25), st.integers(1, 5), st.integers(1, 5)),
    amount=st.floats(0, 3),
    seed=st.integers(0, 1000),
    mode=st.sampled_from(["outward", "both"]),
    unit=st.sampled_from(["fraction", "pixels"]),
)
def test_jitter_stays_inside_and_keeps_a_pixel(
    box: tuple[int, ...], amount: float, seed: int, mode: str, unit: str
) -> None:
    y, x, height, width = box
    given_box, shape = (y, x, y + height, x + width), (20, 30)
    y0, x0, y1, x1 = jitter_box(given_box, amount, np.random.default_rng(seed), shape, mode, unit)  # type: ignore[arg-type]
    assert min(y0, x0) >= 0
    assert y1 <= 20
    assert x1 <= 30
    assert y1 - y0 >= 1 - 1e-9
    assert x1 - x0 >= 1 - 1e-9
    if mode == "outward":
        assert all([y0 <= y, x0 <= x, y1 >= y + height, x1 >= x + width])
        reach = amount * max(height, width) if unit == "fraction" else amount
        assert max(y - y0, x - x0, y1 - y - height, x1 - x - width) <= reach + 1e-9


def test_draw_and_apply_are_apart() -> None:
    shift = draw_shift(np.random.default_rng(3))
    box, shape = (10, 10, 20, 30), (40, 40)
    assert jitter_box(box, 0.1, np.random.default_rng(3), shape) == shift_box(box, shift, 0.1, shape)
    assert shift_box(box, (1, 1, 1, 1), 0.1, shape) == (9, 8, 21, 32)
    assert shift_box(box, (1, 1, 1, 1), 3, shape, "pixels") == (7, 7, 23, 33)
    assert shift_box(box, (0, 0, 0, 0), 0.1, shape) == box
    assert (draw_shift(np.random.default_rng(0), "both") < 0).any()


@FAST
@given(data=st.data())
def test_error_click_corrects(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    pred, truth = (data.draw(hnp.arrays(bool, shape)) for _ in range(2))
    click = error_click(pred, truth, np.random.default_rng(data.draw(st.integers(0, 99))))
    if np.array_equal(pred, truth):
        assert click is None
    else:
        assert click is not None
        y, x, positive = click
        assert pred[y, x] != truth[y, x]
        assert positive == truth[y, x]
        sizes = [p.sum() for p in components(truth & ~pred, 1, None) + components(pred & ~truth, 1, None)]
        missed = components(truth & ~pred if positive else pred & ~truth, 1, None)
        assert max(sizes) in [part.sum() for part in missed if part[y, x]]


@pytest.mark.parametrize("box", [(2, 3, 12, 23), (0, 0, 20, 30), (5.5, 6.25, 9.5, 20), (3, 3, 4, 4), (3, 3, 3.2, 9)])
def test_ellipse(box: tuple[float, ...]) -> None:
    mask = ellipse_mask(box, (20, 30))
    assert mask.any()
    y0, x0, y1, x1 = tight_box(mask)
    assert all([y0 >= np.floor(box[0]), x0 >= np.floor(box[1])])
    assert all([y1 <= np.ceil(box[2]), x1 <= np.ceil(box[3])])
    area = (box[2] - box[0]) * (box[3] - box[1])
    if area > 100:
        assert mask.sum() / area == pytest.approx(np.pi / 4, abs=0.03)


def test_ellipse_is_symmetric() -> None:
    mask = ellipse_mask((2, 3, 15, 24), (20, 30))[2:15, 3:24]
    assert np.array_equal(mask, mask[::-1])
    assert np.array_equal(mask, mask[:, ::-1])


@pytest.mark.parametrize("function", [tight_box, center_point, lambda m: random_point(m, np.random.default_rng(0))])
def test_empty_masks(function: object) -> None:
    with pytest.raises(InputError, match="empty"):
        function(np.zeros((4, 5)))  # type: ignore[operator]


def test_wrong_arguments() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="shape"):
        components(np.zeros(4))
    with pytest.raises(InputError, match="shape"):
        error_click(np.zeros((4, 5)), np.zeros((5, 4)), rng)
    with pytest.raises(InputError, match="'inward'"):
        draw_shift(rng, "inward")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'mm'"):
        shift_box((0, 0, 1, 1), (0, 0, 0, 0), 1, (4, 4), "mm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="box"):
        ellipse_mask((3, 3, 3, 9), (10, 10))
