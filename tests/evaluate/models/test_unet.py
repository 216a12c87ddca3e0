"""U-Nets as models under test."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tests.evaluate.models.small import TASKS, image, unet_model

from samed2.errors import InputError
from samed2.evaluate.models import load_model
from samed2.evaluate.models.unet import UNetOptions, UNetSegmenter, inside_boxes, normalised
from samed2.evaluate.models.unet_config import NETWORKS, build_unet, load_network, make_config, save_unet
from samed2.io import Scan
from samed2.nn.weights import fingerprint
from samed2.prompts import ObjectPrompts, Prompts


def asking(task: str = TASKS[0], box=(8, 38, 40, 70), text=None) -> Prompts:
    prompts = Prompts()
    prompts.add_object(1, task, text)
    return prompts.add_box(1, 0, *box)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_is_the_same_each_time_and_learns_everywhere(network, tmp_path):
    model, config = unet_model(network=network)
    before = torch.get_rng_state()
    assert fingerprint(build_unet(config)) == fingerprint(model)
    assert fingerprint(build_unet(config, seed=1)) != fingerprint(model)
    assert torch.equal(torch.get_rng_state(), before)
    read, said = load_network(save_unet(model, config, tmp_path / "net"))
    assert fingerprint(read) == fingerprint(model) and said == config
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answer = model(pixels)
    assert answer.shape == (3, 2, 64, 64)
    torch.testing.assert_close(answer[1:2], model(pixels[1:2]), rtol=0, atol=1e-4)  # norms do not mix a batch
    answer.square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_each_task_has_its_own_channel():
    model = UNetSegmenter(*unet_model(), "cpu")
    first, second = (model.predict(image(), asking(task))[1, 0].probability for task in TASKS)
    assert np.abs(first - second).max() > 1e-3
    by_text = model.predict(image(), asking("a bright disc", text=TASKS[0]))[1, 0].probability
    np.testing.assert_array_equal(by_text, first)


@pytest.mark.parametrize("name, said", [("spots/moon", "task 'spots/moon'"), ("", "no task")])
def test_a_task_it_was_not_trained_on_is_refused(name, said):
    with pytest.raises(InputError, match=f"{said}.*trained on spots/disc, spots/dot"):
        UNetSegmenter(*unet_model(), "cpu").predict(image(), asking(name))


def test_prompts_change_nothing_but_a_box_may_cut():
    network, config = unet_model()
    free = UNetSegmenter(network, config, "cpu")
    cut = UNetSegmenter(network, config, "cpu", UNetOptions(in_box=True))
    scan = image()
    whole = free.predict(scan, asking(box=(0, 0, 60, 90)))[1, 0]
    small = asking(box=(10, 20, 30, 50)).add_box(1, 0, 40, 60, 50, 80)
    np.testing.assert_array_equal(free.predict(scan, small)[1, 0].probability, whole.probability)
    found = cut.predict(scan, small)[1, 0]
    inside = np.zeros((60, 90), bool)
    inside[10:30, 20:50] = inside[40:50, 60:80] = True
    np.testing.assert_array_equal(found.masks[0], whole.masks[0] & inside)
    np.testing.assert_array_equal(found.probability[inside], whole.probability[inside])
    assert found.probability[~inside].max() < 1e-6
    point = Prompts()
    point.add_object(1, TASKS[0])
    point.add_point(1, 0, 5, 5)
    np.testing.assert_array_equal(cut.predict(scan, point)[1, 0].masks, whole.masks)


def test_a_pixel_is_in_a_box_when_its_centre_is():
    entry = ObjectPrompts(boxes=[(0, 1.5, 2.6, 3.5, 5.4)])
    from samed2.prompts import Box

    entry.boxes = [Box(*entry.boxes[0])]
    rows, columns = np.nonzero(inside_boxes(entry, (8, 8)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 2, 3, 4)


class Bright(torch.nn.Module):
    """Stands for a trained network: what is brighter than the frame's mean."""

    def forward(self, pixels):
        return pixels.mean(dim=1, keepdim=True).repeat(1, 2, 1, 1) - 1


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (64, 64), (40, 200), (301, 177)])
def test_what_is_bright_comes_back_where_it_was(shape):
    scan = image(*shape)
    _, config = unet_model(size=256)
    found = UNetSegmenter(Bright(), config, "cpu").predict(scan, asking(box=(0, 0, 9, 9)))[1, 0].masks[0]
    wanted = scan.frame(0) > 115
    assert np.count_nonzero(found & wanted) / np.count_nonzero(found | wanted) > 0.9


