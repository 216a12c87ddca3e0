"""Training of U-Nets: it learns, the same call gives the same weights, and unlabelled objects teach nothing."""

from __future__ import annotations

import json
import signal
from functools import partial

import numpy as np
import pytest
import torch

from samed2.data.cases import Case, LoadedCase, MaskArrays
from samed2.errors import InputError
from samed2.evaluate.models import load_model
from samed2.io import Scan
from samed2.nn.weights import fingerprint
from samed2.prompts import Prompts
from samed2.train.unet import Run, UNetPlan, train_unet
from samed2.train.unet_slides import SlideIndex, draw_batch, read_slides

QUICK = {"width": 4, "batch": 4, "size": 32, "device": "cpu"}


def disc(shape, cy, cx, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - cy) ** 2 + (x - cx) ** 2 < radius**2


def _spot(number: int, case: Case) -> LoadedCase:
    """Bright disc on noise; `ring` is labelled too where the case lists it."""
    rng = np.random.default_rng(number)
    values = rng.integers(0, 60, (40, 48)).astype(np.uint8)
    mask = disc(values.shape, *rng.uniform(15, 25, 2), 9)
    values[mask] += 150
    masks = {"disc": mask[None], "ring": (disc(values.shape, 20, 20, 15) & ~mask)[None]}
    chosen = {name: masks[name] for name in case.objects}
    return LoadedCase(case, Scan.from_array(values, kind="image"), MaskArrays(chosen))


def _stack(number: int, case: Case) -> LoadedCase:
    values = np.random.default_rng(number).normal(0, 10, (30, 40, 48)).astype(np.float32)
    labels = np.zeros(values.shape, bool)
    labels[4:24] = disc(values.shape[1:], 20, 20, 9)
    return LoadedCase(case, Scan.from_array(values + 100 * labels, kind="volume"), MaskArrays({"ball": labels}))


def spots(count: int, objects=("disc",), start: int = 0) -> list[Case]:
    return [
        Case("spots", "microscopy", f"s{i}", "image", objects, reader=partial(_spot, i))
        for i in range(start, start + count)
    ]


def stacks(count: int) -> list[Case]:
    return [Case("stack", "ct", f"v{i}", "volume", ("ball",), reader=partial(_stack, i)) for i in range(count)]


def test_a_specialist_learns_its_task(tmp_path):
    losses = []
    folder = train_unet(
        spots(6),
        spots(2, start=6),
        tmp_path / "net",
        "spots/disc",
        steps=60,
        learning_rate=0.01,
        validate_every=30,
        progress=lambda step, loss: losses.append((step, loss)),
        **QUICK,
    )
    assert [step for step, _ in losses] == list(range(1, 61)) and losses[-1][1] < losses[0][1]
    model = load_model(f"unet:{folder}", device="cpu")
    held_out = spots(1, start=9)[0].load()
    prompts = Prompts()
    prompts.add_object(1, "spots/disc")
    found = model.predict(held_out.scan, prompts.add_point(1, 0, 3, 3))[1, 0].masks[0]
    truth = held_out.masks["disc"][0]
    assert 2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum()) > 0.8
    said = json.loads((folder / "config.json").read_text())
    assert said["tasks"] == ["spots/disc"] and [v["step"] for v in said["training"]["validation"]] == [30, 60]
    best = max(said["training"]["validation"], key=lambda v: v["macro_dice"])
    assert said["training"]["kept_step"] == best["step"] and best["macro_dice"] > 0.8


def test_the_same_call_gives_the_same_weights_and_another_seed_others(tmp_path):
    before = torch.get_rng_state()
    kept = [
        load_model(f"unet:{train_unet(spots(3), spots(1, start=3), tmp_path / name, steps=4, seed=seed, **QUICK)}")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert kept[0].fingerprint == kept[1].fingerprint != kept[2].fingerprint
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("after", [1, 3, 4, 7])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, after):
    """Stopped by Ctrl-C, or killed after the checkpoint of a validation."""
    cases = spots(4), spots(1, start=4)
    how = {"steps": 8, "validate_every": 3, **QUICK}
    whole = load_model(f"unet:{train_unet(*cases, tmp_path / 'whole', **how)}")

    def stop(step: int, loss: float) -> None:
        if step == after:
            if after == 7:
                raise RuntimeError("killed")
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt if after != 7 else RuntimeError):
        train_unet(*cases, out, progress=stop, **how)
    with pytest.raises(InputError, match="--resume"):
        train_unet(*cases, out, **how)
    with pytest.raises(InputError, match="other data or settings"):
        train_unet(spots(3), cases[1], out, resume=True, **how)
    steps = []
    train_unet(*cases, out, resume=True, progress=lambda step, loss: steps.append(step), **how)
    assert steps[0] == (after if after != 7 else 6) + 1 and steps[-1] == 8
    assert load_model(f"unet:{out}").fingerprint == whole.fingerprint
    said = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("whole", "stopped")]
    assert said[0] == said[1] and sorted(p.name for p in out.iterdir()) == ["config.json", "model.safetensors"]


