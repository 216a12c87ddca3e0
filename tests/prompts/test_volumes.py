"""Prompts over slices and in millimetres, lines of lesions, and label maps to refine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from samed2.errors import InputError
from samed2.io import Geometry, Scan
from samed2.io.slicing import along
from samed2.prompts import case_from_json, from_json
from samed2.prompts.lines import box_of_lines

SHAPE = (10, 40, 50)
# frames to the head 5 mm apart, rows to the back 2 mm, columns to the left 1 mm; RAS of voxel (0, 0, 0): 20, 30, -100
GEOMETRY = Geometry.from_spacing((5, 2, 1), (20, 30, -100))


def volume(geometry: Geometry = GEOMETRY, **properties: Any) -> Scan:
    scan = Scan.from_array(np.zeros(SHAPE, np.uint8), kind="volume", geometry=geometry, name="v")
    scan.properties.update(properties)
    return scan


def one(scan: Scan, **fields: Any) -> Any:
    return case_from_json({"objects": [fields]}, scan)


@pytest.mark.parametrize(
    "box, middle, span",
    [
        ([5, 6, 2, 15, 16, 7], 4, (2, 6)),
        ([5, 6, 2, 15, 16, 3], 2, (2, 2)),
        ([5, 6, -4, 15, 16, 4], 1, (0, 3)),
        ([5, 6, 8, 15, 16, 99], 8, (8, 9)),
        # voxels 5 to 14 from left to right are RAS 14.5 to 4.5 with half a voxel around
        ({"mm": [5.5, -1, -87.5, 15.5, 19, -62.5], "space": "RAS"}, 5, (3, 7)),
        ({"mm": [-15.5, -19, -87.5, -5.5, 1, -62.5], "space": "LPS"}, 5, (3, 7)),
    ],
)
def test_a_box_over_slices(box: Any, middle: int, span: tuple[int, int]) -> None:
    prompts, spans = one(volume(), boxes=[box])
    (found,) = prompts.objects[1].boxes
    assert found.frame == middle
    assert spans == {1: span}
    assert found[1:] == pytest.approx((6, 5, 16, 15))


def test_a_flat_box_in_mm_prompts_a_slice_without_limits() -> None:
    prompts, spans = one(volume(), boxes=[{"mm": [5.5, -1, -80, 15.5, 19, -80], "space": "RAS"}])
    assert prompts.objects[1].boxes[0].frame == 4
    assert spans == {}


def test_other_prompts_widen_the_span() -> None:
    _, spans = one(volume(), boxes=[[5, 6, 2, 15, 16, 4]], points=[{"frame": 8, "point": [9, 9]}])
    assert spans == {1: (2, 8)}


@pytest.mark.parametrize("space", ["RAS", "LPS"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_points_in_mm_meet_their_voxel_however_the_volume_is_cut(axis: int, space: str) -> None:
    turned = np.array([[0.9, 0.1, 0.2], [-0.1, 1.1, 0.3], [0.2, -0.3, 2.0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, (7, -8, 9)
    scan = volume(Geometry(affine))
    voxel = np.array([3, 11, 22])
    mm = scan.geometry.to_mm(voxel) * ((-1, -1, 1) if space == "LPS" else (1, 1, 1))
    prompts, _ = one(along(scan, axis), points=[{"mm": [*map(float, mm)], "space": space, "positive": False}])
    order = {0: [0, 1, 2], 1: [1, 0, 2], 2: [2, 0, 1]}[axis]
    (point,) = prompts.objects[1].points
    assert point[:3] == pytest.approx(tuple(voxel[order]))
    assert point.positive is False


def test_points_in_mm_meet_slices_where_they_truly_lie() -> None:
    places = [[-20.0, -30.0, -100.0 + z] for z in (0, 2, 4, 6, 8, 18, 28, 38, 48, 58)]
    scan = volume(frame_positions_lps=places, evenly_spaced=False)
    for frame, place in enumerate(places):
        prompts, _ = one(scan, points=[{"mm": [-10, 0, place[2] + 0.4], "space": "LPS"}])
        assert prompts.objects[1].points[0][:3] == pytest.approx((frame, 15, 10))


def test_points_of_three_numbers_say_their_slice() -> None:
    prompts, _ = one(volume(), points=[{"point": [7, 8, 3]}])
    assert prompts.objects[1].points == [(3, 8, 7, True)]


def test_the_space_may_stand_once() -> None:
    data = {"space": "RAS", "objects": [{"points": [{"mm": [10, 10, -80]}]}]}
    assert from_json(data, scan=volume()).objects[1].points == [(4, 10, 10, True)]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"boxes": [[5, 6, 12, 15, 16, 14]]}, r"boxes\[0\]: slices 12 to 13 do not exist, wanted some of 0 to 9"),
        ({"boxes": [[5, 6, 7, 15, 16, 3]]}, "turned round"),
        ({"boxes": [[5, 6, 3, 15, 16, 3]]}, "holds no slice"),
        ({"boxes": [[5, 6, float("nan"), 15, 16, 3]]}, "wanted finite numbers"),
        ({"boxes": [{"frame": 2, "box": [5, 6, 2, 15, 16, 3]}]}, "frame: cannot be given beside a box of six"),
        ({"boxes": [{"mm": [1, 2, 3, 4], "space": "RAS"}]}, r"boxes\[0\].mm: got \[1, 2, 3, 4\], wanted \[x0, y0, z0"),
        (
            {"boxes": [{"mm": [900, 0, -90, 950, 9, -80], "space": "RAS"}]},
            "outside the volume, which reaches over x -30",
        ),
        ({"boxes": [{"mm": [9, 0, -90, 1, 9, -80], "space": "RAS"}]}, "turned round"),
        ({"points": [{"mm": [10, 10, -80]}]}, 'space: got nothing, wanted "RAS" or "LPS"'),
        ({"points": [{"mm": [10, 10, -80], "space": "LIP"}]}, "space: got 'LIP'"),
        ({"points": [{"mm": [10, 10, 500], "space": "RAS"}]}, r"10, 10, 500 mm \(RAS\) lies outside the volume"),
        ({"points": [{"mm": [10, 10, float("inf")], "space": "RAS"}]}, "wanted finite numbers"),
        (
            {"points": [{"frame": 2, "point": {"mm": [10, 10, -80], "space": "RAS"}}]},
            "frame: cannot be given beside mm",
        ),
        ({"points": [{"point": [7, 8, 30]}]}, "frame 30 is unknown, wanted 0 to 9"),
        ({"lines": [{"line": [5, 5, 5, 5]}]}, "has no length"),
        ({"lines": [{"line": [5, 5, 9]}]}, r"lines\[0\].line: got \[5, 5, 9\]"),
        ({"lines": [{"line": {"mm": [10, 10, -80, 15, 15, -60], "space": "RAS"}}]}, r"lie on slices \[4, 8\]"),
        ({"lines": [{"long": [5, 5, 9, 9]}]}, "unknown field 'long', wanted one of frame, line, short"),
    ],
)
def test_what_does_not_fit_is_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        one(volume(), **fields).prompts.validate(volume())
    assert "\n" not in str(caught.value)


def test_millimetres_need_a_place() -> None:
    flat = Scan.from_array(np.zeros(SHAPE, np.uint8), kind="volume")
    with pytest.raises(InputError, match="does not say where it lies"):
        one(flat, points=[{"mm": [1, 2, 3], "space": "RAS"}])
    with pytest.raises(InputError, match="pass scan="):
        from_json({"objects": [{"boxes": [[1, 2, 3, 4, 5, 6]]}]})


@pytest.mark.parametrize(
    "long, short, box",
    [
        ([(10, 5), (10, 25)], [(6, 15), (14, 15)], (6, 5, 15, 26)),
        ([(10, 5), (10, 25)], None, (2, 5, 19, 26)),  # 0.8 of the length across
        ([(10, 10), (20, 20)], [(20, 10), (10, 20)], (7.93, 7.93, 23.07, 23.07)),  # a circle
        ([(0, 0), (20, 0)], [(10, -2), (10, 8)], (0, -2, 21, 9)),  # the short line touches further out on one side
    ],
)
def test_boxes_around_lesions(long: Any, short: Any, box: tuple[float, ...]) -> None:
    assert box_of_lines(long, short, "x") == pytest.approx(box, abs=0.01)


def test_lines_in_pixels_and_mm_are_the_same() -> None:
    scan = volume()
    ends = [scan.geometry.to_mm((4, y, x)) for y, x in ((10, 5), (10, 25))]
    mm = {"mm": [*map(float, np.concatenate(ends))], "space": "RAS"}
    pixels = one(scan, lines=[{"frame": 4, "line": [5, 10, 25, 10]}]).prompts.objects[1].boxes
    placed = one(scan, lines=[{"line": mm}]).prompts.objects[1].boxes
    assert pixels[0] == pytest.approx(placed[0])
    assert pixels[0].frame == 4


def _labels(path: Path, labels: np.ndarray, affine: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), affine), path)
    return path.name


def test_a_label_map_becomes_objects(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 5:9, 6:12], labels[3, 20:30, 6:12] = 3, 7
    name = _labels(tmp_path / "old.nii.gz", labels, GEOMETRY.to_xyz())
    data = {"labels": name, "objects": [{"id": 7, "name": "cyst", "points": [{"frame": 3, "point": [8, 25]}]}]}
    prompts = case_from_json(data, volume(), tmp_path).prompts
    assert sorted(prompts.objects) == [3, 7]
    assert {i: sorted(entry.masks) for i, entry in prompts.objects.items()} == {3: [2, 3], 7: [3]}
    assert np.array_equal(prompts.objects[3].masks[2], labels[2] == 3)
    assert (prompts.objects[7].name, len(prompts.objects[7].points)) == ("cyst", 1)


def test_a_label_map_with_other_axes_meets_the_same_voxels(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 5:9, 6:12] = 3
    image = nibabel.Nifti1Image(labels.transpose(2, 1, 0), GEOMETRY.to_xyz())
    nibabel.save(nibabel.as_closest_canonical(image), tmp_path / "ras.nii.gz")
    prompts = case_from_json({"labels": "ras.nii.gz"}, volume(), tmp_path).prompts
    found = np.stack([prompts.objects[3].masks.get(f, np.zeros(SHAPE[1:], bool)) for f in range(SHAPE[0])])
    assert np.array_equal(found, labels == 3)


def test_a_label_png_keeps_its_values(tmp_path: Path) -> None:
    values = np.zeros((6, 8), np.uint8)
    values[2:4, 3:5], values[5, 5] = 1, 2
    picture = Image.fromarray(values)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "l.png")
    scan = Scan.from_array(np.zeros((6, 8), np.uint8))
    prompts = case_from_json({"labels": "l.png"}, scan, tmp_path).prompts
    assert np.array_equal(prompts.objects[1].masks[0], values == 1)
    assert np.array_equal(prompts.objects[2].masks[0], values == 2)


@pytest.mark.parametrize(
    "kind, words",
    [
        ("none", "none.nii.gz: does not exist"),
        ("empty", "has no label"),
        ("far", "has no label"),
        ("image", "more than 1000 values"),
        ("real", "wanted whole numbers 0 to 65535"),
        ("size", r"has shape \(3, 4, 5\)"),
    ],
)
def test_label_maps_that_do_not_fit(kind: str, words: str, tmp_path: Path) -> None:
    labels, affine, scan = np.zeros(SHAPE, np.float32), GEOMETRY.to_xyz(), volume()
    if kind == "far":
        labels[:] = 1
        affine = affine.copy()
        affine[:3, 3] += 1000
    elif kind == "image":
        labels[:] = np.arange(labels.size).reshape(SHAPE) % 5000
    elif kind == "real":
        labels[1] = 0.5
    elif kind == "size":
        labels, scan = labels[:3, :4, :5], Scan.from_array(np.zeros(SHAPE, np.uint8), kind="volume")
    if kind != "none":
        _labels(tmp_path / f"{kind}.nii.gz", labels, affine)
    with pytest.raises(InputError, match=words):
        case_from_json({"labels": f"{kind}.nii.gz"}, scan, tmp_path)
