"""Which views a prompt is seen through."""

from __future__ import annotations

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.predict.rows import Row, box_of, core_box, looks, refined, refined_parts
from samed2.predict.settings import Settings
from samed2.predict.zoom import whole_view

SIDES = Settings().looks


def _row(*points: tuple[float, float, bool]) -> Row:
    return Row(1, whole_view(100, 200, 64), list(points), refine=True)


@pytest.mark.parametrize("y", [0.0, 37.0, 99.0])
@pytest.mark.parametrize("x", [0.0, 111.0, 199.0])
def test_every_look_holds_the_click(y, x):
    rows = looks(_row((y, x, True)), SIDES, 100, 200)
    sides = [row.view.side for row in rows]
    assert sides == sorted(sides, reverse=True) and sides[0] == 200 and sides[-1] >= 16
    for row in rows:
        u, v = row.view.to_model(np.array([x + 0.5, y + 0.5]))
        assert 0 <= u <= 64 and 0 <= v <= 64


def test_clicks_far_apart_leave_only_wide_looks():
    one = looks(_row((50.0, 20.0, True)), SIDES, 100, 200)
    two = looks(_row((50.0, 20.0, True), (50.0, 120.0, False)), SIDES, 100, 200)
    assert len(two) < len(one) and two[0].view == whole_view(100, 200, 64)


def test_a_small_image_is_looked_at_whole():
    row = Row(1, whole_view(12, 12, 64), [(3.0, 3.0, True)], refine=True)
    assert looks(row, (0.5, 0.2), 12, 12) == [row]


@pytest.mark.parametrize("shares", [(), (0.0,), (1.2,)])
def test_looks_are_shares_of_the_frame(shares):
    with pytest.raises(InputError, match="looks"):
        Settings(looks=shares)


def test_larger_parts_of_an_answer_are_asked_for_alone():
    logits = np.full((100, 120), -3.0, np.float32)
    logits[10:30, 10:30] = 2  # 400 pixels
    logits[60:80, 90:100] = 1  # 200
    logits[50:55, 5:10] = 4  # 25: below a tenth
    rows, rest = refined_parts(Row(1, whole_view(100, 120, 128)), logits, 128, 1.3)
    assert [int((row.mask > 0).sum()) for row in rows] == [400, 200]
    assert not (rest > 0).any()
    for row, box in zip(rows, ((10, 10, 30, 30), (60, 90, 80, 100)), strict=True):
        assert box_of(row.mask > 0) == box
        assert (row.mask[row.mask > 0] == logits[row.mask > 0]).all()
        assert row.view.side < 60 and row.box is None and not row.points


def test_a_part_that_fills_the_frame_stays_as_it_is():
    logits = np.full((100, 100), 2.0, np.float32)
    logits[:, 60:62] = -1
    rows, rest = refined_parts(Row(1, whole_view(100, 100, 128)), logits, 128, 1.3)
    assert len(rows) == 0 and ((rest > 0) == (logits > 0)).all()
    rows, rest = refined_parts(Row(1, whole_view(100, 100, 128)), np.full((8, 8), -1.0, np.float32), 128, 1.3)
    assert rows == [] and not (rest > 0).any()


@pytest.mark.parametrize(
    ("side", "wanted"), [(0, None), (10, 16.0), (90, 200.0)], ids=["nothing found", "small", "fills the frame"]
)
def test_clicks_are_asked_again_with_the_found_mask(side, wanted):
    logits = np.full((100, 200), -3.0, np.float32)
    logits[5 : 5 + side, 5 : 5 + 2 * side] = 3.0
    again = refined(_row((6.0, 6.0, True)), logits, 64, 1.3)
    if wanted is None:
        assert again is None
    else:
        assert again.view.side >= wanted
        assert again.view.contains((5, 5, 5 + side, 5 + 2 * side))
        np.testing.assert_array_equal(again.mask, logits)
        assert again.points == [(6.0, 6.0, True)]


@pytest.mark.parametrize("centre", [(30.0, 44.5), (50.0, 120.0)])
@pytest.mark.parametrize("radius", [6.0, 25.0])
def test_the_core_of_a_disc_is_the_disc(centre, radius):
    y, x = np.mgrid[:100, :200] + 0.5
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    np.testing.assert_allclose(core_box(disc), box_of(disc), atol=0.03 * 2 * radius + 0.2)


def test_a_core_goes_where_its_mask_goes_and_stray_pixels_hardly_move_it():
    mask = np.zeros((90, 80), bool)
    mask[20:50, 30:42] = mask[35:40, 42:60] = True
    y0, x0, y1, x1 = core_box(mask)
    np.testing.assert_allclose(core_box(np.roll(mask, (9, -7), (0, 1))), (y0 + 9, x0 - 7, y1 + 9, x1 - 7))
    np.testing.assert_allclose(core_box(mask.T), (x0, y0, x1, y1))
    np.testing.assert_allclose(core_box(mask[::-1]), (90 - y1, x0, 90 - y0, x1))
    stray = mask.copy()
    stray[80, 5] = stray[3, 70] = True
    assert np.abs(np.subtract(core_box(stray), core_box(mask))).max() < 0.5
    assert np.abs(np.subtract(box_of(stray), box_of(mask))).max() >= 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1)])
def test_a_pixel_or_a_line_has_a_core(shape):
    y0, x0, y1, x1 = core_box(np.pad(np.ones(shape, bool), 5))
    assert 0.9 * shape[0] < y1 - y0 < 1.2 * shape[0] and 0.9 * shape[1] < x1 - x0 < 1.2 * shape[1]
