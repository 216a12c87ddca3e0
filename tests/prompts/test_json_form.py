"""Prompts from and to JSON; what is wrong is told by its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from samed2.errors import InputError
from samed2.io import Scan
from samed2.prompts import Prompts, from_json, images_from_json, is_for_many_images, to_json

BOX = {"frame": 0, "box": [2, 1, 12, 9]}
GOOD = {"objects": [{"id": 3, "name": "liver", "boxes": [BOX], "points": [{"point": [5, 4], "positive": False}]}]}


def same(first: Prompts, second: Prompts) -> bool:
    if first.objects.keys() != second.objects.keys():
        return False
    for key, a in first.objects.items():
        b = second.objects[key]
        if (a.name, a.points, a.boxes, a.text) != (b.name, b.points, b.boxes, b.text):
            return False
        if a.masks.keys() != b.masks.keys() or any(not np.array_equal(a.masks[f], b.masks[f]) for f in a.masks):
            return False
    return True


def test_x_comes_before_y() -> None:
    entry = from_json(GOOD).objects[3]
    assert entry.name == "liver"
    assert entry.boxes == [(0, 1, 2, 9, 12)]
    assert entry.points == [(0, 4, 5, False)]


def test_short_forms() -> None:
    prompts = from_json({"objects": [{"boxes": [[2, 1, 12, 9]]}, {"points": [[5, 4]]}]})
    assert prompts.objects[1].boxes == [(0, 1, 2, 9, 12)]
    assert prompts.objects[2].points == [(0, 4, 5, True)]


COORDINATES = st.floats(-1e6, 1e6)


@settings(deadline=None, max_examples=40)
@given(
    boxes=st.lists(st.tuples(st.integers(0, 9), *[COORDINATES] * 4), max_size=3),
    points=st.lists(st.tuples(st.integers(0, 9), COORDINATES, COORDINATES, st.booleans()), max_size=3),
    mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    name=st.text(max_size=5),
    text=st.one_of(st.none(), st.text(max_size=5)),
)
def test_there_and_back(boxes: list, points: list, mask: np.ndarray, name: str, text: str | None) -> None:
    prompts = Prompts().add_mask(7, 2, mask)
    prompts.add_object(4, name, text)
    for box in boxes:
        prompts.add_box(4, *box)
    for point in points:
        prompts.add_point(4, *point)
    written = json.dumps(to_json(prompts), allow_nan=False)
    assert same(from_json(json.loads(written)), prompts)
    assert same(Prompts.from_json(json.loads(written)), prompts)
    assert prompts.to_json() == json.loads(written)


def test_from_a_file_with_masks_beside_it(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:5] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    stack = np.stack([mask, np.zeros_like(mask), mask.T.reshape(6, 8)])
    import tifffile

    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    objects = [
        {"mask": "m.png"},
        {"masks": [{"frame": 4, "mask": "m.png"}]},
        {"mask": "stack.tif"},
    ]
    (tmp_path / "p.json").write_text(json.dumps({"objects": objects}), encoding="utf-8-sig")
    prompts = from_json(tmp_path / "p.json")
    assert np.array_equal(prompts.objects[1].masks[0], mask > 0)
    assert list(prompts.objects[2].masks) == [4]
    assert sorted(prompts.objects[3].masks) == [0, 2], "frames without a mask pixel have no prompt"
    assert from_json(str(tmp_path / "p.json")).frames() == [0, 2, 4]


def test_many_images(tmp_path: Path) -> None:
    data = {"images": {"a.png": GOOD, "b.png": {"objects": [{"points": [[1, 2]]}]}}}
    (tmp_path / "p.json").write_text(json.dumps(data))
    assert is_for_many_images(tmp_path / "p.json")
    assert not is_for_many_images(GOOD)
    found = images_from_json(tmp_path / "p.json")
    assert list(found) == ["a.png", "b.png"]
    assert same(found["a.png"], from_json(GOOD))
    with pytest.raises(InputError, match="many images under 'images'"):
        from_json(tmp_path / "p.json")
    with pytest.raises(InputError, match=r"images\['b.png'\]: objects\[0\].boxes\[0\].box"):
        images_from_json({"images": {"b.png": {"objects": [{"boxes": [[1]]}]}}})
    for bad in ({}, {"images": []}, {"images": {}}):
        with pytest.raises(InputError, match="field 'images'"):
            images_from_json(bad)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "field 'objects' is missing"),
        ({"objects": {}}, "field 'objects' is an object, wanted a list"),
        ({"objects": []}, "empty list"),
        ({"objects": [5]}, r"objects\[0\]: is the number 5"),
        ({"objects": [{"id": 0, "boxes": [BOX]}]}, r"objects\[0\].id: object id: got 0, wanted 1 to 65535"),
        ({"objects": [{"id": 1.5}]}, r"objects\[0\].id"),
        ({"objects": [{"id": True}]}, r"objects\[0\].id"),
        ({"objects": [{"id": 2}, {"id": 2}]}, r"objects\[1\].id: 2 is used twice"),
        ({"objects": [{"name": 5}]}, r"objects\[0\].name: got 5, wanted text"),
        ({"objects": [{"bxes": []}]}, r"objects\[0\]: unknown field 'bxes', wanted one of id, name"),
        ({"objects": [{"boxes": BOX}]}, r"objects\[0\].boxes: is an object, wanted a list"),
        (
            {"objects": [{"boxes": [BOX, {"box": [1, 2, 3]}]}]},
            r"boxes\[1\].box: got \[1, 2, 3\], wanted \[x0",
        ),
        ({"objects": [{"boxes": [{"frame": 0}]}]}, r"boxes\[0\].box: got None"),
        ({"objects": [{"boxes": ["a"]}]}, r"boxes\[0\]: is text"),
        ({"objects": [{"boxes": [[1, 2, "3", 4]]}]}, r"boxes\[0\].box"),
        ({"objects": [{"boxes": [[1, 2, True, 4]]}]}, r"boxes\[0\].box"),
        ({"objects": [{"boxes": [[1, 2, 10**400, 4]]}]}, r"boxes\[0\].box: .*too large"),
        ({"objects": [{"boxes": [{"frame": -1, "box": [1, 2, 3, 4]}]}]}, r"boxes\[0\].frame: got -1"),
        ({"objects": [{"boxes": [{"frame": "0", "box": [1, 2, 3, 4]}]}]}, r"boxes\[0\].frame: got '0'"),
        ({"objects": [{"points": [[1, 2, 3]]}]}, r"points\[0\].point: .*wanted \[x, y\]"),
        ({"objects": [{"points": [{"point": [1, 2], "positive": 1}]}]}, r"points\[0\].positive: got 1"),
        ({"objects": [{"mask": 5}]}, r"objects\[0\].mask: got 5, wanted the name"),
        ({"objects": [{"mask": "no such.png"}]}, r"objects\[0\].mask: .*no such.png: does not exist"),
        ({"objects": [{"masks": [{}]}]}, r"masks\[0\]"),
        ({"objects": [{"masks": [{"rle": {"size": [2, 2], "counts": [3]}}]}]}, r"rle.counts: add up to 3"),
        ({"objects": [{"masks": [{"rle": {"size": [2, 2], "counts": [-1, 5]}}]}]}, r"masks\[0\].rle"),
        ({"objects": [{"masks": [{"rle": {"size": [10**6, 10**6], "counts": [10**12]}}]}]}, r"at most"),
        ({"objects": [{"masks": [{"rle": []}]}]}, r"masks\[0\].rle"),
    ],
)
def test_errors_name_the_field(data: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        from_json(data)
    assert str(caught.value).startswith("prompts: ")
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=words) as caught:
        from_json(tmp_path / "p.json")
    assert str(caught.value).startswith(f"{tmp_path / 'p.json'}: ")


def test_files_that_hold_no_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(InputError, match=r"p\.json: does not exist"):
        from_json(path)
    with pytest.raises(InputError, match="is a folder"):
        from_json(tmp_path)
    for content in (b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"boxes: 1"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"p\.json: is not JSON"):
            from_json(path)
    for text in ("5", "[]", "null", '"x"'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"p\.json: holds"):
            from_json(path)


def test_nan_in_json_is_found_by_validate() -> None:
    prompts = from_json({"objects": [{"boxes": [[float("nan"), 1, 5, 5]]}]})
    with pytest.raises(InputError, match="NaN"):
        prompts.validate(Scan.from_array(np.zeros((9, 9))))


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3))
KEYS = st.sampled_from(
    ["objects", "id", "name", "boxes", "box", "points", "point", "frame", "masks", "rle", "size", "x"]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(objects=TREES, entry=st.dictionaries(KEYS, TREES, max_size=4))
def test_any_json_passes_or_is_refused_in_one_line(objects: Any, entry: dict[str, Any]) -> None:
    scan = Scan.from_array(np.zeros((9, 9)))
    for data in ({"objects": objects}, {"objects": [entry]}, {"objects": [{"boxes": [BOX], **entry}]}):
        try:
            from_json(data).validate(scan)
        except InputError as error:
            message = str(error)
        else:
            message = ""
        assert "\n" not in message
