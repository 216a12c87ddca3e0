"""Files of the trainer: written whole or not at all, read without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from samed2.errors import InputError
from samed2.io.atomic import atomic_path


def write_state(state: dict[str, Any], target: Path) -> None:
    """Write tensors and numbers; an older file stays where this fails.

    Raises:
        InputError: the system refuses to write.
    """
    try:
        with atomic_path(target) as path:
            torch.save(state, path)
    except RuntimeError as error:  # torch's way of telling that the disk is full
        raise InputError(
            f"{target}: cannot be written at step {state['step']}, is the disk full? An older one stays; "
            f"free some space and go on with --resume ({str(error).splitlines()[0]})"
        ) from error


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """What a file of the trainer's holds.

    Raises:
        InputError: it is cut off or something else.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path}: is not a usable checkpoint ({error})") from error
    return state
