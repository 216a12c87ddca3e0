"""Which model a set of official weights belongs to, told by its names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from samed2.errors import InputError
from samed2.nn.builders import SAM2_SIZES, sam2_config
from samed2.nn.config import SAMed2Config

_TRUNK = "image_encoder.trunk."
_BLOCK_WIDTH = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.norm2\.weight")
_ADAPTER = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.adapter\.linear_down\.weight")
_VERSION_KEYS = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight")


def infer_config(official: Mapping[str, Tensor], source: str) -> SAMed2Config:
    """Return the configuration of official SAM 2, SAM 2.1 or released SAMed-2 weights.

    Released SAMed-2 weights (told by their adapters) get the released layout and what their code did: images
    in [0, 1] without mean and deviation, boxes as two corner tokens. For SAM 2 the adapters are new.

    Raises:
        InputError: the trunk is none of the published sizes.
    """
    size = _size(official, source)
    version = "2.1" if any(name in official for name in _VERSION_KEYS) else "2.0"
    adapters = {int(m[1]): v.shape[0] for m, v in _matches(_ADAPTER, official)}
    settings: dict[str, Any] = {}
    if adapters:
        blocks = sum(SAM2_SIZES[size][2])
        settings = {
            "adapter_dim": next(iter(adapters.values())),
            "adapter_blocks": None if len(adapters) == blocks else sorted(adapters),
            "adapter_layout": "released",
            "box_tokens": "corners",
            "pixel_mean": [0.0, 0.0, 0.0],
            "pixel_std": [1.0, 1.0, 1.0],
        }
    return sam2_config(size, version, **settings)


def describe(config: SAMed2Config) -> dict[str, Any]:
    """Return what `infer_config` found, for people."""
    trunk = config.vision_config.backbone_config
    blocks = tuple(trunk.blocks_per_stage)
    size = next((n for n, s in SAM2_SIZES.items() if (s[0], s[2]) == (trunk.hidden_size, blocks)), "custom")
    return {
        "size": size,
        "version": "2.1" if config.enable_occlusion_spatial_embedding else "2.0",
        "adapter_layout": config.adapter_layout if config.adapter_dim else "none",
        "adapter_dim": config.adapter_dim,
    }


def _matches(pattern: re.Pattern[str], official: Mapping[str, Tensor]) -> list[tuple[re.Match[str], Tensor]]:
    return [(found, value) for name, value in official.items() if (found := pattern.fullmatch(name))]


def _size(official: Mapping[str, Tensor], source: str) -> str:
    """Return the published size whose width, blocks per stage, background grid and first window fit."""
    background, window = official.get(_TRUNK + "pos_embed"), official.get(_TRUNK + "pos_embed_window")
    if background is None or window is None or background.ndim != 4 or window.ndim != 4:
        raise InputError(
            f"{source}: holds no SAM 2 weights: got {_some(official)}, wanted {_TRUNK}pos_embed and "
            f"{_TRUNK}pos_embed_window; give a SAM 2, SAM 2.1 or released SAMed-2 checkpoint"
        )
    widths = Counter(value.shape[0] for _, value in _matches(_BLOCK_WIDTH, official))
    found = (
        background.shape[1],
        tuple(widths[width] for width in sorted(widths)),
        tuple(background.shape[2:]),
        window.shape[2],
    )
    known = {name: (s[0], s[2], s[5], s[4][0]) for name, s in SAM2_SIZES.items()}
    for name, size in known.items():
        if found == size:
            return name
    raise InputError(
        f"{source}: unknown SAM 2 size: got width {found[0]}, blocks per stage {found[1]}, background grid "
        f"{found[2]}; wanted one of "
        + ", ".join(f"{name} ({size[0]}, {size[1]}, {size[2]})" for name, size in known.items())
    )


def _some(official: Mapping[str, Tensor]) -> str:
    names = sorted(official)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"
