"""DICOM series and multi-frame files: order, place, oddities, choice, values."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from tests.io.dicom_made import (
    AXES,
    COLUMNS,
    ROWS,
    SPACING,
    cine,
    enhanced,
    pixels,
    position,
    write_series,
)

from samed2.errors import InputError
from samed2.io import list_series, read


def place(scan: Any, frame: int) -> np.ndarray:
    """LPS+ mm of a frame's first pixel by the affine."""
    return scan.geometry.to_mm([frame, 0, 0]) * (-1, -1, 1)


def test_slices_are_sorted_by_place_and_lie_where_an_independent_reader_puts_them(tmp_path: Path) -> None:
    paths = write_series(tmp_path, [3, 0, 4, 1, 2])
    scan = read(tmp_path)
    order = [1, 3, 4, 0, 2]
    assert (scan.kind, scan.modality, scan.shape, scan.warnings) == ("volume", "ct", (5, ROWS, COLUMNS), [])
    np.testing.assert_array_equal(scan.frames(), pixels(5)[order].astype(int) - 1024)
    assert scan.dtype == np.int16
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(paths[i]) for i in order])
    theirs = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), scan.frames())
    for voxel in [(0, 0, 0), (4, 9, 13), (2, 3, 5)]:
        point = np.array(theirs.TransformContinuousIndexToPhysicalPoint([float(v) for v in voxel[::-1]]))
        assert np.allclose(scan.geometry.to_mm(voxel), point * (-1, -1, 1), atol=1e-4)
    facts = scan.properties
    assert facts["series_paths"] == [str(paths[i]) for i in order]
    assert facts["sop_instance_uids"] == [pydicom.dcmread(paths[i]).SOPInstanceUID for i in order]
    assert (facts["FrameOfReferenceUID"], facts["SeriesInstanceUID"]) == ("1.2.3.9", "1.2.3.4.5")
    assert facts["evenly_spaced"] is True
    json.dumps(facts)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).frame(2), scan.frame(2))


SHEAR = np.array([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("places", "fields", "words", "even"),
    [
        ([0, 1, 2, 4, 5], {}, ["1 slices are missing; the first gap of 5 mm", "make 2 even runs"], False),
        ([0, 1, 2, 3, 7], {}, ["3 slices are missing", "make 2 even runs"], False),
        ([0, 1, 2, 3.4, 6, 7.8], {}, ["not evenly spaced", "0:1 (2 slices every 6.5 mm)"], False),
        ([0, 1, 1, 2, 3], {}, ["1 slices lie where another lies already"], True),
        ([0, 1, 2], {"SliceThickness": lambda i: 2 + (i > 1)}, ["thickness changes: 2 mm (2 slices), 3 mm"], True),
        ([0, 1, 2, 3], {"step": SHEAR}, ["tilted by 26.6 degrees"], True),
        ([0, 1.02, 1.99, 3.01], {}, [], True),
    ],
    ids=["gap", "wide gap", "uneven", "twice", "thickness", "tilt", "jitter"],
)
def test_oddities_are_told_and_the_places_are_kept(
    tmp_path: Path, places: list[float], fields: dict[str, Any], words: list[str], even: bool
) -> None:
    write_series(tmp_path, places, **fields)
    scan = read(tmp_path)
    assert len(scan.warnings) == len(words)
    for word, warning in zip(words, scan.warnings, strict=True):
        assert word in warning and warning.startswith(str(tmp_path)) and warning.isprintable()
    kept = sorted(set(places))
    truth = np.array([position(one, step=fields.get("step")) for one in kept])
    assert np.allclose(scan.properties["frame_positions_lps"], truth)
    assert scan.properties["evenly_spaced"] is even
    assert np.allclose(place(scan, 0), truth[0], atol=1e-6)
    assert np.allclose(place(scan, len(kept) - 1), truth[-1], atol=1e-6)
    if even:
        assert all(np.allclose(place(scan, i), truth[i], atol=0.1) for i in range(len(kept)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"axes": lambda i: AXES if i else ((1, 0, 0), (0, 0, -1))}, "different directions"),
        ({"PixelSpacing": lambda i: [0.8, 0.6] if i else [0.5, 0.5]}, "different directions or spacings"),
        ({"values": lambda i: pixels(1)[0] if i else np.zeros((6, 5), np.uint16)}, "different sizes"),
        ({"ImagePositionPatient": lambda i: position(i) if i else None}, "some without a place"),
    ],
    ids=["direction", "spacing", "size", "no place"],
)
def test_mixed_slices_are_refused_with_a_way_out(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    write_series(tmp_path, 5, **fields)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path)
    assert "choose one by number or UID" in str(caught.value)
    counts = {one.index: len(one.slices) for one in list_series(tmp_path)}
    assert sorted(counts.values()) == [1, 4]
    for index, count in counts.items():
        assert read(tmp_path, series=index).num_frames == count
    part = list_series(tmp_path)[1]
    assert read(tmp_path, series=part.id).num_frames == len(part.slices)


