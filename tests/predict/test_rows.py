"""Which views a prompt is seen through."""

from __future__ import annotations

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.predict.rows import Row, looks
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
