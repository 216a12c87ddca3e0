"""Results on disk: what was written is what is read, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.io import dicom_made

from samed2.errors import InputError
from samed2.io import (
    WRITERS,
    Geometry,
    Scan,
    Segmentation,
    SegmentedObject,
    Window,
    palette_color,
    read,
    write,
    write_dicom_seg,
    write_geojson,
    write_itk,
    write_measures,
    write_mesh,
    write_overlay,
    write_rtstruct,
    write_tiff,
    write_video,
)

# importing registers them
assert all((write_dicom_seg, write_geojson, write_itk, write_measures, write_mesh))
assert all((write_rtstruct, write_tiff, write_video))

NAMES = {
    "label-png": "a.png",
    "label-tiff": "a.tif",
    "overlay": "a_overlay.png",
    "overlay-video": "a.mp4",
    "nifti": "a.nii.gz",
    "nrrd": "a.nrrd",
    "mha": "a.mha",
    "json": "a.json",
    "measures": "a_measures.json",
    "geojson": "a.geojson",
    "stl": "a.stl",
    "obj": "a.obj",
    "dicom-seg": "a.dcm",
    "rtstruct": "a_rtstruct.dcm",
}
SEVERAL = ("label-png", "stl")
ODD = "Läsion {x} 'q' & #1 %20"  # a name that shells and encodings trip over


def make(frames: int = 1, ids: tuple[int, ...] = (1, 2), geometry: Geometry | None = None) -> tuple[Segmentation, Scan]:
    labels = np.zeros((frames, 20, 30), np.uint16 if max(ids) > 255 else np.uint8)
    for index, value in enumerate(ids):
        labels[:, 2 + 5 * index : 6 + 5 * index, 3:17] = value
    geometry = geometry or Geometry.unknown()
    scan = Scan.from_array(np.arange(labels.size, dtype=np.int16).reshape(labels.shape), geometry=geometry)
    objects = [SegmentedObject(value, f"thing {value}", confidence={0: 0.8}) for value in ids]
    return Segmentation(labels, objects, geometry, {"model": "test"}, "scan"), scan


def make_for(name: str, folder: Path, frames: int = 3) -> tuple[Segmentation, Scan]:
    """As `make`, on a DICOM series for the formats that need one."""
    if name not in ("dicom-seg", "rtstruct"):
        return make(frames)
    dicom_made.write_series(folder, frames)
    scan = read(folder)
    labels = np.zeros(scan.shape, np.uint8)
    labels[:, 2:6, 3:7], labels[:, 6:9, 3:7] = 1, 2
    return Segmentation(labels, [SegmentedObject(1), SegmentedObject(2)], scan.geometry), scan


def test_every_writer_has_a_row() -> None:
    assert set(NAMES) == set(WRITERS)


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("say", [True, False])
def test_formats_by_name_and_by_suffix(tmp_path: Path, name: str, frames: int, say: bool) -> None:
    result, scan = make_for(name, tmp_path / "in", frames)
    (tmp_path / "out").mkdir()
    written = write(result, tmp_path / "out" / NAMES[name], name if say else None, scan=scan)
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert len(written) == {"label-png": frames, "stl": 2}.get(name, 1)


@pytest.mark.parametrize("name", list(NAMES))
def test_odd_names_of_files_and_objects(tmp_path: Path, name: str) -> None:
    result, scan = make_for(name, tmp_path / "in")
    for entry, text in zip(result.objects, (ODD + '\n,"', "../../etc/passwd"), strict=True):
        entry.name = text
    folder = tmp_path / ODD
    folder.mkdir()
    written = write(result, folder / f"{ODD}{NAMES[name]}", scan=scan)
    assert sorted(written) == sorted(folder.iterdir())
    assert all(path.stat().st_size for path in written)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({ODD, *(["in"] if "dcm" in NAMES[name] else [])})


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("how", ["missing", "folder", "file"])
def test_places_that_cannot_be_written(tmp_path: Path, name: str, how: str) -> None:
    result, scan = make_for(name, tmp_path / "in")
    if name == "stl":  # one object: its file has the very name
        result = Segmentation(result.labels // 2, [SegmentedObject(1)], result.geometry)
    target = tmp_path / {"missing": "x", "folder": "", "file": "f"}[how] / NAMES[name]
    if how == "file":
        (tmp_path / "f").write_text("x")
    if how == "folder":
        for path in [target, *(tmp_path / f"a_{i:04d}.png" for i in range(1, 4))]:
            path.mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"does not exist|is a folder|Not a directory|is not") as caught:
        write(result, target, name, scan=scan)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", list(NAMES))
def test_an_interrupt_leaves_the_older_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result, scan = make_for(name, tmp_path / "in")
    (tmp_path / "out").mkdir()
    old = {path: path.read_bytes() for path in write(result, tmp_path / "out" / NAMES[name], name, scan=scan)}

    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write(result, tmp_path / "out" / NAMES[name], name, scan=scan)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == old


def test_several_files_come_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up between the renaming of one file and the next."""
    result, _ = make(4)
    replace, calls = os.replace, iter(range(100))

    def fail(source: Any, target: Any) -> None:
        if next(calls) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="no space left"):
        write(result, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_older_files_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    result, _ = make(4)
    write(Segmentation(result.labels[:2], result.objects), tmp_path / "a.png")
    (tmp_path / "a_0001.png").write_bytes(b"older")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    replace, calls = os.replace, iter(range(100))

    def fail(source: Any, target: Any) -> None:
        if next(calls) == 3:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((InputError, KeyboardInterrupt)):
        write(result, tmp_path / "a.png")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(result, tmp_path / "a.png")
    assert len(list(tmp_path.iterdir())) == 4 and (tmp_path / "a_0001.png").read_bytes() != b"older"


def test_a_long_scan_needs_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # 2,000 of them take a while on some disks
    labels = np.zeros((2000, 4, 5), np.uint8)
    labels[:, 1, 2] = np.arange(2000) % 3
    result = Segmentation(labels, [SegmentedObject(1), SegmentedObject(2)])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 16, limits[1]))
    try:
        written = write(result, tmp_path / "x.png")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sorted(tmp_path.iterdir()) == written and (written[0].name, len(written)) == ("x_0001.png", 2000)
    with Image.open(written[1501]) as image:
        assert np.array_equal(np.asarray(image), labels[1501])


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("ids", [(1, 2), (1, 255), (3, 300)])
def test_label_png(tmp_path: Path, frames: int, ids: tuple[int, ...]) -> None:
    result, _ = make(frames, ids)
    written = write(result, tmp_path / "x.png")
    names = [f"x_{i:04d}.png" for i in range(1, frames + 1)] if frames > 1 else ["x.png"]
    assert [path.name for path in written] == names
    for index, path in enumerate(written):
        with Image.open(path) as image:
            assert image.mode == ("P" if max(ids) <= 255 else "I;16")
            assert np.array_equal(np.asarray(image), result.labels[index])
            if image.mode == "P":
                palette = np.array(image.getpalette()).reshape(-1, 3)
                assert tuple(palette[ids[0]]) == palette_color(ids[0])
        assert np.array_equal(
            read(path).frame(0).any(axis=-1) if max(ids) <= 255 else read(path).frame(0) > 0,
            result.labels[index] > 0,
        )


