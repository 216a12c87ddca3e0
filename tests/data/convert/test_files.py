"""Formats that only converters read: NRRD, MetaImage, 4-D NIfTI, palettes; each with its geometry."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from tests.data.convert.trees import GRID, rng_of, save

from samed2.data.convert.files import HowToRead, check_fit, cropped, open_image, open_labels
from samed2.errors import InputError
from samed2.io import Scan, read
from samed2.io.read_itk import read_itk

VALUES = rng_of("values").integers(-1000, 1000, GRID).astype(np.int16)
# a turned, lopsided grid: columns are the LPS directions of x, y, z
TURN = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def itk_image(values=VALUES, vector=False):
    image = sitk.GetImageFromArray(values, isVector=vector)
    image.SetSpacing((0.7, 0.8, 2.5)[: image.GetDimension()])
    image.SetOrigin((10.0, -20.0, 30.0)[: image.GetDimension()])
    if image.GetDimension() == 3:
        image.SetDirection(TURN)
    return image


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_itk_formats_agree_with_nifti_of_the_same_image(tmp_path, suffix, packed):
    path, twin = tmp_path / f"i{suffix}", tmp_path / "i.nii"
    sitk.WriteImage(itk_image(), str(path), useCompression=packed)
    sitk.WriteImage(itk_image(), str(twin))
    scan, other = open_image(path), read(twin)
    assert scan.shape == GRID and scan.dtype == np.int16 and scan.kind == "volume"
    np.testing.assert_array_equal(scan.frames(), VALUES)
    np.testing.assert_allclose(scan.geometry.affine, other.geometry.affine, atol=1e-5)
    np.testing.assert_allclose(scan.geometry.spacing, (2.5, 0.8, 0.7))


def test_a_flat_itk_image_and_one_in_colour(tmp_path):
    sitk.WriteImage(itk_image(VALUES[0]), str(tmp_path / "flat.mha"))
    flat = read_itk(tmp_path / "flat.mha")
    assert flat.shape == (1, *GRID[1:]) and flat.kind == "image" and flat.geometry.known
    np.testing.assert_array_equal(flat.frame(0), VALUES[0])
    colour = rng_of("c").integers(0, 255, (*GRID, 3)).astype(np.uint8)
    sitk.WriteImage(itk_image(colour, vector=True), str(tmp_path / "c.nrrd"))
    np.testing.assert_array_equal(read_itk(tmp_path / "c.nrrd").frames(), colour)


def test_channels_of_itk_files(tmp_path):
    four = rng_of("4").integers(0, 9, (2, *GRID)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(four, isVector=False), str(tmp_path / "t.nrrd"))
    sitk.WriteImage(itk_image(np.moveaxis(four, 0, -1), vector=True), str(tmp_path / "v.nrrd"))
    for file in ("t.nrrd", "v.nrrd"):
        np.testing.assert_array_equal(read_itk(tmp_path / file, time=1).frames(), four[1])
        with pytest.raises(InputError, match=f"{file}: has 2 volumes"):
            read_itk(tmp_path / file)
        with pytest.raises(InputError, match="has 2 volumes, got time 2"):
            read_itk(tmp_path / file, time=2)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_damaged_itk_files_are_named(tmp_path, suffix):
    path = tmp_path / f"i{suffix}"
    sitk.WriteImage(itk_image(), str(path))
    data = tmp_path / "i.raw" if suffix == ".mhd" else path
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"i.*{suffix}|i.raw"):
        read_itk(path).frames()
    data.unlink()
    with pytest.raises(InputError, match=f"i{suffix}"):
        read_itk(path).frames()
    path.write_bytes(b"not an image at all")
    with pytest.raises(InputError, match=f"i{suffix}"):
        read_itk(path)


def test_a_forged_size_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "i.nrrd"
    path.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 90000 90000 90000\nencoding: raw\n\n\0\0")
    with pytest.raises(InputError, match=r"i\.nrrd"):
        read_itk(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_one_channel_of_a_four_dimensional_nifti(tmp_path, ending):
    path = tmp_path / f"i{ending}"
    four = rng_of("n").integers(0, 99, (*GRID, 3)).astype(np.int16)  # (frame, y, x, channel)
    nibabel.save(nibabel.Nifti1Image(four.transpose(2, 1, 0, 3), np.diag([0.7, 0.8, 2.5, 1])), path)
    for channel in range(3):
        scan = open_image(path, HowToRead(channel=channel))
        np.testing.assert_array_equal(scan.frames(), four[..., channel])
        np.testing.assert_allclose(scan.geometry.spacing, (2.5, 0.8, 0.7), rtol=1e-6)
    for how, words in ((HowToRead(channel=3), "no channel 3"), (HowToRead(), "4"), (HowToRead(axes=(0, 1, 2)), "say")):
        with pytest.raises(InputError, match=f"i{ending}.*{words}"):
            open_image(path, how)


def test_other_axes_turn_values_and_affine_alike(tmp_path):
    path = tmp_path / "i.nii.gz"
    affine = np.array([[0, 0, -0.7, 5], [0, -0.8, 0, 6], [-2.5, 0, 0, 7], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(VALUES, affine), path)  # slices first
    scan = open_image(path, HowToRead(axes=(0, 1, 2)))
    np.testing.assert_array_equal(scan.frames(), VALUES)
    np.testing.assert_allclose(scan.geometry.to_mm((1, 2, 3)), affine[:3] @ (1, 2, 3, 1), rtol=1e-6)
    plain = read(path)  # slices last: the same voxel at the same place
    assert plain.frame(3)[2, 1] == scan.frame(1)[2, 3]
    np.testing.assert_allclose(plain.geometry.to_mm((3, 2, 1)), scan.geometry.to_mm((1, 2, 3)), rtol=1e-6)


def test_scaled_nifti_values_are_scaled(tmp_path):
    image = nibabel.Nifti1Image(np.stack([VALUES, VALUES], -1).transpose(2, 1, 0, 3), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "i.nii")
    scan = open_image(tmp_path / "i.nii", HowToRead(channel=0))
    proxy = np.asarray(nibabel.load(tmp_path / "i.nii").dataobj)[..., 0].transpose(2, 1, 0)
    np.testing.assert_allclose(scan.frames(), proxy, rtol=1e-6)


def test_label_values_of_palettes_colours_and_jpegs(tmp_path):
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    for name, palette in (("colour", [0, 0, 0, 255, 0, 0, 0, 255, 0]), ("grey", [0] * 3 + [128] * 3 + [255] * 3)):
        image = Image.fromarray(indices)
        image.putpalette(palette)
        image.save(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(open_labels(tmp_path / "colour.png").values[0], indices)
    np.testing.assert_array_equal(open_labels(tmp_path / "grey.png").values[0], [[0, 128, 255], [255, 128, 0]])
    save(tmp_path / "rgb.png", np.stack([indices * 0, indices * 100, indices * 9], -1))
    np.testing.assert_array_equal(open_labels(tmp_path / "rgb.png").values[0], indices * 100)
    save(tmp_path / "m.jpg", indices)
    assert open_labels(tmp_path / "m.jpg").lossy and not open_labels(tmp_path / "rgb.png").lossy


def test_a_crop_shows_the_same_pixels_at_the_same_place(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), np.diag([0.7, 0.8, 2.5, 1])), tmp_path / "i.nii.gz")
    scan = read(tmp_path / "i.nii.gz")
    part = cropped(scan, (2, 3, 7, 11))
    np.testing.assert_array_equal(part.frames(), VALUES[:, 2:7, 3:11])
    np.testing.assert_allclose(part.geometry.to_mm((1, 0, 0)), scan.geometry.to_mm((1, 2, 3)))
    with pytest.raises(InputError, match="crop"):
        cropped(scan, (0, 0, 99, 4))


@pytest.mark.parametrize(("shift", "scale", "fits"), [(0, 1.0, True), (0.01, 1.0005, True), (0.2, 1, False)])
def test_how_far_labels_may_lie_apart(tmp_path, shift, scale, fits):
    for name, move, grow in (("i", 0, 1), ("l", shift, scale)):
        affine = np.diag([0.7 * grow, 0.8, 2.5, 1.0])
        affine[1, 3] = move
        nibabel.save(nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), affine), tmp_path / f"{name}.nii")
    scan: Scan = read(tmp_path / "i.nii")
    label = open_labels(tmp_path / "l.nii")
    if fits:
        return check_fit(tmp_path / "i.nii", scan.shape, scan.geometry, label)
    with pytest.raises(InputError, match=r"i.nii and its labels .*l.nii lie apart"):
        check_fit(tmp_path / "i.nii", scan.shape, scan.geometry, label)
    return None
