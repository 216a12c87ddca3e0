"""Every reader puts an object where an independent one puts it: all 48 axis orders and flips, and oblique grids."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from samed2.errors import InputError
from samed2.io import Segmentation, SegmentedObject, read, write

SHAPE = (9, 7, 5)  # x, y, z of the file
OBJECT = (slice(5, 8), slice(1, 4), slice(3, 5))
SPACING = np.array([0.7, 1.1, 2.3])
ORIGIN = np.array([-31.0, 17.5, 220.25])
ORDERS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def oblique(seed: int) -> np.ndarray:
    """Directions turned at random; half of them left-handed."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turn if seed % 2 else turn * (-1, 1, 1)


DIRECTIONS = [np.eye(3)[:, list(order)] * signs for order, signs in ORDERS] + [oblique(seed) for seed in range(8)]


def volume() -> np.ndarray:
    values = np.zeros(SHAPE, np.int16)
    values[OBJECT] = 100
    return values


def ras(direction: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * SPACING, ORIGIN
    return affine


def truth(direction: np.ndarray) -> np.ndarray:
    """RAS+ mm of the object's centre."""
    centre = np.argwhere(volume()).mean(axis=0)
    return ras(direction)[:3] @ (*centre, 1.0)


def centroid(scan: object) -> np.ndarray:
    frames = scan.frames()  # type: ignore[attr-defined]
    return scan.geometry.to_mm(np.argwhere(frames > 0).mean(axis=0))  # type: ignore[attr-defined]


def itk_centroid(path: Path) -> np.ndarray:
    """RAS+ mm, by SimpleITK."""
    image = sitk.ReadImage(str(path))
    index = np.argwhere(sitk.GetArrayFromImage(image) > 0).mean(axis=0)[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint([float(v) for v in index])) * (-1, -1, 1)


def itk_image(direction: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(volume().T)
    image.SetSpacing(SPACING.tolist())
    image.SetDirection((np.diag([-1, -1, 1]) @ direction).ravel().tolist())
    image.SetOrigin((ORIGIN * (-1, -1, 1)).tolist())
    return image


def test_all_orders_are_there() -> None:
    assert len({tuple(d.ravel()) for d in DIRECTIONS[:48]}) == 48
    assert sum(np.linalg.det(d) < 0 for d in DIRECTIONS) >= 24


@pytest.mark.parametrize("index", range(len(DIRECTIONS)))
def test_nifti_in_and_out(tmp_path: Path, index: int) -> None:
    """What nibabel wrote is read here, its mask written here and read by SimpleITK."""
    direction = DIRECTIONS[index]
    nib.save(nib.Nifti1Image(volume(), ras(direction)), tmp_path / "a.nii")
    for axis in (0, 1, 2):
        assert np.allclose(centroid(read(tmp_path / "a.nii", axis=axis)), truth(direction), atol=1e-3)
    scan = read(tmp_path / "a.nii")
    assert scan.warnings == []
    made = Segmentation((scan.frames() > 0).astype(np.uint8), [SegmentedObject(1)], scan.geometry)
    write(made, tmp_path / "m.nii.gz", scan=scan)
    assert np.allclose(itk_centroid(tmp_path / "m.nii.gz"), truth(direction), atol=1e-3)
    assert np.allclose(itk_centroid(tmp_path / "a.nii"), truth(direction), atol=1e-3)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
def test_nrrd_and_metaimage_by_simpleitk(tmp_path: Path, suffix: str) -> None:
    for index, direction in enumerate(DIRECTIONS):
        path = tmp_path / f"{index}{suffix}"
        sitk.WriteImage(itk_image(direction), str(path), useCompression=index % 2 == 0)
        scan = read(path)
        np.testing.assert_array_equal(scan.frames(), volume().T)
        assert np.allclose(centroid(scan), truth(direction), atol=1e-3)
        assert np.allclose(itk_centroid(path), truth(direction), atol=1e-3)


def test_nifti_by_simpleitk(tmp_path: Path) -> None:
    for index, direction in enumerate(DIRECTIONS):
        path = tmp_path / f"{index}.nii"
        sitk.WriteImage(itk_image(direction), str(path))
        assert np.allclose(centroid(read(path)), truth(direction), atol=1e-3)


def test_a_dicom_series_of_each_order(tmp_path: Path) -> None:
    from tests.io.dicom_made import ct_slice

    for index, direction in enumerate(DIRECTIONS):
        lps = np.diag([-1, -1, 1]) @ direction
        folder = tmp_path / str(index)
        folder.mkdir()
        for number in range(SHAPE[2]):
            place = ORIGIN * (-1, -1, 1) + lps[:, 2] * SPACING[2] * number
            data = ct_slice(volume()[..., number].T.astype(np.uint16), 0, number, axes=(lps[:, 0], lps[:, 1]))
            data.ImagePositionPatient = [round(float(v), 6) for v in place]
            data.PixelSpacing, data.RescaleIntercept = [float(SPACING[1]), float(SPACING[0])], 0
            data.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        scan = read(folder)
        assert scan.shape == SHAPE[::-1] and scan.warnings == []
        assert np.allclose(centroid(scan), truth(direction), atol=1e-3)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(scan.properties["series_paths"])
        theirs = reader.Execute()
        voxel = np.argwhere(sitk.GetArrayFromImage(theirs) > 0).mean(axis=0)[::-1]
        point = np.array(theirs.TransformContinuousIndexToPhysicalPoint([float(v) for v in voxel]))
        assert np.allclose(point * (-1, -1, 1), truth(direction), atol=1e-3)


def with_affine(path: Path, sform: np.ndarray | None = None, pixdim: tuple[float, ...] | None = None) -> Path:
    image = nib.Nifti1Image(volume(), ras(np.eye(3)))
    image.set_qform(ras(np.eye(3)), code=1)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    if sform is not None:
        content[280:328] = sform[:3].astype("<f4").tobytes()
    if pixdim is not None:
        content[80:92] = np.array(pixdim, "<f4").tobytes()
    path.write_bytes(bytes(content))
    return path


SHEARED = ras(np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]]))


