"""DICOM: modality values, inversion, colour, windows, geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset

from samed2.io import read, resolve_window


def ship(name: str) -> Path:
    """A file inside the pydicom package."""
    return Path(str(get_testdata_file(name, download=False)))


@pytest.fixture
def change(tmp_path: Path) -> Any:
    """Write CT_small with other fields and give the path."""

    def write(**fields: Any) -> Path:
        dataset = pydicom.dcmread(ship("CT_small.dcm"))
        for key, value in fields.items():
            if value is None:
                delattr(dataset, key)
            else:
                setattr(dataset, key, value)
        dataset.save_as(tmp_path / "changed.dcm")
        return tmp_path / "changed.dcm"

    return write


STORED = pydicom.dcmread(ship("CT_small.dcm")).pixel_array


def test_ct_in_hounsfield_units() -> None:
    scan = read(ship("CT_small.dcm"))
    assert scan.dtype == np.float32
    assert np.array_equal(scan.frame(0), STORED.astype(np.float32) - 1024)
    assert (scan.modality, scan.kind, scan.channels) == ("ct", "image", 1)
    assert resolve_window(scan).source == "preset:abdomen"
    assert scan.properties["Modality"] == "CT"
    assert "PatientName" not in scan.properties


def test_mr_with_its_own_window() -> None:
    scan = read(ship("MR_small.dcm"))
    assert scan.dtype == np.int16
    assert scan.file_window == (600, 1600)
    window = resolve_window(scan)
    assert (window.low, window.high, window.source) == (-200, 1400, "dicom")


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm"],
)
def test_transfer_syntaxes_hold_the_same_image(name: str) -> None:
    assert np.array_equal(read(ship(name)).frame(0), read(ship("MR_small.dcm")).frame(0))


@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, 0), (2, -100), (0.5, 3), (-1, 0), ("1", "0"), (None, None), (0, 5)]
)
def test_rescale(change: Any, slope: Any, intercept: Any) -> None:
    scan = read(change(RescaleSlope=slope, RescaleIntercept=intercept))
    expected = STORED * (float(slope or 1) or 1) + float(intercept or 0)
    assert np.allclose(scan.frame(0), expected)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (2, 10)])
def test_monochrome1_is_turned_round_with_its_window(change: Any, slope: float, intercept: float) -> None:
    fields = {"RescaleSlope": slope, "RescaleIntercept": intercept, "WindowCenter": 40, "WindowWidth": 400}
    plain = read(change(**fields))
    shown = resolve_window(plain, "file").apply(plain.frame(0))
    inverted = read(change(PhotometricInterpretation="MONOCHROME1", **fields))
    turned = resolve_window(inverted, "file").apply(inverted.frame(0))
    assert np.allclose(turned, 1 - shown, atol=1e-5)
    assert inverted.file_window is not None
    assert inverted.file_window[1] == 400


@pytest.mark.parametrize(
    ("center", "width", "expected"),
    [
        (40, 400, (40, 400)),
        ([40, 500], [400, 2000], (40, 400)),
        (40, 0, None),
        (40, None, None),
        ("", "", None),
    ],
)
def test_file_windows(change: Any, center: Any, width: Any, expected: Any) -> None:
    fields = {"WindowCenter": center}
    if width is not None:
        fields["WindowWidth"] = width
    assert read(change(**fields)).file_window == expected


def test_modality_lut(change: Any) -> None:
    from pydicom.sequence import Sequence

    table = pydicom.Dataset()
    low, high = int(STORED.min()), int(STORED.max())
    table.LUTDescriptor = [high - low + 1, low, 16]
    table["LUTDescriptor"].VR = "SS"
    table.LUTData = [(i * 3) % 60_000 for i in range(high - low + 1)]
    table["LUTData"].VR = "US"
    path = change(ModalityLUTSequence=Sequence([table]), RescaleSlope=None, RescaleIntercept=None)
    scan = read(path)
    assert np.array_equal(scan.frame(0), (STORED.astype(int) - low) * 3)
    assert scan.dtype == np.float32


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_rle.dcm",
        "examples_jpeg2k.dcm",
        "examples_palette.dcm",
    ],
)
def test_colour(name: str) -> None:
    scan = read(ship(name))
    assert scan.channels == 3
    assert scan.dtype == np.uint8
    assert resolve_window(scan).to_dict() == {"low": 0.0, "high": 255.0, "source": "dtype"}


def test_ybr_is_given_as_rgb() -> None:
    from pydicom.pixels import pixel_array

    expected = pixel_array(ship("SC_rgb_jpeg_dcmtk.dcm"))
    assert np.array_equal(read(ship("SC_rgb_jpeg_dcmtk.dcm")).frame(0), expected)
    assert expected[2, 50, 0] > 240, "its upper edge is red"
    assert expected[2, 50, 1:].max() < 16


def test_geometry_follows_the_standard() -> None:
    """PS3.3 C.7.6.2.1: position + row direction * x * column spacing + column direction * y * row spacing."""
    dataset: FileDataset = pydicom.dcmread(ship("CT_small.dcm"))
    scan = read(ship("CT_small.dcm"))
    origin = np.array(dataset.ImagePositionPatient, float)
    row, column = np.split(np.array(dataset.ImageOrientationPatient, float), 2)
    y, x = 10, 20
    lps = origin + row * dataset.PixelSpacing[1] * x + column * dataset.PixelSpacing[0] * y
    assert np.allclose(scan.geometry.to_mm([0, y, x]), lps * (-1, -1, 1))
    assert np.allclose(scan.geometry.spacing, (5, 0.661468, 0.661468))


def test_geometry_with_unequal_pixels_and_oblique_axes(change: Any) -> None:
    angle = np.radians(20)
    row, column = [np.cos(angle), np.sin(angle), 0], [0, 0, -1]
    path = change(ImageOrientationPatient=[*row, *column], PixelSpacing=[0.5, 0.25], SpacingBetweenSlices=3)
    assert np.allclose(read(path).geometry.spacing, (3, 0.5, 0.25))
    y_step = read(path).geometry.to_mm([0, 1, 0]) - read(path).geometry.to_mm([0, 0, 0])
    assert np.allclose(y_step, (0, 0, -0.5))


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"ImageOrientationPatient": None}, True),
        ({"PixelSpacing": None}, False),
        ({"PixelSpacing": [0, 1]}, False),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, False),
        ({"ImagePositionPatient": None, "PixelSpacing": [2, 2]}, True),
    ],
)
def test_missing_geometry(change: Any, fields: dict[str, Any], known: bool) -> None:
    assert read(change(**fields)).geometry.known is known


@pytest.mark.needs_data
def test_real_series(data_dir: Path) -> None:
    """Neighbouring slices of the head CT lie millimetres apart and look like a head in a brain window."""
    scans = [read(path) for path in sorted((data_dir / "dicom" / "ct_head" / "GE").glob("*.dcm"))]
    assert len(scans) == 16
    origins = [scan.geometry.affine[:3, 3] for scan in scans]
    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    assert (steps > 1).all()
    assert (steps < 8).all()
    for scan in scans:
        assert (scan.modality, scan.shape) == ("ct", (1, 512, 512))
        shown = resolve_window(scan, "brain").apply(scan.frame(0))
        assert 0.05 < shown.mean() < 0.5


@pytest.mark.needs_data
def test_real_wrist(data_dir: Path) -> None:
    for path in sorted((data_dir / "dicom" / "mr_wrist").glob("*.dcm")):
        scan = read(path)
        assert (scan.modality, scan.dtype) == ("mr", np.uint16)
        assert resolve_window(scan).source == "dicom"
        assert scan.geometry.known
