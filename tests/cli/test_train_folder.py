"""`samed2 train --data`: a check, a short run whose result segments at once, resuming, and wrong calls."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.generated import disc, save

from samed2.errors import InputError


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of ten images with a disc each."""
    root, rng = tmp_path_factory.mktemp("data") / "Spots", np.random.default_rng(0)
    for number in range(10):
        mask = disc((48, 64), 24 + rng.integers(-6, 6), 30 + rng.integers(-9, 9), 10)
        save(root / "images" / f"{number}.png", (mask * 120 + rng.integers(0, 60, mask.shape)).astype(np.uint8))
        save(root / "masks" / f"{number}.png", mask.astype(np.uint8) * 255)
    return root


def test_check_only_looks(run: Any, ten: Path, tmp_path: Path) -> None:
    code, out, err = run("train", "--data", ten, "--out", tmp_path / "run", "--check")
    assert (code, err) == (0, "")
    for words in ("images/0.png and masks/0.png", "10 images", "8, 2", "48 px", "grey uint8", "object", "255"):
        assert words in out
    assert not (tmp_path / "run").exists()


def test_a_run_ends_with_a_command_that_works(run: Any, ten: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, printed, err = run("train", "--data", ten, "--init", tiny_model, "--out", out, "--steps", "4", "seed=3")
    assert code == 0, err
    assert "Dice with a box, on val" in printed and "spots/object" in printed
    assert {"model", "data.yaml", "recipe.yaml", "gain.json", "examples.png"} <= {path.name for path in out.iterdir()}
    assert json.loads((out / "gain.json").read_text())["objects"][0]["cases"] == 2
    assert json.loads((out / "recipe.json").read_text())["seed"] == 3
    assert max(Image.open(out / "examples.png").size) > 300
    command = shlex.split(printed.strip().splitlines()[-1])
    assert command[:2] == ["samed2", "segment"]
    assert run(*command[1:]).code == 0
    assert any((out / "try").iterdir())
    assert "holds another run" in run("train", "--data", ten, "--init", tiny_model, "--out", out).err
    again = run("train", "--data", ten, "--out", out, "--resume")
    assert again.code == 0 and "Dice with a box" in again.out
    fields = yaml.safe_load((out / "recipe.yaml").read_text())
    assert fields["stages"][0]["steps"] == 4 and fields["model"]["init"] == str(tiny_model)
    recipe = run("train", out / "recipe.yaml", "stages.0.steps=1", "--out", tmp_path / "again")
    assert recipe.code == 0 and recipe.out.strip().endswith("model")


def test_problems_are_warnings(run: Any, ten: Path, tmp_path: Path) -> None:
    for number in range(3):
        for kind in ("images", "masks"):
            save(tmp_path / kind / f"{number}.png", np.asarray(Image.open(ten / kind / f"{number}.png")))
    save(tmp_path / "masks" / "2.png", np.ones((5, 5), np.uint8) * 255)
    save(tmp_path / "images" / "lonely.png", np.ones((5, 5), np.uint8))
    code, out, err = run("train", "--data", tmp_path, "--check")
    assert code == 0
    assert "not used: 2" in out and "image without label" in out and "same size" in out
    assert "samed2: warning: only 2 cases" in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "wanted a recipe"),
        (["--steps", "3"], "--steps: goes with --data"),
        (["--check"], "--check: goes with --data"),
        (["--data", "DATA", "--steps", "3", "--minutes", "1"], "give one of them"),
        (["--data", "DATA", "--minutes", "0"], "wanted more than 0"),
        (["--data", "DATA", "recipe.yaml"], "not an override"),
        (["--data", "DATA", "--label", "liver"], "wanted NAME=VALUE"),
        (["--data", "DATA", "--label", "liver=9"], "no label file has that value"),
        (["--data", "nowhere"], "does not exist"),
        (["--data", "DATA", "--resume", "--out", "nowhere"], "leave --resume out"),
    ],
)
def test_wrong_calls(
    fails: Any, ten: Path, arguments: list[str], message: str, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails("train", *[str(ten) if word == "DATA" else word for word in arguments])


def test_an_unknown_model_and_wrong_fields(run: Any, ten: Path, tmp_path: Path) -> None:
    code, _, err = run("train", "--data", ten, "--init", tmp_path / "none", "--out", tmp_path / "a")
    assert code == 2 and "none" in err.splitlines()[-1]
    code, _, err = run("train", "--data", ten, "--steps", 1, "--out", tmp_path / "b", "stages.0.rows=none")
    assert code == 2 and "stages.0.rows" in err.splitlines()[-1]


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (InputError("step 3: the loss is nan"), 2)])
def test_a_stop_says_how_to_go_on(
    run: Any, ten: Path, tiny_model: Path, tmp_path: Path, monkeypatch: Any, error: BaseException, code: int
) -> None:
    def stop(recipe: Any, resume: bool) -> Path:
        (recipe.out / "checkpoint.pt").write_bytes(b"")
        raise error

    monkeypatch.setattr("samed2.train.finetune.train", stop)
    ran = run("train", "--data", ten, "--init", tiny_model, "--out", tmp_path / "run")
    assert ran.code == code
    assert f"--out {tmp_path / 'run'} --resume" in ran.err
