"""`samed2 memory build|info|merge|prune` on small memory files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.generated import make_folder


def _bank(path: Path, seed: int, fingerprint: str = "model-a") -> Path:
    import torch

    from samed2.memory import SelectiveMemory

    generator = torch.Generator().manual_seed(seed)
    bank = SelectiveMemory(8, (4, 2, 2), fingerprint=fingerprint)
    bank.add(
        torch.randn(4, 8, 2, 2, generator=generator),
        torch.randn(4, 4, 2, 2, generator=generator),
        [0.2, 0.5, 0.7, 0.9],
        task=["liver", "liver", "lesion", "lesion"],
        modality="ct",
    )
    bank.save(path)
    return path


def test_info(run: Any, tmp_path: Path) -> None:
    path = _bank(tmp_path / "a.safetensors", 0)
    code, out, err = run("memory", "info", path)
    assert (code, err) == (0, "")
    assert "liver: 2" in out
    assert json.loads(run("memory", "info", path, "--json").out)["entries"] == 4
    assert json.loads(run("memory", "info", "nano", "--json").out)["tasks"]
    code, _, err = run("memory", "info", tmp_path)
    assert code == 2 and str(tmp_path) in err


def test_merge(run: Any, tmp_path: Path) -> None:
    paths = [_bank(tmp_path / f"{seed}.safetensors", seed) for seed in range(2)]
    found = json.loads(run("memory", "merge", *paths, "--out", tmp_path / "m.safetensors", "--json").out)
    assert found["entries"] == 8
    kept = json.loads(
        run("memory", "merge", *paths, "--out", tmp_path / "n.safetensors", "--capacity", 3, "--json").out
    )
    assert kept["entries"] == 3
    assert kept["mean_confidence"] == pytest.approx((0.9 + 0.9 + 0.7) / 3)


@pytest.mark.parametrize(
    "arguments, left",
    [
        (["--capacity", "1"], 1),
        (["--capacity", "0"], 0),
        (["--min-confidence", "0.6"], 2),
        (["--task", "liver"], 2),
        (["--modality", "ct"], 0),
        (["--task", "liver", "--min-confidence", "0.8"], 1),
    ],
)
def test_prune_into_the_same_file(run: Any, arguments: list[str], left: int, tmp_path: Path) -> None:
    path = _bank(tmp_path / "a.safetensors", 0)
    assert run("memory", "prune", path, "--out", path, *arguments).code == 0
    assert json.loads(run("memory", "info", path, "--json").out)["entries"] == left
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_refused(fails: Any, tmp_path: Path) -> None:
    path = _bank(tmp_path / "a.safetensors", 0)
    other = _bank(tmp_path / "b.safetensors", 1, fingerprint="model-b")
    out = tmp_path / "o.safetensors"
    assert "does not exist" in fails("memory", "info", tmp_path / "none.safetensors")
    assert "nothing to drop" in fails("memory", "prune", path, "--out", out)
    assert "wanted at least 2" in fails("memory", "merge", path, "--out", out)
    assert "fingerprint" in fails("memory", "merge", path, other, "--out", out)
    assert "is a folder" in fails("memory", "prune", path, "--out", tmp_path, "--capacity", "1")
    assert "does not exist" in fails("memory", "prune", path, "--out", tmp_path / "x" / "y", "--capacity", "1")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:200])
    assert "cut.safetensors" in fails("memory", "info", tmp_path / "cut.safetensors")
    (tmp_path / "text.safetensors").write_text("not a memory")
    assert "text.safetensors" in fails("memory", "info", tmp_path / "text.safetensors")
    assert not out.exists()


def test_group_without_command_shows_help(run: Any) -> None:
    code, out, err = run("memory")
    assert code == 2
    assert "merge" in out + err


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("labelled"))


def test_build_takes_cases_of_every_task_in_two_looks(run: Any, labelled: Path, tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    command = ("memory", "build", "--data", labelled, "--per-task", 3, "--out", path, "--json")
    found = json.loads(run(*command).out)
    assert found["tasks"] == {"spots/disc": 6, "spots/dot": 6, "stack/ball": 2, "film/ball": 2}
    first = path.read_bytes()
    run(*command)
    assert path.read_bytes() == first

    from samed2.predict import Predictor

    predictor = Predictor.from_pretrained("nano", memory=path)
    assert predictor.memory is not None and len(predictor.memory) == found["entries"]
    origins = [entry.origin for entry in predictor.memory.entries if entry.task == "spots/disc"]
    assert len(set(origins)) == 3 and all(origins.count(name) == 2 for name in origins)


@pytest.mark.parametrize("options, words", [(["--split", "external"], "external"), (["--model", "huge"], "huge")])
def test_build_names_what_is_wrong(run: Any, labelled: Path, tmp_path: Path, options: list[str], words: str) -> None:
    code, _, err = run("memory", "build", "--data", labelled, "--out", tmp_path / "b.safetensors", *options)
    assert code == 2 and words in err and not (tmp_path / "b.safetensors").exists()