def test_a_generalist_has_a_channel_for_every_task(tmp_path):
    cases = [*spots(2, ("disc", "ring")), *stacks(1)]
    folder = train_unet(cases, [], tmp_path / "net", steps=3, **QUICK)
    said = json.loads((folder / "config.json").read_text())
    assert said["tasks"] == ["spots/disc", "spots/ring", "stack/ball"]
    assert said["training"]["kept_step"] == 3 and said["training"]["validation"] == []


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_is_a_function_of_seed_and_step(augment):
    tasks = ("spots/disc", "spots/ring", "stack/ball")
    index = SlideIndex(read_slides([*spots(3, ("disc", "ring")), *stacks(1)], tasks, 32, 8), tasks)
    first, again, later = (draw_batch(index, step, 6, 0, augment, 0.2) for step in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], later[0])
    pixels, target, known = first
    assert pixels.shape == (6, 3, 32, 32) and target.shape == (6, 3, 32, 32) and known.shape == (6, 3)
    assert set(target.unique().tolist()) <= {0.0, 1.0}
    assert {tuple(row) for row in known.tolist()} <= {(True, True, False), (False, False, True)}
    assert not target[~known].any()


def test_augmentation_moves_image_and_mask_together():
    index = SlideIndex(read_slides(spots(2), ("spots/disc",), 64, 8), ("spots/disc",))
    for step in range(8):
        pixels, target, _ = draw_batch(index, step, 4, 0, True, 0.0)
        for image, mask in zip(pixels.mean(dim=1), target[:, 0].bool(), strict=True):
            around = ~mask & (image != 0)
            # brighter inside than outside, or darker where the draw inverted the image; never mixed up
            assert (image[mask].mean() - image[around].mean()).abs() > 1


def test_a_volume_gives_evenly_spread_frames_with_and_without_the_object():
    slides = read_slides(stacks(1), ("stack/ball",), 32, 8)
    shown = [bool(slide.masks[0].any()) for slide in slides]
    assert shown == [True] * 8 + [False] * 2
    assert all(slide.image.dtype == np.uint8 and slide.image.shape == (1, 32, 32) for slide in slides)


def test_what_is_not_labelled_teaches_nothing():
    plan = UNetPlan(steps=2, size=32, width=4)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[True, False], [True, False]])
    results = []
    for fill in (0.0, 1.0):
        from samed2.evaluate.models.unet_config import build_unet, make_config

        run = Run(build_unet(make_config(width=4, size=32, tasks=("a/b", "a/c"))), plan, "cpu")
        target = torch.zeros(2, 2, 32, 32)
        target[:, 1] = fill
        target[:, 0, 8:20, 8:20] = 1
        results.append((run.step(0, pixels, target, known), fingerprint(run.network)))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"task": "spots/moon"}, "task: got 'spots/moon', the training cases have spots/disc"),
        ({"steps": 0}, "steps: got 0"),
        ({"size": 100}, "size: got 100"),
        ({"network": "resnet"}, "network: got 'resnet'"),
        ({"colour": 1}, "setting 'colour' is unknown"),
        ({"learning_rate": float("inf")}, "lower learning_rate"),
    ],
)
def test_bad_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        train_unet(spots(2), [], tmp_path / "net", **{**QUICK, "steps": 3, **settings})
    assert not (tmp_path / "net").exists()


def test_no_case_and_a_task_that_is_never_shown(tmp_path):
    with pytest.raises(InputError, match="no training case"):
        train_unet([], [], tmp_path / "net")

    def empty(case: Case) -> LoadedCase:
        masks = MaskArrays({"disc": np.zeros((1, 40, 48), bool)})
        return LoadedCase(case, Scan.from_array(np.ones((40, 48), np.uint8)), masks)

    with pytest.raises(InputError, match="no training case shows spots/disc"):
        train_unet([Case("spots", "microscopy", "e", "image", ("disc",), reader=empty)], [], tmp_path / "net", **QUICK)
