"""Every writer puts an object where an independent reader finds it: 48 axis orders and flips, and oblique grids."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from samed2.io import Geometry, Scan, Segmentation, SegmentedObject, read, write, write_geojson, write_itk, write_tiff

assert write_itk and write_tiff and write_geojson  # importing registers them

SHAPE = (6, 9, 12)  # frame, y, x
SPACING = np.array([2.5, 0.7, 1.3])
ORIGIN = np.array([-31.0, 17.5, 220.25])
BLOCKS = {1: np.s_[1:3, 2:5, 7:11], 300: np.s_[3:6, 5:9, 0:2], 9: np.s_[0:1, 0:1, 11:12], 65535: np.s_[5:6, 0:2, 3:4]}
NAMES = ("a.nii", "a.nii.gz", "a.nrrd", "a.seg.nrrd", "a.mha")


def oblique(seed: int) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turn


DIRECTIONS = [
    np.eye(3)[:, list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
] + [oblique(seed) for seed in range(12)]


def segmentation(direction: np.ndarray) -> Segmentation:
    """Four objects, and one that was found nowhere."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * SPACING, ORIGIN
    labels = np.zeros(SHAPE, np.uint16)
    for value, block in BLOCKS.items():
        labels[block] = value
    objects = [SegmentedObject(value) for value in (*BLOCKS, 77)]
    return Segmentation(labels, objects, Geometry(affine))


def truth(result: Segmentation, value: int) -> np.ndarray:
    """(3, 3) RAS+ mm: centroid, smallest and largest of the voxel centres; from the block, by hand."""
    corners = np.array([(s.start, s.stop - 1) for s in BLOCKS[value]], dtype=float)
    affine = result.geometry.affine
    points = np.array([affine[:3, :3] @ corner + affine[:3, 3] for corner in product(*corners)])
    return np.stack([points.mean(axis=0), points.min(axis=0), points.max(axis=0)])


def by_itk(path: Path, value: int) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    found = np.argwhere(sitk.GetArrayFromImage(image) == value)[:, ::-1]
    points = np.array([image.TransformIndexToPhysicalPoint([int(v) for v in index]) for index in found])
    points = points * (-1, -1, 1)
    return np.stack([points.mean(axis=0), points.min(axis=0), points.max(axis=0)])


def by_nibabel(path: Path, value: int) -> np.ndarray:
    image = nib.load(path)
    points = nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) == value))
    return np.stack([points.mean(axis=0), points.min(axis=0), points.max(axis=0)])


@pytest.mark.parametrize("index", range(len(DIRECTIONS)))
def test_objects_lie_where_they_are(tmp_path: Path, index: int) -> None:
    result = segmentation(DIRECTIONS[index])
    for name in NAMES:
        (path,) = write(result, tmp_path / name)
        readers = [by_itk, by_nibabel] if ".nii" in name else [by_itk]
        for value in BLOCKS:
            for reader in readers:
                assert np.allclose(reader(path, value), truth(result, value), atol=1e-3), (name, value)
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert sorted(np.unique(sitk.GetArrayViewFromImage(image))) == sorted([0, *BLOCKS])
    sitk.WriteImage(image, str(tmp_path / "b.nii"))  # what ITK wrote of it is read by nibabel
    assert np.allclose(by_nibabel(tmp_path / "b.nii", 300), truth(result, 300), atol=1e-3)


def test_all_orders_are_there() -> None:
    assert len({tuple(direction.ravel()) for direction in DIRECTIONS[:48]}) == 48


@pytest.mark.parametrize("name", NAMES)
def test_a_sheared_grid_keeps_its_shear(tmp_path: Path, name: str) -> None:
    """A tilted gantry: no quaternion can hold it, so NIfTI has its sform only."""
    direction = np.array([[0, 0, -1.0], [np.sin(0.3), -1, 0], [np.cos(0.3), 0, 0]])
    result = segmentation(direction)
    (path,) = write(result, tmp_path / name)
    reader = by_nibabel if ".nii" in name else by_itk
    for value in BLOCKS:
        assert np.allclose(reader(path, value), truth(result, value), atol=1e-3)
    if ".nii" in name:
        assert int(nib.load(path).header["qform_code"]) == 0