@pytest.mark.parametrize("step", [16, 32])
def test_an_image_moved_by_the_stride_gives_a_mask_moved_as_much(step):
    """In the middle, far from the borders' padding; the black surround keeps what the norms see."""
    network, config = unet_model(size=256)
    values = np.zeros((256, 256), np.uint8)
    values[112:144, 112:144] = np.random.default_rng(0).integers(50, 255, (32, 32))
    model = UNetSegmenter(network, config, "cpu")
    first, second = (
        model.predict(Scan.from_array(v, kind="image"), asking(box=(0, 0, 9, 9)))[1, 0].probability
        for v in (values, np.roll(values, (step, -step), axis=(0, 1)))
    )
    middle = (slice(96 + step, 160 + step), slice(96 - step, 160 - step))
    moved = np.roll(first, (step, -step), axis=(0, 1))
    assert np.abs(moved - second)[middle].max() < 0.01 < np.abs(first - second)[middle].max()


def test_the_frame_is_normalised_without_its_padding():
    inside = torch.zeros(1, 8, 8)
    inside[:, :4] = 1
    pixels = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 5 + 3
    found = normalised(pixels * inside, inside)
    assert float(found[:, :4].mean()) == pytest.approx(0, abs=1e-5)
    assert float(found[:, :4].std(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert float(found[:, 4:].abs().max()) == 0
    assert torch.isfinite(normalised(torch.full((3, 8, 8), 0.3), torch.ones(1, 8, 8))).all()


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("network", "resnet", "network: got 'resnet'"),
        ("size", 100, "size: got 100"),
        ("size", 16, "size: got 16"),
        ("tasks", [], "tasks: got"),
        ("tasks", ["a/b", "a/b"], "tasks: got"),
        ("width", 10**6, "width"),
        ("colour", 1, "colour"),
        ("model_type", "sam", "model_type: got 'sam'"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused(folders, tmp_path, field, value, message):
    folder = shutil.copytree(folders["unet"], tmp_path / "net")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, field: value}))
    with pytest.raises(InputError, match=message):
        load_model(f"unet:{folder}", device="cpu")


def test_weights_of_another_net_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders["unet"], tmp_path / "net")
    save_unet(*unet_model(tasks=("a/b",)), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(InputError, match="shape"):
        load_model(f"unet:{folder}", device="cpu")


def test_each_specialist_answers_for_its_task(tmp_path):
    alone = {}
    for seed, task in enumerate(TASKS):
        folder = save_unet(*unet_model(tasks=(task,), seed=seed), tmp_path / "nets" / f"net{seed}")
        alone[task] = load_model(f"unet:{folder}", device="cpu").predict(image(), asking(task))[1, 0].probability
    model = load_model(f"unet:{tmp_path / 'nets'}?in_box=1", device="cpu")
    prompts = asking(TASKS[0], box=(0, 0, 200, 200))
    prompts.add_object(2, TASKS[1])
    found = model.predict(image(), prompts.add_point(2, 0, 5, 5))
    for number, task in enumerate(TASKS, start=1):
        np.testing.assert_array_equal(found[number, 0].probability, alone[task])
    assert np.abs(found[1, 0].probability - found[2, 0].probability).max() > 1e-3
    with pytest.raises(InputError, match=r"object 1: got task 'spots/moon', .*trained on spots/disc, spots/dot"):
        model.predict(image(), asking("spots/moon"))
    save_unet(*unet_model(tasks=TASKS[:1]), tmp_path / "nets" / "more")
    with pytest.raises(InputError, match=f"two of its networks were trained on {TASKS[0]}"):
        load_model(f"unet:{tmp_path / 'nets'}", device="cpu")


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        save_unet(*unet_model(), tmp_path / "file" / "net")
    with pytest.raises(InputError, match="tasks"):
        make_config(tasks=())
