"""DICOM SEG and RTSTRUCT: where they lie, what they point to, what the standard requires of them."""

from __future__ import annotations

import shutil
from itertools import permutations, product
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from tests.io import dicom_made
from tests.io.dicom_points import labelled, make, mm_of, rt_masks, same_place, seg_points
from tests.io.dicom_standard import problems

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, SegmentedObject, read, write, write_dicom_seg, write_rtstruct

assert write_dicom_seg and write_rtstruct  # importing registers them

NAMES = {"dicom-seg": "a_seg.dcm", "rtstruct": "a_rtstruct.dcm"}
UNITS = [np.eye(3)[i] * sign for i in range(3) for sign in (1, -1)]
AXES = [(row, column) for row, column in product(UNITS, UNITS) if not (np.abs(row) == np.abs(column)).all()]


def oblique(seed: int) -> tuple[np.ndarray, np.ndarray]:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turn[0], turn[1]


@pytest.mark.parametrize("index", range(len(AXES) + 6))
def test_objects_lie_where_they_are(tmp_path: Path, index: int) -> None:
    axes = AXES[index] if index < len(AXES) else oblique(index)
    dicom_made.write_series(tmp_path / "in", 4, axes=axes)
    scan = read(tmp_path / "in")
    result = labelled(scan)
    (seg,) = write(result, tmp_path / "a_seg.dcm")
    (rt,) = write(result, tmp_path / "a_rtstruct.dcm")
    for number, entry in enumerate(result.objects, start=1):
        mask = result.mask(entry.id)
        for filled in rt_masks(rt, scan, entry.id):
            assert np.array_equal(filled, mask), "holes and islands are kept, whichever way contours are filled"
        points = seg_points(seg, number)
        assert len(points) == mask.sum()
        assert not mask.any() or same_place(points, mm_of(scan, mask))


def test_all_orientations_are_there() -> None:
    """24 pairs of axes; slices are sorted along the normal, so the other 24 grids are these from the other end."""
    assert len(AXES) == 24
    assert len(list(permutations(range(3)))) * 4 == 24


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("kind", ["series", "uneven", "tilted", "enhanced", "bare"])
def test_what_the_standard_requires(tmp_path: Path, name: str, kind: str) -> None:
    scan = read(make(tmp_path, kind))
    (path,) = write(labelled(scan), tmp_path / NAMES[name])
    assert problems(path) == []


@pytest.mark.parametrize("kind", ["uneven", "tilted"])
def test_slices_lie_where_the_files_say(tmp_path: Path, kind: str) -> None:
    scan = read(make(tmp_path, kind))
    result = labelled(scan)
    (seg,) = write(result, tmp_path / NAMES["dicom-seg"])
    assert same_place(seg_points(seg, 1), mm_of(scan, result.mask(300)))
    (rt,) = write(result, tmp_path / NAMES["rtstruct"])
    assert np.array_equal(rt_masks(rt, scan, 300)[0], result.mask(300))


def test_frames_of_a_multi_frame_file(tmp_path: Path) -> None:
    """Its frames are stored in another order than they lie."""
    scan = read(make(tmp_path, "enhanced"))
    assert scan.properties["frame_numbers"] == [2, 4, 3, 1]
    result = labelled(scan)
    write(result, tmp_path / NAMES["dicom-seg"])
    points = seg_points(tmp_path / NAMES["dicom-seg"], 2)
    mask = result.mask(7)
    expected = np.array([dicom_made.position(float(t)) for t, y, x in np.argwhere(mask)])
    row, column = (np.array(axis) for axis in dicom_made.AXES)
    expected = expected + np.array([row * 0.6 * x + column * 0.8 * y for _, y, x in np.argwhere(mask)])
    assert same_place(points, expected)
    write(result, tmp_path / NAMES["rtstruct"])
    data = pydicom.dcmread(tmp_path / NAMES["rtstruct"])
    numbers = {c.ContourImageSequence[0].ReferencedFrameNumber for c in data.ROIContourSequence[1].ContourSequence}
    assert numbers == {3, 1}


