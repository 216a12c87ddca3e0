"""Parameter names of Meta's SAM 2 code and of the released SAMed-2 code -> names of `SAMed2Model`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

UNUSED = re.compile(r"image_encoder\.trunk\.blocks\.\d+\.fancy_fusion\..+")
"""Parameters of the released SAMed-2 weights that its forward pass never reads."""

_FOURIER = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_FOURIER_COPIES = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
_POINT = re.compile(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight")
_POINTS = "prompt_encoder.point_embed.weight"
_OUT = "memory_encoder.projection"

# First the rule for the place of a module, then all fitting rules for the layers in that place.
_PLACES = (
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    (r"obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"obj_ptr_proj\.", "object_pointer_proj."),
    (r"image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"sam_prompt_encoder\.", "prompt_encoder."),
    (r"sam_mask_decoder\.", "mask_decoder."),
)
_LAYERS: dict[str, tuple[tuple[str, str], ...]] = {
    "vision_encoder.backbone.": (
        (r"patch_embed\.proj\.", "patch_embed.projection."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (r"\.adapter\.linear_(down|up)\.", r".adapter.\1."),
    ),
    "prompt_encoder.": (
        (r"mask_downscaling\.0\.", "mask_embed.conv1."),
        (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
        (r"mask_downscaling\.3\.", "mask_embed.conv2."),
        (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
        (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    ),
    "mask_decoder.": (
        (r"\.out_proj\.", ".o_proj."),
        (r"\.norm([1-4])\.", r".layer_norm\1."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (r"output_upscaling\.0\.", "upscale_conv1."),
        (r"output_upscaling\.1\.", "upscale_layer_norm."),
        (r"output_upscaling\.3\.", "upscale_conv2."),
        (r"((?:_mlps\.\d|_head)\.)layers\.(0|2)\.", "_three_layers"),
        (r"((?:_mlps\.\d|_head)\.)layers\.1\.", r"\1layers.0."),
    ),
    "object_pointer_proj.": (
        (r"(_proj\.)layers\.(0|2)\.", "_three_layers"),
        (r"(_proj\.)layers\.1\.", r"\1layers.0."),
    ),
    "memory_attention.": (
        (r"\.norm([1-3])\.", r".layer_norm\1."),
        (r"attention\.norm\.", "attention.layer_norm."),
        (r"\.out_proj\.", ".o_proj."),
    ),
    "memory_encoder.": (
        (r"mask_downsampler\.encoder\.12\.", "mask_downsampler.final_conv."),
        (r"mask_downsampler\.encoder\.(\d+)\.", "_mask_downsampler"),
        (r"\.pix_feat_proj\.", ".feature_projection."),
        (r"encoder\.out_proj\.", "encoder.projection."),
        (r"\.fuser\.", ".memory_fuser."),
        (r"\.gamma$", ".scale"),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"(layers\.\d+)\.norm\.", r"\1.layer_norm."),
        (r"\.pwconv([12])\.", r".pointwise_conv\1."),
    ),
}


def _three_layers(found: re.Match[str]) -> str:
    """The ends of a three-layer perceptron have names of their own, its middle is `layers.0`."""
    return found[1] + ("proj_in." if found[2] == "0" else "proj_out.")


def _mask_downsampler(found: re.Match[str]) -> str:
    """Layers 3i and 3i + 1 are the convolution and the norm of step i."""
    step, part = divmod(int(found[1]), 3)
    return f"mask_downsampler.layers.{step}.{('conv', 'layer_norm', 'activation')[part]}."


_COMPUTED = {"_three_layers": _three_layers, "_mask_downsampler": _mask_downsampler}


def new_name(name: str) -> str:
    """Return our name of an official parameter; a name that fits no rule is returned as it is."""
    for pattern, place in _PLACES:
        moved, hits = re.subn("^" + pattern, place, name)
        if hits:
            name = moved
            break
    for place, rules in _LAYERS.items():
        if name.startswith(place):
            for pattern, layer in rules:
                name, hits = re.subn(pattern, _COMPUTED.get(layer, layer), name)
                if hits and layer in _COMPUTED:
                    break
            break
    return name


def translate(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an official state dict.

    The Fourier matrix appears twice in ours, the vectors of the point kinds are stacked to one (kinds, d).
    A memory encoder without output projection (its width equals the memory's) gets the identity.
    Nothing is dropped and nothing is checked: a name that fits no rule stays and shows up as unexpected.
    """
    state: dict[str, Tensor] = {}
    kinds: dict[int, Tensor] = {}
    for name, value in official.items():
        point = _POINT.fullmatch(name)
        if name == _FOURIER:
            state.update(dict.fromkeys(_FOURIER_COPIES, value))
        elif point:
            kinds[int(point[1])] = value
        else:
            state[new_name(name)] = value
    if kinds:
        state[_POINTS] = torch.cat([kinds[kind] for kind in sorted(kinds)])
    width = state.get("memory_encoder.feature_projection.bias")
    if width is not None and _OUT + ".weight" not in state:
        state[_OUT + ".weight"] = torch.eye(len(width), dtype=width.dtype)[:, :, None, None]
        state[_OUT + ".bias"] = torch.zeros_like(width)
    return state
