"""Folders and lists of images as frames, 4-D files by time point, and slices along another axis."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from samed2.errors import InputError
from samed2.io import Scan, read
from samed2.io.read_folder import natural
from samed2.io.slicing import AxisSource, along, stored_geometry, to_stored


def frames(folder: Path, count: int = 12, size: tuple[int, int] = (6, 8), suffix: str = ".png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"frame{index}{suffix}" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(np.full((*size, 3), index * 10, np.uint8)).save(path)
    return paths


def test_images_become_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frames(tmp_path / "clip")
    (tmp_path / "clip" / "labels.json").write_text("{}")
    (tmp_path / "clip" / ".hidden.png").write_bytes(b"x")
    scan = read(tmp_path / "clip")
    assert (scan.kind, scan.shape, scan.channels, scan.name) == ("video", (12, 6, 8), 3, "clip")
    assert [int(scan.frame(i).mean()) for i in range(12)] == [i * 10 for i in range(12)]
    assert len(scan.properties["frame_paths"]) == 12
    assert pickle.loads(pickle.dumps(scan)).frame(3).mean() == 30


def test_a_list_keeps_its_own_order(tmp_path: Path) -> None:
    paths = frames(tmp_path, 4)
    assert [int(f.mean()) for f in read([paths[2], paths[0]])] == [20, 0]
    assert read(paths[:1]).kind == "image"


def test_grey_frames_among_colour_ones_are_colour(tmp_path: Path) -> None:
    paths = frames(tmp_path, 3)
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(paths[1])
    scan = read(tmp_path)
    assert scan.channels == 3 and scan.frame(1).shape == (6, 8, 3) and scan.frame(1).min() == 77
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(paths[0])
    assert read(tmp_path).frame(0).shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((5, 8, 3), np.uint8), "frame1.png: is 5 x 8 .* frame0.png is 6 x 8; wanted frames of one size"),
        (np.zeros((6, 8), np.uint16), "of uint16"),
        (None, "frame1.png"),
    ],
)
def test_frames_that_do_not_belong_together(tmp_path: Path, picture: np.ndarray | None, words: str) -> None:
    paths = frames(tmp_path, 3)
    if picture is None:
        paths[1].write_bytes(paths[1].read_bytes()[:30])
    else:
        Image.fromarray(picture).save(paths[1])
    with pytest.raises(InputError, match=words):
        read(tmp_path).frames()


def test_natural_order() -> None:
    names = ["a10.png", "a9.png", "a1b2.png", "A2.png", "b.png"]
    assert sorted(names, key=natural) == ["a1b2.png", "A2.png", "a9.png", "a10.png", "b.png"]


def volumes(path: Path, shape: tuple[int, ...] = (7, 6, 5, 3)) -> np.ndarray:
    values = np.random.default_rng(1).integers(-900, 900, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([0.5, 0.6, 2.0, 1.0])), path)
    return values


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_by_time_point(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    values = volumes(path)
    for time in range(3):
        scan = read(path, time=time)
        np.testing.assert_array_equal(scan.frames(), values[..., time].T)
        assert (scan.properties["time"], scan.properties["time_points"]) == (time, 3)
        assert np.allclose(scan.geometry.spacing, (2, 0.6, 0.5))
    with pytest.raises(InputError, match=r"has 4 dimensions .* choose one of its 3 volumes with time 0 to 2"):
        read(path)
    with pytest.raises(InputError, match="has 3 time points, got time 3"):
        read(path, time=3)
    for time in (-1, 1.5, True, "1"):
        with pytest.raises(InputError, match="time: got"):
            read(path, time=time)  # type: ignore[arg-type]
    volumes(path, (4, 3, 2))
    assert read(path, time=0).num_frames == 2
    volumes(path, (4, 3, 2, 1))
    assert read(path).num_frames == 2
    volumes(path, (4, 3, 2, 2, 2))
    with pytest.raises(InputError, match="has 5 dimensions"):
        read(path, time=0)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nrrd_and_metaimage_by_time_point_and_component(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(1).integers(0, 99, (3, 5, 6, 7)).astype(np.int16)
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(v) for v in values]), str(tmp_path / f"t{suffix}"))
    for time in range(3):
        np.testing.assert_array_equal(read(tmp_path / f"t{suffix}", time=time).frames(), values[time])
    with pytest.raises(InputError, match="choose with time 0 to 2"):
        read(tmp_path / f"t{suffix}")
    colour = np.random.default_rng(2).integers(0, 255, (5, 6, 7, 3)).astype(np.uint8)
    for packed in (True, False):
        sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(tmp_path / f"c{suffix}"), packed)
        np.testing.assert_array_equal(read(tmp_path / f"c{suffix}").frames(), colour)
        np.testing.assert_array_equal(read(tmp_path / f"c{suffix}", time=1).frames(), colour[..., 1])


KINDS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


@pytest.mark.parametrize("kind", KINDS)
def test_nrrd_and_metaimage_of_every_type(tmp_path: Path, kind: str) -> None:
    values = (np.random.default_rng(1).normal(size=(3, 4, 5)) * 50).astype(kind)
    for suffix in (".nrrd", ".mha", ".mhd", ".nhdr"):
        for packed in (True, False):
            path = tmp_path / f"{packed}{suffix}"
            sitk.WriteImage(sitk.GetImageFromArray(values), str(path), packed)
            scan = read(path)
            assert scan.dtype == np.dtype(kind)
            np.testing.assert_array_equal(scan.frames(), values)


HEADER = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 2\nencoding: {}\nendian: {}\n{}\n"


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii", "hex"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_nrrd_encodings(tmp_path: Path, encoding: str, endian: str) -> None:
    import bz2
    import gzip

    values = np.arange(-6, 6, dtype=np.int16).reshape(2, 3, 2)
    raw = values.astype("<i2" if endian == "little" else ">i2").tobytes()
    body = {
        "raw": raw,
        "gzip": gzip.compress(raw),
        "bzip2": bz2.compress(raw),
        "ascii": " ".join(map(str, values.ravel())).encode(),
        "hex": raw.hex().encode(),
    }[encoding]
    path = tmp_path / "a.nrrd"
    path.write_bytes(HEADER.format(encoding, endian, "spacings: 0.5 0.6 2").encode() + b"\n" + body)
    scan = read(path)
    np.testing.assert_array_equal(scan.frames(), values)
    assert np.allclose(scan.geometry.spacing, (2, 0.6, 0.5))
    path.write_bytes(HEADER.format(encoding, endian, "data file: b.raw").encode())
    with pytest.raises(InputError, match=r"b\.raw', which is not there"):
        read(path)
    (tmp_path / "b.raw").write_bytes(body)
    np.testing.assert_array_equal(read(path).frames(), values)
    (tmp_path / "b.raw").write_bytes(body[: len(body) // 2])
    with pytest.raises(InputError, match=r"a\.nrrd|b\.raw"):
        read(path).frames()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("type: block", "field type"),
        ("sizes: 2 3", "field sizes"),
        ("sizes: 2 -3 2", "sizes"),
        ("sizes: 0 3 2", "no pixels"),
        ("sizes: 99999 99999 99", "claims"),
        ("dimension: 9", "field sizes"),
        ("encoding: zstd", "encoding"),
        ("space directions: (1,0,0) (0,1,0)", "space directions"),
        ("space directions: (1,0,0) (0,x,0) (0,0,1)", "where a number should be"),
        ("data file: /etc/passwd", "same folder"),
        ("data file: ../x.raw", "same folder"),
        ("data file: LIST", "several files"),
    ],
)
def test_nrrd_headers_that_cannot_be_used(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(HEADER.format("raw", "little", line).encode() + b"\n" + bytes(24))
    with pytest.raises(InputError, match=words):
        read(path).frames()


@pytest.mark.parametrize("colour", [False, True])
def test_slices_along_another_axis(colour: bool) -> None:
    values = np.random.default_rng(1).integers(0, 255, (4, 5, 6, 3) if colour else (4, 5, 6)).astype(np.uint8)
    scan = Scan.from_array(values, kind="volume")
    np.testing.assert_array_equal(along(scan, 0).frames(), values)
    np.testing.assert_array_equal(along(scan, 1).frames(), values.swapaxes(0, 1))
    np.testing.assert_array_equal(along(scan, 2).frames(), np.moveaxis(values, 2, 0))


def test_a_block_is_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samed2.io.slicing._BLOCK_BYTES", 50)
    values = np.random.default_rng(1).integers(0, 255, (4, 5, 6)).astype(np.uint8)
    for axis in (1, 2):
        scan = along(Scan.from_array(values, kind="volume"), axis)
        assert isinstance(scan.source, AxisSource) and scan.source._step == 2
        np.testing.assert_array_equal(scan.frames(), np.moveaxis(values, axis, 0))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).frame(3), np.moveaxis(values, axis, 0)[3])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_go_back_to_the_stored_grid(tmp_path: Path, axis: int) -> None:
    values = volumes(tmp_path / "a.nii", (7, 6, 5))
    stored, cut = read(tmp_path / "a.nii"), read(tmp_path / "a.nii", axis=axis)
    back = to_stored(cut.frames(), cut.properties)
    np.testing.assert_array_equal(back, values.T)
    assert stored_geometry(cut.geometry, cut.properties) == stored.geometry
    assert np.allclose(cut.geometry.to_mm([0, 0, 0]), stored.geometry.to_mm([0, 0, 0]))


def test_only_volumes_that_know_where_they_lie_are_cut_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="is one image, got axis 1"):
        read(tmp_path / "a.png", axis=1)
    with pytest.raises(InputError, match="does not say how it lies"):
        along(Scan.from_array(np.zeros((3, 4, 5)), kind="volume"), "coronal")
    assert read(tmp_path / "a.png", axis=0).num_frames == 1
