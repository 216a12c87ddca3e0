"""The memory attention gives the numbers of transformers' layers; maps that speak for several; lower precision."""

from __future__ import annotations

import pytest
import torch
from tests.nn.official import normal
from tests.nn.tiny import images, tiny_model

from samed2.nn.attention import _attend, can_attend


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def tensors(model, rows: int, maps: int, pointers: int, side: int, alike: bool):
    low = torch.from_numpy(normal("low", (rows, model.hidden_dim, 4, 4)))
    if alike:
        low = low[:1].expand_as(low)
    memory = torch.from_numpy(normal("memory", (rows, maps, model.mem_dim, side, side)))
    position = 0.3 * torch.from_numpy(normal("position", memory.shape))
    tokens = [torch.from_numpy(normal(name, (rows, pointers, model.mem_dim))) for name in ("pointers", "code")]
    return low, memory, position, *(tokens if pointers else (None, None))


@pytest.mark.parametrize("pointers", [0, 3])
@pytest.mark.parametrize("maps", [1, 4])
@pytest.mark.parametrize(("rows", "alike"), [(1, False), (3, False), (3, True)])
def test_same_as_the_layers_of_transformers(model, rows, maps, pointers, alike):
    given = tensors(model, rows, maps, pointers, 4, alike)
    wanted = model.condition(*given)  # with gradients the layers themselves are used
    assert wanted.requires_grad and not can_attend(model.memory_attention)
    with torch.inference_mode():
        assert can_attend(model.memory_attention)
        torch.testing.assert_close(model.condition(*given), wanted.detach(), atol=2e-5, rtol=1e-5)


def test_many_tokens_go_through_in_groups(model, monkeypatch):
    given = tensors(model, 5, 2, 2, 4, False)
    with torch.inference_mode():
        whole = model.condition(*given)
        monkeypatch.setattr("samed2.nn.attention.TOKENS_AT_ONCE", 33)
        monkeypatch.setattr("samed2.nn.attention.QUERY_TOKENS", 5)
        monkeypatch.setattr("samed2.nn.attention.KEY_TOKENS", 7)
        torch.testing.assert_close(model.condition(*given), whole, atol=2e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(
    "runs", [None, [(0, 16, 0.0)], [(0, 11, 0.0), (11, 16, 3.0)], [(0, 4, 2.0), (4, 15, 0.5), (15, 16, 0.0)]]
)
@pytest.mark.parametrize("block", [1, 4, 16, 64])
def test_attention_in_blocks_is_softmax(monkeypatch, block, runs):
    """Scores that grow from block to block, some of them very low, and runs of keys lowered."""
    monkeypatch.setattr("samed2.nn.attention.KEY_TOKENS", block)
    query, key, value = (torch.from_numpy(normal(n, (k, 8))) for n, k in (("q", 6), ("k", 16), ("v", 16)))
    key = key * torch.linspace(0.1, 60, 16)[:, None]
    scores = query @ key.T
    for start, end, less in runs or []:
        scores[:, start:end] -= less
    torch.testing.assert_close(_attend(query, key, value, runs), scores.softmax(-1) @ value, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("pointers", [0, 3])
@pytest.mark.parametrize("copies", [(1, 3), (2, 1), (1, 1), (3, 3)])
@pytest.mark.parametrize("block", [5, 2048])
def test_a_map_that_speaks_for_several_is_as_if_it_were_there_so_often(model, monkeypatch, pointers, copies, block):
    monkeypatch.setattr("samed2.nn.attention.KEY_TOKENS", block)
    low, memory, position, *rest = tensors(model, 2, 2, pointers, 4, False)
    often = [number for number, copy in enumerate(copies) for _ in range(copy)]
    wanted = model.condition(low, memory[:, often], position[:, often], *rest)
    found = model.condition(low, memory, position, *rest, [float(copy) for copy in copies])
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)
    if copies[0] != copies[1]:
        assert not torch.allclose(model.condition(low, memory, position, *rest), wanted, atol=1e-3)


def test_training_knows_no_counts(model):
    with pytest.raises(ValueError, match="counts"):
        model.condition(*tensors(model, 1, 2, 0, 4, False), counts=[1.0, 2.0])


@torch.inference_mode()
def test_the_trunk_attends_alike_in_lower_precision(model):
    clip = images(1)
    wanted = model.encode(clip)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.encode(clip)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.corrcoef(torch.stack([ours.float().flatten(), theirs.flatten()]))[0, 1] > 0.999
