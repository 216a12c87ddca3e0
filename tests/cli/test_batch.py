"""Batches of `samed2 segment`: what counts as a case, prompts of many, reports, --resume, failures and Ctrl-C."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from samed2.cli import batch, cases
from samed2.cli.case_prompts import FilePrompts
from samed2.errors import InputError
from samed2.predict import Predictor

BOX = "28,18,52,42"
Segment = Callable[..., Any]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small random model that can follow objects."""
    import torch

    from samed2.nn import SAMed2Model
    from samed2.nn.builders import small_config

    torch.manual_seed(0)
    config = small_config(width=8, blocks=(1, 1, 1, 1), hidden=64, image_size=64, adapter_dim=4)
    folder = tmp_path_factory.mktemp("model")
    SAMed2Model(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture
def segment(run: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segment:
    """Return a function that runs `samed2 segment ARGUMENTS...` in an empty folder with the tiny model."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Any:
        return run("segment", *arguments, "--model", tiny_model, "--device", "cpu", "--no-zoom")

    return call


def disc(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:60, :80]
    inside = (y - 30) ** 2 + (x - 40) ** 2 < 12**2
    Image.fromarray(np.where(inside, 200, 40).astype(np.uint8)).save(path)
    return path


def nifti(path: Path, frames: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(0).integers(0, 900, (40, 30, frames)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-0.5, -0.6, 3.0, 1.0])), path)
    return path


def dicom_folder(folder: Path) -> Path:
    """A series of three slices made of pydicom's own small CT."""
    import pydicom
    from pydicom.data import get_testdata_file

    folder.mkdir(parents=True)
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for index in range(3):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{index + 1}"
        dataset.InstanceNumber, dataset.ImagePositionPatient = index + 1, [-158, -179, -75 + 5 * index]
        dataset.save_as(folder / f"{index}.dcm")
    return folder


def shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_what_is_a_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("img/f10.png", "img/f9.png", "img/.hidden.png"):
        disc(tmp_path / name)
    (tmp_path / "img" / "notes.txt").write_text("x")
    dicom_folder(tmp_path / "ct" / "deep")
    (tmp_path / "img" / "list.txt").write_text("# two\n\nf9.png\nct\n")
    (tmp_path / "none").mkdir()

    def found(*arguments: str, stack: str | None = None) -> list[str]:
        return [path.as_posix() for path in cases.expand([Path(a) for a in arguments], stack)]

    assert found("img") == ["img/f9.png", "img/f10.png"]
    assert found("img", stack="video") == ["img"]
    assert found("ct", "none", "missing.png", "ct") == ["ct", "none", "missing.png"]
    assert found("@img/list.txt") == ["img/f9.png", "ct"]
    for text, words in (("", "names no case"), (None, "cannot be opened")):
        if text is not None:
            (tmp_path / "empty.txt").write_text(text)
        with pytest.raises(InputError, match=words):
            found("@empty.txt" if text is not None else "@no.txt")
    assert cases.default_format(tmp_path / "ct") == "dicom-seg"
    assert cases.default_format(tmp_path / "img") == "label-png"
    assert [cases.default_format(Path(f"a{e}")) for e in (".nii.gz", ".MHA", ".nrrd", ".mp4", ".dcm")] == [
        "nifti", "mha", "nrrd", "label-tiff", "label-png"
    ]  # fmt: skip


def test_results_of_one_name_are_told_apart_by_their_folders() -> None:
    paths = [Path(p) for p in ("/d/p1/ct.nii.gz", "/d/p2/ct.nii.gz", "/d/p2/mr.nii.gz", "/e/p1/ct.nii.gz")]
    assert [*cases.names_of(paths).values()] == ["d_p1_ct", "p2_ct", "mr", "e_p1_ct"]


def test_folders_zips_and_lists(segment: Segment, tmp_path: Path) -> None:
    dicom_folder(tmp_path / "ct")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for path in (tmp_path / "ct").iterdir():
            archive.write(path, path.name)
    nifti(tmp_path / "v" / "a.nii.gz")
    (tmp_path / "cases.txt").write_text("ct\npacked.zip\nv\n")
    code, out, err = segment("@cases.txt", "--box", "5,5,25,25", "--frame", "1", "--out", "res")
    assert (code, err) == (0, ""), err
    assert shown(tmp_path / "res") == ["a_mask.nii.gz", "ct_seg.dcm", "packed_seg.dcm"]
    assert "ct: wrote res/ct_seg.dcm" in out


def test_images_of_a_folder_as_cases_or_as_frames(segment: Segment, tmp_path: Path) -> None:
    for index in range(3):
        disc(tmp_path / "clip" / f"{index}.png")
    assert segment("clip", "--box", BOX, "--out", "each").code == 0
    assert shown(tmp_path / "each") == ["0_mask.png", "1_mask.png", "2_mask.png"]
    code, out, _ = segment(
        "clip", "--as", "video", "--box", BOX, "--frame", 0, "--propagate", "forward", "--json", "--out", "one"
    )
    assert code == 0
    assert json.loads(out)[0]["shape"] == [3, 60, 80]
    assert shown(tmp_path / "one") == ["clip_mask_0001.png", "clip_mask_0002.png", "clip_mask_0003.png"]
    result = segment(
        "clip", "--as", "volume", "--axis", 1, "--box", "0,0,20,3", "--frame", 30, "--out", "c.nii.gz", "--json"
    )
    assert json.loads(result.out)[0]["shape"] == [60, 3, 80]
    assert nibabel.load(tmp_path / "c.nii.gz").shape == (80, 60, 3)
    assert segment("clip", "--as", "film", "--box", BOX).code == 2


def test_time_points_and_bad_options_reach_the_reader(segment: Segment, tmp_path: Path) -> None:
    voxels = np.zeros((20, 16, 3, 2), np.int16)
    voxels[5:15, 5:10] = 100
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) * [2, 2, 2, 1]), tmp_path / "t.nii.gz")
    line = ("t.nii.gz", "--box", "2,2,12,12", "--frame", 1)
    assert "choose one of its 2 volumes" in segment(*line).err
    assert segment(*line, "--time", 1).code == 0
    assert "wanted 0, 1 or 2" in segment(*line, "--time", 1, "--axis", "up").err
    assert "holds one image only" in segment(*line, "--time", 1, "--series", 2).err