def test_label_png_takes_the_objects_colours(tmp_path: Path) -> None:
    result, _ = make()
    result.objects[0].color = (9, 8, 7)
    (path,) = write(result, tmp_path / "x.png")
    assert read(path).frame(0)[3, 5].tolist() == [9, 8, 7]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("geometry", [None, Geometry.from_spacing((5, 0.5, 0.4), (7, 8, 9))])
def test_nifti(tmp_path: Path, suffix: str, geometry: Geometry | None) -> None:
    result, scan = make(3, (1, 300), geometry)
    (path,) = write(result, tmp_path / f"x{suffix}", scan=scan)
    image = nib.load(path)
    assert image.get_data_dtype() == np.uint16
    assert np.array_equal(np.asarray(image.dataobj), result.labels.transpose(2, 1, 0))
    again = read(path)
    assert np.array_equal(again.frames(), result.labels)
    if geometry is None:  # shown upright: columns to the left, rows to the back
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    else:
        assert np.allclose(again.geometry.affine, geometry.affine)
        assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 4)])
def test_nifti_keeps_what_the_source_said(tmp_path: Path, codes: tuple[int, int]) -> None:
    source = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    affine = np.array([[0, -2, 0, 10], [1.5, 0, 0, 20], [0, 0, 3, -5], [0, 0, 0, 1.0]])
    if any(codes):
        source.set_qform(affine, code=codes[0])
        source.set_sform(affine, code=codes[1])
    source.to_filename(tmp_path / "in.nii")
    scan = read(tmp_path / "in.nii")
    result = Segmentation(np.zeros(scan.shape, np.uint8), [], scan.geometry)
    write(result, tmp_path / "out.nii", scan=scan)
    first, second = nib.load(tmp_path / "in.nii"), nib.load(tmp_path / "out.nii")
    assert np.allclose(first.affine, second.affine)
    assert bool(int(second.header["sform_code"]) or int(second.header["qform_code"])) == any(codes)


def test_nifti_of_a_very_long_side(tmp_path: Path) -> None:
    result = Segmentation(np.zeros((1, 1, 40_000), np.uint8), [])
    (path,) = write(result, tmp_path / "x.nii.gz")
    assert read(path).shape == (1, 1, 40_000)


def test_json(tmp_path: Path) -> None:
    result, _ = make()
    result.objects[0].name = "Läsion"
    (path,) = write(result, tmp_path / "x.json")
    assert json.loads(path.read_text(encoding="utf-8")) == result.to_dict()
    assert "Läsion" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("frames", [1, 3, 4, 20])
