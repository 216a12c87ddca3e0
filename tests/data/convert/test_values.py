"""Rules of label values."""

from __future__ import annotations

import numpy as np
import pytest

from samed2.data.cases import MaskArrays
from samed2.data.convert.values import RuledMasks, check_extent, check_values, parse_rule, values_in, whole_numbers
from samed2.errors import InputError

LINE = np.array([0, 1, 2, 127, 128, 190, 191, 255], np.uint8)


@pytest.mark.parametrize(
    ("given", "picked"),
    [
        (2, [2]),
        ([0, 128], [0, 128]),
        (">0", [1, 2, 127, 128, 190, 191, 255]),
        (">= 191", [191, 255]),
        ("<2", [0, 1]),
        ("<=1", [0, 1]),
        ("==128", [128]),
        ("!=0", [1, 2, 127, 128, 190, 191, 255]),
        (None, [128, 190, 191, 255]),
        (True, [128, 190, 191, 255]),
    ],
)
def test_rules_pick(given, picked):
    rule = parse_rule(given, "object").settle(LINE)
    np.testing.assert_array_equal(LINE[rule.pick(LINE)], picked)


@pytest.mark.parametrize("given", ["128", ">", "> x", "=128", 1.5, [], [1, "2"], {"a": 1}, False, ">0 or 1"])
def test_what_is_no_rule_is_refused(given):
    with pytest.raises(InputError, match=r"liver: got .* wanted a label value"):
        parse_rule(given, "liver")


@pytest.mark.parametrize(
    ("labels", "lossy", "limit"),
    [
        (np.array([0, 1], np.uint8), False, ">0"),
        (np.array([0, 255], np.uint8), False, ">=128"),
        (np.array([0, 5], np.uint8), True, ">=128"),  # noise of an empty JPEG mask
        (np.array([0, 255], np.uint16), False, ">0"),
        (np.array([0, 65535], np.uint16), False, ">=32768"),
        (np.array([0.0, 255.0]), False, ">0"),
    ],
)
def test_without_a_rule_the_range_decides(labels, lossy, limit):
    assert parse_rule(None, "x").settle(labels, lossy) == parse_rule(limit, "x")


@pytest.mark.parametrize(
    ("values", "rules", "background", "words"),
    [
        ([0, 1, 2], [1, 2], None, ""),
        ([0, 1, 2], [1], None, "outside the list: 2; wanted 1 and background 0"),
        ([0, 128, 255], [0, [0, 128]], None, ""),
        ([0, 128, 254], [0, [0, 128]], None, "254"),
        ([0, 1, 4], [1], (0, 4), ""),
        ([0, 1, 4], [1, ">3"], None, ""),
        ([-1, 0, 1], [1], None, "-1"),
        (list(range(20)), [1], None, r"2, 3, 4, 5, 6, 7, 8, 9, \.\.\."),
    ],
)
def test_values_outside_the_list(values, rules, background, words):
    labels = np.array(values, np.int16).reshape(1, 1, -1)
    given = [parse_rule(rule, "x") for rule in rules]
    if not words:
        return check_values(labels, given, background, "f.nii")
    with pytest.raises(InputError, match=f"f.nii: has label values .*{words}"):
        check_values(labels, given, background, "f.nii")
    return None


def test_values_of_any_integers():
    labels = np.array([[[0, 2**31 - 1, -(2**31), 7, 7]]], np.int32)
    assert values_in(labels) == (-(2**31), 0, 7, 2**31 - 1)
    assert values_in(np.zeros((1, 0, 0), np.uint8)) in ((), (0,))


def test_real_numbers_become_whole_or_are_refused():
    whole = whole_numbers(np.array([[[0.0, 1.0002, 2.9999]]]), "f")
    assert whole.dtype == np.int16 and whole.tolist() == [[[0, 1, 3]]]
    for odd in (0.5, np.nan, np.inf):
        with pytest.raises(InputError, match="f: has label"):
            whole_numbers(np.array([[[0.0, odd]]]), "f")


def test_several_files_are_united_frame_by_frame():
    one, other = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8)
    one[0, 0], other[1, 2] = 1, 200
    masks = RuledMasks({"a": [(one, parse_rule(1, "a")), (other, parse_rule(">=128", "a"))]})
    assert masks.shape == (2, 3, 4) and masks.names == ("a",)
    np.testing.assert_array_equal(masks["a"], (one == 1) | (other > 0))
    np.testing.assert_array_equal(masks.on_frame("a", 1), other[1] > 0)


def test_empty_and_full_cases():
    empty, full = np.zeros((2, 3, 3), bool), np.ones((2, 3, 3), bool)
    half = np.stack([np.zeros((3, 3)), np.ones((3, 3))])
    with pytest.raises(InputError, match=r"d/c: all-empty: no pixel of a, b"):
        check_extent(MaskArrays({"a": empty, "b": empty}), "d/c")
    check_extent(MaskArrays({"a": empty}), "d/c", allow_empty=True)
    with pytest.raises(InputError, match="d/c: all-foreground: b covers every pixel"):
        check_extent(MaskArrays({"a": empty, "b": full}), "d/c", allow_empty=True)
    check_extent(MaskArrays({"a": half, "b": full}), "d/c")
    check_extent(MaskArrays({"a": half, "b": empty}), "d/c")