def test_several_series_are_listed_and_chosen(tmp_path: Path) -> None:
    for index in range(3):
        uid = f"1.2.3.{index + 4}77"
        write_series(tmp_path / f"s{index}", 2 + index, SeriesInstanceUID=uid, SeriesDescription=f"Phase {index}")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="holds 3 series; choose one") as caught:
        read(tmp_path)
    assert '1: CT "Phase 1" 3 x 10 x 14 (1.2.3.577)' in str(caught.value)
    assert [one.to_dict()["images"] for one in list_series(tmp_path)] == [2, 3, 4]
    for key in (1, "1", "1.2.3.577", ".577"):
        assert read(tmp_path, series=key).num_frames == 3
    for key in (3, -1, "9.9", "77", ""):
        with pytest.raises(InputError, match=r"has no series|fits 3"):
            read(tmp_path, series=key)


def test_dose_and_other_objects_beside_the_only_image_series_do_not_matter(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    write_series(tmp_path, 3)
    for name in ("rtdose.dcm", "rtstruct.dcm", "rtplan.dcm"):
        (tmp_path / name).write_bytes(Path(str(get_testdata_file(name, download=False))).read_bytes())
    assert read(tmp_path).shape == (3, ROWS, COLUMNS)
    dose = read(tmp_path / "rtdose.dcm")
    assert dose.shape == (15, 10, 10) and np.allclose(dose.geometry.spacing[1:], 10)
    assert dose.geometry.known and dose.warnings == []


def test_a_damaged_file_is_told_and_left_out_or_named_when_its_pixels_are_wanted(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 4)
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[:-60])
    with pytest.raises(InputError, match=paths[2].name):
        read(tmp_path).frames()
    paths[2].write_bytes(content[:200])
    scan = read(tmp_path)
    assert scan.num_frames == 3 and len(scan.warnings) == 3
    assert "1 files cannot be read and are left out" in scan.warnings[0] and "1 slices are missing" in scan.warnings[1]


@pytest.mark.parametrize("slope", [lambda i: 1 + i, lambda i: 0.5 + i], ids=["whole", "real"])
def test_each_slice_has_its_own_rescale(tmp_path: Path, slope: Any) -> None:
    write_series(tmp_path, 4, RescaleSlope=slope, RescaleIntercept=lambda i: 10 * i)
    scan = read(tmp_path)
    truth = np.stack([frame * slope(i) + 10 * i for i, frame in enumerate(pixels(4).astype(float))])
    np.testing.assert_allclose(scan.frames(), truth, rtol=1e-6)
    assert scan.dtype == (np.uint16 if float(slope(0)).is_integer() else np.float32)


def test_monochrome1_is_turned_round_with_its_window(tmp_path: Path) -> None:
    window = {"WindowCenter": 40, "WindowWidth": 400}
    write_series(tmp_path, 3, PhotometricInterpretation="MONOCHROME1", **window)
    scan = read(tmp_path)
    np.testing.assert_array_equal(scan.frames(), 4095 - 1024 - pixels(3).astype(int) + 0)
    assert scan.file_window == (4095 - 2048 - 40, 400)