def test_a_box_over_slices_stays_on_them(segment: Segment, tmp_path: Path) -> None:
    nifti(tmp_path / "v.nii.gz", 8)
    both = {"objects": [{"boxes": [[5, 5, 2, 20, 20, 5]]}, {"boxes": [{"frame": 6, "box": [5, 5, 20, 20]}]}]}
    (tmp_path / "p.json").write_text(json.dumps(both))
    (result,) = json.loads(segment("v.nii.gz", "--prompts", "p.json", "--json").out)
    looked = [sorted(map(int, entry["confidence"])) for entry in result["objects"]]
    assert looked[1] == [6], "what was not asked to be followed is not"
    assert set(looked[0]) <= {2, 3, 4}
    assert 3 in looked[0]
    found = np.asarray(nibabel.load(tmp_path / "v_mask.nii.gz").dataobj)
    assert not (found[..., [0, 1, 5, 7]]).any()
    (line,) = json.loads(segment("v.nii.gz", "--box", "5,5,2,20,20,5", "--json").out)
    assert line["provenance"]["spans"] == {"1": [2, 4]}
    assert line["provenance"]["propagate"] == "both"
    (free,) = json.loads(segment("v.nii.gz", "--prompts", "p.json", "--propagate", "backward", "--json").out)
    assert max(map(int, free["objects"][1]["confidence"])) == 6
    assert set(map(int, free["objects"][0]["confidence"])) <= {2, 3}


def test_refining_a_label_map(segment: Segment, tmp_path: Path) -> None:
    path = nifti(tmp_path / "v.nii.gz")
    old = np.zeros((40, 30, 6), np.uint8)
    old[10:20, 10:20, 2:4] = 5
    nibabel.save(nibabel.Nifti1Image(old, nibabel.load(path).affine), tmp_path / "old.nii.gz")
    (result,) = json.loads(segment("v.nii.gz", "--prompts", "old.nii.gz", "--json").out)
    assert [entry["id"] for entry in result["objects"]] == [5]
    assert sorted(result["objects"][0]["confidence"]) == ["2", "3"]


def test_whose_prompts_are_whose(tmp_path: Path) -> None:
    one = {"objects": [{"points": [[1, 2]]}]}
    keys = ["a.png", "sub/b.png", "c", "ct.nii.gz", "p1/ct.nii.gz"]
    (tmp_path / "p.json").write_text(json.dumps({"images": dict.fromkeys(keys, one)}))
    given = [tmp_path / name for name in ("a.png", "sub/b.png", "c.nii.gz", "p1/ct.nii.gz", "p2/ct.nii.gz", "z.png")]
    source = FilePrompts(tmp_path / "p.json", given)
    found = {case.relative_to(tmp_path).as_posix(): key for case, key in source._keys.items()}
    assert found == {"a.png": "a.png", "sub/b.png": "sub/b.png", "c.nii.gz": "c", "p1/ct.nii.gz": "p1/ct.nii.gz"}
    for name in ("p2/ct.nii.gz", "z.png"):
        with pytest.raises(InputError, match="has no prompts for"):
            source.state(tmp_path / name)


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        disc(tmp_path / "in" / name)
    return [f"in/{name}" for name in names]


