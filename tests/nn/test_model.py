"""A fresh SAMed-2 equals its SAM-2 start; results depend on their own input only."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.nn.official import normal
from tests.nn.tiny import SIDE, images, sam2_settings, tiny_config, tiny_model
from transformers import Sam2VideoConfig, Sam2VideoModel

from samed2.nn import Features, PromptTensors, SAMed2Model
from samed2.nn.adapter import TemporalAdapter, inner_frames

GRID = SIDE // 16


def rows(value: torch.Tensor, n: int) -> torch.Tensor:
    """The same prompt for n rows, each shifted by its number so that rows differ."""
    return torch.stack([value + i for i in range(n)])


def prompts(kind: str, n: int) -> PromptTensors:
    points = rows(torch.tensor([[20.0, 31.0], [40.0, 12.0]]), n)
    labels = torch.tensor([[1, 0]]).expand(n, 2)
    boxes = rows(torch.tensor([10.0, 8.0, 41.0, 50.0]), n)
    masks = torch.from_numpy(normal("mask", (n, 1, SIDE // 4, SIDE // 4)))
    return {
        "points": PromptTensors(points, labels),
        "boxes": PromptTensors(boxes=boxes),
        "points and boxes": PromptTensors(points, labels, boxes),
        "masks": PromptTensors(masks=masks),
        "everything": PromptTensors(points, labels, boxes, masks),
        "nothing": PromptTensors(),
    }[kind]


KINDS = ("points", "boxes", "points and boxes", "masks", "everything", "nothing")


@pytest.fixture(scope="module")
def model() -> SAMed2Model:
    return tiny_model()


@pytest.fixture(scope="module", params=[False, True], ids=["fixed", "dynamic"])
def pair(request: pytest.FixtureRequest) -> tuple[SAMed2Model, Sam2VideoModel]:
    """A new SAMed-2, and transformers' SAM-2 with the same weights, with and without dynamic multimask."""
    ours = tiny_model(adapters="identity")
    settings = sam2_settings(ours.config)
    settings["mask_decoder_config"]["dynamic_multimask_via_stability"] = request.param
    ours.config.mask_decoder_config.dynamic_multimask_via_stability = request.param
    theirs = Sam2VideoModel(Sam2VideoConfig.from_dict(settings))
    shared = {name: value for name, value in ours.state_dict().items() if ".adapter." not in name}
    theirs.load_state_dict(shared, strict=True)
    return ours, theirs.eval()


