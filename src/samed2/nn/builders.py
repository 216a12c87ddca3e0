"""Configurations by size: literal numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import Sam2HieraDetConfig, Sam2VisionConfig

from samed2.nn.config import SAMed2Config

# embed width, heads, blocks per stage, global-attention blocks, windows, background grid (SAM-2's published sizes)
SAM2_SIZES = {
    "tiny": (96, 1, (1, 2, 7, 2), (5, 7, 9), (8, 4, 14, 7), (7, 7)),
    "small": (96, 1, (1, 2, 11, 2), (7, 10, 13), (8, 4, 14, 7), (7, 7)),
    "base_plus": (112, 2, (2, 3, 16, 3), (12, 16, 20), (8, 4, 14, 7), (14, 14)),
    "large": (144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8), (7, 7)),
}


def vision_config(
    width: int,
    heads: int,
    blocks: Sequence[int],
    global_blocks: Sequence[int],
    windows: Sequence[int],
    background: Sequence[int],
    hidden: int,
    image_size: int,
) -> Sam2VisionConfig:
    """Hiera trunk and neck; channels and heads double from stage to stage."""
    widths = [width * 2**i for i in range(4)]
    trunk = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        image_size=[image_size, image_size],
        blocks_per_stage=list(blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**i for i in range(4)],
        window_size_per_stage=list(windows),
        global_attention_blocks=list(global_blocks),
        window_positional_embedding_background_size=list(background),
    )
    return Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[image_size // s, image_size // s] for s in (4, 8, 16)],
        fpn_hidden_size=hidden,
    )


def sam2_config(size: str, version: str = "2.1", image_size: int = 1024, **settings: Any) -> SAMed2Config:
    """A published SAM-2 size with temporal adapters.

    Args:
        size: "tiny", "small", "base_plus" or "large".
        version: "2.0" or "2.1" (2.1 adds the occlusion embedding and the pointers' temporal code).
        settings: fields of `SAMed2Config`.
    """
    vision = vision_config(*SAM2_SIZES[size], hidden=256, image_size=image_size)
    newer = version == "2.1"
    return SAMed2Config(
        vision_config=vision,
        prompt_encoder_config={"image_size": image_size},
        mask_decoder_config={},
        image_size=image_size,
        memory_attention_rope_feat_sizes=[image_size // 16, image_size // 16],
        enable_occlusion_spatial_embedding=newer,
        enable_temporal_pos_encoding_for_object_pointers=newer,
        **settings,
    )


def small_config(
    width: int,
    blocks: tuple[int, int, int, int],
    hidden: int = 128,
    image_size: int = 256,
    heads: int = 1,
    global_blocks: tuple[int, ...] = (),
    windows: tuple[int, int, int, int] = (8, 4, 8, 4),
    **settings: Any,
) -> SAMed2Config:
    """A SAMed-2 small enough to train and run on a CPU: narrow trunk, two memory-attention layers."""
    vision = vision_config(width, heads, blocks, global_blocks, windows, (8, 8), hidden, image_size)
    values = {
        "adapter_dim": 32,
        "box_tokens": "points",
        "box_prior": "ellipse",
        "enable_occlusion_spatial_embedding": True,
        **settings,
    }
    return SAMed2Config(
        vision_config=vision,
        prompt_encoder_config={"image_size": image_size, "hidden_size": hidden},
        mask_decoder_config={
            "hidden_size": hidden,
            "mlp_dim": 4 * hidden,
            "iou_head_hidden_dim": hidden,
            "dynamic_multimask_via_stability": False,
        },
        image_size=image_size,
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=4 * hidden,
        memory_attention_rope_feat_sizes=[image_size // 16, image_size // 16],
        memory_encoder_hidden_size=hidden,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=4 * hidden,
        **values,
    )


def nano_config(**settings: Any) -> SAMed2Config:
    """The built-in model: 128 px views, 8.7 M parameters (any multiple of 32 px works)."""
    sizes = {"width": 48, "blocks": (2, 2, 6, 2), "image_size": 128, "global_blocks": (7, 9)}
    return small_config(**{**sizes, **settings})


def micro_config(**settings: Any) -> SAMed2Config:
    """For tests and fast experiments: 128 px input, about 2 M parameters."""
    sizes = {"width": 24, "blocks": (1, 2, 3, 1), "hidden": 64, "image_size": 128, "global_blocks": (4,)}
    return small_config(**{**sizes, "adapter_dim": 16, **settings})
