"""Prompts and what is wrong with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samed2.errors import InputError
from samed2.io import Scan
from samed2.prompts import Box, ObjectPrompts, Point, Prompts

SCAN = Scan.from_array(np.zeros((3, 20, 30), np.uint8), name="clip", kind="volume")


def test_adding() -> None:
    prompts = Prompts().add_box(2, 1, 3, 4, 10, 12).add_point(1, 0, 5, 6).add_point(1, 2, 7, 8, positive=False)
    prompts.add_object(2, "liver")
    first, second = np.zeros((20, 30)), np.zeros((20, 30))
    first[0, 0] = second[1, 1] = 1
    prompts.add_mask(2, 1, first).add_mask(2, 1, second)
    assert prompts.objects[1].points == [(0, 5, 6, True), (2, 7, 8, False)]
    assert prompts.objects[2].boxes == [(1, 3, 4, 10, 12)]
    assert prompts.objects[2].name == "liver"
    assert prompts.objects[2].masks[1].sum() == 2, "masks of one object and frame are united"
    assert prompts.frames() == [0, 1, 2]
    assert prompts.objects[1].frames() == [0, 2]
    only = prompts.on_frame(1)
    assert list(only.objects) == [2]
    assert only.frames() == [1]
    assert prompts.validate(SCAN).objects[2].boxes == [Box(1, 3, 4, 10, 12)]


@pytest.mark.parametrize("key", [0, -1, 65_536, 1.5, "1", None, True])
def test_object_ids(key: Any) -> None:
    with pytest.raises(InputError, match="object id"):
        Prompts().add_box(key, 0, 1, 1, 5, 5)


def test_boxes_are_cut_to_the_image_and_the_original_stays() -> None:
    prompts = Prompts().add_box(1, 0, -5.5, 10, 8, 99).add_box(1, 0, 0, 0, 20, 30)
    checked = prompts.validate(SCAN)
    assert checked.objects[1].boxes == [(0, 0, 10, 8, 30), (0, 0, 0, 20, 30)]
    assert prompts.objects[1].boxes[0].y0 == -5.5


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 30, 0, 40, 10), "outside the image of 30 x 20"),
        ((0, 0, 30, 10, 40), "outside"),
        ((0, -9, -9, -1, -1), "outside"),
        ((0, 19.5, 0, 40, 10), "outside"),
        ((0, 10, 5, 3, 9), "turned round"),
        ((0, 3, 9, 10, 5), "turned round"),
        ((0, 3, 5, 3, 9), "empty"),
        ((0, 3, 5, 3.5, 9), "empty"),
        ((0, math.nan, 5, 9, 9), "NaN"),
        ((0, 3, 5, math.inf, 9), "NaN or infinity"),
        ((3, 3, 5, 9, 9), r"frame 3 is unknown, wanted 0 to 2 \(clip\)"),
        ((-1, 3, 5, 9, 9), "frame -1"),
        ((0.5, 3, 5, 9, 9), "whole number"),
        ((0, "a", 5, 9, 9), "numbers"),
        ((0, None, 5, 9, 9), "numbers"),
    ],
)
def test_bad_boxes(box: tuple[Any, ...], words: str) -> None:
    prompts = Prompts().add_box(1, 0, 1, 1, 5, 5)
    prompts.add_object(1, "liver")
    prompts.add_box(1, *box)
    with pytest.raises(InputError, match=words) as caught:
        prompts.validate(SCAN)
    assert str(caught.value).startswith("object 1 (liver), box 2: ")


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ((0, 20, 5), "x=5, y=20 lies outside the image, wanted 0 <= x < 30 and 0 <= y < 20"),
        ((0, 5, 30), "outside"),
        ((0, -0.1, 5), "outside"),
        ((0, math.nan, 5), "NaN"),
        ((7, 5, 5), "frame 7"),
        ((0, [1], 5), "numbers"),
    ],
)
def test_bad_points(point: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Prompts().add_point(4, *point).validate(SCAN)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((30, 20)), r"shape \(30, 20\) .*wanted \(20, 30\)"),
        (np.ones((3, 20, 30)), "shape"),
        (np.zeros((20, 30)), "empty"),
        (5, "shape"),
    ],
)
def test_bad_masks(mask: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Prompts().add_mask(1, 0, mask).validate(SCAN)


def test_nothing_to_go_by() -> None:
    with pytest.raises(InputError, match="no object"):
        Prompts().validate(SCAN)
    with pytest.raises(InputError, match="object 3: has no prompt"):
        Prompts({3: ObjectPrompts()}).validate(SCAN)
    with pytest.raises(InputError, match="only the text 'liver'"):
        Prompts({3: ObjectPrompts(text="liver")}).validate(SCAN)
    assert Prompts({3: ObjectPrompts(text="liver")}).validate(SCAN, allow_text=True).objects[3].text == "liver"


@pytest.mark.parametrize("value", [None, 5, (1, 2), "abcd"])
def test_malformed_entries(value: Any) -> None:
    with pytest.raises(InputError, match="object 1, "):
        Prompts({1: ObjectPrompts(boxes=[value])}).validate(SCAN)
    if value != "abcd":
        with pytest.raises(InputError, match="object 1, point 1"):
            Prompts({1: ObjectPrompts(points=[value])}).validate(SCAN)


def test_plain_tuples_and_numpy_numbers_will_do() -> None:
    entry = ObjectPrompts(points=[(np.int64(1), np.float32(2), 3, 0)], boxes=[(0, *np.array([1, 2, 8, 9]))])  # type: ignore[list-item]
    checked = Prompts({1: entry}).validate(SCAN).objects[1]
    assert checked.points == [Point(1, 2.0, 3.0, False)]
    assert checked.boxes == [Box(0, 1.0, 2.0, 8.0, 9.0)]
    assert all(type(value) is float for value in checked.boxes[0][1:])


NUMBERS = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.none(), st.text(max_size=2))


@settings(deadline=None, max_examples=200)
@given(frame=st.one_of(st.integers(-2, 4), NUMBERS), numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS))
def test_any_numbers_pass_or_are_refused_in_one_line(frame: Any, numbers: tuple[Any, ...]) -> None:
    for prompts in (Prompts().add_box(1, frame, *numbers), Prompts().add_point(1, frame, *numbers[:2])):
        try:
            checked = prompts.validate(SCAN).objects[1]
        except InputError as error:
            message = str(error)
        else:
            message = ""
        if message:
            assert "\n" not in message
            assert message.startswith("object 1, ")
            continue
        for _, y0, x0, y1, x1 in checked.boxes:
            assert 0 <= y0 < y1 <= 20
            assert 0 <= x0 < x1 <= 30
        for _, y, x, _ in checked.points:
            assert 0 <= y < 20
            assert 0 <= x < 30
