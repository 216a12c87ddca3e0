"""The released layout gives the numbers of the released code (tests/golden: who computed them, and how).

Weights and inputs follow from their names alone; the released modules computed the outputs on a CPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.nn.official import GOLDEN, golden_weights, listed_shapes, normal, official_shapes, uniform

from samed2.memory import SelectiveMemory, Storage
from samed2.memory.released import as_entries, assemble
from samed2.nn import Features, PromptTensors, SAMed2Config, SAMed2Model
from samed2.nn.builders import SAM2_SIZES, vision_config
from samed2.nn.convert import model_from
from samed2.nn.convert.infer import infer_config

TOLERANCE = 2e-4
CASES = {
    "samed2-micro-t1": (1, 8),
    "samed2-micro-t2": (2, 8),
    "samed2-hiera-s-1024": (2, 4),
}  # T = B, bank entries


def micro() -> SAMed2Config:
    """The released code's smallest setting: the micro model of the golden cases."""
    return SAMed2Config(
        vision_config=vision_config(16, 1, (1, 2, 3, 2), (4, 5), (8, 4, 14, 7), (7, 7), 64, 128),
        prompt_encoder_config={"image_size": 128, "hidden_size": 64},
        mask_decoder_config={"hidden_size": 64},
        image_size=128,
        memory_attention_hidden_size=64,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=256,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=64,
        mask_downsampler_embed_dim=64,
        memory_fuser_embed_dim=64,
        memory_fuser_intermediate_dim=256,
        enable_occlusion_spatial_embedding=False,
        enable_temporal_pos_encoding_for_object_pointers=False,
        adapter_layout="released",
        box_tokens="corners",
    )


def test_the_table_of_names_is_the_released_one() -> None:
    shapes = official_shapes(16, (1, 2, 3, 2), (7, 7), hidden=64, attention_layers=2, feed_forward=256, adapter=32)
    assert shapes == listed_shapes()


def build(case: str) -> SAMed2Model:
    if "micro" in case:
        return model_from(golden_weights(listed_shapes()), micro(), case)
    width, _, blocks, _, _, background = SAM2_SIZES["small"]
    official = golden_weights(official_shapes(width, blocks, background, adapter=32))
    return model_from(official, infer_config(official, case), case)


def bank(case: str, entries: int, depth: int, side: int) -> tuple[SelectiveMemory, torch.Tensor]:
    """The case's bank, and the position codes (n, M, s, s), which are random there: ours has one for all."""
    shape = (entries, 64, side, side)
    feature = torch.from_numpy(normal(f"{case}/bank.memory", shape)).bfloat16()
    position = torch.from_numpy(normal(f"{case}/bank.memory_pos", shape)).bfloat16().float()
    confidence = 0.2 + 0.3 * torch.from_numpy(normal(f"{case}/bank.iou", (entries,)))
    keys = torch.from_numpy(normal(f"{case}/bank.features", (entries, depth * side * side)))
    memory = SelectiveMemory(
        entries, shape[1:], key="released", policy="released", storage=Storage("bfloat16", "float32")
    )
    memory.add(keys.view(entries, depth, side, side), feature, confidence)
    return memory, position


def boxes(case: str, batch: int, size: int) -> torch.Tensor:
    corner = np.floor(uniform(f"{case}/xy", (batch, 2)) * size / 2)
    extent = np.floor(size / 4 + uniform(f"{case}/wh", (batch, 2)) * size / 4)
    return torch.from_numpy(np.concatenate([corner, corner + extent], 1))


@torch.no_grad()
def outputs(case: str) -> dict[str, torch.Tensor]:
    """Everything the released forward pass and bank update produce, by their stored names."""
    batch, entries = CASES[case]
    model = build(case)
    size = model.config.image_size
    side = size // 16
    images = torch.from_numpy(uniform(f"{case}/images", (batch, 3, size, size)))
    features = model.encode(images[None])
    memory, positions = bank(case, entries, features.low.shape[1], side)

    found = memory.retrieve(features.low, k=batch)
    tokens, token_positions = assemble(found.features.float()), assemble(positions[found.indices])
    conditioned = model.condition(features.low, as_entries(tokens, side, side), as_entries(token_positions, side, side))
    prompts = PromptTensors(boxes=boxes(case, batch, size))
    decoded = model.decode(Features(features.high, features.mid, conditioned), prompts)
    written = model.encode_memory(conditioned, decoded.logits)  # the released code's fault: not the raw map
    memory.add(features.low, written, decoded.iou[:, 0])
    return {
        "fpn_0": features.high,
        "fpn_1": features.mid,
        "fpn_2": features.low,
        "selected_indices": found.indices,
        "memory": tokens,
        "conditioned": conditioned,
        "sparse": sparse(model, prompts, batch, side),
        "low_res_logits": decoded.logits,
        "iou_pred": decoded.iou,
        "object_score_logits": decoded.object_score[:, None],
        "new_memory": written,
        "new_memory_pos": model.memory_position((side, side)).expand_as(written),
        "bank_after_iou": torch.tensor([entry.confidence for entry in memory.entries]),
    }


def sparse(model: SAMed2Model, prompts: PromptTensors, rows: int, grid: int) -> torch.Tensor:
    from samed2.nn.prompts import embed_prompts

    return embed_prompts(model.prompt_encoder, prompts, rows, grid, model.config.box_tokens)[0]


@pytest.mark.parametrize("case", CASES)
def test_released_layout_gives_the_released_numbers(case: str) -> None:
    got = outputs(case)
    worst = {}
    with np.load(GOLDEN / f"{case}.npz") as stored:
        assert set(stored) <= set(got)
        for name in stored:
            wanted, value = stored[name], got[name].numpy()
            if value.ndim == 4 and "1024" in case:
                value = value[..., ::16, ::16]
            assert value.shape == wanted.shape, name
            worst[name] = float(np.abs(value.astype(np.float64) - wanted).max())
    exact = worst.pop("selected_indices")
    assert exact == 0
    assert max(worst.values()) <= TOLERANCE, worst
