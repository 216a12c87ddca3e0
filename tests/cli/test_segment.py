"""`samed2 segment` from images and prompts to files, with a tiny random model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

BOX = "28,18,52,42"


def _disc(path: Path) -> Path:
    y, x = np.mgrid[:60, :80]
    inside = (y - 30) ** 2 + (x - 40) ** 2 < 12**2
    Image.fromarray(np.where(inside, 200, 40).astype(np.uint8)).save(path)
    return path


def _shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def segment(run: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs `samed2 segment ARGUMENTS...` in an empty folder with the tiny model."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Any:
        return run("segment", *arguments, "--model", tiny_model, "--device", "cpu")

    return call


def test_one_box(segment: Any, image: Path, tmp_path: Path) -> None:
    code, out, err = segment(image, "--box", BOX, "--object", "disc", "--overlay")
    assert (code, err) == (0, "")
    assert ": disc: " in out
    with Image.open(tmp_path / "disc_mask.png") as label:
        assert label.size == (80, 60)
        assert set(np.unique(np.asarray(label))) <= {0, 1}
    assert (tmp_path / "disc_overlay.png").stat().st_size > 0
    assert not list(tmp_path.glob(".*part*"))


def test_json_on_stdout_is_only_json(segment: Any, image: Path, tmp_path: Path) -> None:
    out = segment(image, "--box", f"a={BOX}", "--box", "b=0,0,20,20", "--json", "--out", "r.json").out
    (result,) = json.loads(out)
    assert [entry["name"] for entry in result["objects"]] == ["a", "b"]
    assert result["files"] == ["r.json"]
    assert json.loads((tmp_path / "r.json").read_text())["objects"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--point", "40,30"],
        ["--point", "40,30", "--point", "2,2,0", "--multimask"],
        ["--box", BOX, "--point", "40,30", "--no-zoom"],
        ["--box", BOX, "--box", "0,0,10,10", "--fill-holes", "9", "--min-area", "4"],
        ["--box", BOX, "--window", "full"],
    ],
)
def test_prompts_of_all_kinds(segment: Any, image: Path, arguments: list[str], tmp_path: Path) -> None:
    assert segment(image, *arguments).code == 0
    assert (tmp_path / "disc_mask.png").exists()


def test_what_the_memory_knows_is_found_without_a_prompt(segment: Any, tiny_model: Path, tmp_path: Path) -> None:
    disc = np.asarray(Image.open(_disc(tmp_path / "disc.png"))) > 100
    from samed2.io import read
    from samed2.predict import Predictor
    from samed2.prompts import Prompts

    predictor = Predictor.from_pretrained(tiny_model, "cpu")
    predictor.memory = predictor.new_memory(4)
    predictor.remember(read(tmp_path / "disc.png"), disc, task="set/disc", views=["whole"])
    predictor.memory.save(tmp_path / "bank.safetensors")
    voxels = np.stack([np.asarray(Image.open(tmp_path / "disc.png")).T] * 3, axis=-1)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1, 2, 1])), tmp_path / "v.nii.gz")
    code, out, err = segment(
        "disc.png", "v.nii.gz", "--recall", "set/disc", "--memory", "bank.safetensors", "--out", "r"
    )
    assert (code, err) == (0, ""), err
    assert _shown(tmp_path / "r") == ["disc_mask.png", "v_mask.nii.gz"] and out.count(": disc: ") == 2
    found = predictor.find(read(tmp_path / "v.nii.gz"), {"disc": "set/disc"}, propagate="both")
    assert segment("v.nii.gz", "--recall", "set/disc", "--memory", "bank.safetensors", "--propagate", "both").code == 0
    kept = np.asarray(nibabel.load(tmp_path / "v_mask.nii.gz").dataobj)
    np.testing.assert_array_equal(kept, found.labels.transpose(2, 1, 0))
    code, _, err = segment("v.nii.gz", "--recall", "x", "--memory", "bank.safetensors", "--frame", "3")
    assert code == 2 and "v.nii.gz: --frame 3: there are frames 0 to 2" in err
    code, _, err = segment("v.nii.gz", "--recall", "x", "--memory", "bank.safetensors")
    assert code == 2 and "no entry of task 'x'; it holds set/disc" in err
    clicked = ("disc.png", "--point", "40,30", "--memory", "bank.safetensors", "--out", "p.png", "--task")
    assert segment(*clicked, "set/disc").code == 0
    wanted = predictor.predict(read(tmp_path / "disc.png"), Prompts().add_point(1, 0, 30, 40), task="set/disc")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "p.png")) > 0, wanted[0].mask)
    code, _, err = segment(*clicked, "x")
    assert code == 2 and "no entry of task 'x'; it holds set/disc" in err


def test_mask_prompt(segment: Any, image: Path, tmp_path: Path) -> None:
    rough = np.zeros((60, 80), np.uint8)
    rough[20:40, 30:50] = 255
    Image.fromarray(rough).save(tmp_path / "rough.png")
    assert segment(image, "--mask", "disc=rough.png", "--out", "out.png").code == 0
    assert (tmp_path / "out.png").exists()


def test_volume_needs_a_frame_and_gives_nifti(segment: Any, tmp_path: Path) -> None:
    affine = np.diag([0.5, 0.6, 3.0, 1.0])
    voxels = np.random.default_rng(0).integers(0, 900, (40, 30, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "v.nii.gz")
    code, _, err = segment("v.nii.gz", "--box", "5,5,20,20")
    assert code == 2
    assert "has 4 frames; say with --frame" in err
    assert segment("v.nii.gz", "--box", "5,5,20,20", "--frame", "2").code == 0
    label = nibabel.load(tmp_path / "v_mask.nii.gz")
    assert label.shape == (40, 30, 4)
    assert np.allclose(label.affine, affine)
    assert not np.asarray(label.dataobj)[..., [0, 1, 3]].any()


def test_many_images_with_one_file(segment: Any, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _disc(tmp_path / name)
    one = {"objects": [{"name": "disc", "boxes": [{"box": [28, 18, 52, 42]}]}]}
    (tmp_path / "p.json").write_text(json.dumps({"images": {"a.png": one, "b.png": one}}))
    code, _, _ = segment("a.png", "b.png", "--prompts", "p.json", "--out", "res", "--format", "json")
    assert code == 0
    assert _shown(tmp_path / "res") == ["a.json", "b.json"]
    first, second = (json.loads((tmp_path / "res" / name).read_text()) for name in ("a.json", "b.json"))
    assert first["objects"] == second["objects"]


def test_one_bad_image_of_many_does_not_stop_the_others(segment: Any, tmp_path: Path) -> None:
    _disc(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"")
    _disc(tmp_path / "c.png")
    code, _, err = segment("a.png", "bad.png", "c.png", "--box", BOX, "--out", "res")
    assert code == 2
    assert "bad.png: is empty" in err
    assert "1 of 3 cases could not be segmented" in err
    assert _shown(tmp_path / "res") == ["a_mask.png", "c_mask.png"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["none.png", "--box", BOX], "none.png: does not exist"),
        (["empty", "--box", BOX], "is a folder without DICOM files or images"),
        (["disc.png"], "no prompt: got no --box"),
        (["disc.png", "--box", "90,90,99,99"], "outside the image"),
        (["disc.png", "--box", "50,18,28,42"], "turned round"),
        (["disc.png", "--box", "5,5,5,9"], "is empty"),
        (["disc.png", "--box", "1,2,3,nan"], "not finite"),
        (["disc.png", "--point", "80,10"], "outside the image"),
        (["disc.png", "--box", BOX, "--frame", "3"], "frame 3 is unknown"),
        (["disc.png", "--mask", "small.png"], "has shape (5, 5)"),
        (["disc.png", "--mask", "none.png"], "none.png: does not exist"),
        (["disc.png", "--box", BOX, "--window", "heart"], "unknown 'heart'"),
        (["disc.png", "--box", BOX, "--format", "tga"], "--format tga: unknown"),
        (["disc.png", "--recall", "set/disc", "--box", BOX], "leave out --box"),
        (["disc.png", "--recall", "a/disc", "--recall", "b/disc"], "'disc' was given twice"),
        (["disc.png", "--recall", "disc="], "wanted TASK or NAME=TASK"),
        (["disc.png", "--recall", "set/disc", "--object", "it"], "--object: with --recall"),
        (["disc.png", "--recall", "set/disc"], "came without a memory"),
        (["disc.png", "--recall", "set/disc", "--task", "set/disc"], "--task: says what prompted objects are"),
        (["disc.png", "--point", "40,30", "--task", "set/disc"], "came without a memory"),
        (["disc.png", "--box", BOX, "--memory", "none.safetensors"], "none.safetensors: does not exist"),
        (["disc.png", "--box", BOX, "--out", "disc.png"], "is the image itself"),
        (["disc.png", "--box", BOX, "--out", "small.png/x.png"], "cannot be a folder"),
        (["disc.png", "--box", BOX, "--prompts", "p.json"], "cannot be combined"),
        (["disc.png", "--prompts", "none.json"], "none.json: does not exist"),
        (["disc.png", "--prompts", "p.json"], "has no prompts for disc.png; its images are other.png"),
    ],
)
def test_bad_input_is_one_line(segment: Any, image: Path, arguments: list[str], words: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 5), 255, np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "p.json").write_text('{"images": {"other.png": {"objects": [{"boxes": [[1, 2, 3, 4]]}]}}}')
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    code, out, err = segment(*arguments)
    assert (code, out) == (2, ""), (out, err)
    assert words in err
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_unknown_model_and_device(run: Any, image: Path, tiny_model: Path, tmp_path: Path) -> None:
    code, _, err = run("segment", image, "--box", BOX, "--model", "no-such-model", "--out", tmp_path / "x.png")
    assert code == 2
    assert "no-such-model" in err
    code, _, err = run("segment", image, "--box", BOX, "--model", tiny_model, "--device", "tpu")
    assert code == 2
    assert "tpu" in err


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_unwritable_folder(segment: Any, image: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    code, _, err = segment(image, "--box", BOX, "--out", closed)
    assert code == 2
    assert "permission denied" in err


def test_same_answer_in_another_process(segment: Any, image: Path, tiny_model: Path, tmp_path: Path) -> None:
    segment(image, "--box", BOX, "--out", "here.png")
    command = [sys.executable, "-m", "samed2", "segment", str(image), "--box", BOX, "--out", "there.png"]
    command += ["--model", str(tiny_model), "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    here, there = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("here", "there"))
    assert np.array_equal(here, there)


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Return the line that follows an object through a volume of 8 slices; its journal is written after every frame."""
    from samed2.predict import journal

    monkeypatch.setattr(journal, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(journal, "SAVE_SHARE", float("inf"))
    values = np.random.default_rng(0).normal(100, 30, (40, 44, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "film.nii.gz")
    return ("film.nii.gz", "--box", "blob=8,10,30,34", "--frame", 2, "--propagate", "both", "--out", "new/res.nii.gz")


@pytest.mark.parametrize("way", ["resume", "again", "--mirror", "--neighbours=3", "finished"])
def test_a_film_goes_on_where_it_was_interrupted(
    segment: Any, film: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    from samed2.predict.tracking import Tracker

    real, seen = Tracker.step, []

    def step(self: Tracker, frame: int) -> Any:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(frame)
        return real(self, frame)

    monkeypatch.setattr(Tracker, "step", step)
    stop, place = 99, tmp_path / "new"
    assert segment(*film[:-1], "whole.nii.gz").code == 0
    assert not (tmp_path / ".samed2").exists()
    whole, stop = list(seen), 4
    seen.clear()
    code, out, err = segment(*film)
    assert (code, out) == (130, "")
    assert err.strip() == "samed2: error: interrupted after 0 of 1 cases; the same line with --resume goes on"
    assert sorted(path.name for path in (place / ".samed2" / "res.nii.gz.journal").iterdir()) == [
        "answers.jsonl", "state.safetensors"
    ]  # fmt: skip
    seen.clear()
    stop = 99
    if way == "resume":
        code, _, err = segment(*film, "--resume")
        assert (code, err, seen) == (0, "", whole[4:])
    elif way == "again":
        code, _, err = segment(*film)
        assert (code, err, seen) == (0, "", whole)
    elif way.startswith("--"):  # another method
        code, _, err = segment(*film, "--resume", way)
        assert (code, seen) == (0, whole)
        assert "starting over" in err
        return
    else:  # killed between the results and the end
        assert segment(*film, "--resume").code == 0
        (place / ".samed2" / "res.nii.gz.journal").mkdir()
        assert "skipped" in segment(*film, "--resume").out
    assert _shown(place) == ["res.nii.gz"]
    assert not list(place.glob(".samed2/*.journal"))
    found, wanted = (np.asarray(nibabel.load(p).dataobj) for p in (place / "res.nii.gz", tmp_path / "whole.nii.gz"))
    np.testing.assert_array_equal(found, wanted)
