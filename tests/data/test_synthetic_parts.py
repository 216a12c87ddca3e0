"""Compound objects: parts nest, neighbours leave the object free, copies look like what they were copied from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from samed2.data.synthetic import synthetic_clip, synthetic_pair
from samed2.data.synthetic_parts import ASKED, clump_fields, copies_beside, draw_compound, recoloured
from samed2.data.synthetic_shapes import COMPOUND, SHAPES, SIMPLE, band_field, radial_field

EIGHT = np.ones((3, 3), dtype=bool)


def disc(size=96, centre=(48, 48), radius=12):
    y, x = np.mgrid[:size, :size]
    return (radius - np.hypot(y - centre[0], x - centre[1])).astype(np.float32)


def compounds(count=40):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        whole = radial_field(96, (48.0, 44.0), 16.0, rng)
        yield whole, draw_compound(whole, rng)


@pytest.mark.parametrize("level", [-2.0, 0.0, 3.0])
def test_a_core_lies_within_its_object_at_every_level(level):
    for whole, compound in compounds():
        assert not np.any((compound.core > level) & ~(whole > level))
        for other, core in zip(compound.others, compound.cores, strict=True):
            assert not np.any((core > level) & ~(other > level))


def test_clumps_are_connected_and_hold_several_cores():
    drawn = [clump_fields(96, np.random.default_rng(seed)) for seed in range(60)]
    clumps = [fields for fields in drawn if fields is not None]
    assert len(clumps) > 40
    counts = []
    for whole, cores in clumps:
        assert ndimage.label(whole > 0, structure=EIGHT)[1] == 1
        assert not np.any((cores > 0) & ~(whole > 0.99))  # a wall all around
        counts.append(ndimage.label(cores > 0)[1])
    assert np.median(counts) >= 4 and min(counts) < 4


def test_of_clumps_mostly_the_walls_are_asked_for():
    whole, cores = next(f for s in range(9) if (f := clump_fields(96, np.random.default_rng(s))) is not None)
    asked = [draw_compound(whole, np.random.default_rng(seed), cores).asked for seed in range(60)]
    assert set(asked) == {"whole", "shell"} and asked.count("shell") > 40


def test_what_is_asked_for_is_in_one_part():
    """The two sides of a long sheath are not: its core is asked for then."""
    bands = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        whole = band_field(96, (48.0, 48.0), 24.0, rng)
        compound = draw_compound(whole, rng)
        found = compound.target(whole > 0, compound.core > 0)
        parts = np.sort(np.bincount(ndimage.label(found, structure=EIGHT)[0].ravel())[1:])
        bands += compound.asked == "core"
        assert compound.asked != "shell" or parts[-1] > 0.9 * parts.sum()
    assert bands > 20


def test_neighbours_touch_but_leave_each_other_free():
    near = 0
    for whole, compound in compounds():
        covered = (whole > 0).astype(int) + sum((other > 0).astype(int) for other in compound.others)
        assert covered.max() == 1
        grown = ndimage.binary_dilation(whole > 0, EIGHT, iterations=4)
        near += any((grown & (other > 0)).any() for other in compound.others)
    assert 8 <= near <= 35  # some stand in a crowd, some alone


def test_all_parts_are_asked_for_and_a_shell_has_a_hole():
    kinds = set()
    for whole, compound in compounds():
        found = compound.target(whole > 0, compound.core > 0)
        assert found.any()
        kinds.add(compound.asked)
        if compound.asked == "shell":
            assert not (found & (compound.core > 0)).any()
    assert kinds == set(ASKED)


@pytest.mark.parametrize(("size", "frames"), [(48, 1), (96, 1), (64, 4)])
def test_compound_scenes_are_pictures_with_the_object_on_the_first_frame(size, frames):
    for seed in range(20):
        pixels, masks = synthetic_clip(size, frames, np.random.default_rng(seed), compound=True)
        assert pixels.shape == (frames, size, size, 3) and pixels.dtype == np.float32
        assert pixels.min() >= 0 and pixels.max() <= 1
        assert masks.shape == (frames, size, size) and masks[0].any() and masks[0].mean() < 0.6
        again = synthetic_clip(size, frames, np.random.default_rng(seed), compound=True)
        assert np.array_equal(pixels, again[0]) and np.array_equal(masks, again[1])


def test_bands_are_for_compound_scenes_alone():
    assert SIMPLE[-1] == 0 < COMPOUND[-1] and len(SHAPES) == len(SIMPLE) == len(COMPOUND)
    assert sum(SIMPLE) == pytest.approx(1) and sum(COMPOUND) == pytest.approx(1)
    simple, compound = (synthetic_pair(64, np.random.default_rng(5), c) for c in (False, True))
    assert not np.array_equal(simple[1], compound[1])


def test_copies_look_like_the_object():
    """A bright disc on grey: what is asked for is bright, the picture grows brighter, and nothing else changes."""
    mask = disc() > 0
    pixels = np.where(mask, 0.8, 0.3)[..., None].repeat(3, axis=2).astype(np.float32)
    kept = pixels.copy()
    moved = 0
    for seed in range(20):
        changed, found = copies_beside(pixels, mask, np.random.default_rng(seed))
        assert np.array_equal(pixels, kept) and changed.shape == pixels.shape
        assert ndimage.label(found, structure=EIGHT)[1] == 1
        assert changed[found].mean() > 0.6
        assert (changed > 0.6).sum() > (pixels > 0.6).sum()
        moved += not np.array_equal(found, mask)
    assert moved > 8


@pytest.mark.parametrize(
    "mask", [np.zeros((40, 40), bool), disc(40, (2, 20), 8) > 0, disc(40, (20, 20), 1) > 0, np.ones((40, 40), bool)]
)
def test_nothing_is_copied_that_is_cut_off_or_of_no_good_size(mask):
    assert copies_beside(np.zeros((*mask.shape, 3), np.float32), mask, np.random.default_rng(0)) is None


def test_other_colours_keep_shape_and_range():
    pixels = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
    for seed in range(5):
        changed = recoloured(pixels, np.random.default_rng(seed))
        assert changed.shape == pixels.shape and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 1 and not np.allclose(changed, pixels, atol=0.02)
