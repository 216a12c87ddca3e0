"""`samed2 info` with and without a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from samed2.cli import info as module
from samed2.cli.info_file import orientation
from samed2.io import Geometry


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


def test_where_a_volume_lies(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([-0.5, -0.6, 3.0, 1.0])), path)
    facts = json.loads(run("info", path, "--json").out)
    assert facts["orientation (frame, y, x)"] == "SPL"
    assert facts["centre (RAS) in mm"] == [-1.0, -1.5, 9.0]
    cut = json.loads(run("info", path, "--axis", "sagittal", "--json").out)
    assert (cut["orientation (frame, y, x)"], cut["shape (frames, rows, columns)"]) == ("LSP", [5, 7, 6])


def test_orientation_of_a_tilted_grid() -> None:
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 1], [-np.sin(turn), np.cos(turn), 0], [np.cos(turn), np.sin(turn), 0]]
    assert orientation(Geometry(affine)) == "SAR, oblique by 20.0 degrees"


def test_time_points(run: Any, fails: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7, 4), np.int16), np.eye(4) * [2, 2, 2, 1]), path)
    assert json.loads(run("info", path, "--json").out)["time points"] == "4, this is 0"
    assert json.loads(run("info", path, "--time", 3, "--json").out)["time points"] == "4, this is 3"
    assert "has 4 time points, got time 4" in fails("info", path, "--time", 4)


def test_series_are_listed(run: Any, tmp_path: Path) -> None:
    for name in ("CT_small.dcm", "MR_small.dcm"):
        shutil.copy(str(get_testdata_file(name)), tmp_path / name)
    facts = json.loads(run("info", tmp_path, "--json").out)
    assert [entry["modality"] for entry in facts["series"]] == ["CT", "MR"]
    code, out, _ = run("info", tmp_path)
    assert code == 0
    assert "choose one with --series NUMBER" in out
    assert out.count("  index ") == 2
    assert json.loads(run("info", tmp_path, "--series", 1, "--json").out)["modality"] == "mr"


def test_model_card(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text('{"image_size": 64}')
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n# Card\n")
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros((), np.float32)}, tmp_path / "model.safetensors")
    found = module._model(tmp_path)
    assert (found["parameters"], found["input_px"], found["licence"]) == (13, 64, "cc-by-nc-sa-4.0")
