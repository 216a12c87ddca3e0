"""Matrix products as wide as the processor.

torch sends fp32 matrix products on a processor to MKL, which leaves half of the vector width of AMD's processors with
AVX-512 unused, and convolutions to oneDNN, which does not. A product is a convolution whose kernel is one cell, so
large ones are asked for as such: twice as fast on two cores of an EPYC (`benchmarks/products.py`). In bf16 torch asks
oneDNN for products too, but writes the bias to where the result goes and reads it again; a convolution does not.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samed2.nn.stamps import stamp

FEWEST_ROWS, FEWEST_TERMS = 128, 2**22  # smaller products gain less than the detour costs
FEWEST_ROWS_MIXED = 4096  # in bf16


class Linear(nn.Linear):
    """A linear layer that computes `product`, and rounds its weights once for all calls in lower precision."""

    _rounded: tuple[tuple[Any, ...], Tensor, Tensor | None] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) -> (..., M)."""
        mixed = input.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        known = stamp(*(tensor for tensor in (self.weight, self.bias) if tensor is not None)) if mixed else None
        if known is None:
            return product(input, self.weight, self.bias)
        return product(input, *self._round(torch.get_autocast_dtype("cpu"), known))

    def _round(self, dtype: torch.dtype, known: tuple[Any, ...]) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in a precision: as autocast rounds them, which does so, and reads them all, at every call."""
        key = (dtype, *known)
        if self._rounded is None or self._rounded[0] != key:
            self._rounded = (key, self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))
        return self._rounded[1:]


def widen(model: nn.Module) -> None:
    """Turn, in place, the linear layers of a model into `Linear`, with the same weights and names."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, by whichever library is quicker.

    Args:
        x: (..., K). weight: (M, K), contiguous. bias: (M,) or None.

    Returns:
        (..., M).
    """
    rows, terms = x.shape[:-1].numel(), weight.shape[1]
    mixed = torch.is_autocast_enabled("cpu")  # which casts for a convolution as it does for a product
    large = rows >= (FEWEST_ROWS_MIXED if mixed else FEWEST_ROWS) and rows * weight.numel() >= FEWEST_TERMS
    known = mixed or x.dtype == weight.dtype == torch.float32
    if not (large and known and _gains() and x.device.type == "cpu") or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    cells = x.reshape(1, rows, 1, terms).permute(0, 3, 1, 2)  # [1, k, rows, 1], channels last in memory
    found = F.conv2d(cells, weight[:, :, None, None], bias)
    return found.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


@functools.cache
def _gains() -> bool:
    """Whether this processor is of the kind on which the detour was measured to gain, and torch has oneDNN."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
