"""`samed2 train` and `samed2 convert` pass on what they were given and refuse what is no input."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], ([], False, None)),
        (["steps=3", "seed=1", "--resume"], (["steps=3", "seed=1"], True, None)),
        (["--out", "runs/x"], ([], False, Path("runs/x"))),
    ],
)
def test_train_passes_on(
    run: Any, arguments: list[str], expected: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[Any, ...]] = []
    trainer = ModuleType("samed2.train.trainer")
    trainer.run = lambda *values: called.append(values) or Path("runs/x/model")  # type: ignore
    monkeypatch.setitem(sys.modules, "samed2.train.trainer", trainer)
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: 1\n")
    assert run("train", recipe, *arguments) == (0, "runs/x/model\n", "")
    assert called == [(recipe, *expected)]


def test_train_refuses(fails: Any, tmp_path: Path) -> None:
    assert "is not a file" in fails("train", tmp_path / "none.yaml")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: 1\n")
    assert "wanted name=value" in fails("train", recipe, "steps")


def test_convert_refuses(fails: Any, tmp_path: Path) -> None:
    source = tmp_path / "x.pt"
    source.write_bytes(b"nothing useful")
    out = tmp_path / "out"
    assert "does not exist" in fails("convert", tmp_path / "none.pt", out)
    assert "is a folder" in fails("convert", tmp_path, out)
    assert "--kind sam3: unknown" in fails("convert", source, out, "--kind", "sam3")
    assert "x.pt" in fails("convert", source, out)
    assert "x.pt" in fails("convert", source, out, "--kind", "memory")
    (tmp_path / "bank.pkl").write_bytes(b"nothing useful")
    assert "bank.pkl" in fails("convert", tmp_path / "bank.pkl", out)
    assert not out.exists()
