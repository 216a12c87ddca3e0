"""SAMed-2 as a transformers model: SAM-2's video modules, temporal adapters, and a path per step of the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, Sam2VideoModel

from samed2.nn.attention import attend_memory, can_attend
from samed2.nn.config import SAMed2Config
from samed2.nn.decoder import Candidates, choose, propose
from samed2.nn.hiera import adapt_trunk, feature_maps
from samed2.nn.products import widen
from samed2.nn.prompts import PromptTensors, ellipse_logits, embed_prompts

STRIDE = 16  # of the image embedding
NO_OBJECT_LOGIT = -1024.0


class Features(NamedTuple):
    """Image features of N frames: high (N, d/8, S/4, S/4), mid (N, d/4, S/8, S/8), low (N, d, S/16, S/16).

    `low` is raw: neither memory nor the no-memory vector has been added.
    """

    high: torch.Tensor
    mid: torch.Tensor
    low: torch.Tensor

    def select(self, rows: Any) -> Features:
        """Features of some frames, in the order of `rows`; a frame may be repeated (one row per object)."""
        return Features(*(level[rows] for level in self))


class Decoded(NamedTuple):
    """Masks of N rows: logits (N, M, S/4, S/4), iou (N, M), object_score (N,), pointer (N, d); M is 1 or 3."""

    logits: torch.Tensor
    iou: torch.Tensor
    object_score: torch.Tensor
    pointer: torch.Tensor


class SAMed2Model(Sam2VideoModel):
    """SAM-2 with temporal adapters and a memory of past cases.

    State-dict keys are those of transformers' `Sam2VideoModel`, plus `...blocks.{i}.adapter.*`, so every
    SAM 2 / 2.1 checkpoint loads by name and new adapters start as the identity.
    Source: arXiv 2507.03698; SAM-2 modules from transformers.
    """

    config_class = SAMed2Config
    config: SAMed2Config

    def __init__(self, config: SAMed2Config) -> None:
        super().__init__(config)
        trunk = self.vision_encoder.backbone
        adapt_trunk(trunk, config.adapted, config.adapter_dim, config.adapter_layout, config.adapter_zero_init)
        widen(self)
        self.post_init()

    def encode(self, pixels: torch.Tensor, shallow: bool = False) -> Features:
        """Image features of clips.

        Args:
            pixels: (B, T, 3, S, S), normalised with the config's mean and deviation; the T frames of a clip
                are neighbours in true order. T = 1 for single images.
            shallow: of clips of three or more all but the first and last frames; only the first adapter sees their
                neighbours, those after it take them to look like the frame itself. Nearly as quick as frames alone.

        Returns:
            `Features` of the B*T frames, clip by clip; with `shallow` of the B*(T-2) inner ones.

        Raises:
            ValueError: for another number of axes, a side that does not fit the model, or clips that are not as
                `shallow` wants them.
        """
        if pixels.ndim != 5 or pixels.shape[-1] != pixels.shape[-2]:
            raise ValueError(f"pixels: got shape {tuple(pixels.shape)}, wanted (B, T, 3, S, S)")
        frames = pixels.shape[1]
        if shallow and (frames < 3 or self.config.adapter_layout != "frames"):
            raise ValueError(
                f"shallow: got clips of {frames} frames, wanted at least 3, and adapters in layout 'frames'"
            )
        high, mid, low = feature_maps(self.vision_encoder, pixels.flatten(0, 1), frames, shallow)
        return Features(self.mask_decoder.conv_s0(high), self.mask_decoder.conv_s1(mid), low)

    def condition(
        self,
        low: torch.Tensor,
        memory: torch.Tensor | None = None,
        memory_position: torch.Tensor | None = None,
        pointers: torch.Tensor | None = None,
        pointer_position: torch.Tensor | None = None,
        counts: Sequence[float] | None = None,
    ) -> torch.Tensor:
        """Add what the memory knows to image embeddings.

        Args:
            low: (N, d, h, w) raw embeddings.
            memory: (N, k, M, h, w) memory features of each row; None or k = 0 takes the no-memory path.
            memory_position: same shape; the shared sine code when None.
            pointers, pointer_position: (N, P, M) object pointers as memory tokens, which have no place in the image.
            counts: for how many maps each of the k speaks, as if it were there so many times; None: one each.

        Returns:
            (N, d, h, w).

        Raises:
            ValueError: `counts` where gradients are wanted.
        """
        if memory is None or memory.shape[1] == 0:
            return low + self.no_memory_embedding.reshape(1, -1, 1, 1)
        memory = memory.to(low.dtype)
        if memory_position is None:
            memory_position = self.memory_position(memory.shape[-2:]).to(memory).expand_as(memory)
        one = torch.Size([1, *low.shape[1:]])
        position = self.vision_encoder.neck.position_encoding(one, low.device, low.dtype).to(low)
        tokens = low + 0.1 * position
        tokens = tokens.flatten(2).transpose(1, 2)[:, None]  # [n, 1, hw, d]
        keys, key_position = _frame_major(memory), _frame_major(memory_position.to(memory))
        placeless = 0
        if pointers is not None and pointer_position is not None:
            placeless = pointers.shape[1]
            keys = torch.cat([keys, pointers[:, None].to(keys)], dim=2)
            key_position = torch.cat([key_position, pointer_position[:, None].to(keys)], dim=2)
        attention = self.memory_attention
        rotary = attention.rotary_emb(tokens, _grid_positions(low.shape[2:], low.device))
        if can_attend(attention):
            found = attend_memory(attention, tokens[:, 0], keys[:, 0], key_position[:, 0], rotary, placeless, counts)
            return found.transpose(1, 2).reshape(low.shape)
        if counts is not None:
            raise ValueError("counts: maps speak for one each where gradients are wanted or heads are several")
        for layer in attention.layers:
            tokens = layer(
                queries=tokens,
                keys=keys,
                key_point_embedding=key_position,
                rope_position_embeddings=rotary,
                num_k_exclude_rope=placeless,
            )
        return attention.layer_norm(tokens)[:, 0].transpose(1, 2).reshape(low.shape)

    def memory_position(self, size: Sequence[int]) -> torch.Tensor:
        """The sine code all memory entries share, (1, M, h, w)."""
        weight = self.memory_encoder.projection.weight
        return self.memory_encoder.position_encoding((1, self.mem_dim, *size), weight.device, torch.float32)

    def candidates(self, features: Features, prompts: PromptTensors) -> Candidates:
        """All four masks of every row; `features.low` must already be conditioned."""
        rows, _, grid, _ = features.low.shape
        if prompts.masks is None and prompts.boxes is not None and self.config.box_prior == "ellipse":
            boxes = prompts.boxes.to(features.low.device)
            prompts = PromptTensors(prompts.points, prompts.labels, boxes, ellipse_logits(boxes, 4 * grid, 4.0))
        sparse, dense = embed_prompts(self.prompt_encoder, prompts, rows, grid, self.config.box_tokens)
        position = self.grid_position(grid)
        return propose(self.mask_decoder, features.low, position, sparse, dense, features.high, features.mid)

    def decode(self, features: Features, prompts: PromptTensors, multimask: bool = False) -> Decoded:
        """Masks for rows of (frame, object).

        Args:
            features: of N rows, `low` conditioned by `condition`.
            prompts: of the same N rows.
            multimask: return the three multimask outputs instead of the single best.
        """
        settings = self.config.mask_decoder_config
        found = self.candidates(features, prompts)
        threshold = settings.dynamic_multimask_stability_thresh if settings.dynamic_multimask_via_stability else None
        index = choose(found, multimask, settings.dynamic_multimask_stability_delta, threshold)
        rows = torch.arange(len(index), device=index.device)
        if multimask:
            logits, iou = found.logits[:, 1:], found.iou[:, 1:]
        else:
            logits, iou = found.logits[rows, index][:, None], found.iou[rows, index][:, None]
        token = found.tokens[rows, index] if multimask else found.tokens[:, 0]  # even if the mask fell back
        pointer = self.object_pointer_proj(token)
        present = (found.object_score > 0)[:, None]
        pointer = torch.where(present, pointer, self.no_object_pointer)
        return Decoded(logits, iou, found.object_score, pointer)

    def grid_position(self, grid: int) -> torch.Tensor:
        """Fourier code of a grid x grid image embedding, (1, d, grid, grid)."""
        steps = (torch.arange(grid, device=self.device, dtype=torch.float32) + 0.5) / grid
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        return self.shared_image_embedding(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]

    def encode_memory(
        self,
        low: torch.Tensor,
        logits: torch.Tensor,
        binary: bool = False,
        object_score: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Memory features of frames and their masks.

        Args:
            low: (N, d, h, w) raw embeddings.
            logits: (N, 1, H, W) mask logits of any size, brought to the input size bilinearly.
            binary: cut the logits at 0 first, for masks a person confirmed.
            object_score: (N,) logits; rows below 0 are marked as frames without the object.

        Returns:
            (N, M, h, w).
        """
        side = STRIDE * low.shape[-1]
        if logits.shape[-1] != side:
            logits = F.interpolate(logits.float(), size=(side, side), mode="bilinear", align_corners=False)
        mask = (logits > 0).float() if binary else logits.float().sigmoid()
        mask = mask * self.config.sigmoid_scale_for_mem_enc + self.config.sigmoid_bias_for_mem_enc
        feature, _ = self.memory_encoder(low, mask.to(low.dtype))
        if object_score is not None and self.occlusion_spatial_embedding_parameter is not None:
            absent = (object_score <= 0).to(feature)[:, None, None, None]
            feature = feature + absent * self.occlusion_spatial_embedding_parameter[..., None, None]
        return feature


def _frame_major(memory: torch.Tensor) -> torch.Tensor:
    """(N, k, M, h, w) -> (N, 1, k*h*w, M): whole entries one after another, as the rotary code expects."""
    return memory.flatten(3).transpose(2, 3).flatten(1, 2)[:, None]


def _grid_positions(size: Sequence[int], device: torch.device) -> torch.Tensor:
    """(h * w, 2) places (x, y) of the cells of a grid (h, w), in reading order."""
    y, x = (torch.arange(n, device=device, dtype=torch.float32) for n in size)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x.flatten(), grid_y.flatten()], dim=-1)


AutoConfig.register("samed2", SAMed2Config, exist_ok=True)
AutoModel.register(SAMed2Config, SAMed2Model, exist_ok=True)
