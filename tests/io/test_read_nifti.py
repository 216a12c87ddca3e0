"""NIfTI: axes, affine, scaling, laziness."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samed2.errors import InputError
from samed2.io import Segmentation, SegmentedObject, read, write

RNG = np.random.default_rng(0)


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None, kind: Any = nib.Nifti1Image) -> Path:
    nib.save(kind(values, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5), (1, 1, 1), (4, 5, 1), (4, 5, 6, 1)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_frames_are_slices_of_the_last_axis(
    tmp_path: Path, suffix: str, dtype: str, shape: tuple[int, ...], kind: Any
) -> None:
    values = RNG.integers(0, 100, shape).astype(dtype)
    scan = read(save(tmp_path / f"a.b{suffix}", values, kind=kind))
    volume = values.reshape((*shape, 1)[:3] if len(shape) == 2 else shape[:3])
    assert scan.shape == (volume.shape[2], volume.shape[1], volume.shape[0])
    assert scan.name == "a.b"
    for k in reversed(range(volume.shape[2])):
        assert np.array_equal(scan.frame(k), volume[:, :, k].T)
    assert scan.dtype == np.dtype(dtype).newbyteorder("=")
    assert scan.frame(0).dtype == scan.dtype
    assert scan.kind == ("image" if scan.num_frames == 1 else "volume")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_millimetres_are_those_of_nibabel(tmp_path: Path, seed: int) -> None:
    """Oblique affines too, and they survive writing a label map."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.3, 6, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    scan = read(save(tmp_path / "a.nii", np.zeros((4, 5, 6), np.int16), affine))
    i, j, k = 3, 2, 5
    expected = (affine @ [i, j, k, 1])[:3]
    assert np.allclose(scan.geometry.to_mm([k, j, i]), expected, atol=1e-3)
    labels = np.zeros(scan.shape, np.uint8)
    labels[k, j, i] = 1
    result = Segmentation(labels, [SegmentedObject(1)], scan.geometry)
    write(result, tmp_path / "out.nii.gz", scan=scan)
    again = nib.load(tmp_path / "out.nii.gz")
    assert np.asarray(again.dataobj)[i, j, k] == 1
    assert np.allclose((again.affine @ [i, j, k, 1])[:3], expected, atol=1e-3)
    assert np.allclose(read(tmp_path / "out.nii.gz").geometry.affine, scan.geometry.affine, atol=1e-4)


def test_scaled_values(tmp_path: Path) -> None:
    values = RNG.integers(0, 1000, (4, 5, 6)).astype(np.int16)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(0.5, -100)
    image.to_filename(tmp_path / "a.nii")
    expected = np.asarray(nib.load(tmp_path / "a.nii").dataobj)
    scan = read(tmp_path / "a.nii")
    assert scan.dtype == np.float32
    assert np.allclose(scan.frame(3), expected[:, :, 3].T)


def test_colour(tmp_path: Path) -> None:
    colour = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    values = RNG.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    save(tmp_path / "a.nii.gz", values.view(colour)[..., 0])
    scan = read(tmp_path / "a.nii.gz")
    assert (scan.channels, scan.dtype) == (3, np.uint8)
    assert np.array_equal(scan.frame(2), values[:, :, 2].swapaxes(0, 1))


@pytest.mark.parametrize(
    ("codes", "zooms", "known"),
    [((0, 0), (1, 1, 1), False), ((0, 0), (1, 1, 3), True), ((1, 0), (1, 1, 1), True)],
)
def test_geometry_may_be_unknown(tmp_path: Path, codes: tuple[int, int], zooms: tuple, known: bool) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.header.set_zooms(zooms)
    image.header["qform_code"], image.header["sform_code"] = codes
    image.to_filename(tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").geometry.known is known


def test_a_useless_affine_is_left_out_with_a_warning(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    for key in ("srow_x", "srow_y", "srow_z"):
        image.header[key] = np.nan
    image.to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[280:328] = np.full(12, np.nan, "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(content))
    scan = read(tmp_path / "a.nii")
    assert not scan.geometry.known
    assert "geometry" in scan.warnings[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 5, 6, 2), np.int16), "4 dimensions"),
        (np.zeros((4, 5, 6), np.complex64), "complex64"),
        (np.zeros(7, np.int16), "dimensions"),
    ],
)
def test_refused(tmp_path: Path, values: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(save(tmp_path / "a.nii", values))


def test_cut_off_behind_gzip_is_found_at_the_frame(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", RNG.integers(0, 1000, (30, 30, 30)).astype(np.int16))
    packed = gzip.compress((tmp_path / "a.nii").read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"b\.nii\.gz"):
        read(tmp_path / "b.nii.gz").frames()


def test_reading_one_slice_does_not_read_the_rest(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", RNG.integers(0, 1000, (30, 30, 30)).astype(np.int16))
    expected = read(path).frame(0).copy()
    scan = read(path)
    with open(path, "rb+") as file:  # the file shrinks behind the reader's back
        file.truncate(352 + 30 * 30 * 2 * 3)
    assert np.array_equal(scan.frame(0), expected)
    with pytest.raises(InputError, match=r"a\.nii"):
        scan.frame(29)


@pytest.mark.needs_data
def test_real_volumes(data_dir: Path) -> None:
    for name in ("mr_hippocampus", "ct_openkbp"):
        image = sorted((data_dir / name).glob("*_image.nii.gz"))[0]
        scan, labels = read(image), read(str(image).replace("_image", "_label"))
        assert scan.shape == labels.shape
        assert np.allclose(scan.geometry.affine, labels.geometry.affine, atol=1e-3)
