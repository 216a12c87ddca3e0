"""Outlines enclose the pixels of the mask, with holes and by a key-hole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.measure import points_in_poly

from samed2.io.outlines import keyhole, parts, polygons, signed_area


def filled(ring: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return points_in_poly(np.c_[rows.ravel(), columns.ravel()], ring).reshape(shape)


def random_mask(seed: int) -> np.ndarray:
    """Speckle, and blobs with holes."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).random((25, 31))
    return noise < 0.5 if seed % 2 else gaussian_filter(noise, 1.5) > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_outlines_enclose_the_mask(seed: int) -> None:
    mask = random_mask(seed)
    found = np.zeros_like(mask)
    for rings, pixels in parts(mask):
        assert signed_area(rings[0]) > 0
        assert all(signed_area(hole) < 0 for hole in rings[1:])
        inside = filled(keyhole(rings), mask.shape)
        with_holes = filled(rings[0], mask.shape)
        for hole in rings[1:]:
            with_holes &= ~filled(hole, mask.shape)
        assert np.array_equal(inside, with_holes)
        assert not (found & inside).any()
        assert inside.sum() == pixels
        assert math.isclose(signed_area(keyhole(rings)), sum(signed_area(ring) for ring in rings))
        found |= inside
    assert np.array_equal(found, mask)


@pytest.mark.parametrize(("shape", "count"), [((1, 1), 1), ((1, 7), 1), ((5, 1), 1)])
def test_masks_that_fill_the_image(shape: tuple[int, int], count: int) -> None:
    found = polygons(np.ones(shape, bool))
    assert len(found) == count
    ring = found[0][0]
    assert np.array_equal(ring.min(axis=0), (-0.5, -0.5))
    assert np.array_equal(ring.max(axis=0), np.array(shape) - 0.5)
    assert polygons(np.zeros(shape, bool)) == []
