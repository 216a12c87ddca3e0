"""Recipes: defaults, overrides, and errors that name the field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samed2.errors import InputError
from samed2.train.optim import learning_rate
from samed2.train.recipe import LOSSES, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
ROUNDS = sorted((RECIPES / "rounds").glob("*.yaml"))
AGAIN = "nano-upright-boxes-2"  # the recipe of that name once more with another seed, docs/rounds.md

TEXT = """
data: {root: data}
stages:
  - {steps: 10, image_size: 64, rows: 4, lr: 0.001, warmup: 5}
  - {steps: 20, image_size: 96, rows: 4, lr: 0.001, lr_end: 0.0001}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    "path", [*(RECIPES / f"{name}.yaml" for name in ("nano", "plain", "small")), *ROUNDS], ids=lambda p: p.stem
)
def test_shipped_recipes_are_valid(path):
    shipped = load_recipe(path)
    assert shipped.data.splits == ["train"] and shipped.steps > 0
    assert shipped.out.name == path.stem


def test_rounds_start_from_weights_that_a_recipe_makes():
    made = {path.stem for path in ROUNDS} | {AGAIN}
    for path in [RECIPES / "nano.yaml", *ROUNDS]:
        wanted = load_recipe(path).model
        assert {Path(start).parts[1] for start in [wanted.init, *wanted.average] if start} <= made, path.stem


def test_losses_by_name(recipe):
    assert load_recipe(recipe, ["loss=sam2"]).loss == LOSSES["sam2"]
    assert load_recipe(recipe, ["loss=released"]).loss.iou_kind == "l1"


def test_stages_follow_each_other(recipe):
    loaded = load_recipe(recipe)
    assert loaded.steps == 30
    assert [loaded.stage_at(s)[0].image_size for s in (0, 9, 10, 29)] == [64, 64, 96, 96]
    assert learning_rate(loaded, 0) == pytest.approx(0.0002)
    assert learning_rate(loaded, 4) == learning_rate(loaded, 9) == pytest.approx(0.001)
    rates = [learning_rate(loaded, s) for s in range(10, 30)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0.0001, rel=0.1)


def test_overrides_reach_nested_fields(recipe):
    loaded = load_recipe(recipe, ["stages.1.steps=7", "optimizer.name=muon", "seed=3", "loss.iou=1.5"])
    assert (loaded.stages[1].steps, loaded.optimizer.name, loaded.seed, loaded.loss.iou) == (
        7,
        "muon",
        3,
        1.5,
    )


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("model.average=[runs/a/model, runs/b/model]", "model.average", ["runs/a/model", "runs/b/model"]),
        ("model.average=['runs/a/model']", "model.average", ["runs/a/model"]),
        ("optimizer.recompute=true", "optimizer.recompute", True),
        ("model.init=null", "model.init", None),
        ("model.init=None", "model.init", None),
        ("model.init=runs/2026: best", "model.init", "runs/2026: best"),
        ("model.init=2026-11-22", "model.init", "2026-11-22"),
        ("stages.0.lr=1e-3", "stages.0.lr", 1e-3),
        ("stages.0.prompts={box: 1}", "stages.0.prompts", {"box": 1}),
    ],
)
def test_overrides_are_read_as_python_or_yaml(recipe, change, field, value):
    found = load_recipe(recipe, ["model.init=nano", change])
    for key in field.split("."):
        found = found[int(key)] if isinstance(found, list | tuple) else getattr(found, key)
    assert found == value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stages.0.steps=0", "stages.0.steps"),
        ("stages.0.image_size=50", "stages.0.image_size"),
        ("stages.9.steps=1", "stages.9.steps"),
        ("optimizer.name=sgd", "optimizer.name"),
        ("learning=1", "learning"),
        ("loss=paper", "released"),
        ("stages.0.stream_frames=[6, 3]", "stages.0.stream_frames"),
        ("stages.0.prompts={'line': 1}", "stages.0.prompts"),
        ("seed", "FIELD=VALUE"),
    ],
)
def test_wrong_fields_are_named(recipe, change, words):
    with pytest.raises(InputError, match=re.escape(words)):
        load_recipe(recipe, [change])


@pytest.mark.parametrize("text", ["", "a: [", "- 1\n- 2", "data: {root: x}\n"])
def test_files_that_are_no_recipe(tmp_path, text):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"wrong\.yaml"):
        load_recipe(path)
    with pytest.raises(InputError, match=r"absent\.yaml"):
        load_recipe(tmp_path / "absent.yaml")
