"""DICOM SEG and RTSTRUCT on a scan's grid, uneven series included."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.convert.dicom_files import COLUMNS, ROWS, rtstruct, seg, series

from samed2.errors import InputError
from samed2.io import Scan, read, read_segments
from samed2.io.series_grid import Grid

PLACES = {"even": None, "uneven": [0, 1, 4, 5.5]}


def block(frame: int, y: int, x: int) -> np.ndarray:
    mask = np.zeros((4, ROWS, COLUMNS), bool)
    mask[frame : frame + 2, y : y + 5, x : x + 7] = True
    return mask


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_a_seg_lies_on_its_slices(tmp_path: Path, places: Any) -> None:
    images = series(tmp_path / "ct", places=places)
    liver, spleen = block(1, 3, 4), block(2, 5, 8)
    seg(tmp_path / "seg.dcm", images, {"Liver": liver, "Left Lobe": spleen})
    scan = read(tmp_path / "ct")
    assert bool(scan.warnings) is (places is not None)
    found = read_segments(tmp_path / "seg.dcm", scan)
    np.testing.assert_array_equal(found["Liver"], liver)
    np.testing.assert_array_equal(found["Left Lobe"], spleen)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_contours_lie_on_their_slices(tmp_path: Path, places: Any) -> None:
    images = series(tmp_path / "ct", places=places)
    square = [(2.5, 3.5), (2.5, 9.5), (8.5, 9.5), (8.5, 3.5)]
    where = places or [0, 1, 2, 3]
    rtstruct(tmp_path / "rt.dcm", images, {"Body": [(where[1], square), (where[3], square)]})
    found = read_segments(tmp_path / "rt.dcm", read(tmp_path / "ct"))["Body"]
    truth = np.zeros((4, ROWS, COLUMNS), bool)
    truth[[1, 3], 3:9, 4:10] = True
    np.testing.assert_array_equal(found, truth)


def test_voxels_between_and_beyond_uneven_slices(tmp_path: Path) -> None:
    series(tmp_path, places=PLACES["uneven"])
    scan = read(tmp_path)
    grid = Grid.of(scan)
    origins = np.array(scan.properties["frame_positions_lps"]) * (-1, -1, 1)
    for frame in range(4):
        point = origins[frame] + scan.geometry.affine[:3, 1] * 3 + scan.geometry.affine[:3, 2] * 5
        assert np.allclose(grid.to_voxel(point), (frame, 3, 5), atol=1e-4)
    assert np.allclose(grid.to_voxel((origins[1] + origins[2]) / 2)[0], 1.5, atol=1e-4)
    assert np.allclose(grid.to_voxel(2 * origins[0] - origins[1])[0], -1, atol=1e-4)
    assert np.allclose(grid.to_voxel(2 * origins[3] - origins[2])[0], 4, atol=1e-4)


def test_what_does_not_belong_is_refused(tmp_path: Path) -> None:
    images = series(tmp_path / "ct")
    seg(tmp_path / "seg.dcm", images, {"Liver": block(1, 3, 4)})
    series(tmp_path / "other")
    scan = read(tmp_path / "ct")
    cases: list[tuple[Path, Scan, str]] = [
        (tmp_path / "seg.dcm", read(tmp_path / "other"), "is drawn in frame of reference"),
        (tmp_path / "none.dcm", scan, "does not exist"),
        (tmp_path / "ct" / "00.dcm", scan, "is no DICOM SEG or RTSTRUCT"),
        (tmp_path / "seg.dcm", Scan.from_array(np.zeros((2, 3, 4)), kind="volume"), "does not say where it lies"),
        (tmp_path / "seg.dcm", read(tmp_path / "ct", axis=1), "is cut along axis 1"),
    ]
    for path, given, words in cases:
        with pytest.raises(InputError, match=words):
            read_segments(path, given)
    content = (tmp_path / "seg.dcm").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content[: int(rng.integers(200, len(content)))])
        for _ in range(int(rng.integers(0, 6))):
            damaged[int(rng.integers(0, len(damaged)))] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "seg.dcm").write_bytes(bytes(damaged))
        with contextlib.suppress(InputError):
            masks = read_segments(tmp_path / "seg.dcm", scan)
            assert all(mask.shape == scan.shape for mask in masks.values())


@pytest.mark.needs_data
def test_the_real_liver_and_body(data_dir: Path) -> None:
    root = data_dir / "dicom/seg_rtstruct"
    scan = read(root / "dcmqi/ct-3slice")
    liver = read_segments(root / "dcmqi/liver.dcm", scan)["Liver"]
    inside = scan.frames()[liver]
    assert liver.sum() == 107_098 and inside.std() < 60
    assert set(read_segments(root / "dcmqi/partial_overlaps.dcm", scan)) >= {"GREEN", "PURPLE"}
    head = read(root / "dicompyler/ct.0.dcm")
    body = read_segments(root / "dicompyler/rtss.dcm", head)["BODY"]
    assert np.median(head.frames()[body]) > -300