def test_the_report_and_resume(segment: Segment, three: list[str], tmp_path: Path) -> None:
    (tmp_path / "in" / "b.png").write_bytes(b"")
    line = ("in", "--box", BOX, "--out", "res", "--report", "rep/run.json")
    code, _, err = segment(*line)
    assert code == 2
    assert "b.png: is empty" in err
    assert "1 of 3 cases could not be segmented" in err
    report = json.loads((tmp_path / "rep" / "run.json").read_text())
    assert (report["format"], report["status"], report["counts"]) == ("samed2-run", "failed", {"done": 2, "failed": 1})
    assert report["model"]["weights"]
    assert report["versions"]["samed2"]
    assert report["options"]["settings"]["zoom"] is False
    done, failed, _ = report["cases"]
    assert (done["case"], done["status"], done["files"]) == ("in/a.png", "done", ["res/a_mask.png"])
    assert done["objects"][0]["area_px"] >= 0
    assert done["seconds"] > 0
    assert (failed["status"], failed["errors"][0].startswith("in/b.png: is empty")) == ("failed", True)

    disc(tmp_path / "in" / "b.png")
    before = (tmp_path / "res" / "a_mask.png").stat().st_mtime_ns
    code, out, _ = segment(*line, "--resume")
    assert code == 0
    assert [text.rpartition(": ")[2] for text in out.splitlines() if "skipped" in text] == ["made before, skipped"] * 2
    assert (tmp_path / "res" / "a_mask.png").stat().st_mtime_ns == before
    report = json.loads((tmp_path / "rep" / "run.json").read_text())
    assert (report["status"], report["counts"]) == ("done", {"skipped": 2, "done": 1})
    assert report["cases"][0]["files"] == ["res/a_mask.png"], "skipped cases are still described"


@pytest.mark.parametrize("change", ["options", "prompts", "image", "result", "formats", "note"])
def test_what_changed_is_made_again(change: str, segment: Segment, three: list[str], tmp_path: Path) -> None:
    line = ["in/a.png", "--box", BOX, "--out", "res", "--resume"]
    assert "wrote" in segment(*line).out
    if change == "options":
        line += ["--fill-holes", "3"]
    elif change == "prompts":
        line[2] = "20,18,52,42"
    elif change == "image":
        shutil.copy(tmp_path / "in" / "b.png", tmp_path / "in" / "a.png")
    elif change == "result":
        (tmp_path / "res" / "a_mask.png").unlink()
    elif change == "formats":
        line += ["--format", "json"]
    else:
        (tmp_path / "res" / ".samed2" / "a_mask.png.json").write_text("[]")
    again = segment(*line)
    assert (again.code, "wrote" in again.out) == (0, True)
    assert "skipped" in segment(*line).out


def _interrupting(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
    """Let the segmentation of one case, counted from 0, raise."""
    real, calls = Predictor.segment, []

    def wrapped(self: Predictor, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == at + 1:
            raise error
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "segment", wrapped)


def test_ctrl_c_keeps_what_is_done(
    segment: Segment, three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _interrupting(patch, 1, KeyboardInterrupt())
        code, _, err = segment(*three, "--box", BOX, "--out", "res", "--report", "run.json")
    assert code == 130
    assert err.strip() == "samed2: error: interrupted after 1 of 3 cases; the same line with --resume goes on"
    report = json.loads((tmp_path / "run.json").read_text())
    assert [case["status"] for case in report["cases"]] == ["done", "interrupted", "waiting"]
    assert report["status"] == "interrupted"
    assert shown(tmp_path / "res") == ["a_mask.png"]
    assert segment(*three, "--box", BOX, "--out", "res", "--resume").out.count("wrote") == 2


def test_a_crash_of_one_case_does_not_stop_the_others(
    segment: Segment, three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupting(monkeypatch, 1, RuntimeError("out of memory"))
    code, out, err = segment(*three, "--box", BOX, "--out", "res", "--report", "run.json")
    assert (code, out.count("wrote")) == (1, 2)
    assert "in/b.png: internal error: RuntimeError: out of memory" in err
    assert "Traceback" in json.loads((tmp_path / "run.json").read_text())["cases"][1]["traceback"]


def test_a_full_disk_stops_the_batch(
    segment: Segment, three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(*_: Any) -> None:
        raise InputError("res: no space left on the device") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(batch.outputs, "write_all", full)
    code, _, err = segment(*three, "--box", BOX, "--out", "res", "--report", "run.json")
    assert (code, err.count("no space left")) == (2, 1)
    assert [c["status"] for c in json.loads((tmp_path / "run.json").read_text())["cases"]] == [
        "failed", "waiting", "waiting"
    ]  # fmt: skip


def test_reports_that_would_overwrite_something(segment: Segment, image: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"objects": [{"points": [[40, 30]]}]}))
    (tmp_path / "other.json").write_text("{}")
    line = (image, "--prompts", "p.json", "--out", "x.png")
    assert "is a case, its prompts or its result" in segment(*line, "--report", "p.json").err
    assert "is no report of a run" in segment(*line, "--report", "other.json").err
    assert not (tmp_path / "x.png").exists()
