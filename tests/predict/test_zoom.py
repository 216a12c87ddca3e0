"""Views: geometry there and back, and pictures sampled and pasted without a shift."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samed2.predict.rows import snapped_view
from samed2.predict.zoom import OUTSIDE_LOGIT, View, box_view, content_view, paste, sample, whole_view


@given(
    cy=st.floats(-50, 300),
    cx=st.floats(-50, 300),
    side=st.floats(4, 500),
    angle=st.floats(-math.pi, math.pi),
    flip=st.booleans(),
    stretch=st.floats(0.5, 2),
)
@settings(max_examples=50, deadline=None)
def test_to_model_undoes_the_matrix(cy, cx, side, angle, flip, stretch):
    view = View(cy, cx, side, 64, angle, flip, stretch)
    model = np.array([[0.0, 0.0], [64.0, 13.0], [32.0, 32.0]])
    matrix = view.matrix()
    frame = model @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(view.to_model(frame), model, atol=1e-6)
    np.testing.assert_allclose(frame[2], [cx, cy], atol=1e-6)  # the middle of the view


def test_a_view_of_the_same_size_copies_pixels():
    frame = torch.rand(2, 64, 64)
    torch.testing.assert_close(sample(frame, whole_view(64, 64, 64)), frame)


@pytest.mark.parametrize("size", [16, 32, 128])
def test_a_half_plane_stays_in_place(size):
    frame = torch.zeros(1, 128, 128)
    frame[:, :, 64:] = 1
    seen = sample(frame, whole_view(128, 128, size))
    assert seen[0, :, : size // 2 - 1].max() < 1e-6
    assert seen[0, :, size // 2 + 1 :].min() > 1 - 1e-6


def test_shrinking_averages_instead_of_picking():
    frame = torch.from_numpy(np.indices((256, 256)).sum(0) % 2).float()[None]  # a fine checkerboard
    seen = sample(frame, whole_view(256, 256, 32))
    torch.testing.assert_close(seen, torch.full_like(seen, 0.5), atol=0.02, rtol=0)


@pytest.mark.parametrize("box", [(10, 20, 60, 50), (0, 0, 30, 20), (90, 100, 120, 160), (3.5, 8.25, 99.5, 77)])
def test_a_disc_comes_back_where_it_was(box):
    height, width = 120, 160
    y, x = np.mgrid[:height, :width] + 0.5
    cy, cx = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    radius = max(8.0, min(box[2] - box[0], box[3] - box[1]) / 2)
    disc = np.hypot(y - cy, x - cx) < radius
    view = snapped_view(box, 1.4, 128, height, width, (16.0, 1.5))
    seen = sample(torch.from_numpy(disc.astype(np.float32))[None], view)
    back = paste(seen - 0.5, view, height, width)[0].numpy() > 0
    assert 2 * (back & disc).sum() / (back.sum() + disc.sum()) > 0.97


def test_outside_the_view_nothing_is_found():
    view = box_view((10, 10, 20, 20), 1.5, 32)
    pasted = paste(torch.full((1, 8, 8), 5.0), view, 64, 64)[0]
    assert (pasted[30:, 30:] == OUTSIDE_LOGIT).all()
    assert (pasted[10:20, 10:20] == 5).all()


@given(
    y0=st.floats(0, 190),
    x0=st.floats(0, 290),
    h=st.floats(1, 200),
    w=st.floats(1, 300),
    margin=st.floats(1.1, 2),
)
@settings(max_examples=100, deadline=None)
def test_snapped_views_hold_their_box(y0, x0, h, w, margin):
    box = (y0, x0, min(y0 + h, 200.0), min(x0 + w, 300.0))
    view = snapped_view(box, margin, 128, 200, 300, (16.0, 1.5))
    longest = max(box[2] - box[0], box[3] - box[1])
    assert view.side >= min(max(box[2] - box[0], box[3] - box[1], 1), 300)
    assert view.side <= max(16 * 1.2, 1.2 * margin * longest, 300)
    if margin >= 1.2:
        assert view.contains(box)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("box", "crops"),
    [((60, 70, 110, 120), True), ((0, 0, 40, 60), True), ((10, 10, 150, 190), False), ((60, 70, 61, 71), False)],
)
def test_dark_surroundings_are_left_out_of_a_whole_frame(channels, box, crops):
    y0, x0, y1, x1 = box
    frame = torch.full((channels, 160, 200), 0.04)
    frame[-1, y0:y1, x0:x1] = 0.7
    frame[:, 3, 5] = 1.0  # a speck
    view = content_view(frame, 64)
    if not crops:
        assert view == whole_view(160, 200, 64)
        return
    assert view.contains((y0, x0, y1, x1)) and view.side <= 1.06 * max(y1 - y0, x1 - x0)


def test_a_frame_of_nothing_is_seen_whole():
    assert content_view(torch.zeros(1, 30, 50), 64) == whole_view(30, 50, 64)