def test_time_points_must_be_chosen(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 1, 2, 0, 1, 2], TriggerTime=lambda i: 100 * (i // 3), SeriesNumber=1)
    with pytest.raises(InputError, match=r"2 images at each of its 3 places .* choose with time 0 to 1"):
        read(tmp_path)
    for time in (0, 1):
        np.testing.assert_array_equal(
            read(tmp_path, time=time).frames(), pixels(6)[3 * time : 3 * time + 3].astype(int) - 1024
        )
    with pytest.raises(InputError, match="has 2 time points, got time 2"):
        read(tmp_path, time=2)


def test_files_that_are_there_twice_are_no_time_points(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "a", 3):
        (tmp_path / "a" / f"copy {path.name}").write_bytes(path.read_bytes())
    scan = read(tmp_path)
    assert scan.num_frames == 3 and "3 slices lie where another lies already" in scan.warnings[0]


def test_images_at_one_place_follow_each_other_in_time(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 0, 0, 0], TriggerTime=lambda i: 50 * i)
    scan = read(tmp_path)
    assert (scan.kind, scan.num_frames) == ("video", 4)
    np.testing.assert_array_equal(scan.frames(), pixels(4).astype(int) - 1024)
    assert np.allclose(scan.geometry.spacing[1:], SPACING)


def test_images_without_a_place_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_series(tmp_path, 4, ImagePositionPatient=None, InstanceNumber=lambda i: 4 - i)
    scan = read(tmp_path)
    np.testing.assert_array_equal(scan.frame(0), pixels(4)[3].astype(int) - 1024)
    assert "order of their numbers" in scan.warnings[0]
    assert np.allclose(scan.geometry.spacing, (1, *SPACING))


def test_an_archive_a_list_and_a_nested_folder_hold_the_same_series(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "deep/er", 4)
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"PAT/{path.name}")
        archive.writestr("readme.txt", "nothing")
    truth = read(tmp_path / "deep").frames()
    for scan in (read(tmp_path / "s.zip"), read(paths[::-1]), read([str(path) for path in paths])):
        np.testing.assert_array_equal(scan.frames(), truth)
        assert scan.geometry == read(tmp_path / "deep").geometry
    assert read(tmp_path / "s.zip").properties["series_members"][0].startswith("PAT/")
    assert len(list_series(tmp_path / "s.zip")) == 1
    assert read(paths[:1]).num_frames == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "folder without DICOM files or images"),
        (lambda root: (root / "a.txt").write_text("x"), "folder without DICOM files or images"),
        (lambda root: enhanced(root / "m.dcm", [0, 1], NumberOfFrames=4), "has 4 frames but describes 2"),
        (lambda root: cine(root / "m.dcm", 3, NumberOfFrames=900_000), "claims 900000 frames"),
        (lambda root: cine(root / "m.dcm", 3, NumberOfFrames=50), "cut off or forged"),
        (lambda root: write_series(root, 2, Rows=60_000, Columns=60_000), "pixels"),
    ],
    ids=["empty", "text", "too few groups", "many frames", "more frames", "gigabytes"],
)
def test_folders_that_cannot_be_read(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path).frames()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    paths = write_series(tmp_path, 2)
    (tmp_path / "a.txt").write_text("x")
    for given, words in (
        ([], "empty list"),
        ([*paths, tmp_path / "gone.dcm"], "does not exist"),
        ([*paths, tmp_path / "a.txt"], "is not DICOM as others"),
    ):
        with pytest.raises(InputError, match=words):
            read(given)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"PK\x03\x04" + b"x" * 50, "not a usable zip"), (None, "without DICOM")],
)
def test_archives_that_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr("a.txt", "x")
    else:
        (tmp_path / "s.zip").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "s.zip")


@pytest.mark.needs_data
def test_the_real_head_changes_thickness_and_is_tilted(data_dir: Path) -> None:
    scan = read(data_dir / "dicom/ct_head/GE")
    assert (scan.shape, scan.modality, scan.dtype) == ((16, 512, 512), "ct", np.int16)
    told = " ".join(scan.warnings)
    for words in ("4.22 mm (7 times), 7.38 mm (7 times)", "tilted by 18.5 degrees", "4 mm (8 slices), 7 mm (8 slices)"):
        assert words in told
    assert np.allclose(np.array(scan.properties["frame_positions_lps"])[[0, 15], 2], (31.1560586, 113.4960586))
    assert scan.geometry.skew == pytest.approx(18.5, abs=0.1)


@pytest.mark.needs_data
def test_the_real_wrist_lies_where_simpleitk_puts_it(data_dir: Path) -> None:
    scan = read(data_dir / "dicom/mr_wrist")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(scan.properties["series_paths"])
    theirs = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), scan.frames())
    point = np.array(theirs.TransformContinuousIndexToPhysicalPoint([200.0, 100.0, 15.0]))
    assert np.allclose(scan.geometry.to_mm([15, 100, 200]), point * (-1, -1, 1), atol=1e-3)
