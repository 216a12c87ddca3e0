"""Names of result files, and what is refused before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from samed2.cli import outputs
from samed2.errors import InputError


@pytest.mark.parametrize(
    "image, out, images, formats, overlay, expected",
    [
        ("in/a.png", None, 1, ["label-png"], False, [("label-png", "a_mask.png")]),
        (
            "in/a.png",
            None,
            1,
            ["label-png"],
            True,
            [("label-png", "a_mask.png"), ("overlay", "a_overlay.png")],
        ),
        ("in/a.nii.gz", "res", 1, ["nifti"], False, [("nifti", "res/a_mask.nii.gz")]),
        ("in/a.b.dcm", "res", 2, ["json", "json"], False, [("json", "res/a.b.json")]),
        ("in/a.png", "res.d/", 1, ["json"], False, [("json", "res.d/a.json")]),
        ("in/a.png", "x/y.nii.gz", 1, [], True, [("", "x/y.nii.gz"), ("overlay", "x/y_overlay.png")]),
        ("in/a.png", "y.dat", 1, ["json"], False, [("json", "y.dat")]),
        ("in/a.png", "y.png", 2, ["json"], False, [("json", "y.png/a.json")]),
    ],
)
def test_names(
    image: str,
    out: str | None,
    images: int,
    formats: list[str],
    overlay: bool,
    expected: list[tuple[str, str]],
) -> None:
    found = outputs.plan(Path(image), out, images, formats, overlay)
    assert [(name, path.as_posix()) for name, path in found] == expected


def test_refused(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    with pytest.raises(InputError, match="--format tga: unknown, wanted one of label-png"):
        outputs.plan(image, None, 1, ["tga"], False)
    with pytest.raises(InputError, match="one file for 2 formats"):
        outputs.plan(image, "x.png", 1, ["json", "nifti"], False)
    with pytest.raises(InputError, match="is the image itself"):
        outputs.plan(image, str(image), 1, ["label-png"], False)
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(InputError, match="cannot be a folder"):
        outputs.check({image: [("json", blocked / "deep" / "a.json")]})
    with pytest.raises(InputError, match="ends for --format json in"):
        outputs.check({image: [("json", tmp_path / "a.dat")]})
    with pytest.raises(InputError, match="wanted a name that ends in"):
        outputs.check({image: [("", tmp_path / "a.dat")]})
    twins = {tmp_path / d / "a.png": [("json", tmp_path / "a.json")] for d in ("x", "y")}
    with pytest.raises(InputError, match="would both be written"):
        outputs.check(twins)


def test_results_of_folders_and_of_given_names(tmp_path: Path) -> None:
    folder = tmp_path / "scan.1"
    folder.mkdir()
    assert outputs.stem(folder) == "scan.1"
    assert outputs.plan(folder, "res", 2, ["json"], False) == [("json", Path("res/scan.1.json"))]
    assert outputs.plan(folder, "res", 2, ["json"], False, "p1_scan") == [("json", Path("res/p1_scan.json"))]


def test_objects_in_brief() -> None:
    entry = {"id": 1, "name": "a", "area_px": 9, "area_mm2": None, "volume_ml": 0.1}
    known = {**entry, "present": {"9": True, "10": True, "11": False}, "confidence": {"9": 0.5, "10": 0.7, "11": 0.1}}
    unseen = {**entry, "present": {}, "confidence": {}}
    found = outputs.brief({"objects": [known, unseen]})
    assert found == [{**entry, "frames": [9, 10], "confidence": 0.6}, {**entry, "frames": None, "confidence": None}]


def test_an_existing_folder_with_a_dot(tmp_path: Path) -> None:
    (tmp_path / "run.1").mkdir()
    assert outputs.is_folder(str(tmp_path / "run.1"), 1)
    assert not outputs.is_folder(str(tmp_path / "run.2"), 1)