def test_segments(tmp_path: Path) -> None:
    scan = read(make(tmp_path, "series"))
    result = labelled(scan)
    (path,) = write(result, tmp_path / NAMES["dicom-seg"])
    seg = highdicom.seg.segread(path)
    assert (seg.segmentation_type.value, seg.number_of_segments) == ("BINARY", 3)
    assert seg.NumberOfFrames == 3 + 2, "frames without the object are left out"
    assert str(seg.PatientName) == "Müller^Jörg"
    assert (seg.FrameOfReferenceUID, seg.StudyInstanceUID) == (scan.properties["FrameOfReferenceUID"], "1.2.3.1")
    assert seg.SeriesInstanceUID != scan.properties["SeriesInstanceUID"]
    kidney, lesion, spleen = (seg.get_segment_description(number) for number in (1, 2, 3))
    assert kidney.segmented_property_type == highdicom.sr.CodedConcept("64033007", "SCT", "Kidney")
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    assert lesion.segment_label == "Läsion/β 1"
    assert lesion.segmented_property_type.scheme_designator == "99SAMED2"
    assert lesion.segmented_property_category.value == "85756007"
    assert spleen.segmented_property_type.value == "78961009"
    assert [entry.tracking_id for entry in (kidney, lesion, spleen)] == ["object 300", "object 7", "object 9"]
    algorithm = kidney.algorithm_identification
    assert (algorithm.name, algorithm.version, algorithm.family.value) == ("SAMed-2 nano", "1.2", "123110")
    sources = {
        image.ReferencedSOPInstanceUID
        for frame in seg.PerFrameFunctionalGroupsSequence
        for derived in frame.DerivationImageSequence
        for image in derived.SourceImageSequence
    }
    assert sources <= set(scan.properties["sop_instance_uids"])
    referenced = seg.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == scan.properties["SeriesInstanceUID"]
    pixels = seg.get_pixels_by_source_instance(scan.properties["sop_instance_uids"], ignore_spatial_locations=True,
                                               assert_missing_frames_are_empty=True)  # fmt: skip
    assert np.array_equal(pixels[..., 0], result.mask(300))
    assert np.array_equal(pixels[..., 2], result.mask(9))


def test_structures(tmp_path: Path) -> None:
    scan = read(make(tmp_path, "series"))
    (path,) = write(labelled(scan), tmp_path / NAMES["rtstruct"])
    data = pydicom.dcmread(path)
    assert [roi.ROINumber for roi in data.StructureSetROISequence] == [300, 7, 9]
    assert [roi.ROIName for roi in data.StructureSetROISequence] == ["left kidney", "Läsion/β 1", "spleen"]
    assert "ContourSequence" not in data.ROIContourSequence[2], "found nowhere"
    assert str(data.PatientName) == "Müller^Jörg"
    series = data.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == scan.properties["SeriesInstanceUID"]
    named = {image.ReferencedSOPInstanceUID for image in series.ContourImageSequence}
    assert named == set(scan.properties["sop_instance_uids"])


def test_nothing_found_still_makes_files(tmp_path: Path) -> None:
    scan = read(make(tmp_path, "series"))
    result = Segmentation(np.zeros(scan.shape, np.uint8), [SegmentedObject(1, "liver")], scan.geometry,
                          properties=scan.properties)  # fmt: skip
    for name in NAMES.values():
        (path,) = write(result, tmp_path / name)
        assert problems(path) == []
    assert not pydicom.dcmread(tmp_path / NAMES["dicom-seg"]).pixel_array.any()


def test_more_than_255_objects(tmp_path: Path) -> None:
    scan = read(make(tmp_path, "series"))
    labels = np.zeros(scan.shape, np.uint16)
    labels.ravel()[:300] = np.arange(1001, 1301)
    objects = [SegmentedObject(value) for value in range(1001, 1301)]
    result = Segmentation(labels, objects, scan.geometry, properties=scan.properties)
    (path,) = write(result, tmp_path / NAMES["dicom-seg"])
    assert highdicom.seg.segread(path).number_of_segments == 300
    assert len(seg_points(path, 300)) == 1


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", list(NAMES))
def test_a_scan_cut_along_another_axis(tmp_path: Path, name: str, axis: int) -> None:
    scan, cut = read(make(tmp_path, "series")), read(tmp_path / "in", axis=axis)
    result = labelled(scan)
    turned = Segmentation(np.moveaxis(result.labels, axis, 0), result.objects, cut.geometry, properties=cut.properties)
    (path,) = write(turned, tmp_path / NAMES[name])
    if name == "rtstruct":
        assert np.array_equal(rt_masks(path, scan, 300)[0], result.mask(300))
    else:
        assert same_place(seg_points(path, 1), mm_of(scan, result.mask(300)))


def test_a_series_in_an_archive(tmp_path: Path) -> None:
    make(tmp_path, "series")
    shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    scan = read(tmp_path / "in.zip")
    result = labelled(scan)
    shutil.rmtree(tmp_path / "in")
    for name in NAMES.values():
        assert problems(write(result, tmp_path / name)[0]) == []


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_one_image(tmp_path: Path, name: str) -> None:
    scan = read(str(get_testdata_file(name, download=False)))
    result = labelled_image(scan)
    for target in NAMES.values():
        (path,) = write(result, tmp_path / target)
        assert problems(path) == []
    seg = pydicom.dcmread(tmp_path / NAMES["dicom-seg"])
    assert np.array_equal(seg.pixel_array.astype(bool), result.mask(1)[0])


