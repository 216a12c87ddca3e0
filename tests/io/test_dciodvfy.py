"""DICOM SEG and RTSTRUCT as an independent validator sees them: dciodvfy of dicom3tools, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from tests.io import dicom_made
from tests.io.dicom_points import labelled, make, same_place, seg_points

from samed2.io import Scan, Segmentation, SegmentedObject, read, read_segments, write, write_dicom_seg, write_rtstruct

assert write_dicom_seg and write_rtstruct  # importing registers them

VALIDATOR = shutil.which("dciodvfy")
NAMES = ("a_seg.dcm", "a_rtstruct.dcm")
needs_validator = pytest.mark.skipif(VALIDATOR is None, reason="needs dciodvfy (apt install dicom3tools)")


def complaints(path: Path) -> list[str]:
    """The errors that dciodvfy finds."""
    run = subprocess.run([str(VALIDATOR), str(path)], capture_output=True, text=True, errors="replace", timeout=60)
    told = (run.stdout + run.stderr).splitlines()
    assert "Segmentation" in told or "RTStructureSet" in told, told  # it knew what it saw
    return [line for line in told if line.startswith("Error")]


def block(scan: Scan, names: tuple[str, ...] = ("liver", "left kidney", "an odd thing")) -> Segmentation:
    labels = np.zeros(scan.shape, np.uint8)
    rows = scan.height // (2 * len(names))
    for value, _ in enumerate(names, start=1):
        top = 2 * (value - 1) * rows
        labels[: scan.num_frames // 2 + 1, top : top + rows, 2 : scan.width // 3] = value
    objects = [SegmentedObject(value, name) for value, name in enumerate(names, start=1)]
    return Segmentation(labels, objects, scan.geometry, properties=scan.properties)


@needs_validator
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["series", "uneven", "tilted", "enhanced", "bare", "nothing found", "removed"])
def test_made_sources(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "removed":
        dicom_made.write_series(tmp_path / "in", 3, PatientIdentityRemoved="YES", DeidentificationMethod="")
        scan = read(tmp_path / "in")
    else:
        scan = read(make(tmp_path, "series" if kind == "nothing found" else kind))
    result = labelled(scan)
    if kind == "nothing found":
        result.labels[:] = 0
    assert complaints(write(result, tmp_path / name)[0]) == []


@needs_validator
@pytest.mark.parametrize("file", ["CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"])
def test_one_image(tmp_path: Path, file: str) -> None:
    scan = read(str(get_testdata_file(file, download=False)))
    for name in NAMES[: 1 if "rgb" in file else 2]:
        assert complaints(write(block(scan), tmp_path / name)[0]) == []


@needs_validator
@pytest.mark.needs_data
@pytest.mark.parametrize(
    "folder",
    ["ct_head/GE", "mr_wrist", "seg_rtstruct/dcmqi/ct-3slice", "seg_rtstruct/dcmqi/24x38x3/image",
     "seg_rtstruct/dcmqi/24x38x3/multiframe/mf.dcm", "seg_rtstruct/dicompyler/ct.0.dcm"],
)  # fmt: skip
def test_real_sources(data_dir: Path, tmp_path: Path, folder: str) -> None:
    scan = read(data_dir / "dicom" / folder)
    for name in NAMES:
        assert complaints(write(block(scan), tmp_path / name)[0]) == []


@pytest.mark.needs_data
def test_our_liver_lies_on_the_liver_for_highdicom_and_pydicom(data_dir: Path, tmp_path: Path) -> None:
    """The liver of another tool's SEG, through our reader and writer, read back by both libraries."""
    root = data_dir / "dicom" / "seg_rtstruct" / "dcmqi"
    scan = read(root / "ct-3slice")
    liver = read_segments(root / "liver.dcm", scan)["Liver"]
    objects = [SegmentedObject(1, "liver")]
    result = Segmentation(liver.astype(np.uint8), objects, scan.geometry, properties=scan.properties)
    (path,) = write(result, tmp_path / NAMES[0])

    seg = highdicom.seg.segread(path)
    images = scan.properties["sop_instance_uids"]
    pixels = seg.get_pixels_by_source_instance(images, assert_missing_frames_are_empty=True)
    assert np.array_equal(pixels[..., 0] > 0, liver) and liver.sum() == 107_098
    volume = seg.get_volume(combine_segments=True)
    inside = np.argwhere(volume.array > 0)
    assert same_place(volume.map_indices_to_reference(inside), seg_points(root / "liver.dcm", 1))

    data = pydicom.dcmread(path)
    sources = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, scan.properties["series_paths"])}
    values = []
    for picture, frame in zip(data.pixel_array, data.PerFrameFunctionalGroupsSequence, strict=True):
        image = sources[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert np.allclose(frame.PlanePositionSequence[0].ImagePositionPatient, image.ImagePositionPatient, atol=1e-3)
        values.append((image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept))[picture > 0])
    tissue = np.concatenate(values)
    assert len(values) == 3 and 40 < np.median(tissue) < 200 and tissue.std() < 60  # one soft tissue
