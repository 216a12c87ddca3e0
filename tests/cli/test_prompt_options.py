"""Which object each prompt of the command line belongs to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samed2.cli.prompt_options import build_prompts, parse_objects
from samed2.errors import InputError
from samed2.io import Scan

A, B = (1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)


@pytest.mark.parametrize(
    "boxes, points, objects, expected",
    [
        (["1,2,3,4"], [], [], [("", [A], [])]),
        (["1,2,3,4", "5,6,7,8"], [], [], [("", [A, B], [])]),
        (["1,2,3,4", "5,6,7,8"], [], ["liver"], [("liver", [A, B], [])]),
        (["1,2,3,4", "5,6,7,8"], [], ["liver", "spleen"], [("liver", [A], []), ("spleen", [B], [])]),
        (["b=1,2,3,4", "a=5,6,7,8"], [], [], [("b", [A], []), ("a", [B], [])]),
        (["b=1,2,3,4", "a=5,6,7,8"], [], ["a", "b"], [("a", [B], []), ("b", [A], [])]),
        (
            ["1,2,3,4", "5,6,7,8"],
            ["a=9,9,0"],
            ["a", "b"],
            [("a", [A], [(9.0, 9.0, False)]), ("b", [B], [])],
        ),
        ([], ["9.5,8"], ["left lung"], [("left lung", [], [(9.5, 8.0, True)])]),
        ([], ["left lung=9,8,1"], [], [("left lung", [], [(9.0, 8.0, True)])]),
        ([], [], [], []),
    ],
)
def test_prompts_find_their_object(
    boxes: list[str], points: list[str], objects: list[str], expected: list[tuple[str, list, list]]
) -> None:
    found = parse_objects(boxes, points, [], objects)
    assert [(o.name, o.boxes, o.points) for o in found] == expected


@pytest.mark.parametrize(
    "boxes, points, objects, words",
    [
        (["1,2,3"], [], [], "got 3 numbers, wanted x0,y0,x1,y1"),
        (["1,2,3,four"], [], [], "--box 1,2,3,four: is not x0,y0,x1,y1"),
        (["1,2,3,nan"], [], [], "not finite"),
        (["1,2,inf,4"], [], [], "not finite"),
        ([""], [], [], "wanted|is not x0"),
        ([], ["1"], [], "got 1 numbers, wanted x,y"),
        ([], ["1,2,3"], [], "the third number is 3"),
        (["kidney=1,2,3,4"], [], ["liver"], "unknown object 'kidney', --object gave liver"),
        (["liver=1,2,3,4", "5,6,7,8"], [], [], "names no object while others do; write liver=5,6,7,8"),
        (["1,2,3,4"], [], ["a", "b"], "got 1 without a name for 2 objects"),
        (["1,2,3,4"] * 3, [], ["a", "b"], "got 3 without a name for 2 objects"),
        (["a=1,2,3,4"], [], ["a", "b"], "--object b: has no prompt"),
        (["1,2,3,4"], [], ["a", "a"], "given twice"),
        (["1,2,3,4"], [], ["a=b"], "without '='"),
        (["1,2,3,4"], [], [""], "wanted a name"),
    ],
)
def test_what_is_unclear_is_refused(boxes: list[str], points: list[str], objects: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_objects(boxes, points, [], objects)


def _mask(path: Path, *corners: int) -> Path:
    pixels = np.zeros((20, 30), np.uint8)
    y0, x0, y1, x1 = corners
    pixels[y0:y1, x0:x1] = 1
    Image.fromarray(pixels).save(path)
    return path


def test_masks_are_read_and_named(tmp_path: Path) -> None:
    odd = _mask(tmp_path / "a=b.png", 0, 0, 2, 2)
    plain = _mask(tmp_path / "m.png", 5, 6, 9, 10)
    scan = Scan.from_array(np.zeros((20, 30), np.uint8))
    alone = parse_objects([], [], [str(odd)], [])
    assert (alone[0].name, alone[0].masks) == ("", [odd])
    prompts = build_prompts(parse_objects([], [], [f"liver={plain}"], []), scan, None).prompts
    assert prompts.objects[1].name == "liver"
    assert prompts.objects[1].masks[0].sum() == 16
    assert prompts.objects[1].masks[0][5:9, 6:10].all()


def test_boxes_and_points_turn_into_frame_y_x() -> None:
    scan = Scan.from_array(np.zeros((4, 20, 30), np.uint8), kind="volume")
    prompts = build_prompts(parse_objects(["1,2,3,4"], ["5,6,0"], [], ["x"]), scan, 2).prompts
    assert prompts.objects[1].boxes == [(2, 2.0, 1.0, 4.0, 3.0)]
    assert prompts.objects[1].points == [(2, 6.0, 5.0, False)]


def test_a_box_of_six_numbers_says_its_slices() -> None:
    scan = Scan.from_array(np.zeros((9, 20, 30), np.uint8), kind="volume")
    prompts, spans = build_prompts(parse_objects(["x=1,2,3,11,12,8"], [], [], []), scan, None)
    assert prompts.objects[1].boxes == [(5, 2.0, 1.0, 12.0, 11.0)]
    assert spans == {1: (3, 7)}
    with pytest.raises(InputError, match="--box 1,2,30,11,12,38: slices 30 to 37 do not exist, wanted some of 0 to 8"):
        build_prompts(parse_objects(["1,2,30,11,12,38"], [], [], []), scan, None)


def test_several_frames_need_a_frame(tmp_path: Path) -> None:
    scan = Scan.from_array(np.zeros((4, 20, 30), np.uint8), kind="volume")
    with pytest.raises(InputError, match="has 4 frames; say with --frame"):
        build_prompts(parse_objects(["1,2,3,4"], [], [], []), scan, None)
    flat = _mask(tmp_path / "m.png", 0, 0, 3, 3)
    with pytest.raises(InputError, match="give --frame"):
        build_prompts(parse_objects([], [], [str(flat)], []), scan, None)
    assert list(build_prompts(parse_objects([], [], [str(flat)], []), scan, 3).prompts.objects[1].masks) == [3]


@pytest.mark.parametrize("name, words", [("none.png", "does not exist"), ("zero.png", "is empty")])
def test_bad_masks(name: str, words: str, tmp_path: Path) -> None:
    _mask(tmp_path / "zero.png", 0, 0, 0, 0)
    scan = Scan.from_array(np.zeros((20, 30), np.uint8))
    with pytest.raises(InputError, match=words):
        build_prompts(parse_objects([], [], [str(tmp_path / name)], []), scan, None)