def test_an_image_without_a_place_has_a_seg_only(tmp_path: Path) -> None:
    scan = read(str(get_testdata_file("examples_rgb_color.dcm", download=False)))
    result = labelled_image(scan)
    assert problems(write(result, tmp_path / NAMES["dicom-seg"])[0]) == []
    with pytest.raises(InputError, match="where its images lie"):
        write(result, tmp_path / NAMES["rtstruct"])
    assert not (tmp_path / NAMES["rtstruct"]).exists()


def labelled_image(scan: Scan) -> Segmentation:
    labels = np.zeros(scan.shape, np.uint8)
    labels[0, 10:20, 12:30] = 1
    return Segmentation(labels, [SegmentedObject(1, "liver")], scan.geometry, properties=scan.properties)


def change(scan: Scan, how: str, tmp_path: Path) -> Segmentation:
    result = labelled(scan)
    properties: dict[str, Any] = dict(scan.properties)
    paths = properties["series_paths"]
    if how == "gone":
        Path(paths[1]).unlink()
    elif how == "cut off":
        Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:150])
    elif how == "another":
        shutil.copy(paths[0], paths[1])
    elif how == "fewer":
        properties["series_paths"] = paths[:2]
    elif how == "nifti":
        properties = {"reader": "NIfTI"}
    elif how == "array":
        properties = {}
    elif how == "moved":
        moved = result.geometry.affine.copy()
        moved[0, 3] += 5
        result.geometry = type(result.geometry)(moved)
    elif how == "no objects":
        result = Segmentation(np.zeros(scan.shape, np.uint8), [], scan.geometry)
    elif how == "no study":
        for path in paths:
            data = pydicom.dcmread(path)
            del data.StudyInstanceUID
            data.save_as(path)
    result.properties = properties
    return result


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("gone", "no longer exists"),
        ("cut off", "01.dcm|05.dcm|10.dcm"),
        ("another", "another image than the one segmented"),
        ("fewer", "has 2 frames, the segmentation 4"),
        ("nifti", "needs a DICOM source, the segmented image is a NIfTI file; write nifti, nrrd"),
        ("array", "not read from a file"),
        ("moved", "does not lie on its source image"),
        ("no objects", "no objects"),
        ("no study", "StudyInstanceUID"),
    ],
)
def test_refused(tmp_path: Path, name: str, how: str, words: str) -> None:
    result = change(read(make(tmp_path, "series")), how, tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=words) as caught:
        write(result, tmp_path / NAMES[name])
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.needs_data
@pytest.mark.parametrize("folder", ["seg_rtstruct/dcmqi/ct-3slice", "ct_head/GE", "mr_wrist",
                                    "seg_rtstruct/dcmqi/24x38x3/multiframe/mf.dcm"])  # fmt: skip
def test_real_series(data_dir: Path, tmp_path: Path, folder: str) -> None:
    scan = read(data_dir / "dicom" / folder)
    labels = np.zeros(scan.shape, np.uint8)
    labels[: scan.num_frames // 2, scan.height // 4 : scan.height // 2, scan.width // 4 : scan.width // 3] = 1
    result = Segmentation(labels, [SegmentedObject(1, "brain")], scan.geometry, properties=scan.properties)
    for name in NAMES.values():
        assert problems(write(result, tmp_path / name)[0]) == []


@pytest.mark.needs_data
def test_the_liver_lies_on_the_liver(data_dir: Path, tmp_path: Path) -> None:
    """A mask made of another tool's SEG of the sample CT is written and lies where that SEG does, on soft tissue."""
    scan = read(data_dir / "dicom" / "seg_rtstruct" / "dcmqi" / "ct-3slice")
    theirs = pydicom.dcmread(data_dir / "dicom" / "seg_rtstruct" / "dcmqi" / "liver.dcm")
    places = {round(place[2], 2): index for index, place in enumerate(scan.properties["frame_positions_lps"])}
    labels = np.zeros(scan.shape, np.uint8)
    for picture, frame in zip(theirs.pixel_array, theirs.PerFrameFunctionalGroupsSequence, strict=True):
        labels[places[round(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]), 2)]] = picture
    result = Segmentation(labels, [SegmentedObject(1, "liver")], scan.geometry, properties=scan.properties)
    (path,) = write(result, tmp_path / NAMES["dicom-seg"])
    assert same_place(seg_points(path, 1), seg_points(data_dir / "dicom/seg_rtstruct/dcmqi/liver.dcm", 1))
    values = scan.frames()[labels > 0]
    assert 40 < np.median(values) < 200
    (rt,) = write(result, tmp_path / NAMES["rtstruct"])
    united, odd = rt_masks(rt, scan, 1)
    assert np.array_equal(united, labels > 0)
    assert np.array_equal(odd, labels > 0)
