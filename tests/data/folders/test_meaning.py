"""What label values mean: tables of small files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from samed2.data.folders.meaning import look_at_labels, meaning_of, names_beside
from samed2.errors import InputError

DISC = (np.hypot(*np.mgrid[-20:20, -20:20]) < 12).astype(np.uint8)
HALF = np.zeros((40, 40), np.uint8)
HALF[20:] = 1


def write(folder, arrays, suffix=".png"):
    paths = []
    for number, array in enumerate(arrays):
        paths.append(folder / f"{number}{suffix}")
        Image.fromarray(array).save(paths[-1])
    return paths


def colour(*bands):
    return np.stack(bands, axis=-1).astype(np.uint8)


def soft(mask):
    large = Image.fromarray(np.kron(mask, np.full((10, 10), 255, np.uint8)))
    return np.asarray(large.resize((333, 333), Image.Resampling.BICUBIC))


COUNTED = [np.arange(n + 1, dtype=np.uint8).repeat(40)[None].repeat(8, axis=0) for n in (3, 7, 40, 2, 5, 9)]
CASES = {
    "0 and 255": ([DISC * 255], {"object": [255]}, ""),
    "0 and 1": ([DISC], {"object": [1]}, ""),
    "some are empty": ([DISC * 0, DISC * 7], {"object": [7]}, ""),
    "soft edges": ([soft(DISC)], {"object": ">=128"}, "cut at half"),
    "classes": ([DISC, HALF * 2], {"label_1": [1], "label_2": [2]}, "--label"),
    "two greys": ([HALF * 128, DISC * 255], {"label_128": [128], "label_255": [255]}, "--label"),
    "void": (
        [DISC, np.where(DISC > HALF, 255, HALF * 2).astype(np.uint8)],
        {"label_1": [1], "label_2": [2]},
        "not labelled",
    ),
    "counted": (COUNTED, {"object": ">0"}, "number their objects"),
    "grey RGB": ([colour(DISC * 255, DISC * 255, DISC * 255)], {"object": [255]}, "without colour"),
    "one colour": ([colour(DISC * 200, DISC * 0, DISC * 0)], {"object": [200]}, "coloured"),
}


@pytest.mark.parametrize("arrays, objects, note", CASES.values(), ids=CASES)
def test_meaning(arrays, objects, note, tmp_path):
    meaning = meaning_of(look_at_labels(write(tmp_path, arrays)), "object", {}, {}, "labels")
    assert meaning.objects == objects
    assert note in " ".join(meaning.notes) and bool(note) == bool(meaning.notes)


def test_jpeg_labels_are_cut(tmp_path):
    values = look_at_labels(write(tmp_path, [DISC * 255], ".jpg"))
    assert meaning_of(values, "object", {}, {}, "labels").objects == {"object": None}


WRONG = {
    "several colours": ([colour(DISC * 255, HALF * 0, HALF * 255)], {}, "are coloured"),
    "a picture": ([np.random.default_rng(0).integers(0, 256, (80, 80)).astype(np.uint8)], {}, "look like pictures"),
    "nothing": ([DISC * 0], {}, "all pixels are 0"),
    "no such value": ([DISC], {"liver": 3}, "--label liver=3"),
}


@pytest.mark.parametrize("arrays, given, message", WRONG.values(), ids=WRONG)
def test_no_meaning(arrays, given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        meaning_of(look_at_labels(write(tmp_path, arrays)), "object", {}, given, "labels")


def test_names_win(tmp_path):
    values = look_at_labels(write(tmp_path, [DISC, HALF * 2]))
    told = meaning_of(values, "object", {"liver": 1, "spleen": 5}, {}, "labels")
    assert told.objects == {"liver": [1], "spleen": [5]} and told.ignore_other
    given = meaning_of(values, "object", {"liver": 1}, {"kidney": 2}, "labels")
    assert given.objects == {"kidney": [2]} and given.ignore_other


@pytest.mark.parametrize(
    "name, told, expected",
    [
        ("labels.json", {"1": "Left Lung", "0": "background"}, ({"left_lung": 1}, "")),
        ("dataset.json", {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}}, ({"liver": 1}, "ct")),
        (
            "dataset.json",
            {"labels": {"0": "background", "1": "Anterior"}, "modality": {"0": "MRI"}},
            ({"anterior": 1}, "mr"),
        ),
    ],
)
def test_names_beside(name, told, expected, tmp_path):
    assert names_beside(tmp_path) == ({}, "")
    (tmp_path / name).write_text(json.dumps(told))
    assert names_beside(tmp_path) == expected


@pytest.mark.parametrize("text", ["{", "[1]", '{"labels": 3}'])
def test_broken_names_are_told(text, tmp_path):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json"):
        names_beside(tmp_path)
