"""Layer norms that go channel by channel."""

from __future__ import annotations

import pytest
import torch
from tests.nn.tiny import tiny_model
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoLayerNorm

from samed2.nn.norms import FEW, MapLayerNorm, by_channels


def _norm(channels: int, layout: str = "channels_first") -> Sam2VideoLayerNorm:
    torch.manual_seed(channels)
    norm = Sam2VideoLayerNorm(channels, data_format=layout)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "layout"), [(4, "channels_first"), (FEW, "channels_first"), (4, "channels_last")])
def test_it_is_the_layer_norm_of_transformers(channels, layout, dtype, memory):
    norm = _norm(channels, layout)
    shape = (2, channels, 5, 7) if layout == "channels_first" else (2, 5, 7, channels)
    maps = (3 + 2 * torch.randn(shape)).to(dtype).contiguous(memory_format=memory)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        wanted = norm(maps)
        by_channels(norm)
        found = norm(maps)
    assert type(norm) is MapLayerNorm and found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, **({"atol": 2e-5, "rtol": 1e-4} if dtype == torch.float32 else {}))


def test_it_gives_weights_of_half_precision_what_they_are():
    norm = _norm(4).to(torch.bfloat16)
    by_channels(norm)
    with torch.no_grad():
        assert norm(torch.randn(1, 4, 3, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_training_goes_through_torchs_own():
    norm, maps = _norm(4), torch.randn(1, 4, 3, 3, requires_grad=True)
    wanted = norm(maps)
    by_channels(norm)
    assert torch.equal(norm(maps), wanted)
    norm(maps).sum().backward()
    assert maps.grad is not None


def test_a_model_has_no_other_layer_norms_of_maps():
    kinds = {type(m) for m in tiny_model().modules() if isinstance(m, Sam2VideoLayerNorm)}
    assert kinds == {MapLayerNorm}
