"""Multi-frame DICOM: enhanced stacks, cines, packed frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.dicom_made import SPACING, STEP, cine, enhanced, position, region

from samed2.errors import InputError
from samed2.io import read


def place(scan: Any, frame: int) -> np.ndarray:
    """LPS+ mm of a frame's first pixel by the affine."""
    return scan.geometry.to_mm([frame, 0, 0]) * (-1, -1, 1)


def test_enhanced_multi_frame_is_sorted_with_its_own_rescales(tmp_path: Path) -> None:
    values = enhanced(tmp_path / "mf.dcm", [2, 0, 1, 3])
    scan = read(tmp_path / "mf.dcm")
    order = [1, 2, 0, 3]
    truth = [values[i].astype(float) * (1 + i) + 10 * i for i in order]
    np.testing.assert_allclose(scan.frames(), np.stack(truth))
    assert (scan.kind, scan.modality, scan.name) == ("volume", "mr", "mf")
    assert scan.properties["frame_numbers"] == [2, 3, 1, 4]
    assert all(np.allclose(place(scan, i), position(i), atol=1e-5) for i in range(4))
    assert np.allclose(scan.geometry.spacing, (STEP, *SPACING))
    np.testing.assert_array_equal(read(tmp_path).frames(), scan.frames())


def test_an_enhanced_file_of_one_frame_knows_its_place(tmp_path: Path) -> None:
    enhanced(tmp_path / "one.dcm", [2])
    scan = read(tmp_path / "one.dcm")
    assert (scan.kind, scan.num_frames) == ("image", 1)
    assert np.allclose(place(scan, 0), position(2), atol=1e-5)


def test_enhanced_multi_frame_with_time_points(tmp_path: Path) -> None:
    values = enhanced(tmp_path / "mf.dcm", [0, 0, 1, 1], times=[2, 1, 2, 1])
    with pytest.raises(InputError, match="2 images at each of its 2 places"):
        read(tmp_path / "mf.dcm")
    scan = read(tmp_path / "mf.dcm", time=0)
    np.testing.assert_allclose(scan.frame(0), values[1].astype(float) * 2 + 10)


@pytest.mark.parametrize(
    ("regions", "spacing", "warned"),
    [
        ((), None, False),
        ((region(0.02, 0.03),), (0.2, 0.3), False),
        ((region(0.02, 0.03), region(0.05, 0.05, side=4)), (0.2, 0.3), True),
        ((region(1, 1, unit=4),), None, False),
        ((region(1, 1, form=3),), None, False),
        ((region(0, 0),), None, False),
    ],
    ids=["none", "one", "two", "seconds", "doppler", "zero"],
)
def test_ultrasound_cine(tmp_path: Path, regions: Any, spacing: Any, warned: bool) -> None:
    values = cine(tmp_path / "us.dcm", 6, regions)
    scan = read(tmp_path / "us.dcm")
    assert (scan.kind, scan.modality, scan.num_frames) == ("video", "ultrasound", 6)
    np.testing.assert_array_equal(scan.frames([4, 0]), values[[4, 0]])
    assert scan.geometry.known is (spacing is not None)
    if spacing:
        assert np.allclose(scan.geometry.spacing[1:], spacing)
    assert scan.properties["fps"] == 25
    assert bool(scan.warnings) is warned


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit_2frame.dcm", "examples_ybr_color.dcm"])
def test_packed_frames_are_decoded_one_by_one(name: str) -> None:
    from pydicom.data import get_testdata_file
    from pydicom.pixels import pixel_array

    path = Path(str(get_testdata_file(name, download=False)))
    scan = read(path)
    truth = pixel_array(path)
    assert scan.shape == truth.shape[:3] and scan.channels == 3
    np.testing.assert_array_equal(scan.frames([1, 0]), truth[[1, 0]])


@pytest.mark.needs_data
@pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
def test_real_multi_frame_conversions_equal_their_series(data_dir: Path, size: str) -> None:
    root = data_dir / "dicom/seg_rtstruct/dcmqi" / size
    series, frames = read(root / "image"), read(root / "multiframe/mf.dcm")
    np.testing.assert_array_equal(series.frames(), frames.frames())
    assert np.allclose(series.geometry.affine, frames.geometry.affine, atol=1e-5)
