"""Fine-tuning on a folder: what is chosen, ten generated images from start to end, and what it gained."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from tests.generated import disc, make_folder, save

from samed2.errors import InputError
from samed2.nn import SAMed2Model
from samed2.nn.builders import small_config
from samed2.train import finetune
from samed2.train.finetune_gain import answer, draw_examples, gains, questions
from samed2.train.recipe import load_recipe


@pytest.fixture(scope="module")
def init(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("init")
    config = small_config(width=16, blocks=(1, 1, 1, 1), hidden=32, image_size=64, adapter_dim=4)
    SAMed2Model(config).eval().save_pretrained(folder)
    return str(folder)


def make_images(root, count=10):
    rng = np.random.default_rng(0)
    for number in range(count):
        mask = disc((48, 64), 24 + rng.integers(-6, 6), 30 + rng.integers(-9, 9), 10)
        save(root / "images" / f"{number}.png", (mask * 120 + rng.integers(0, 60, mask.shape)).astype(np.uint8))
        save(root / "masks" / f"{number}.png", mask.astype(np.uint8) * 255)
    return root


def make_volumes(root, count=5):
    for number in range(count):
        labels = np.zeros((24, 20, 5), np.uint8)
        labels[6:14, 5:12, 1:4] = 1
        root.mkdir(parents=True, exist_ok=True)
        for name, array in (("", (labels * 90).astype(np.int16)), ("_seg", labels)):
            nibabel.save(
                nibabel.Nifti1Image(array + np.int16(number * (not name)), np.eye(4)), root / f"{number}{name}.nii"
            )
    return root


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("ten"))


def chosen(root, init, out, **options):
    found = finetune.survey(root)
    fields = finetune.choose_recipe(found, finetune.Start(init, 64, 10**6, False), out, **options)
    return found, fields, load_recipe(finetune.write_run(found, fields, out))


def test_ten_images_from_start_to_end(ten, init, tmp_path):
    out = tmp_path / "run"
    found, _, recipe = chosen(ten, init, out, steps=12)
    assert [len(cases) for cases in found.splits.values()] == [8, 2]
    model = finetune.train(recipe)
    from samed2.data import open_cases
    from samed2.predict import Predictor

    asked = questions(open_cases(recipe.data.root, ["val"]))
    answer(asked, Predictor.from_pretrained(init), "before")
    answer(asked, Predictor.from_pretrained(model), "after")
    (row,) = gains(asked)
    assert row["cases"] == 2 and 0 <= row["before"] <= 1 and 0 <= row["after"] <= 1
    draw_examples(asked, out / "examples.png")
    assert Image.open(out / "examples.png").size[0] > 700
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 12 and any("val_dice" in line for line in lines)


@pytest.mark.parametrize(
    "count, start, wanted",
    [
        (4, finetune.Start("nano", 128, 9_000_000, False), {"steps": 150, "rows": 16, "lr": 2e-4, "clips": 0.0}),
        (40, finetune.Start("nano", 128, 9_000_000, False), {"steps": 230, "rows": 16}),
        (4, finetune.Start("x", 1024, 40_000_000, True), {"image_size": 1024, "rows": 2, "lr": 1e-4}),
    ],
)
def test_the_recipe_fits_data_and_model(count, start, wanted, tmp_path):
    found = finetune.survey(make_images(tmp_path / "data", count))
    stage = finetune.choose_recipe(found, start, tmp_path / "out")["stages"][0]
    assert stage | wanted == stage
    assert finetune.choose_recipe(found, start, tmp_path / "out", 7)["stages"][0]["steps"] == 7


def test_volumes_get_clips(tmp_path):
    found, fields, recipe = chosen(make_volumes(tmp_path / "data"), "nano", tmp_path / "out")
    assert found.stacks and fields["stages"][0]["clips"] > 0
    assert recipe.data.root == tmp_path / "out" / finetune.DATA and recipe.data.val_splits == ["val"]


def test_few_images_keep_none(tmp_path):
    found, fields, _ = chosen(make_images(tmp_path / "data", 3), "nano", tmp_path / "out")
    assert found.splits["val"] == [] and fields["data"]["val_splits"] == []
    assert "nobody knows" in found.report.warnings[0]


def test_what_describes_itself_is_used_as_it_is(tmp_path):
    root = make_folder(tmp_path / "data", items=2)
    found, fields, _ = chosen(root, "nano", tmp_path / "out")
    assert fields["data"]["root"] == str(root) and found.stacks
    assert not (tmp_path / "out" / finetune.DATA).exists()
    (root / "spots" / "images" / "train0.png").unlink()
    with pytest.raises(InputError, match="train0"):
        finetune.survey(root)


def test_ct_is_noticed(tmp_path, monkeypatch):
    root = make_volumes(tmp_path / "data")
    monkeypatch.setattr(finetune, "looks_like_ct", lambda facts: True)
    assert finetune.survey(root).found.source.modality == "ct"


def test_too_small_objects_are_no_data(tmp_path):
    root = make_images(tmp_path, 4)
    speck = np.zeros((48, 64), np.uint8)
    speck[5, 5:9] = 255
    for number in range(4):
        save(root / "masks" / f"{number}.png", speck)
    with pytest.raises(InputError, match="12 pixels"):
        finetune.survey(root)


def test_a_step_is_timed(ten, init, tmp_path):
    chosen(ten, init, tmp_path / "out", steps=50)
    before = set((tmp_path / "out").iterdir())
    assert 0 < finetune.seconds_per_step(tmp_path / "out" / finetune.RECIPE, []) < 60
    assert set((tmp_path / "out").iterdir()) == before
