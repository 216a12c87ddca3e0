"""`samed2 info` with and without a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from samed2.cli import info as module


def test_machine(run: Any) -> None:
    code, out, _ = run("info")
    assert code == 0
    assert "torch" in out
    assert "cpu" in out
    facts = json.loads(run("info", "--json").out)
    assert set(facts) == {"versions", "devices", "built-in models", "hub models"}
    assert "cpu" in facts["devices"]


def test_image(run: Any, image: Path) -> None:
    facts = json.loads(run("info", image, "--json").out)
    assert facts["shape (frames, rows, columns)"] == [1, 60, 80]
    assert facts["dtype"] == "uint8"
    assert facts["window"] == {"low": 0.0, "high": 255.0, "source": "dtype"}
    code, out, _ = run("info", image)
    assert code == 0
    assert "1 x 60 x 80" in out


def test_volume_spacing_and_window(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([0.5, 0.6, 3.0, 1.0])), path)
    facts = json.loads(run("info", path, "--modality", "ct", "--window", "lung", "--json").out)
    assert facts["shape (frames, rows, columns)"] == [7, 6, 5]
    assert facts["spacing (frame, y, x) in mm"] == pytest.approx([3.0, 0.6, 0.5])
    assert facts["window"]["source"] == "preset:lung"


def test_refused(fails: Any, image: Path, tmp_path: Path) -> None:
    assert "does not exist" in fails("info", tmp_path / "none.png")
    assert "unknown 'heart'" in fails("info", image, "--window", "heart")
    assert "without a FILE" in fails("info", "--window", "lung")


def test_model_card(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text('{"image_size": 64}')
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n# Card\n")
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros((), np.float32)}, tmp_path / "model.safetensors")
    found = module._model(tmp_path)
    assert (found["parameters"], found["input_px"], found["licence"]) == (13, 64, "cc-by-nc-sa-4.0")
