"""Synthetic tasks: the same for the same generator, in range, never empty, and clips that move smoothly and end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from samed2.data.synthetic import synthetic_clip, synthetic_mask, synthetic_object, synthetic_pair
from samed2.data.synthetic_shapes import SHAPES, smooth_noise
from samed2.errors import InputError

EIGHT = np.ones((3, 3), dtype=bool)


def picture(shape, seed=0):
    """Soft spots on a slope, (H, W) or (H, W, 3) in [0, 1]."""
    rng = np.random.default_rng(seed)
    grey = ndimage.gaussian_filter(rng.random(shape[:2]), 4)
    grey = (grey - grey.min()) / np.ptp(grey)
    return (grey if len(shape) == 2 else grey[..., None] * rng.uniform(0.5, 1, 3)).astype(np.float32)


PICTURES = {
    "grey": picture((64, 64)),
    "colour": picture((70, 50, 3)),
    "large": picture((200, 333)),
    "tiny": picture((8, 9)),
    "flat": np.full((48, 48), 0.3, np.float32),
    "black": np.zeros((48, 48, 3), np.float32),
}


@pytest.mark.parametrize("name", PICTURES)
def test_masks_on_pictures_are_objects(name):
    pixels = PICTURES[name]
    for seed in range(12):
        mask = synthetic_mask(pixels, np.random.default_rng(seed))
        assert mask.shape == pixels.shape[:2] and mask.dtype == bool
        assert mask.any() and ndimage.label(mask, structure=EIGHT)[1] == 1
        if name not in ("tiny", "flat", "black"):
            assert mask.mean() < 0.8


@pytest.mark.parametrize("name", PICTURES)
def test_inserted_objects_leave_the_rest_of_the_picture(name):
    pixels = PICTURES[name]
    kept = pixels.copy()
    for seed in range(8):
        changed, mask = synthetic_object(pixels, np.random.default_rng(seed), inserted=1.0)
        assert np.array_equal(pixels, kept)
        assert changed.shape == pixels.shape and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 1 and mask.any() and mask.shape == pixels.shape[:2]
        reach = 5 + int(0.06 * max(mask.shape))
        far = ~ndimage.binary_dilation(mask, EIGHT, iterations=reach)
        assert np.allclose(changed[far], pixels[far], atol=1e-3)


def test_masks_follow_what_is_seen():
    """On a bright disc the mask is mostly the disc or mostly not: its edge is the disc's more often than chance."""
    y, x = np.mgrid[:64, :64]
    disc = (y - 30) ** 2 + (x - 34) ** 2 < 15**2
    pixels = (0.2 + 0.6 * disc + np.random.default_rng(0).normal(0, 0.03, disc.shape)).astype(np.float32)
    pure = []
    for seed in range(20):
        inside = disc[synthetic_mask(pixels, np.random.default_rng(seed))].mean()
        pure.append(max(inside, 1 - inside))
    assert np.mean(pure) > 0.9


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: synthetic_object(PICTURES["colour"], rng),
        lambda rng: synthetic_pair(48, rng),
        lambda rng: synthetic_clip(48, 3, rng),
    ],
)
def test_the_same_generator_gives_the_same(make):
    for seed in range(4):
        first, again, other = (make(np.random.default_rng(s)) for s in (seed, seed, seed + 100))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("size", [16, 33, 64])
def test_pairs_are_pictures_with_a_visible_object(size):
    for seed in range(25):
        pixels, mask = synthetic_pair(size, np.random.default_rng(seed))
        assert pixels.shape == (size, size, 3) and pixels.dtype == np.float32
        assert pixels.min() >= 0 and pixels.max() <= 1
        assert mask.shape == (size, size) and 0 < mask.mean() < 0.6


def test_clips_move_smoothly_and_some_objects_end():
    ended = 0
    for seed in range(30):
        pixels, masks = synthetic_clip(64, 5, np.random.default_rng(seed))
        assert pixels.shape == (5, 64, 64, 3) and masks.shape == (5, 64, 64) and masks[0].any()
        shown = masks.any(axis=(1, 2))
        ended += not shown[-1]
        assert np.all(np.diff(shown.astype(int)) <= 0)  # what has ended does not come back
        for a, b in itertools.pairwise(masks):
            if a.sum() > 150 and b.sum() > 150:
                assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.25
    assert 6 <= ended <= 24


def test_the_first_frame_of_a_clip_is_a_pair():
    pair, clip = (
        make(np.random.default_rng(3)) for make in (lambda r: synthetic_pair(32, r), lambda r: synthetic_clip(32, 1, r))
    )
    assert np.array_equal(pair[0], clip[0][0]) and np.array_equal(pair[1], clip[1][0])


def test_most_shapes_are_there_and_not_everywhere():
    for shape in SHAPES:
        shares = [(shape(64, (30, 34), 14, np.random.default_rng(seed)) > 0).mean() for seed in range(10)]
        assert all(0 < share < 0.6 for share in shares)


def test_smooth_noise_is_smooth_and_of_unit_size():
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_noise(64, 4, rng) for _ in range(40)])
    assert 0.4 < fields.std() < 1.3
    assert np.abs(np.diff(fields, axis=1)).max() < 0.5


@pytest.mark.parametrize("pixels", [np.zeros((4, 40)), np.zeros((40, 40, 4)), np.zeros(40), np.zeros((1, 40, 40, 3))])
def test_other_shapes_are_refused(pixels):
    with pytest.raises(InputError, match="pixels: got shape"):
        synthetic_mask(pixels.astype(np.float32), np.random.default_rng(0))


@pytest.mark.parametrize(("size", "frames"), [(8, 2), (32, 0)])
def test_clips_too_small_are_refused(size, frames):
    with pytest.raises(InputError, match="wanted at least"):
        synthetic_clip(size, frames, np.random.default_rng(0))
