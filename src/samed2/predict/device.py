"""Where and how precisely a model runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from samed2.errors import InputError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str | torch.device | None = None) -> torch.device:
    """The device of a name; without one the first there is of cuda, mps, cpu.

    Raises:
        InputError: the name is no device, or one this machine does not have.
    """
    if name is None or name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device: got {name!r}, wanted cpu, cuda, cuda:N or mps") from error
    have = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not have.get(device.type, False):
        usable = ", ".join(kind for kind, there in have.items() if there)
        raise InputError(f"device: {name} is not on this machine; it has {usable}")
    return device


def resolve_precision(name: str | None, device: torch.device) -> torch.dtype | None:
    """The autocast type of a precision; None means fp32.

    Without a name: bf16 on a GPU that has it, fp32 elsewhere (on a CPU the decoder is too small to gain, and
    fp32 gives the same mask on every machine).

    Raises:
        InputError: an unknown precision.
    """
    if name is None or name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else None
    if name not in PRECISIONS:
        raise InputError(f"precision: got {name!r}, wanted one of auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Mixed precision on a device, or nothing for fp32."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