@pytest.mark.parametrize("name", ["a.nii", "a.seg.nrrd", "a.mha", "a.tif", "a.png"])
@pytest.mark.parametrize("axis", [1, 2])
def test_back_on_the_file_s_own_grid(tmp_path: Path, name: str, axis: int) -> None:
    """A scan cut along another axis: its labels go back to the axes of the file."""
    stored = segmentation(DIRECTIONS[5])
    nib.save(nib.Nifti1Image(np.zeros(SHAPE[::-1], np.int16), stored.geometry.to_xyz()), tmp_path / "in.nii")
    scan = read(tmp_path / "in.nii", axis=axis)
    assert scan.shape == tuple(np.array(SHAPE)[[axis, *(i for i in range(3) if i != axis)]])
    cut = np.moveaxis(stored.labels, axis, 0)
    result = Segmentation(cut, stored.objects, scan.geometry, properties=scan.properties)
    paths = write(result, tmp_path / name, scan=scan if name == "a.nii" else None)
    if name.endswith(("tif", "png")):
        found = np.concatenate([read(path).frames() for path in paths])
    else:
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(paths[0])))
        reader = by_nibabel if name == "a.nii" else by_itk
        assert np.allclose(reader(paths[0], 300), truth(stored, 300), atol=1e-3)
    assert np.array_equal(found, stored.labels)


def test_slicer_fields(tmp_path: Path) -> None:
    result = segmentation(np.eye(3))
    result.objects[0].name, result.objects[1].name = 'Läsion "a"\n=b', "x" * 300
    (path,) = write(result, tmp_path / "a.seg.nrrd")
    image = sitk.ReadImage(str(path))
    assert image.GetMetaData("Segment0_Name") == 'Läsion "a" =b'
    assert image.GetMetaData("Segment1_LabelValue") == "300"
    assert image.GetMetaData("Segment4_LabelValue") == "77"


def test_without_geometry(tmp_path: Path) -> None:
    """NIfTI and NRRD lay the pixels down alike."""
    labels = np.zeros((1, 5, 7), np.uint8)
    labels[0, 1, 4] = 1
    result = Segmentation(labels, [SegmentedObject(1)])
    write(result, tmp_path / "a.nii")
    write(result, tmp_path / "a.nrrd")
    assert np.allclose(by_nibabel(tmp_path / "a.nii", 1), by_itk(tmp_path / "a.nrrd", 1))
    assert np.allclose(by_itk(tmp_path / "a.nrrd", 1)[0], (-4, -1, 0))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 3), (5, 4, 3)])
@pytest.mark.parametrize("top", [7, 60_000])
def test_label_tiff(tmp_path: Path, shape: tuple[int, int, int], top: int) -> None:
    import tifffile

    labels = (np.arange(np.prod(shape)).reshape(shape) % 2 * top).astype(np.uint16)
    geometry = Geometry.from_spacing((5, 0.5, 0.25))
    (path,) = write(Segmentation(labels, [SegmentedObject(top)], geometry), tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == shape[0]
        assert file.pages[0].dtype == (np.uint8 if top < 256 else np.uint16)
        across, down = (a / b for a, b in (file.pages[0].tags[k].value for k in ("XResolution", "YResolution")))
        assert (across, down) == pytest.approx((40, 20))
    assert np.array_equal(tifffile.imread(path).reshape(shape), labels)
    assert np.array_equal(read(path).frames(), labels)


def test_a_map_larger_than_memory_is_walked_frame_by_frame(tmp_path: Path) -> None:
    labels = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (3, 8, 9))
    labels[1, 2:4, 3:5] = 1
    result = Segmentation(labels, [SegmentedObject(1)])
    assert np.shares_memory(result.labels, labels)
    for name in ("a.tif", "a.nii", "a.geojson"):
        assert write(result, tmp_path / name, format="label-tiff" if name == "a.tif" else None)


def test_uneven_slices_have_their_own_volume_and_place() -> None:
    places = [[-1.0, -2.0, z] for z in (0.0, 2.0, 10.0)]  # LPS+
    geometry = Geometry.from_spacing((5, 1, 1), (1, 2, 0))
    properties = {"frame_positions_lps": places, "evenly_spaced": False}
    labels = np.ones((3, 2, 2), np.uint8)
    result = Segmentation(labels, [SegmentedObject(1)], geometry, properties=properties)
    assert result.voxel_volumes().tolist() == [2, 5, 8]
    assert result.to_dict()["objects"][0]["volume_ml"] == pytest.approx(4 * 15 / 1000)
    assert np.allclose(result.to_mm([[0, 0, 0], [1, 0, 1], [1.5, 1, 0], [2.5, 0, 0]]),
                       [[1, 2, 0], [0, 2, 2], [1, 1, 6], [1, 2, 14]])  # fmt: skip
    even = Segmentation(labels, [SegmentedObject(1)], geometry)
    assert np.allclose(even.voxel_volumes(), 5)
    assert Scan.from_array(labels).shape == even.shape
