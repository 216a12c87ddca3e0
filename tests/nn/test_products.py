"""Products through oneDNN are the products torch computes, whatever the shape, and only where they gain."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.nn.official import normal
from tests.nn.tiny import images, tiny_model
from torch import nn
from torch.nn import functional as F

from samed2.nn import products
from samed2.nn.products import Linear, product, widen


@pytest.fixture
def always(monkeypatch):
    """Take the detour whatever the processor and the size."""
    monkeypatch.setattr(products, "_gains", lambda: True)
    monkeypatch.setattr(products, "FEWEST_ROWS", 1)
    monkeypatch.setattr(products, "FEWEST_ROWS_MIXED", 1)
    monkeypatch.setattr(products, "FEWEST_TERMS", 1)


def count_convolutions(monkeypatch) -> list[torch.Size]:
    seen: list[torch.Size] = []
    convolve = F.conv2d

    def counting(x, *rest, **options):
        seen.append(x.shape)
        return convolve(x, *rest, **options)

    monkeypatch.setattr(F, "conv2d", counting)
    return seen


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (1, 3), (2, 3, 8), (2, 4, 4, 16), (300, 64), (0, 4)])
def test_the_detour_gives_the_product(always, shape, bias):
    x = torch.from_numpy(normal("x", shape))
    weight = torch.from_numpy(normal("w", (6, shape[-1])))
    offset = torch.from_numpy(normal("b", (6,))) if bias else None
    found = product(x, weight, offset)
    torch.testing.assert_close(found, F.linear(x, weight, offset), atol=1e-5, rtol=1e-5)
    assert found.is_contiguous()


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(7, 32), (2, 4, 4, 16), (300, 64), (0, 4)])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_in_bf16_the_detour_gives_the_product_too(always, shape, given):
    x = torch.from_numpy(normal("x", shape)).to(given)
    weight, bias = torch.from_numpy(normal("w", (6, shape[-1]))), torch.from_numpy(normal("b", (6,)))
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = product(x, weight, bias), F.linear(x, weight, bias)
    assert found.dtype == wanted.dtype == torch.bfloat16 and found.is_contiguous()
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0.02)


@torch.inference_mode()
def test_rows_that_do_not_lie_one_after_another(always):
    x = torch.from_numpy(normal("x", (8, 6, 10))).transpose(0, 1)[:, ::2]
    weight = torch.from_numpy(normal("w", (6, 10)))
    torch.testing.assert_close(product(x, weight), x @ weight.T, atol=1e-5, rtol=1e-5)


def taken(x, monkeypatch) -> bool:
    seen = count_convolutions(monkeypatch)
    product(x, torch.ones(256, x.shape[-1], dtype=x.dtype))
    return bool(seen)


def test_only_large_products_without_gradients_take_it(monkeypatch):
    monkeypatch.setattr(products, "_gains", lambda: True)
    large = torch.ones(256, 256)
    with torch.inference_mode():
        assert taken(large, monkeypatch)
        assert not taken(large[:8], monkeypatch)
        assert not taken(large[:, :8], monkeypatch)
        assert not taken(large.bfloat16(), monkeypatch)
        with torch.autocast("cpu", torch.bfloat16):
            assert not taken(large, monkeypatch)
            assert taken(large.repeat(16, 1), monkeypatch)
            assert taken(large.repeat(16, 1).bfloat16(), monkeypatch)
        monkeypatch.setattr(products, "_gains", lambda: False)
        assert not taken(large, monkeypatch)
    monkeypatch.setattr(products, "_gains", lambda: True)
    assert not taken(large, monkeypatch)  # with gradients


def test_a_widened_model_keeps_its_weights_and_names():
    plain = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 2), nn.LayerNorm(2)))
    wide = copy.deepcopy(plain)
    widen(wide)
    assert [type(m) for m in wide.modules() if isinstance(m, nn.Linear)] == [Linear, Linear]
    assert {k: v.shape for k, v in wide.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    x = torch.from_numpy(normal("x", (3, 4)))
    assert torch.equal(wide(x), plain(x))
    wide(x).sum().backward()
    assert wide[0].weight.grad is not None


def test_a_model_sees_the_same_with_and_without(monkeypatch):
    model, clip = tiny_model(), images(1)
    monkeypatch.setattr(products, "_gains", lambda: False)
    with torch.inference_mode():
        wanted = model.encode(clip)
        monkeypatch.setattr(products, "_gains", lambda: True)
        monkeypatch.setattr(products, "FEWEST_ROWS", 1)
        monkeypatch.setattr(products, "FEWEST_TERMS", 1)
        seen = count_convolutions(monkeypatch)
        found = model.encode(clip)
    assert any(shape[-1] == 1 for shape in seen)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_weights_are_rounded_once_until_they_change():
    layer = nn.Linear(8, 6)
    model = nn.Sequential(layer)
    widen(model)
    x = torch.from_numpy(normal("x", (5, 8)))
    exact = model(x)
    assert layer._rounded is None
    with torch.autocast("cpu", torch.bfloat16):
        wanted = F.linear(x, layer.weight, layer.bias)
        assert torch.equal(model(x), wanted)
        kept = layer._rounded
        assert torch.equal(model(x), wanted) and layer._rounded is kept
    assert torch.equal(model(x), exact) and set(layer.state_dict()) == {"weight", "bias"}
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(x), 2 * wanted)
    with torch.autocast("cpu", torch.float16):
        assert model(x).dtype == torch.float16
    assert torch.equal(copy.deepcopy(layer)(x), 2 * exact)
