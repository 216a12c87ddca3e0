"""Official SAM 2 / SAM 2.1 and released SAMed-2 checkpoints into a folder that `samed2.nn.load` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samed2.errors import InputError
from samed2.nn.config import SAMed2Config
from samed2.nn.convert.infer import describe, infer_config
from samed2.nn.convert.names import UNUSED, translate
from samed2.nn.model import SAMed2Model
from samed2.nn.weights import build, save

KINDS = ("auto", "sam2", "samed2")
_WRAPPERS = ("model", "state_dict", "model_state_dict")

__all__ = ["KINDS", "convert", "model_from", "read_checkpoint"]


def convert(source: str | Path, out: str | Path, kind: str = "auto") -> dict[str, Any]:
    """Convert a checkpoint file to a folder with config.json and model.safetensors (float32).

    Args:
        source: Meta's SAM 2.0 or 2.1 `.pt`, or the released SAMed-2 `.pth`.
        out: folder to write.
        kind: "sam2", "samed2", or "auto" to tell by the parameters' names.

    Returns:
        What was found and done, for people and as JSON.

    Raises:
        InputError: the file is unreadable or of another kind; parameters are missing, left over, misshapen.
    """
    official = read_checkpoint(source)
    released = any(".adapter." in name or UNUSED.fullmatch(name) for name in official)
    found = "samed2" if released else "sam2"
    if kind not in KINDS:
        raise InputError(f"kind: got {kind!r}, wanted one of {', '.join(KINDS)}")
    if kind not in ("auto", found):
        has = "has" if released else "has no"
        raise InputError(f"{source}: is no {kind} checkpoint, it {has} temporal adapters; use --kind {found}")
    config = infer_config(official, str(source))
    model = model_from(official, config, str(source))
    dropped = sum(UNUSED.fullmatch(name) is not None for name in official)
    save(model, out)
    return {
        "kind": found,
        **describe(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "read": len(official),
        "dropped": dropped,
        "out": str(out),
    }


def model_from(official: Mapping[str, Tensor], config: SAMed2Config, source: str) -> SAMed2Model:
    """Build a model from official parameters.

    The released code's unused parameters are left out. Weights without adapters get new ones, the identity.

    Raises:
        InputError: see `samed2.nn.strict.check_shapes`.
    """
    used = {name: value for name, value in official.items() if not UNUSED.fullmatch(name)}
    fresh = not any(".adapter." in name for name in official)
    return build(config, translate(used), source, fresh=(".adapter.",) if fresh else ())


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a torch checkpoint without running anything in it.

    Raises:
        InputError: missing, cut off, not a torch file, holding more than tensors, or not a table of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'does not exist'}, wanted a checkpoint file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty, wanted a checkpoint file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch answers broken files with a dozen kinds of error
        why = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: cannot be read as torch weights, it may be cut off: {why}") from error
    if isinstance(content, dict):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if isinstance(content, list):
        raise InputError(f"{path}: holds a list, wanted named weights; for a memory bank use --kind memory")
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, wanted named weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{path}: {name!r}: got a {type(value).__name__}, wanted a tensor")
    return {name.removeprefix("module."): value for name, value in content.items()}
