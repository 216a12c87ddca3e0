"""The memory attention gives the numbers of transformers' layers; pooled memory; lower precision."""

from __future__ import annotations

import pytest
import torch
from tests.nn.official import normal
from tests.nn.tiny import images, tiny_model

from samed2.nn.attention import _attend, can_attend
from samed2.nn.streaming import pooled, position_of


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
@pytest.mark.parametrize("last", [0, 1, 5])
@pytest.mark.parametrize("block", [1, 4, 16, 64])
def test_attention_in_blocks_is_softmax(monkeypatch, block, last):
    """Scores that grow from block to block, some of them very low, and the last keys lowered."""
    monkeypatch.setattr("samed2.nn.attention.KEY_TOKENS", block)
    query, key, value = (torch.from_numpy(normal(n, (k, 8))) for n, k in (("q", 6), ("k", 16), ("v", 16)))
    key = key * torch.linspace(0.1, 60, 16)[:, None]
    scores = query @ key.T
    if last:
        scores[:, -last:] -= 3.0
    torch.testing.assert_close(_attend(query, key, value, last, 3.0), scores.softmax(-1) @ value, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_pooling_flat_memory_changes_nothing_but_the_rotation(model):
    """A map without detail, read at full and at half size: the pointers keep their share of the attention."""
    low, memory, _, pointers, code = tensors(model, 2, 2, 3, 4, False)
    memory = memory.mean((-2, -1), keepdim=True).expand_as(memory)
    none = torch.zeros_like(memory)
    full = model.condition(low, memory, none, pointers, code)
    half = model.condition(low, pooled(memory, 2), pooled(none, 2), pointers, code)
    assert torch.corrcoef(torch.stack([full.flatten(), half.flatten()]))[0, 1] > 0.999
    assert not torch.equal(full, model.condition(low, memory, none))


def test_pooled_positions_are_means(model):
    full = model.memory_position((4, 4))[0]
    half = position_of(model, torch.zeros(1, 1, model.mem_dim, 2, 2), 2)
    torch.testing.assert_close(half, full.unflatten(1, (2, 2)).unflatten(3, (2, 2)).mean((2, 4)))
    assert torch.equal(position_of(model, torch.zeros(1, model.mem_dim, 4, 4), 1), full)


@torch.inference_mode()
def test_the_trunk_attends_alike_in_lower_precision(model):
    clip = images(1)
    wanted = model.encode(clip)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.encode(clip)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.corrcoef(torch.stack([ours.float().flatten(), theirs.flatten()]))[0, 1] > 0.999
