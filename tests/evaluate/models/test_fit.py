"""How frames lie in a model's square, against SAM's own processor and against geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.evaluate.models.small import disc, image
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from samed2.evaluate.models.fit import Fit
from samed2.evaluate.models.hub import IMAGENET_MEAN, IMAGENET_STD
from samed2.evaluate.models.sam import medsam_recipe, probabilities_back, sam_recipe

SHAPES = [(60, 90), (90, 60), (64, 64), (33, 200), (301, 77), (5, 7)]


class Named:
    """Stands for a model of which only the input size is asked."""

    class config:
        class prompt_encoder_config:
            image_size = 1024


@pytest.mark.parametrize("shape", SHAPES)
def test_sam_pixels_equal_those_of_its_processor(shape):
    frame = np.stack([image(*shape, seed).frame(0) for seed in range(3)], axis=-1)
    wanted = SamImageProcessorPil()(frame, return_tensors="pt")["pixel_values"][0]
    recipe = sam_recipe(Named, IMAGENET_MEAN, IMAGENET_STD)
    seen = torch.from_numpy(frame).permute(2, 0, 1) / 255
    found = recipe.pixels(seen, recipe.fit(*shape, recipe.size))
    assert found.shape == wanted.shape
    # Pillow rounds to 8 bits after each of its two passes
    assert (found - wanted).abs().max() < 1.6 / 255 / min(IMAGENET_STD)
    assert ((found == 0) == (wanted == 0)).all(dim=0).float().mean() > 0.999  # the same padding


@pytest.mark.parametrize("shape", SHAPES)
def test_sam_masks_come_back_as_its_processor_does_it(shape):
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 256, 256)).astype(np.float32))
    fit = Fit.longest(*shape, 1024)
    wanted = SamImageProcessorPil().post_process_masks([maps[None]], [shape], [fit.inner], binarize=False)[0][0]
    torch.testing.assert_close(fit.back(maps), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [Fit.stretched, Fit.longest])
@pytest.mark.parametrize("shape", SHAPES)
def test_points_boxes_and_masks_land_on_the_same_place(make, shape):
    fit = make(*shape, 256)
    height, width = shape
    tall, wide = fit.inner[0] / height, fit.inner[1] / width
    whole = fit.box((0, 0, height, width))
    torch.testing.assert_close(whole, torch.tensor([0.0, 0.0, fit.inner[1], fit.inner[0]]))
    middle = fit.points([((height - 1) / 2, (width - 1) / 2)])[0] + 0.5  # the encoder adds the half again
    torch.testing.assert_close(middle, torch.tensor([fit.inner[1] / 2, fit.inner[0] / 2]))
    first = fit.points([(0, 0), (height - 1, width - 1)]) + 0.5
    torch.testing.assert_close(first[0], torch.tensor([wide / 2, tall / 2]))
    torch.testing.assert_close(first[1], torch.tensor([fit.inner[1] - wide / 2, fit.inner[0] - tall / 2]))


@pytest.mark.parametrize("make", [Fit.stretched, Fit.longest])
@pytest.mark.parametrize("shape", [s for s in SHAPES if min(s) > 20])
def test_a_mask_there_and_back_is_the_mask(make, shape):
    fit = make(*shape, 256)
    mask = disc(shape, shape[0] * 0.4, shape[1] * 0.6, min(shape) * 0.3)
    logits = fit.mask(mask, 64)
    assert logits.shape == (1, 64, 64)
    assert float(logits.min()) == pytest.approx(-10, abs=1e-4) and float(logits.max()) <= 10.001
    found = fit.back(logits)[0].numpy() > 0
    assert found.shape == shape
    assert np.count_nonzero(found & mask) / np.count_nonzero(found | mask) > 0.8


def test_the_longer_side_is_the_one_that_fills_the_square():
    assert Fit.longest(512, 1000, 1024).inner == (524, 1024)
    assert Fit.longest(2000, 3, 1024).inner == (1024, 2)
    assert Fit.longest(5000, 1, 1024).inner == (1024, 1)
    assert Fit.stretched(512, 1000, 1024).inner == (1024, 1024)


def test_medsam_sees_each_image_from_its_darkest_to_its_brightest():
    recipe = medsam_recipe(Named)
    dim = torch.from_numpy(image().frame(0).copy())[None].expand(3, -1, -1) / 255 * 0.2 + 0.3
    fit = recipe.fit(60, 90, recipe.size)
    seen = recipe.pixels(dim, fit)
    assert seen.shape == (3, 1024, 1024) and float(seen.min()) == 0 and float(seen.max()) == 1
    torch.testing.assert_close(seen, recipe.pixels(dim * 0.5 + 0.1, fit), rtol=0, atol=1e-4)
    flat = recipe.pixels(torch.full((3, 60, 90), 0.4), fit)
    assert torch.isfinite(flat).all() and float(flat.abs().max()) < 0.01


def test_medsam_resizes_probabilities():
    fit = Fit.stretched(4, 4, 8)
    maps = torch.tensor([[[50.0, -2.0], [50.0, -2.0]]])
    found = probabilities_back(fit, maps)[0]
    assert torch.isfinite(found).all()
    assert (fit.back(maps)[0] > 0).sum() > (found > 0).sum()  # a large logit does not outweigh a small one
