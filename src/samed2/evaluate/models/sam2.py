"""SAM 2 and 2.1 zero-shot, with their authors' resizing, normalisation and prompt encoding.

A box goes in as two labelled points (corners 2 and 3) and a padding point: `Sam2Model` encodes `input_boxes` so. Its
single mask falls back on the best of three where it is not stable (SAM 2's dynamic multimask, set in the weights'
configuration).
"""

from __future__ import annotations

from typing import Any

import torch

from samed2.evaluate.models.anything import AnythingOptions, Recipe, SegmentAnything
from samed2.evaluate.models.fit import Fit
from samed2.evaluate.models.hub import image_statistics, load_transformers
from samed2.evaluate.models.options import read_options


def load_sam2(weights: str, device: str, settings: dict[str, Any], name: str) -> SegmentAnything:
    """SAM 2 / 2.1 from a folder or the hub; of video models the image part.

    Raises:
        InputError: see `load_transformers` and `read_options`.
    """
    from transformers import Sam2Model

    options = read_options(AnythingOptions, settings, name)
    model, folder = load_transformers(weights, Sam2Model, ("sam2", "sam2_video"))
    return SegmentAnything(model, sam2_recipe(model, *image_statistics(folder)), device, options, name)


def sam2_recipe(model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Recipe:
    """Both sides stretched to the model's input size, then mean and standard deviation per channel."""

    def pixels(seen: torch.Tensor, fit: Fit) -> torch.Tensor:
        return standardised(fit.resize(seen), mean, std)

    return Recipe(input_size(model), Fit.stretched, pixels)


def standardised(values: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """(3, h, w) in [0, 1] less the mean, over the standard deviation."""
    return (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def input_size(model: Any) -> int:
    """Side in pixels of the square that the prompts of a model refer to."""
    size = model.config.prompt_encoder_config.image_size
    return int(size[0] if isinstance(size, list | tuple) else size)
