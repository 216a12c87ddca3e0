"""Telling whether weights have changed, for what is worked out from them once and kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def stamp(*weights: Tensor) -> tuple[Any, ...] | None:
    """What differs after every change of the weights.

    None where nothing may be kept: gradients are wanted, or a weight was made in inference mode, whose changes cannot
    be told.
    """
    if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
        return None
    return tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
