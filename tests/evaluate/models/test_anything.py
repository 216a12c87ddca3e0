"""SAM and SAM 2: the whole way from prompt to mask, with stand-ins that show what reached the model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.evaluate.models.small import SIDE, disc, image, prompts_of, sam2_model, sam_model
from torch.nn import functional as F
from transformers import Sam2VideoConfig, Sam2VideoModel

from samed2.errors import InputError
from samed2.evaluate.models import load_model
from samed2.evaluate.models.anything import AnythingOptions, Recipe, SegmentAnything, unite
from samed2.evaluate.models.fit import Fit
from samed2.evaluate.models.hub import IMAGENET_MEAN, IMAGENET_STD
from samed2.evaluate.models.sam import medsam_recipe, sam_recipe
from samed2.evaluate.models.sam2 import sam2_recipe
from samed2.io import Scan
from samed2.prompts import Prompts

SHAPES = [(60, 90), (90, 60), (64, 64), (40, 200), (301, 177)]
SIZE = 256


class Mirror(torch.nn.Module):
    """Answers with what it was shown: bright pixels, the box, the point, or the mask; IoU as given."""

    def __init__(self, show: str, iou=(0.5,)) -> None:
        super().__init__()
        sizes = SimpleNamespace(image_size=SIZE, patch_size=16)
        self.config = SimpleNamespace(prompt_encoder_config=sizes)
        self.show, self.iou, self.asked = show, iou, []

    def get_image_embeddings(self, pixels):
        return F.avg_pool2d(pixels.mean(dim=1), 4)[0]

    def forward(self, image_embeddings, multimask_output, **prompts):
        self.asked.append((multimask_output, prompts))
        ticks = (torch.arange(SIZE // 4) + 0.5) * 4
        y, x = ticks[:, None], ticks[None, :]
        if self.show == "pixels":
            logits = image_embeddings - (image_embeddings.max() + image_embeddings.min()) / 2
        elif self.show == "box":
            x0, y0, x1, y1 = prompts["input_boxes"][0, 0].tolist()
            logits = torch.stack(torch.broadcast_tensors(x - x0, x1 - x, y - y0, y1 - y)).amin(dim=0)
        elif self.show == "point":
            px, py = (prompts["input_points"][0, 0, 0] + 0.5).tolist()
            logits = 20 - ((y - py) ** 2 + (x - px) ** 2).sqrt()
        else:
            logits = prompts["input_masks"][0, 0]
        return SimpleNamespace(
            pred_masks=logits[None, None, None].expand(1, 1, len(self.iou), -1, -1),
            iou_scores=torch.tensor(self.iou)[None, None],
        )


def recipes():
    model = Mirror("pixels")
    plain = sam2_recipe(model, IMAGENET_MEAN, IMAGENET_STD)
    return {"sam2": plain, "sam": sam_recipe(model, IMAGENET_MEAN, IMAGENET_STD), "medsam": medsam_recipe(model)}


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def shown(family, show, scan, prompts):
    return SegmentAnything(Mirror(show), recipes()[family], "cpu").predict(scan, prompts)[1, 0].masks[0]


@pytest.mark.parametrize("family", ["sam2", "sam", "medsam"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_bright_comes_back_where_it_was(family, shape):
    mask = disc(shape, shape[0] * 0.4, shape[1] * 0.6, min(shape) * 0.3)
    scan = Scan.from_array(np.where(mask, 255, 0).astype(np.uint8), kind="image")
    found = shown(family, "pixels", scan, Prompts().add_box(1, 0, 0, 0, 5, 5))
    assert found.shape == shape and iou(found, mask) > 0.85


@pytest.mark.parametrize("family", ["sam2", "sam", "medsam"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_box_reaches_the_model_where_it_is_on_the_frame(family, shape):
    box = (shape[0] // 4, shape[1] // 3, shape[0] // 4 + 24, shape[1] // 3 + 30)
    mask = np.zeros(shape, bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    assert iou(shown(family, "box", image(*shape), Prompts().add_box(1, 0, *box)), mask) > 0.85


@pytest.mark.parametrize("family", ["sam2", "sam"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_point_and_a_mask_reach_the_model_where_they_are(family, shape):
    y, x = shape[0] // 2 - 3, shape[1] // 2 + 5
    found = shown(family, "point", image(*shape), Prompts().add_point(1, 0, y, x))
    centre = np.argwhere(found).mean(axis=0)
    np.testing.assert_allclose(centre, (y, x), atol=0.6)
    mask = disc(shape, shape[0] * 0.6, shape[1] * 0.3, min(shape) * 0.25)
    prompts = Prompts().add_mask(1, 0, mask).add_point(1, 0, y, x)
    assert iou(shown(family, "mask", image(*shape), prompts), mask) > 0.8


@pytest.mark.parametrize("step", [4, 8, 20])
def test_an_image_moved_by_the_stride_gives_a_mask_moved_as_much(step):
    values = np.zeros((SIZE, SIZE), np.uint8)
    values[disc(values.shape, 90, 110, 40)] = 255
    first, second = (
        shown("sam2", "pixels", Scan.from_array(v, kind="image"), Prompts().add_box(1, 0, 0, 0, 9, 9))
        for v in (values, np.roll(values, (step, -step), axis=(0, 1)))
    )
    np.testing.assert_array_equal(np.roll(first, (step, -step), axis=(0, 1)), second)


@pytest.mark.parametrize(
    "kind, setting, wanted",
    [
        ("point", None, True),
        ("box", None, False),
        ("point two", None, False),
        ("box point", None, False),
        ("point mask", None, False),
        ("point", False, False),
        ("box", True, True),
    ],
)
def test_several_masks_are_proposed_where_a_prompt_is_ambiguous(kind, setting, wanted):
    model = Mirror("pixels")
    segmenter = SegmentAnything(model, recipes()["sam2"], "cpu", AnythingOptions(multimask=setting))
    segmenter.predict(image(), prompts_of(kind))
    assert [multimask for multimask, _ in model.asked] == [wanted]


def test_labels_say_inside_and_outside():
    model = Mirror("pixels")
    SegmentAnything(model, recipes()["sam"], "cpu").predict(image(), prompts_of("point two"))
    assert model.asked[0][1]["input_labels"].tolist() == [[[1, 0]]]
    assert model.asked[0][1]["input_points"].shape == (1, 1, 2, 2)


def test_the_chosen_mask_is_the_surest_and_confidence_stays_in_range():
    model = SegmentAnything(Mirror("pixels", (0.2, 1.3, -0.4)), recipes()["sam"], "cpu")
    found = model.predict(image(), prompts_of("point"))[1, 0]
    assert found.chosen == 1
    np.testing.assert_allclose(found.confidence, (0.2, 1.0, 0.0), atol=1e-6)


def test_parts_are_united_mask_by_mask_and_weighted_by_area():
    first, second = np.full((2, 4, 4), -1, np.float32), np.full((2, 4, 4), -1, np.float32)
    first[0, 0, :3] = 2  # three pixels
    second[1, 3, 3] = 5  # one pixel
    found = unite([(first, np.array([0.9, 0.1])), (second, np.array([0.5, 0.7]))])
    assert [int(mask.sum()) for mask in found.masks] == [3, 1]
    np.testing.assert_allclose(found.confidence, [(4 * 0.9 + 1 * 0.5) / 5, (1 * 0.1 + 2 * 0.7) / 3])
    assert found.chosen == 0 and found.probability[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))


@pytest.mark.parametrize("family", ["sam2", "sam", "medsam"])
def test_boxes_of_one_object_are_asked_apart_and_united(family):
    places = [(5, 5, 25, 30), (30, 50, 55, 85)]
    both = Prompts().add_box(1, 0, *places[0]).add_box(1, 0, *places[1])
    parts = [shown(family, "box", image(), Prompts().add_box(1, 0, *place)) for place in places]
    np.testing.assert_array_equal(shown(family, "box", image(), both), parts[0] | parts[1])


def test_a_point_goes_with_the_nearest_box_and_a_mask_with_a_lone_one():
    model = Mirror("box")
    prompts = prompts_of("box mask").add_box(1, 0, 0, 0, 10, 10).add_point(1, 0, 12, 12, False)
    SegmentAnything(model, recipes()["sam2"], "cpu").predict(image(), prompts)
    assert [sorted(asked) for _, asked in model.asked] == [
        ["input_boxes"],
        ["input_boxes", "input_labels", "input_points"],
    ]
    SegmentAnything(model, recipes()["sam2"], "cpu").predict(image(), prompts_of("box mask"))
    assert sorted(model.asked[-1][1]) == ["input_boxes", "input_masks"]


@pytest.mark.parametrize("kind", ["point", "box point", "point mask", "mask"])
def test_medsam_takes_boxes_only(kind):
    model = SegmentAnything(Mirror("box"), recipes()["medsam"], "cpu", name="medsam")
    with pytest.raises(InputError, match="takes boxes only"):
        model.predict(image(), prompts_of(kind))


def test_a_further_prompt_does_not_embed_again(monkeypatch):
    model = Mirror("box")
    segmenter, scan, calls = SegmentAnything(model, recipes()["sam2"], "cpu"), image(), []
    embed = model.get_image_embeddings
    monkeypatch.setattr(model, "get_image_embeddings", lambda pixels: calls.append(1) or embed(pixels))
    segmenter.predict(scan, prompts_of("box"))
    segmenter.predict(scan, prompts_of("box point"))
    assert len(calls) == 1
    segmenter.predict(image(seed=1), prompts_of("box"))
    assert len(calls) == 2


@pytest.mark.parametrize("make", [sam2_model, sam_model])
@torch.inference_mode()
def test_an_image_of_the_models_own_size_goes_in_as_it_is(make):
    model = make()
    recipe = (sam2_recipe if make is sam2_model else sam_recipe)(model, IMAGENET_MEAN, IMAGENET_STD)
    scan = image(SIDE, SIDE)
    grey = torch.from_numpy(scan.frame(0).copy()).float() / 255
    pixels = (grey - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    answer = model(
        pixel_values=pixels[None],
        input_points=torch.tensor([[[[20.0, 30.0]]]]),
        input_labels=torch.tensor([[[1]]]),
        multimask_output=True,
    )
    wanted = F.interpolate(answer.pred_masks[0], (SIDE, SIDE), mode="bilinear", align_corners=False)[0]
    found = SegmentAnything(model, recipe, "cpu").predict(scan, Prompts().add_point(1, 0, 30, 20))[1, 0]
    assert found.chosen == int(answer.iou_scores[0, 0].clamp(0, 1).argmax())
    np.testing.assert_allclose(found.probability, wanted[found.chosen].sigmoid(), atol=1e-5)
    np.testing.assert_allclose(found.confidence, answer.iou_scores[0, 0].clamp(0, 1), atol=1e-6)


@torch.inference_mode()
def test_sam2_encodes_a_box_as_two_labelled_points_and_padding():
    encoder = sam2_model().prompt_encoder
    corners = torch.tensor([[[10.0, 12.0], [40.0, 50.0]]])
    as_box, _ = encoder(None, None, corners.reshape(1, 1, 4), None)
    as_points, _ = encoder(corners[None], torch.tensor([[[2, 3]]]), None, None)
    torch.testing.assert_close(as_box, as_points)
    assert as_box.shape[2] == 3


def test_the_image_part_of_a_video_model_is_used(folders, tmp_path):
    wanted = sam2_model()
    sizes = wanted.config.to_dict()
    config = Sam2VideoConfig(
        **{key: sizes[key] for key in ("vision_config", "prompt_encoder_config", "mask_decoder_config")},
        image_size=SIDE,
        memory_attention_hidden_size=64,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_num_layers=1,
        memory_attention_rope_feat_sizes=[SIDE // 16, SIDE // 16],
        memory_encoder_hidden_size=64,
        mask_downsampler_embed_dim=64,
        memory_fuser_embed_dim=64,
        memory_fuser_intermediate_dim=64,
    )
    video = Sam2VideoModel(config)
    video.load_state_dict(wanted.state_dict(), strict=False)
    video.save_pretrained(tmp_path / "video")
    image_model, video_model = (load_model(f"sam2:{p}", device="cpu") for p in (folders["sam2"], tmp_path / "video"))
    first, second = (m.predict(image(), prompts_of("point"))[1, 0] for m in (image_model, video_model))
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-5)


def test_a_recipe_pastes_with_its_own_rule():
    recipe = Recipe(SIZE, Fit.stretched, recipes()["sam2"].pixels, lambda fit, maps: torch.ones(1, *fit.frame))
    found = SegmentAnything(Mirror("box"), recipe, "cpu").predict(image(), prompts_of("box"))[1, 0]
    assert found.masks.all()