@torch.no_grad()
def test_identity_start_encodes_as_sam2(pair: tuple[SAMed2Model, Sam2VideoModel]) -> None:
    ours, theirs = pair
    for frames in (1, 3):
        got = ours.encode(images(1, frames))
        wanted = theirs.get_image_features(images(1, frames)[0], return_dict=True).fpn_hidden_states
        for level, flat in zip(got, wanted, strict=True):
            torch.testing.assert_close(level.flatten(2).permute(2, 0, 1), flat, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multimask"])
@pytest.mark.parametrize("kind", KINDS)
def test_identity_start_decodes_as_sam2(pair: tuple[SAMed2Model, Sam2VideoModel], kind: str, multimask: bool) -> None:
    ours, theirs = pair
    given = prompts(kind, 1)
    if multimask and given.points is not None and given.boxes is not None:
        pytest.skip("transformers fails on points and boxes with multimask")
    if given.points is None and given.boxes is None:  # SAM-2 then adds a padding point of its own
        given = replace(given, points=torch.zeros(1, 1, 2), labels=torch.full((1, 1), -1))
    features = ours.encode(images(1))
    features = Features(features.high, features.mid, ours.condition(features.low))
    got = ours.decode(features, given, multimask)
    wanted = theirs._single_frame_forward(
        pixel_values=images(1)[0],
        input_points=None if given.points is None else given.points[:, None],
        input_labels=None if given.labels is None else given.labels[:, None],
        input_boxes=None if given.boxes is None else given.boxes[:, None],
        input_masks=given.masks,
        multimask_output=multimask,
    )
    best = got.iou[0].argmax() if multimask else 0
    torch.testing.assert_close(got.logits[:, best], wanted.pred_masks[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.iou, wanted.iou_scores[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.object_score, wanted.object_score_logits.flatten(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.pointer, wanted.object_pointer[:, 0], atol=1e-5, rtol=1e-4)


def test_corner_boxes_leave_the_padding_token_out(model: SAMed2Model) -> None:
    from samed2.nn.prompts import embed_prompts

    given = prompts("boxes", 2)
    points, _ = embed_prompts(model.prompt_encoder, given, 2, GRID, "points")
    corners, _ = embed_prompts(model.prompt_encoder, given, 2, GRID, "corners")
    assert points.shape[1] == 3
    assert corners.shape[1] == 2
    torch.testing.assert_close(points[:, :2], corners)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_clip_does_not_know_its_batch(model: SAMed2Model, frames: int) -> None:
    clips = images(5, frames)
    together = model.encode(clips)
    order = [3, 0, 4, 2, 1]
    for position, clip in zip(order, clips[order], strict=True):
        alone = model.encode(clip[None])
        for got, wanted in zip(alone, together, strict=True):
            torch.testing.assert_close(got, wanted.unflatten(0, (5, frames))[position], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("frames", [3, 4, 6])
@pytest.mark.parametrize("blocks", [[0], [2], [4], [6], []], ids=str)
def test_one_adapter_is_never_deeper_than_shallow(blocks: list[int], frames: int) -> None:
    model, clips = tiny_model(adapter_blocks=blocks), images(2, frames)
    for shallow, deep in zip(model.encode(clips, shallow=True), model.encode(clips), strict=True):
        torch.testing.assert_close(shallow, inner_frames(deep, frames), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_long_shallow_clips_are_short_ones_after_each_other(model: SAMed2Model) -> None:
    clip = images(1, 6)
    threes = torch.cat([clip[:, start : start + 3] for start in range(4)])
    for long, short in zip(model.encode(clip, shallow=True), model.encode(threes, shallow=True), strict=True):
        torch.testing.assert_close(long, short, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_of_many_adapters_the_first_sees_the_neighbours(model: SAMed2Model) -> None:
    still = images(2).expand(-1, 15, -1, -1, -1)  # so long that the middle does not know where it ends
    moving = torch.cat([images(2, 1, "before"), images(2), images(2, 1, "after")], dim=1)
    shallow = model.encode(still[:, :3], shallow=True).low
    torch.testing.assert_close(shallow, model.encode(still).low[7::15], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(shallow, model.encode(moving, shallow=True).low, atol=0.1)
    assert not torch.allclose(model.encode(moving).low[1::3], model.encode(moving, shallow=True).low, atol=0.1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_gradients_of_adapters_hold_in_every_precision(frames: int, precision: str) -> None:
    """Of clips of two frames oneDNN's bf16 gradients of a 3-D convolution's weights are whatever was in memory."""
    adapter = TemporalAdapter(24, 16)
    maps = torch.from_numpy(normal("maps", (4 * frames, 16, 16, 24)))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        adapter(maps, frames).square().mean().backward()
    found = adapter.conv.weight.grad
    adapter.zero_grad()
    exact = copy.deepcopy(adapter).double()
    exact(maps.double(), frames).square().mean().backward()
    assert found is not None and exact.conv.weight.grad is not None
    scale = float(exact.conv.weight.grad.abs().max())
    torch.testing.assert_close(found.double(), exact.conv.weight.grad, atol=0.03 * scale, rtol=0)


@pytest.mark.parametrize(("frames", "layout"), [(1, "frames"), (2, "frames"), (3, "released")])
def test_shallow_wants_clips_of_three_or_more(frames: int, layout: str) -> None:
    with pytest.raises(ValueError, match=f"clips of {frames} frames, wanted at least 3"):
        tiny_model(adapter_layout=layout).encode(images(1, frames), shallow=True)


def test_a_model_made_in_inference_mode_works() -> None:
    with torch.inference_mode():
        made = tiny_model()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.isfinite(made.encode(images(1)).low).all()


@torch.no_grad()
@pytest.mark.parametrize("change", ["in place", "loaded", "other size"])
def test_codes_of_places_follow_their_weights(change: str) -> None:
    model = tiny_model()
    fresh = tiny_model()
    model.encode(images(1))
    side = SIDE
    for one in (model, fresh):
        trunk = one.vision_encoder.backbone
        if change == "in place":
            trunk.pos_embed.add_(1)
        elif change == "loaded":
            one.load_state_dict({n: v + 0.5 for n, v in one.state_dict().items()}, assign=True)
    if change == "other size":
        side = 2 * SIDE
    got, wanted = (one.encode(images(1, side=side)).low for one in (model, fresh))
    torch.testing.assert_close(got, wanted)


@torch.no_grad()
@pytest.mark.parametrize("entries", [0, 1, 3])
def test_conditioning_a_row_does_not_know_its_batch(model: SAMed2Model, entries: int) -> None:
    low = model.encode(images(5)).low
    memory = torch.from_numpy(normal("memory", (5, entries, 64, GRID, GRID)))
    together = model.condition(low, memory)
    for i in (4, 1, 0, 3, 2):
        alone = model.condition(low[i : i + 1], memory[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)
    if entries == 0:
        torch.testing.assert_close(together, model.condition(low))
    else:
        assert not torch.allclose(together, model.condition(low), atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multimask"])
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_a_row_does_not_know_its_batch(model: SAMed2Model, kind: str, multimask: bool) -> None:
    features, given = model.encode(images(5)), prompts(kind, 5)
    together = model.decode(features, given, multimask)
    assert together.logits.shape == (5, 3 if multimask else 1, SIDE // 4, SIDE // 4)
    for i in (2, 0, 4, 1, 3):
        alone = model.decode(features.select([i]), given.select([i]), multimask)
        for got, wanted in zip(alone, together, strict=True):
            torch.testing.assert_close(got[0], wanted[i], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_writing_a_memory_does_not_know_its_batch(model: SAMed2Model) -> None:
    low, logits = (
        model.encode(images(5)).low,
        torch.from_numpy(normal("logits", (5, 1, SIDE // 4, SIDE // 4))),
    )
    for binary in (False, True):
        together = model.encode_memory(low, logits, binary)
        assert together.shape == (5, 64, GRID, GRID)
        for i in (1, 4, 0):
            alone = model.encode_memory(low[i : i + 1], logits[i : i + 1], binary)
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_order_of_memories_does_not_matter_without_time_codes(model: SAMed2Model) -> None:
    low, memory = model.encode(images(2)).low, torch.from_numpy(normal("memory", (2, 3, 64, GRID, GRID)))
    torch.testing.assert_close(
        model.condition(low, memory), model.condition(low, memory[:, [2, 0, 1]]), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_frames_layout_mixes_the_frames_of_a_clip_only(model: SAMed2Model) -> None:
    clips = images(2, 3)
    before = model.encode(clips).low.unflatten(0, (2, 3))
    clips[0, 1] += 1.0
    after = model.encode(clips).low.unflatten(0, (2, 3))
    assert (before[0] - after[0]).abs().amax(dim=(1, 2, 3)).min() > 1e-4  # every frame of the clip sees it
    torch.testing.assert_close(before[1], after[1])


@torch.no_grad()
def test_one_frame_is_a_clip_between_black_features(model: SAMed2Model) -> None:
    """T = 1 takes the middle slice of the kernel: the same as the full convolution with zero padding."""
    adapter = model.vision_encoder.backbone.blocks[0].adapter
    tokens = torch.from_numpy(normal("tokens", (2, 5, 7, 8)))
    hidden = adapter.down(adapter.norm(tokens)).permute(0, 3, 1, 2)[:, :, None]
    wanted = tokens + adapter.up(torch.nn.functional.gelu(adapter.conv(hidden)[:, :, 0].permute(0, 2, 3, 1)))
    torch.testing.assert_close(adapter(tokens, 1), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["frames", "released"])
@pytest.mark.parametrize("blocks", [None, [0, 3], []], ids=["all", "some", "none"])
def test_layouts_and_subsets_of_blocks(layout: str, blocks: list[int] | None) -> None:
    model = tiny_model(adapter_layout=layout, adapter_blocks=blocks)
    found = {int(n.split(".blocks.")[1].split(".")[0]) for n in model.state_dict() if ".adapter." in n}
    assert found == set(range(7) if blocks is None else blocks)
    for batch, frames in ((1, 1), (2, 1), (1, 2), (2, 2)):
        assert model.encode(images(batch, frames)).low.shape == (batch * frames, 64, GRID, GRID)
    same = torch.equal(model.encode(images(1, 2)).low, tiny_model(adapter_dim=0).encode(images(1, 2)).low)
    assert same == (blocks == [])


@pytest.mark.parametrize("zero", [True, False])
def test_new_adapters_start_as_asked(zero: bool, tmp_path: Path) -> None:
    plain = Sam2VideoModel(Sam2VideoConfig.from_dict(sam2_settings(tiny_config()))).eval()
    plain.save_pretrained(tmp_path)
    config = tiny_config(adapter_zero_init=zero)
    for model in (SAMed2Model(config), SAMed2Model.from_pretrained(tmp_path, config=config)):
        for block in model.vision_encoder.backbone.blocks:
            assert (float(block.adapter.up.weight.detach().abs().sum()) == 0) == zero
            assert float(block.adapter.down.weight.detach().abs().sum()) > 0
            assert float(block.adapter.norm.weight.detach().mean()) == 1


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    model = tiny_model(adapter_blocks=[1, 2], box_tokens="corners", pixel_mean=[0.1, 0.2, 0.3])
    model.save_pretrained(tmp_path)
    again = SAMed2Model.from_pretrained(tmp_path).eval()
    assert again.config.adapter_blocks == [1, 2]
    assert again.config.pixel_mean == [0.1, 0.2, 0.3]
    with torch.no_grad():
        for got, wanted in zip(again.encode(images(2, 2)), model.encode(images(2, 2)), strict=True):
            torch.testing.assert_close(got, wanted, atol=0, rtol=0)


@pytest.mark.parametrize("layout", ["frames", "released"])
def test_gradients_reach_every_parameter_that_is_used(layout: str) -> None:
    model = tiny_model(adapter_layout=layout).train()
    features = model.encode(images(1, 2))
    memory = model.encode_memory(features.low, torch.from_numpy(normal("logits", (2, 1, SIDE, SIDE))))
    low = model.condition(features.low, memory[:, None]) + model.condition(features.low)
    features = Features(features.high, features.mid, low)
    loss = torch.zeros(())
    for kind in ("everything", "points", "nothing"):
        for multimask in (False, True):
            loss = loss + sum(value.square().sum() for value in model.decode(features, prompts(kind, 2), multimask))
    loss.backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    unused_here = (
        "memory_temporal_",
        "no_memory_positional_",
        "mask_downsample.",
        "no_object_pointer",
        "temporal_positional_",
        "occlusion_spatial_",
    )
    assert {n for n in without if not n.startswith(unused_here)} == set()


def test_pixels_of_another_shape_are_refused(model: SAMed2Model) -> None:
    for shape in ((3, SIDE, SIDE), (1, 1, 3, SIDE, SIDE // 2)):
        with pytest.raises(ValueError, match="pixels"):
            model.encode(torch.zeros(shape))


def test_config_values_are_checked() -> None:
    for wrong in ({"adapter_layout": "windows"}, {"box_tokens": "x"}, {"box_prior": "disc"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            tiny_config(**wrong)
