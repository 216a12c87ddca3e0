"""SAM and MedSAM zero-shot, each with its authors' resizing and normalisation.

SAM: arXiv 2304.02643, github.com/facebookresearch/segment-anything. MedSAM: doi 10.1038/s41467-024-44824-z,
github.com/bowang-lab/MedSAM (its inference script). Weights are those of transformers' `SamModel`.
"""

from __future__ import annotations

from typing import Any

import torch

from samed2.evaluate.models.anything import AnythingOptions, Recipe, SegmentAnything
from samed2.evaluate.models.fit import Fit
from samed2.evaluate.models.hub import image_statistics, load_transformers
from samed2.evaluate.models.options import Options, read_options
from samed2.evaluate.models.sam2 import input_size, standardised

LEAST_RANGE = 1e-4  # of the window; below that a frame is flat but for rounding
SURE = 1e-6  # keeps the logit of a probability finite


def load_sam(weights: str, device: str, settings: dict[str, Any], name: str) -> SegmentAnything:
    """SAM from a folder or the hub.

    Raises:
        InputError: see `load_transformers` and `read_options`.
    """
    from transformers import SamModel

    options = read_options(AnythingOptions, settings, name)
    model, folder = load_transformers(weights, SamModel, ("sam",))
    return SegmentAnything(model, sam_recipe(model, *image_statistics(folder)), device, options, name)


def load_medsam(weights: str, device: str, settings: dict[str, Any], name: str) -> SegmentAnything:
    """MedSAM from a folder or the hub.

    Raises:
        InputError: see `load_transformers` and `read_options`.
    """
    from transformers import SamModel

    given = read_options(Options, settings, name)
    model, _ = load_transformers(weights, SamModel, ("sam",))
    options = AnythingOptions(window=given.window, precision=given.precision, multimask=False)
    return SegmentAnything(model, medsam_recipe(model), device, options, name)


def sam_recipe(model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Recipe:
    """The longer side to the input size, mean and standard deviation per channel, then zeros to the square."""

    def pixels(seen: torch.Tensor, fit: Fit) -> torch.Tensor:
        return fit.pad(standardised(fit.resize(seen), mean, std))

    return Recipe(input_size(model), Fit.longest, pixels)


def medsam_recipe(model: Any) -> Recipe:
    """Both sides stretched to the input size (cubic), then the image's own minimum and maximum to 0 and 1."""

    def pixels(seen: torch.Tensor, fit: Fit) -> torch.Tensor:
        values = fit.resize(seen, "bicubic")
        return (values - values.min()) / (values.max() - values.min()).clamp(min=LEAST_RANGE)

    return Recipe(input_size(model), Fit.stretched, pixels, probabilities_back, boxes_only=True)


def probabilities_back(fit: Fit, maps: torch.Tensor) -> torch.Tensor:
    """(M, s, s) logits to (M, H, W), resized as probabilities, as MedSAM does."""
    return fit.back(maps.sigmoid()).logit(eps=SURE)
