from __future__ import annotations

import numpy as np
import pytest
from tests.generated import disc

from samed2.evaluate import baselines
from samed2.evaluate.metrics import dice
from samed2.evaluate.protocols import Hint, Trial
from samed2.evaluate.types import Outcome
from samed2.io import Geometry, Scan
from samed2.prompts import ellipse_mask, tight_box

SHAPE = (60, 80)
TRUTH = disc(SHAPE, 30, 40, 15)
BOX = tuple(float(v) for v in tight_box(TRUTH))


def image(noise=0.05):
    rng = np.random.default_rng(0)
    return np.clip(TRUTH * 0.6 + 0.2 + rng.normal(0, noise, SHAPE), 0, 1).astype(np.float32)


def trial(frames, hints, extent=None, examples=()):
    masks = np.zeros((len(frames), *SHAPE), bool)
    return Trial(Outcome(frames, masks, np.ones(len(frames))), hints, extent, list(examples))


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_every_baseline_is_a_mask_near_its_box(name):
    share = np.count_nonzero(TRUTH) / TRUTH.size
    mask = baselines.BASELINES[name]([BOX], [], image(), share)
    assert mask.shape == SHAPE and mask.dtype == bool
    assert dice(mask, TRUTH) > 0.85
    colour = np.repeat(image()[..., None], 3, axis=2)
    assert dice(baselines.BASELINES[name]([BOX], [], colour, share), TRUTH) > 0.85
    assert not baselines.BASELINES[name]([], [], image(), share).any()


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_several_boxes_are_united_whatever_their_order(name):
    boxes = [(5.0, 5.0, 20.0, 20.0), (30.0, 50.0, 50.0, 70.0)]
    both = baselines.BASELINES[name](boxes, [], image(), 0.01)
    single = [baselines.BASELINES[name]([b], [], image(), 0.01) for b in boxes]
    np.testing.assert_array_equal(both, single[0] | single[1])
    np.testing.assert_array_equal(both, baselines.BASELINES[name](boxes[::-1], [], image(), 0.01))


def test_shapes_by_hand():
    np.testing.assert_array_equal(baselines.ellipse([BOX], [], image(), 0), ellipse_mask(BOX, SHAPE))
    filled = baselines.box([(2.0, 3.0, 5.0, 9.0)], [], image(), 0)
    assert filled[2:5, 3:9].all() and filled.sum() == 18
    assert baselines.box([(2.6, 3.6, 2.9, 3.9)], [], image(), 0).sum() == 1  # never nothing
    area = np.pi * 10**2 / TRUTH.size
    placed = baselines.disc([BOX], [(10.0, 12.0, True), (50.0, 70.0, False)], image(), area)
    assert abs(placed.sum() - np.pi * 100) < 15
    assert np.argwhere(placed).mean(axis=0) == pytest.approx([10, 12])


def test_the_classical_method_looks_at_the_image():
    loose = (8.0, 14.0, 54.0, 70.0)
    assert dice(baselines.classical([loose], [], image(), 0), TRUTH) > 0.9
    assert dice(baselines.ellipse([loose], [], image(), 0), TRUTH) < 0.75
    flat = np.zeros(SHAPE, np.float32)  # nothing to see
    np.testing.assert_array_equal(baselines.classical([BOX], [], flat, 0), ellipse_mask(BOX, SHAPE))


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 1.0, 1.0), (59.0, 79.0, 60.0, 80.0), (0.0, 0.0, 60.0, 80.0), (3.0, 3.0, 5.0, 60.0)]
)
def test_the_classical_method_takes_any_box(box):
    mask = baselines.classical([box], [], image(), 0)
    assert mask.any() and not (mask & ~baselines.filled(box, SHAPE)).any()


def test_prior_is_where_most_examples_are():
    half = np.zeros((30, 40), bool)
    half[10:20, 10:20] = True
    mask = baselines.prior([half, half, np.zeros_like(half)], SHAPE)
    assert mask[22:38, 22:38].all() and abs(mask.sum() - 400) < 80
    apart = [np.roll(half, s, axis=1) for s in (-10, 5, 20)]
    assert baselines.prior(apart, SHAPE).any()


def test_boxes_become_bodies_in_a_volume():
    scan = Scan.from_array(np.zeros((21, *SHAPE), np.uint8), geometry=Geometry.from_spacing((2.0, 1.0, 1.0)))
    hints = {10: Hint([BOX])}
    found = baselines.answers(trial(list(range(21)), hints), ("ellipse", "box", "disc"), scan, 0.1)
    width = BOX[3] - BOX[1]
    for masks in found.values():
        assert masks.shape == scan.shape and masks[10].any() and not masks[[0, 20]].any()
    assert found["box"].any(axis=(1, 2)).sum() == pytest.approx(width / 2, abs=1)  # 2 mm apart: half as many frames
    assert found["ellipse"][10].sum() > found["ellipse"][6].sum() > 0
    sphere = np.count_nonzero(found["ellipse"]) * 2
    assert sphere == pytest.approx(np.pi / 6 * width**3, rel=0.05)
    told = baselines.answers(trial(list(range(21)), hints, extent=(3, 12)), ("box", "classical"), scan, 0.1)
    assert np.flatnonzero(told["box"].any(axis=(1, 2))).tolist() == list(range(3, 13))
    assert not told["classical"][[0, 1, 2, 13]].any()


def test_in_a_video_the_answer_stays_and_prompted_frames_have_their_own():
    scan = Scan.from_array(np.zeros((4, *SHAPE), np.uint8), kind="video")
    found = baselines.answers(trial([0, 1, 2, 3], {1: Hint([BOX])}), ("ellipse",), scan, 0.1)["ellipse"]
    assert all(np.array_equal(found[f], ellipse_mask(BOX, SHAPE)) for f in range(4))
    other = (2.0, 2.0, 12.0, 12.0)
    own = baselines.answers(trial([1, 3], {1: Hint([BOX]), 3: Hint([other])}, examples=[TRUTH]), ("box",), scan, 0.1)
    np.testing.assert_array_equal(own["box"][1], baselines.filled(other, SHAPE))
    np.testing.assert_array_equal(own["prior"], np.stack([TRUTH, TRUTH]))
