"""`samed2 annotate` over a folder of small pictures, from an empty memory to confirmed cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ARGUMENTS = ("--memory", "bank.safetensors", "--task", "disc", "--device", "cpu")


def _disc(path: Path, shift: int = 0) -> None:
    y, x = np.mgrid[:60, :80]
    inside = (y - 30) ** 2 + (x - 40 - shift) ** 2 < 12**2
    Image.fromarray(np.where(inside, 200, 40).astype(np.uint8)).save(path)


def _prompts(path: Path, **images: list[int]) -> Path:
    data = {f"{name}.png": {"objects": [{"boxes": [corners]}]} for name, corners in images.items()}
    path.write_text(json.dumps({"images": data}))
    return path


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of three pictures; the current folder is the one above."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cases"
    folder.mkdir()
    for number in range(3):
        _disc(folder / f"p{number}.png", 4 * number)
    (folder / "notes.txt").write_text("not a case")
    return folder


@pytest.fixture
def annotate(run: Any, tiny_model: Path, cases: Path) -> Callable[..., Any]:
    """Return a function that runs `samed2 annotate cases ARGUMENTS...` with the tiny model."""
    return lambda *arguments: run("annotate", cases, *ARGUMENTS, "--model", tiny_model, *arguments)


def _statuses(folder: Path) -> dict[str, str]:
    state = json.loads((folder / "annotated" / "annotate.json").read_text())
    return {name: entry["status"] for name, entry in state["cases"].items()}


def test_from_nothing_to_confirmed(annotate: Any, run: Any, tmp_path: Path) -> None:
    code, out, err = annotate()
    assert code == 0 and "is empty" in err and len(err.splitlines()) == 1
    assert "3 cases: 3 open" in out and (tmp_path / "annotated" / "index.html").is_file()
    file = _prompts(tmp_path / "prompts.json", p0=[28, 18, 52, 42], p1=[32, 18, 56, 42])
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:50] = 1
    code, out, err = annotate("--prompts", file)
    assert code == 0 and "2 corrected" in out
    for name in ("p0", "p1"):  # whatever the random model found: draw it
        Image.fromarray(mask).save(tmp_path / "annotated" / "cases" / f"{name}_mask.png")
    code, out, err = annotate("--confirm", "p0.png", "--confirm", "p1")
    assert (code, err) == (0, "") or "nothing was found" in err
    assert _statuses(tmp_path) == {"p0.png": "confirmed", "p1.png": "confirmed", "p2.png": "proposed"}
    assert "1 proposed, 2 confirmed; 4 entries of 'disc' in bank.safetensors" in out
    found = json.loads(run("memory", "info", "bank.safetensors", "--json").out)
    assert found["entries"] == 4 and found["tasks"] == {"disc": 4} and found["mean_confidence"] == 1
    assert not list(tmp_path.rglob(".*part*"))


def test_json_lists_the_open_cases_first(annotate: Any, tmp_path: Path) -> None:
    annotate("--prompts", _prompts(tmp_path / "p.json", p1=[28, 18, 52, 42]))
    code, out, _ = annotate("--json")
    data = json.loads(out)
    assert code == 0 and [entry["case"] for entry in data["cases"]] == ["p0.png", "p2.png", "p1.png"]
    assert Path(data["index"]).name == "index.html" and data["memory"]["of_task"] == 0


def test_all_above_takes_only_what_was_shown_before(annotate: Any, tmp_path: Path) -> None:
    file = _prompts(tmp_path / "p.json", p0=[28, 18, 52, 42])
    assert annotate("--prompts", file, "--confirm-all-above", "0").code == 0
    assert _statuses(tmp_path)["p0.png"] == "corrected"
    assert annotate("--confirm-all-above", "0").code == 0
    assert _statuses(tmp_path)["p0.png"] == "confirmed"
    assert annotate("--reopen", "p0").code == 0
    assert _statuses(tmp_path)["p0.png"] == "corrected"


def test_a_failed_case_is_told_and_the_others_go_on(annotate: Any, cases: Path, tmp_path: Path) -> None:
    (cases / "p1.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    code, out, err = annotate("--prompts", _prompts(tmp_path / "p.json", p0=[500, 500, 600, 600], p2=[28, 18, 52, 42]))
    assert code == 2 and "p1.png" in err and "outside the image" in err
    assert err.splitlines()[-1].endswith("2 of 3 cases could not be done, see above")
    assert _statuses(tmp_path) == {"p0.png": "open", "p1.png": "open", "p2.png": "corrected"}
    assert "(failed)" in out and "outside the image" in (tmp_path / "annotated" / "index.html").read_text()


def test_further_formats_are_written(annotate: Any, tmp_path: Path) -> None:
    assert annotate("--prompts", _prompts(tmp_path / "p.json", p0=[28, 18, 52, 42]), "--format", "geojson").code == 0
    assert (tmp_path / "annotated" / "cases" / "p0.geojson").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--confirm", "p9"), "'p9' is no case"),
        (("--reopen", "p9"), "'p9' is no case"),
        (("--order", "odd"), "wanted unsure or sure"),
        (("--format", "odd"), "--format odd: unknown"),
        (("--prompts", "none.json"), "does not exist"),
        (("--confirm-all-above", "3"), "confirm-all-above"),
        (("--memory", "none/bank.safetensors"), "create it first"),
        (("--out", "cases/p0.png"), "cannot be made a folder"),
    ],
)
def test_mistakes_are_one_line(annotate: Any, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = annotate(*arguments)
    assert (code, out) == (2, "") and words in err and len(err.splitlines()) == 1


def test_prompts_for_strangers_and_other_annotations_are_refused(annotate: Any, run: Any, tmp_path: Path) -> None:
    file = _prompts(tmp_path / "p.json", other=[1, 1, 9, 9])
    assert "'other.png' is no case" in annotate("--prompts", file).err
    annotate()
    assert "belongs to task 'disc'" in annotate("--task", "liver").err
    assert "is not a folder" in run("annotate", tmp_path / "none", *ARGUMENTS).err
