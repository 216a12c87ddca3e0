"""Which parts of a model train, and how: chosen parameters, LoRA, depth-wise learning rates, recomputed activations."""

from __future__ import annotations

import functools
import re

from torch import nn
from torch.utils.checkpoint import checkpoint

from samed2.errors import InputError
from samed2.nn import SAMed2Model

TRUNK = "vision_encoder."
LORA_RANK = 8
LORA_LAYERS = r"vision_encoder\..*\.attn\.(qkv|proj)"


def choose_parts(model: SAMed2Model, train: str) -> None:
    """Leave only some parameters to train, in place.

    Args:
        train: "all"; "adapters"; "adapters+decoder": those and everything behind the image encoder; "lora": these
            and small additions to the encoder's attention, see `merge_lora`.

    Raises:
        InputError: there is nothing of the sort, or peft is missing.
    """
    if train == "lora":
        _add_lora(model)
    for name, parameter in model.named_parameters():
        adapter, behind = ".adapter." in name, not name.startswith(TRUNK)
        kept = {"all": True, "adapters": adapter, "adapters+decoder": adapter or behind}
        parameter.requires_grad_(kept.get(train, adapter or behind or ".lora_" in name))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"model.train: {train}: the model has no adapters; wanted adapter_dim above 0")


def _add_lora(model: SAMed2Model) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError("model.train: lora needs peft; install samed2[lora]") from error
    config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=LORA_LAYERS)
    inject_adapter_in_model(config, model)


def merge_lora(model: SAMed2Model) -> None:
    """Add what LoRA learned to the weights it stood beside, in place; a model without LoRA stays as it is."""
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "lora_A") and hasattr(layer, "base_layer"):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.base_layer)


def recompute(model: SAMed2Model) -> None:
    """Keep only the inputs of the encoder's blocks for the backward pass and compute the rest again, in place."""
    for block in model.vision_encoder.backbone.blocks:
        block.forward = functools.partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward, *args, **kwargs):  # type: ignore[no-untyped-def]
    if not block.training:
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def depth_scale(name: str, blocks: int, decay: float) -> float:
    """Factor of a parameter's learning rate: `decay` for every block between it and the encoder's end; adapters 1."""
    if decay == 1 or not name.startswith(f"{TRUNK}backbone.") or ".adapter." in name or ".lora_" in name:
        return 1.0
    found = re.search(r"\.blocks\.(\d+)\.", name)
    return decay ** (blocks - int(found.group(1)) if found else blocks + 1)