@pytest.mark.parametrize(
    ("sform", "pixdim", "known", "words"),
    [
        (np.full((4, 4), np.nan), None, True, "its qform is taken instead"),
        (np.zeros((4, 4)), None, True, "its qform is taken instead"),
        (np.full((4, 4), np.nan), (np.nan, 1, 1), False, "left out"),
        (np.zeros((4, 4)), (0, 0, 0), False, "left out"),
        (np.full((4, 4), 3e38), None, True, "qform is taken instead"),
        (SHEARED, None, True, "not at right angles (16.7 degrees off)"),
        (None, (0, 1, 1), True, None),
    ],
    ids=["nan", "zero", "nan spacing", "zero spacing", "huge", "sheared", "sform alone counts"],
)
def test_odd_nifti_affines(tmp_path: Path, sform: object, pixdim: object, known: bool, words: str | None) -> None:
    scan = read(with_affine(tmp_path / "a.nii", sform, pixdim))  # type: ignore[arg-type]
    assert scan.geometry.known is known
    assert (words or "") in " ".join(scan.warnings) and bool(scan.warnings) is (words is not None)
    if sform is SHEARED:
        assert np.allclose(scan.geometry.to_xyz(), SHEARED, atol=1e-5)


@pytest.mark.parametrize(
    ("spacing", "direction", "known"),
    [
        ("0 1 1", "1 0 0 0 1 0 0 0 1", False),
        ("nan 1 1", "1 0 0 0 1 0 0 0 1", False),
        ("1 1 2", "1 0 0 1 0 0 0 0 1", False),
        ("1 1 2", "1 0 0 0.3 1 0 0 0 1", True),
        ("1 1 -2", "1 0 0 0 1 0 0 0 1", True),
    ],
)
def test_odd_metaimage_affines(tmp_path: Path, spacing: str, direction: str, known: bool) -> None:
    lines = ["ObjectType = Image", "NDims = 3", "DimSize = 2 2 2", f"ElementSpacing = {spacing}", "Offset = 1 2 3",
             f"TransformMatrix = {direction}", "ElementType = MET_UCHAR", "ElementDataFile = LOCAL", ""]  # fmt: skip
    path = tmp_path / "a.mha"
    path.write_bytes("\n".join(lines).encode() + bytes(8))
    scan = read(path)
    assert scan.geometry.known is known and bool(scan.warnings) is not known


def test_axes_by_name(tmp_path: Path) -> None:
    for index, direction in enumerate(DIRECTIONS[:48]):
        nib.save(nib.Nifti1Image(volume(), ras(direction)), tmp_path / f"{index}.nii")
        for row, name in enumerate(("sagittal", "coronal", "axial")):
            scan = read(tmp_path / f"{index}.nii", axis=name)
            assert abs(scan.geometry.affine[row, 0]) == pytest.approx(scan.geometry.spacing[0])
    with pytest.raises(InputError, match="axis: got 'upwards'"):
        read(tmp_path / "0.nii", axis="upwards")
    with pytest.raises(InputError, match="axis: got 3"):
        read(tmp_path / "0.nii", axis=3)
