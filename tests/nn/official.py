"""Names and shapes of Meta's and the released SAMed-2 parameters of any size; weights by the golden rules.

The table is checked against tests/golden/official_parameter_names.txt, which lists the released micro model.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
Shapes = dict[str, tuple[int, ...]]

MLP, MEMORY = 2048, 64  # decoder's feed-forward, memory channels


def listed_shapes() -> Shapes:
    """The list of the released micro model."""
    lines = (GOLDEN / "official_parameter_names.txt").read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line)
    return {name: tuple(int(n) for n in shape.strip("[]").split(",") if n.strip()) for name, shape in pairs}


def official_shapes(
    width: int,
    blocks: Sequence[int],
    background: Sequence[int],
    *,
    hidden: int = 256,
    attention_layers: int = 4,
    feed_forward: int = 2048,
    window: int = 8,
    version: str = "2.0",
    adapter: int = 0,
) -> Shapes:
    d = hidden
    out: Shapes = {
        "maskmem_tpos_enc": (7, 1, 1, MEMORY),
        "no_mem_embed": (1, 1, d),
        "no_mem_pos_enc": (1, 1, d),
        "no_obj_ptr": (1, d),
        **_layer("mask_downsample", 1, 1, 4, 4),
        **_trunk(width, blocks, background, window, adapter),
    }
    for i in range(4):
        out |= _layer(f"image_encoder.neck.convs.{i}.conv", d, width * 2 ** (3 - i), 1, 1)
    if version == "2.1":
        out |= {"no_obj_embed_spatial": (1, MEMORY), **_layer("obj_ptr_tpos_proj", MEMORY, d)}
    out |= _memory(d, attention_layers, feed_forward)
    out |= _prompts(d) | _decoder(d) | _mlp("obj_ptr_proj", d, d, d)
    return out


def _layer(name: str, *shape: int, bias: int | None = None) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": (shape[0] if bias is None else bias,)}


def _mlp(name: str, d_in: int, middle: int, d_out: int) -> Shapes:
    sizes = [(middle, d_in), (middle, middle), (d_out, middle)]
    return {k: v for i, s in enumerate(sizes) for k, v in _layer(f"{name}.layers.{i}", *s).items()}


def _attention(name: str, d: int, inner: int, keys: int | None = None) -> Shapes:
    keys = d if keys is None else keys
    sizes = {"q_proj": (inner, d), "k_proj": (inner, keys), "v_proj": (inner, keys), "out_proj": (d, inner)}
    return {k: v for part, s in sizes.items() for k, v in _layer(f"{name}.{part}", *s).items()}


def _trunk(width: int, blocks: Sequence[int], background: Sequence[int], window: int, adapter: int) -> Shapes:
    trunk = "image_encoder.trunk"
    out: Shapes = {
        f"{trunk}.pos_embed": (1, width, *background),
        f"{trunk}.pos_embed_window": (1, width, window, window),
        **_layer(f"{trunk}.patch_embed.proj", width, 3, 7, 7),
    }
    before, index = width, 0
    for stage, count in enumerate(blocks):
        dim = width * 2**stage
        for _ in range(count):
            block = f"{trunk}.blocks.{index}"
            out |= _layer(f"{block}.norm1", before) | _layer(f"{block}.norm2", dim)
            out |= _layer(f"{block}.attn.qkv", 3 * dim, before) | _layer(f"{block}.attn.proj", dim, dim)
            out |= _layer(f"{block}.mlp.layers.0", 4 * dim, dim) | _layer(f"{block}.mlp.layers.1", dim, 4 * dim)
            if before != dim:
                out |= _layer(f"{block}.proj", dim, before)
            if adapter:
                out |= _adapter(block, dim, adapter)
            before, index = dim, index + 1
    return out


def _adapter(block: str, dim: int, inner: int) -> Shapes:
    fusion = f"{block}.fancy_fusion"
    return {
        **_layer(f"{block}.adapter.norm", dim),
        **_layer(f"{block}.adapter.linear_down", inner, dim),
        **_layer(f"{block}.adapter.conv", inner, inner, 3, 3, 3),
        **_layer(f"{block}.adapter.linear_up", dim, inner),
        f"{fusion}.cross_attn.in_proj_weight": (3 * dim, dim),
        f"{fusion}.cross_attn.in_proj_bias": (3 * dim,),
        **_layer(f"{fusion}.cross_attn.out_proj", dim, dim),
        **_layer(f"{fusion}.norm", dim),
    }


def _memory(d: int, layers: int, feed_forward: int) -> Shapes:
    out = _layer("memory_attention.norm", d)
    for i in range(layers):
        layer = f"memory_attention.layers.{i}"
        out |= _attention(f"{layer}.self_attn", d, d) | _attention(f"{layer}.cross_attn_image", d, d, MEMORY)
        out |= _layer(f"{layer}.linear1", feed_forward, d) | _layer(f"{layer}.linear2", d, feed_forward)
        for j in (1, 2, 3):
            out |= _layer(f"{layer}.norm{j}", d)
    encoder = "memory_encoder"
    for i in range(4):
        out |= _layer(f"{encoder}.mask_downsampler.encoder.{3 * i}", 4 ** (i + 1), 4**i, 3, 3)
        out |= _layer(f"{encoder}.mask_downsampler.encoder.{3 * i + 1}", 4 ** (i + 1))
    out |= _layer(f"{encoder}.mask_downsampler.encoder.12", d, 256, 1, 1)
    out |= _layer(f"{encoder}.pix_feat_proj", d, d, 1, 1)
    for i in (0, 1):
        layer = f"{encoder}.fuser.layers.{i}"
        out |= {f"{layer}.gamma": (d,)} | _layer(f"{layer}.dwconv", d, 1, 7, 7) | _layer(f"{layer}.norm", d)
        out |= _layer(f"{layer}.pwconv1", 4 * d, d) | _layer(f"{layer}.pwconv2", d, 4 * d)
    if d != MEMORY:
        out |= _layer(f"{encoder}.out_proj", MEMORY, d, 1, 1)
    return out


def _prompts(d: int) -> Shapes:
    prompt = "sam_prompt_encoder"
    out: Shapes = {f"{prompt}.pe_layer.positional_encoding_gaussian_matrix": (2, d // 2)}
    out |= {f"{prompt}.point_embeddings.{i}.weight": (1, d) for i in range(4)}
    out |= {f"{prompt}.not_a_point_embed.weight": (1, d), f"{prompt}.no_mask_embed.weight": (1, d)}
    down = f"{prompt}.mask_downscaling"
    out |= _layer(f"{down}.0", 4, 1, 2, 2) | _layer(f"{down}.1", 4)
    return out | _layer(f"{down}.3", 16, 4, 2, 2) | _layer(f"{down}.4", 16) | _layer(f"{down}.6", d, 16, 1, 1)


def _decoder(d: int) -> Shapes:
    name = "sam_mask_decoder"
    out: Shapes = {f"{name}.iou_token.weight": (1, d), f"{name}.mask_tokens.weight": (4, d)}
    out[f"{name}.obj_score_token.weight"] = (1, d)
    for i in (0, 1):
        layer = f"{name}.transformer.layers.{i}"
        out |= _attention(f"{layer}.self_attn", d, d)
        out |= _attention(f"{layer}.cross_attn_token_to_image", d, d // 2)
        out |= _attention(f"{layer}.cross_attn_image_to_token", d, d // 2)
        out |= _layer(f"{layer}.mlp.layers.0", MLP, d) | _layer(f"{layer}.mlp.layers.1", d, MLP)
        for j in (1, 2, 3, 4):
            out |= _layer(f"{layer}.norm{j}", d)
    out |= _attention(f"{name}.transformer.final_attn_token_to_image", d, d // 2)
    out |= _layer(f"{name}.transformer.norm_final_attn", d)
    out |= _layer(f"{name}.output_upscaling.0", d, d // 4, 2, 2, bias=d // 4)
    out |= _layer(f"{name}.output_upscaling.1", d // 4)
    out |= _layer(f"{name}.output_upscaling.3", d // 4, d // 8, 2, 2, bias=d // 8)
    out |= _layer(f"{name}.conv_s0", d // 8, d, 1, 1) | _layer(f"{name}.conv_s1", d // 4, d, 1, 1)
    for i in range(4):
        out |= _mlp(f"{name}.output_hypernetworks_mlps.{i}", d, d, d // 8)
    return out | _mlp(f"{name}.iou_prediction_head", d, 256, 4) | _mlp(f"{name}.pred_obj_score_head", d, d, 1)


def normal(name: str, shape: Sequence[int]) -> np.ndarray:
    """Standard normal numbers that the name alone decides."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    return np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape).astype(np.float32)


def golden_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights by the rules that the golden outputs were computed with (see test_golden.py)."""
    return {name: torch.from_numpy(_golden(name, shape)) for name, shape in shapes.items()}


def _golden(name: str, shape: tuple[int, ...]) -> np.ndarray:
    z = normal(name, shape)
    if name.endswith("gaussian_matrix"):
        return z
    if len(shape) <= 1:
        return 0.1 * z + np.float32(name.endswith("weight"))
    special = any(word in name for word in ("embed", "token", "no_mem", "no_obj", "tpos"))
    if special and "proj" not in name and "patch_embed" not in name:
        return 0.1 * z
    return z / np.float32(np.sqrt(np.prod(shape[1:])))