@pytest.mark.parametrize("colour", [False, True])
def test_overlay(tmp_path: Path, frames: int, colour: bool) -> None:
    result, scan = make(frames)
    if colour:
        scan = Scan.from_array(np.zeros((*result.labels.shape, 3), np.uint8))
    (path,) = write(result, tmp_path / "x.png", "overlay", scan=scan, window=Window(-1e6, 1e6))
    picture = read(path)
    assert picture.channels == 3
    pixels = picture.frame(0).reshape(-1, 3).astype(int)
    for entry in result.objects:  # outlines and the legend's swatch show the colour itself
        assert (abs(pixels - np.array(entry.color)).max(axis=1) <= 2).sum() > 100


def test_overlay_lies_where_the_object_is(tmp_path: Path) -> None:
    labels = np.zeros((100, 200), np.uint8)
    labels[60:90, 20:70] = 1
    scan = Scan.from_array(np.zeros((100, 200), np.uint8))
    (path,) = write(Segmentation(labels, [SegmentedObject(1)]), tmp_path / "x_overlay.png", scan=scan)
    pixels = read(path).frame(0)
    scale = 768 / 200
    shown = pixels[: int(100 * scale)].max(axis=-1) > 20
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert np.allclose([rows[0], rows[-1], columns[0], columns[-1]], np.array([60, 90, 20, 70]) * scale, atol=6)
    assert shown[int(75 * scale), int(45 * scale)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 900), (1, 900, 1), (2, 3, 2500), (1, 2, 2)])
@pytest.mark.parametrize("full", [True, False])
def test_overlay_of_odd_shapes(tmp_path: Path, shape: tuple[int, int, int], full: bool) -> None:
    labels = np.full(shape, int(full), np.uint8)
    values = np.full(shape, np.nan, np.float32)
    values[0, 0, 0] = np.inf
    entry = SegmentedObject(1, "a name \n of two lines " * 20, confidence={0: float("nan")})
    write(Segmentation(labels, [entry]), tmp_path / "x.png", "overlay", scan=Scan.from_array(values))


@pytest.mark.parametrize(
    ("spans", "frames"),
    [
        ({1: range(20, 31)}, [20, 22, 24, 26, 28, 30]),
        ({1: range(9, 16)}, [9, 10, 11, 13, 14, 15]),
        ({1: range(3)}, [0, 1, 2]),
        ({}, [50]),
        ({1: range(101), 2: range(47, 48)}, [0, 20, 47, 60, 80, 100]),
        ({1: range(10), 2: range(90, 100)}, [0, 4, 8, 91, 95, 99]),
        ({value: range(10 * value, 10 * value + 1) for value in range(1, 10)}, [10, 30, 40, 60, 70, 90]),
    ],
    ids=["even", "nearly all", "few", "nothing", "a small one", "apart", "more than fit"],
)
def test_overlay_frames_are_spread_over_what_was_found(spans: dict[int, range], frames: list[int]) -> None:
    labels = np.zeros((101, 6, 20), np.uint8)
    for value, span in spans.items():
        labels[span.start : span.stop, :5, value] = value
    result = Segmentation(labels, [SegmentedObject(value) for value in spans])
    assert write_overlay.choose_frames(result) == frames


def test_overlay_with_many_objects(tmp_path: Path) -> None:
    labels = np.arange(1, 61, dtype=np.uint8).repeat(40).reshape(1, 60, 40)
    result = Segmentation(labels, [SegmentedObject(i, f"structure {i}") for i in range(1, 61)])
    (path,) = write(result, tmp_path / "x.png", "overlay", scan=Scan.from_array(np.zeros((60, 40), np.uint8)))
    assert read(path).height < 2500


def test_overlay_shows_pixels_in_true_proportion(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((1, 2, 1))
    result, scan = make(1, (1,), geometry)
    (path,) = write(result, tmp_path / "x.png", "overlay", scan=scan)
    picture = read(path)  # 20 rows of 2 mm, 30 columns of 1 mm: higher than wide
    assert picture.height > picture.width


@pytest.mark.parametrize("name", list(NAMES))
def test_a_full_disk_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result, scan = make_for(name, tmp_path / "in")
    before = sorted(tmp_path.iterdir())
    calls = iter(range(100))

    def fail(source: Any, target: Any) -> None:
        if next(calls) >= (1 if name in SEVERAL else 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="no space left"):
        write(result, tmp_path / NAMES[name], name, scan=scan)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("a.xyz", {}, r"a\.xyz: unknown ending, wanted one of \.png"),
        ("a", {}, "unknown ending"),
        ("a.png", {"format": "gif"}, "unknown 'gif', wanted one of label-png"),
        ("a.png", {"format": "nifti"}, r"nifti files end with \.nii or \.nii\.gz"),
        ("a.jpg", {"format": "label-png"}, r"label-png files end with \.png"),
        ("missing/a.png", {}, "does not exist"),
        ("a.png", {"format": "overlay"}, "needs the scan"),
        ("a.png", {"format": "overlay", "scan": Scan.from_array(np.zeros((3, 3)))}, r"shape \(1, 3, 3\)"),
        ("a_overlay.png", {"scan": make()[1], "window": "no such"}, "unknown 'no such'"),
    ],
)
def test_refused(tmp_path: Path, target: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write(make()[0], tmp_path / target, **options)
    assert list(tmp_path.iterdir()) == []
