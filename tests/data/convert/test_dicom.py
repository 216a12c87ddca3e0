"""DICOM series with SEG or RTSTRUCT, and NRRD cases."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from tests.data.convert.dicom_files import COLUMNS, ROWS, lps, rtstruct, seg, series, stored
from tests.io import dicom_made

from samed2.data.cases import Case, Dropped
from samed2.data.convert import Source, find_cases
from samed2.errors import InputError
from samed2.io import Segmentation, SegmentedObject, read, write
from samed2.io.read_rtstruct import fill_contours

SHAPE = (4, ROWS, COLUMNS)


def search(root, **more):
    found = list(find_cases(Source(root, "clinic", "dicom", **more)))
    return [f for f in found if isinstance(f, Case)], {f.name: f.reason for f in found if isinstance(f, Dropped)}


def blocks(*places):
    masks = []
    for frame, y, x in places:
        mask = np.zeros(SHAPE, bool)
        mask[frame : frame + 2, y : y + 5, x : x + 7] = True
        masks.append(mask)
    return masks


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_seg_lies_where_it_was_drawn(tmp_path, kind):
    images = series(tmp_path / "P1/ct")
    liver, spleen = blocks((1, 3, 4), (2, 5, 8))  # they overlap, and leave slices empty
    seg(tmp_path / "P1/labels/any name.dcm", images, {"Liver": liver, "Left Lobe": spleen}, kind)
    (case,), dropped = search(tmp_path)
    assert dropped == {}
    assert (case.name, case.patient, case.modality, case.kind) == ("P1_ct", "P1", "ct", "volume")
    assert case.objects == ("liver", "left_lobe")
    loaded = pickle.loads(pickle.dumps(case)).load()
    np.testing.assert_array_equal(loaded.masks["liver"], liver)
    np.testing.assert_array_equal(loaded.masks["left_lobe"], spleen)
    np.testing.assert_array_equal(loaded.frames, stored().astype(np.int32) - 1024)
    assert loaded.scan.dtype == np.int16
    np.testing.assert_allclose(loaded.scan.geometry.spacing, (2.5, 0.8, 0.6), rtol=1e-6)
    np.testing.assert_allclose(loaded.scan.geometry.to_mm((2, 3, 5)), lps(2, 3, 5) * (-1, -1, 1), atol=1e-4)


def test_a_label_map_seg(tmp_path):
    images = series(tmp_path)
    liver, spleen = blocks((0, 1, 2), (0, 12, 15))
    seg(tmp_path / "s.dcm", images, {"Liver": liver, "Spleen": spleen}, "LABELMAP")
    loaded = search(tmp_path)[0][0].load()
    assert loaded.case.objects == ("liver", "spleen")
    np.testing.assert_array_equal(loaded.masks["spleen"], spleen)
    np.testing.assert_array_equal(loaded.masks["liver"], liver)


def test_a_seg_of_some_slices_only_and_of_a_part_of_the_grid(tmp_path):
    images = series(tmp_path / "ct")
    (liver,) = blocks((1, 3, 4))
    seg(tmp_path / "s.dcm", images[1:3], {"Liver": liver[1:3]})
    np.testing.assert_array_equal(search(tmp_path)[0][0].load().masks["liver"], liver)
    from samed2.data.convert.series import open_series
    from samed2.io.read_seg import place
    from samed2.io.series_fields import Plane
    from samed2.io.series_grid import Grid

    scan = open_series(sorted((tmp_path / "ct").iterdir()))
    part = Plane.of(images[2].ImagePositionPatient, images[2].ImageOrientationPatient, images[2].PixelSpacing, "x")
    moved = Plane(part.origin + 2 * part.down + 3 * part.right, part.down, part.right)
    index, rows, columns, inside = place(moved, Grid.of(scan), "x")
    assert index == 2 and rows[2, 3] == 0 and columns[2, 3] == 0 and rows[6, 3] == 4
    assert not inside[1, 3] and not inside[2, 2] and inside[2:, 3:].all()
    with pytest.raises(InputError, match="between slices"):
        place(Plane(part.origin + 1.2 * part.normal, part.down, part.right), Grid.of(scan), "x")
    with pytest.raises(InputError, match="tilted"):
        place(Plane(part.origin, part.down + part.normal * 0.2, part.right), Grid.of(scan), "x")
    assert place(Plane(part.origin + 50 * part.normal, part.down, part.right), Grid.of(scan), "x") is None


def square(y0, x0, y1, x1):
    return [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]


def test_an_rtstruct_is_filled_with_holes_and_islands(tmp_path):
    images = series(tmp_path)
    body = [
        (1, square(1.5, 2.5, 18.5, 25.5)),
        (1, square(4.5, 5.5, 14.5, 20.5)),  # a hole
        (1, square(7.5, 8.5, 10.5, 12.5)),  # an island in it
        (2, square(1.5, 2.5, 6.5, 7.5)),
        (2, square(4.5, 5.5, 9.5, 10.5)),  # overlaps the one before
        (9, square(1, 1, 5, 5)),  # on a slice that is not here
    ]
    rtstruct(tmp_path / "rt.dcm", images, {"Body": body, "Lt Lung": [(0, square(2.5, 2.5, 5.5, 6.5))], "Empty": []})
    (case,), dropped = search(tmp_path)
    assert case.objects == ("body", "lt_lung") and dropped == {}
    loaded = case.load()
    truth = np.zeros(SHAPE, bool)
    truth[1, 2:19, 3:26] = True
    truth[1, 5:15, 6:21] = False
    truth[1, 8:11, 9:13] = True
    truth[2, 2:7, 3:8] = True
    truth[2, 5:10, 6:11] = True
    np.testing.assert_array_equal(loaded.masks["body"], truth)
    assert loaded.masks["lt_lung"].sum() == 3 * 4 and loaded.masks["lt_lung"][0, 3:6, 3:7].all()


def test_contours_are_filled_by_pixel_centres_in_any_order():
    outer, hole = np.array(square(0.6, 0.6, 8.4, 9.4)), np.array(square(2.6, 2.6, 5.4, 5.4))
    for several in ([outer, hole], [hole, outer], [hole, outer, outer.copy()], [outer, hole, hole.copy()]):
        mask = fill_contours(several, (12, 12))
        assert mask.sum() == 8 * 9 - 3 * 3 and not mask[3, 3] and mask[1, 1] and mask[8, 9]
    assert fill_contours([outer[:2]], (12, 12)).sum() == 0


@pytest.mark.parametrize("ending", ["seg", "rtstruct"])
def test_a_multi_frame_file_is_a_series(tmp_path, ending):
    folder = tmp_path / "P1/mr"
    dicom_made.enhanced(folder / "in.dcm", [2, 0, 3, 1], PatientID="P1")
    scan = read(folder / "in.dcm")
    labels = np.zeros(scan.shape, np.uint8)
    labels[1:3, 2:7, 3:9] = 1
    objects = [SegmentedObject(1, "liver")]
    write(Segmentation(labels, objects, scan.geometry, properties=scan.properties), tmp_path / f"P1/a_{ending}.dcm")
    (case,), dropped = search(tmp_path)
    assert dropped == {} and (case.name, case.patient, case.modality) == ("P1_mr", "P1", "mr")
    loaded = pickle.loads(pickle.dumps(case)).load()
    np.testing.assert_array_equal(loaded.masks["liver"], labels > 0)
    np.testing.assert_array_equal(loaded.frames, scan.frames())
    np.testing.assert_allclose(loaded.scan.geometry.affine, scan.geometry.affine)


@pytest.mark.parametrize(
    ("places", "times", "words"),
    [
        ([0, 1, 3, 4], None, "1 slices are missing"),
        ([0, 0, 0], [1, 2, 3], "all slices lie at one place"),
        ([0, 1, 0, 1], [1, 1, 2, 2], "2 images at each of its 2 places"),
    ],
    ids=["gap", "in time", "time points"],
)
def test_a_multi_frame_file_that_is_no_block_is_refused_when_loaded(tmp_path, places, times, words):
    dicom_made.enhanced(tmp_path / "in.dcm", [0, 1, 2])
    scan = read(tmp_path / "in.dcm")
    labels = np.ones(scan.shape, np.uint8)
    result = Segmentation(labels, [SegmentedObject(1, "liver")], scan.geometry, properties=scan.properties)
    write(result, tmp_path / "a_seg.dcm")
    dicom_made.enhanced(tmp_path / "in.dcm", places, times)
    with pytest.raises(InputError, match=words):
        search(tmp_path)[0][0].load()


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(0, 1, 1), (1, 1, 9), (2, 9, 9)], "reaches over"),
        ([(9, 1, 1), (9, 1, 9), (9, 9, 9)], "none of its 1 contours lies on a slice"),
    ],
)
def test_contours_that_cannot_be_used(tmp_path, points, words):
    rtstruct(tmp_path / "rt.dcm", series(tmp_path), {"A": [(0, points)]})
    with pytest.raises(InputError, match=words):
        search(tmp_path)[0][0].load()


def test_what_is_left_over_is_reported(tmp_path):
    series(tmp_path / "alone")
    images = series(tmp_path / "full", patient="P2")
    (liver,) = blocks((1, 3, 4))
    seg(tmp_path / "full/seg.dcm", images, {"Liver": liver})
    gone = series(tmp_path / "gone")
    seg(tmp_path / "orphan.dcm", gone, {"Liver": liver})
    for path in (tmp_path / "gone").iterdir():
        path.unlink()
    rtstruct(tmp_path / "points.dcm", images, {"Marker": [(0, [(1, 1)])]}, kind="POINT")
    (tmp_path / "broken.dcm").write_bytes(b"nothing")
    (tmp_path / "picture.png").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_bytes(b"nothing")
    cases, dropped = search(tmp_path)
    assert [(case.name, case.patient) for case in cases] == [("full", "P2")]
    assert "no SEG or RTSTRUCT refers" in dropped["alone"]
    assert "series it refers to is not here" in dropped["orphan.dcm"]
    assert "no segment with a contour" in dropped["points.dcm"]
    assert "is not DICOM" in dropped["broken.dcm"] and "neither DICOM" in dropped["picture.png"]
    assert set(dropped) == {"alone", "orphan.dcm", "points.dcm", "broken.dcm", "picture.png"}


def test_objects_may_be_chosen_and_renamed(tmp_path):
    images = series(tmp_path / "a")
    liver, other = blocks((1, 3, 4), (0, 12, 15))
    seg(tmp_path / "a/s.dcm", images, {"Liver 1": liver, "LIVER-2": other, "Spleen": other})
    objects = {"liver": ["liver_1", "Liver 2"], "kidney": "Kidney"}
    case = search(tmp_path, objects=objects)[0][0]
    assert case.objects == ("liver",)
    np.testing.assert_array_equal(case.load().masks["liver"], liver | other)
    assert "has none of kidney" in search(tmp_path, objects={"kidney": "Kidney"})[1]["a"]


def test_one_id_for_all_leaves_the_folders_to_tell_patients_apart(tmp_path):
    for folder in ("one", "two"):
        images = series(tmp_path / folder / "ct", patient="ANON")
        seg(tmp_path / folder / "seg.dcm", images, {"Liver": blocks((1, 3, 4))[0]})
    assert [case.patient for case in search(tmp_path)[0]] == ["one", "two"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"places": [0, 1, 3, 4]}, "1 slices are missing; the first gap of 5 mm is between 07.dcm and 03.dcm"),
        ({"places": [0, 1, 1, 2]}, "where another lies already"),
        ({"PixelSpacing": lambda i: [0.8, 0.6 + 0.1 * (i == 2)]}, "different directions or spacings"),
        (
            {"ImageOrientationPatient": lambda i: [1, 0, 0, 0, 1, 0] if i == 2 else [1, 0, 0, 0, 0.8, 0.6]},
            "different directions or spacings",
        ),
        ({"ImagePositionPatient": None}, "do not say where they lie"),
    ],
    ids=["gap", "twice", "spacing", "direction", "no place"],
)
def test_a_series_that_is_no_block_is_refused_when_loaded(tmp_path, change, words):
    images = series(tmp_path)
    seg(tmp_path / "s.dcm", images, {"Liver": blocks((1, 3, 4))[0]})
    for path in tmp_path.glob("[01]*.dcm"):
        path.unlink()
    spoiled = series(tmp_path, **change)
    for data, path in zip(images, sorted(tmp_path.glob("[01]*.dcm")), strict=True):
        import pydicom

        again = pydicom.dcmread(path)
        again.SeriesInstanceUID, again.FrameOfReferenceUID = data.SeriesInstanceUID, data.FrameOfReferenceUID
        again.save_as(path)
    assert len(spoiled) == 4
    case = search(tmp_path)[0][0]
    with pytest.raises(InputError, match=words):
        case.load()


def test_a_damaged_seg_is_named_when_loaded(tmp_path):
    seg(tmp_path / "s.dcm", series(tmp_path), {"Liver": blocks((1, 3, 4))[0]})
    path = tmp_path / "s.dcm"
    case = search(tmp_path)[0][0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"s\.dcm"):
        case.load()


@pytest.mark.parametrize("field", ["SegmentIdentificationSequence", "PlanePositionSequence", "FrameContentSequence"])
def test_a_seg_that_lacks_a_field(tmp_path, field):
    import pydicom

    liver, other = blocks((1, 3, 4), (0, 9, 9))
    seg(tmp_path / "s.dcm", series(tmp_path), {"Liver": liver, "Other": other})
    data = pydicom.dcmread(tmp_path / "s.dcm")
    for group in data.PerFrameFunctionalGroupsSequence:
        del group[field]
    data.save_as(tmp_path / "s.dcm")
    case = search(tmp_path)[0][0]
    if field == "FrameContentSequence":  # not needed
        return np.testing.assert_array_equal(case.load().masks["liver"], liver)
    with pytest.raises(InputError, match=rf"s\.dcm: frame 1: has no {field}"):
        case.load()
    return None


def test_a_contour_without_points_is_no_contour(tmp_path):
    rois = {"A": [(1, []), (1, [(1, 1)]), (1, square(2.5, 2.5, 5.5, 6.5))]}
    rtstruct(tmp_path / "rt.dcm", series(tmp_path), rois)
    assert search(tmp_path)[0][0].load().masks["a"].sum() == 12


def test_an_empty_folder_and_options_are_refused(tmp_path):
    with pytest.raises(InputError, match="neither DICOM files nor NRRD"):
        search(tmp_path)
    with pytest.raises(InputError, match="has no options"):
        search(tmp_path, layout={"image": "x"})


@pytest.mark.needs_data
def test_real_segs_agree_with_highdicom(data_dir):
    import highdicom as hd

    root = data_dir / "dicom/seg_rtstruct/dcmqi"
    cases, dropped = search(root)
    assert {c.name: (c.objects, c.load().scan.shape) for c in cases} == {
        "23x38x3_image": (("liver",), (3, 38, 23)),
        "24x38x3_image": (("liver",), (3, 38, 24)),
        "ct-3slice": (("liver", "green", "orange", "purple", "light_blue", "dark_blue"), (3, 512, 512)),
    }
    assert {name: reason.partition(":")[0] for name, reason in dropped.items()} == {
        "23x38x3_multiframe": "image without label",
        "24x38x3_multiframe": "image without label",
    }
    loaded = next(c for c in cases if c.name == "ct-3slice").load()
    assert loaded.scan.geometry.spacing == pytest.approx((1, 0.810547, 0.810547)) and loaded.frames.min() < -1000
    liver = hd.seg.segread(root / "liver.dcm")
    theirs = liver.get_pixels_by_source_instance(
        loaded.scan.properties["sop_instance_uids"], ignore_spatial_locations=True
    )
    np.testing.assert_array_equal(loaded.masks["liver"], theirs[..., 0] > 0)
    assert loaded.frames[loaded.masks["liver"]].std() < loaded.frames.std() / 4  # one tissue


@pytest.mark.needs_data
def test_a_real_rtstruct_fits_its_slice(data_dir):
    (case,), dropped = search(data_dir / "dicom/seg_rtstruct/dicompyler")
    loaded = case.load()
    assert "body" in case.objects and "areola" not in case.objects and dropped == {}
    inside, outside = loaded.frames[loaded.masks["body"]], loaded.frames[~loaded.masks["body"]]
    assert np.median(inside) > -300 and np.median(outside) < -900  # body and air
