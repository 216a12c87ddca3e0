"""Whole folders: recognised, checked, split, described and opened again."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image
from tests.generated import disc, make_folder, save

from samed2.data import open_cases
from samed2.data.folders import Description, read_description, recognise, write_description
from samed2.data.folders.check import check_cases, looks_like_ct
from samed2.data.folders.splits import split_cases
from samed2.errors import InputError
from samed2.train.finetune import draw_doubtful


def image_and_mask(number, shape=(48, 64)):
    rng = np.random.default_rng(number)
    mask = disc(shape, 24 + rng.integers(-6, 6), 30 + rng.integers(-9, 9), 10)
    return (mask * 120 + rng.integers(0, 60, shape)).astype(np.uint8), mask


def make_pairs(root, count=10, value=255, labels="masks/{}.png", images="images/{}.png"):
    for number in range(count):
        image, mask = image_and_mask(number)
        save(root / images.format(number), image)
        save(root / labels.format(number), mask.astype(np.uint8) * value)
    return root


def volumes(root, count=5, offset=0):
    for number in range(count):
        rng = np.random.default_rng(number)
        labels = np.zeros((20, 24, 6), np.uint8)
        labels[5:12, 6:14, 1 : 4 + number % 2] = 1
        values = (rng.normal(0, 20, labels.shape) + labels * 400.0 + offset).astype(np.int16)
        for name, array in (("", values), ("_seg", labels)):
            (root / "v").mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.diag([0.5, 0.5, 3, 1])), root / "v" / f"c{number}{name}.nii.gz")
    return root


def test_a_folder_of_pairs(tmp_path):
    found = recognise(make_pairs(tmp_path / "Lung Spots"))
    assert found.source.name == "lung_spots" and found.source.objects == {"object": [255]}
    assert [case.name for case in found.cases] == [str(n) for n in range(10)]
    report = check_cases(found.cases)
    assert report.warnings == [] and report.failed == []
    fact = report.facts[0]
    assert fact.shape == (1, 48, 64) and fact.spacing is None
    assert fact.pixels["object"] == (int(image_and_mask(0)[1].sum()),)
    splits = split_cases(report.facts)
    assert [len(cases) for cases in splits.values()] == [8, 2]
    again = split_cases(report.facts[::-1])  # whatever the order
    assert {case.name for case in again["val"]} == {case.name for case in splits["val"]}


@pytest.mark.parametrize("count, val", [(1, 0), (3, 0), (4, 1), (10, 2), (23, 5)])
def test_a_fifth_is_kept(count, val, tmp_path):
    splits = split_cases(check_cases(recognise(make_pairs(tmp_path, count)).cases).facts)
    assert (len(splits["train"]), len(splits["val"])) == (count - val, val)


def test_given_splits_stay(tmp_path):
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        make_pairs(tmp_path, count, images=f"{split}/images/{split}{{}}.png", labels=f"{split}/masks/{split}{{}}.png")
    facts = check_cases(case for case in recognise(tmp_path).cases if case.split != "test").facts
    assert {name: len(cases) for name, cases in split_cases(facts).items()} == {"train": 3, "val": 1}


def test_volumes(tmp_path):
    found = recognise(volumes(tmp_path / "set", offset=-1000))
    report = check_cases(found.cases)
    fact = report.facts[0]
    assert (fact.case.kind, fact.shape, fact.spacing) == ("volume", (6, 24, 20), (3.0, 0.5, 0.5))
    assert fact.pixels["object"] == (56, 56, 56)
    assert not looks_like_ct(report.facts)
    assert looks_like_ct([replace(fact, values=(-1024.0, 900.0))])


def test_multi_page_tiff_is_a_volume(tmp_path):
    for number in range(2):
        for name, array in zip(("", "_mask"), image_and_mask(number), strict=True):
            pages = [Image.fromarray(array.astype(np.uint8))] * 3
            pages[0].save(tmp_path / f"s{number}{name}.tif", save_all=True, append_images=pages[1:])
    report = check_cases(recognise(tmp_path).cases)
    assert [fact.shape[0] for fact in report.facts] == [3, 3] and report.facts[0].case.kind == "volume"


def test_what_says_itself_what_it_holds(tmp_path):
    found = recognise(make_folder(tmp_path))
    assert found.source is None and found.layout.endswith("items.csv") and len(found.cases) == 12
    with pytest.raises(InputError, match="leave --label out"):
        recognise(tmp_path, labels={"disc": 1})


def test_description_round_trip(tmp_path):
    found = recognise(make_pairs(tmp_path / "data", 4))
    path = tmp_path / "out" / "data.yaml"
    path.parent.mkdir()
    write_description(Description(found.source, {"train": ("0", "1"), "val": ("3",)}), path)
    assert [case.name for case in open_cases(path, ["train"])] == ["0", "1"]
    assert [(case.name, case.split) for case in open_cases(path)] == [("0", "train"), ("1", "train"), ("3", "val")]
    assert [case.name for case in recognise(path).cases] == ["0", "1", "3"]
    loaded = open_cases(path, ["val"])[0].load()
    np.testing.assert_array_equal(loaded.masks["object"][0], image_and_mask(3)[1])
    assert read_description(path).splits == {"train": ("0", "1"), "val": ("3",)}


@pytest.mark.parametrize(
    "change, message",
    [
        ("nothing: 1", "wanted root"),
        ("- 1", "wanted root"),
        ("{", "is not YAML"),
        ("{root: ., converter: listed, objects: {a: 1}, splits: {train: a}}", "wanted a list of cases"),
        ("{root: ., converter: listed, objects: 3}", "objects"),
        ("{root: ., converter: other, splits: {train: [a]}}", "converter"),
        ("{root: ., converter: listed, objects: {a: 1}, layout: {cases: [{image: x}]}}", "label"),
        ("{root: ., converter: listed, objects: {a: 1}, layout: {cases: [{image: x, labels: {b: y}}]}}", "object b"),
        (
            "{root: ., converter: listed, objects: {a: 1}, layout: {cases: [{image: x, label: y}]}, "
            "splits: {train: [x]}}",
            "is not in",
        ),
    ],
)
def test_wrong_descriptions(change, message, tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text(change)
    with pytest.raises(InputError, match=message):
        open_cases(path)


def broken(root):
    make_pairs(root, 10)
    save(root / "masks/3.png", np.ones((9, 9), np.uint8) * 255)
    (root / "images/4.png").write_bytes(b"no image")
    save(root / "masks/5.png", np.zeros((48, 64), np.uint8))
    save(root / "images/7.png", image_and_mask(6)[0])
    return root


def test_problems_are_told_and_the_rest_is_used(tmp_path):
    report = check_cases(recognise(broken(tmp_path)).cases)
    failed = dict(report.failed)
    assert set(failed) == {"3", "4"} and "same size" in failed["3"] and "4.png" in failed["4"]
    told = "\n".join(report.warnings)
    assert "only 8 cases" in told and "no object at all (5)" in told and "same pixels (6, 7)" in told
    splits = split_cases(report.facts)
    assert any({"6", "7"} <= {case.name for case in cases} for cases in splits.values())


def test_masks_of_the_background_are_noticed(tmp_path):
    make_pairs(tmp_path, 4)
    for number in range(4):
        save(tmp_path / f"masks/{number}.png", (~image_and_mask(number)[1]).astype(np.uint8) * 255)
    assert "invert" in "\n".join(check_cases(recognise(tmp_path).cases).warnings)


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "has no files"),
        (["a.npy", "b.npy"], "2 .npy: none is an image"),
        (["a.png", "b.png"], "no label belongs"),
        (["scans.mp4"], "convert"),
    ],
)
def test_nothing_recognised(files, message, tmp_path):
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        recognise(tmp_path)


def test_names_of_labels_are_used(tmp_path):
    make_pairs(tmp_path, 4, value=2, images="imagesTr/c_{}_0000.png", labels="labelsTr/c_{}.png")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "cyst": 2}, "channel_names": {"0": "T2"}})
    )
    found = recognise(tmp_path)
    assert found.source.objects == {"cyst": [2]} and found.cases[0].modality == "mr"
    assert recognise(tmp_path, "ct", {"nodule": 2}).source.objects == {"nodule": [2]}


@pytest.mark.needs_data
@pytest.mark.parametrize(
    "folder, layout, cases, objects",
    [
        ("dicom/seg_rtstruct", "DICOM", 4, {"liver"}),
        ("fundus_drishtigs", "pairs", 88, {"optic_cup", "optic_disc"}),
        ("mr_acdc", "pairs", 40, {"right_ventricle", "myocardium", "left_ventricle"}),
        ("us_busi", "pairs", 369, {"breast_lesion"}),
    ],
)
def test_real_folders(folder, layout, cases, objects, data_dir):
    found = recognise(data_dir / folder)
    assert found.layout.startswith(layout) and len(found.cases) >= cases
    assert objects <= {name for case in found.cases for name in case.objects}


def test_masks_that_do_not_follow_the_image_are_told_and_drawn(tmp_path):
    root = make_pairs(tmp_path / "set", 12)
    for number, moved in ((3, (14, 0)), (7, (0, 16))):
        mask = np.roll(image_and_mask(number)[1], moved, (0, 1))
        save(root / f"masks/{number}.png", mask.astype(np.uint8) * 255)
    report = check_cases(recognise(root).cases)
    assert {(case.name, name) for case, name in report.doubtful} == {("3", "object"), ("7", "object")}
    assert sum("2 of 12 outlines hardly follow the image" in line for line in report.warnings) == 1
    path = tmp_path / "doubtful.png"
    assert draw_doubtful(report, path) == 2 and Image.open(path).width > 300
    few = check_cases(case for case in recognise(root).cases if case.name in ("1", "2", "3"))
    assert not few.doubtful and draw_doubtful(few, tmp_path / "none.png") == 0
    assert not (tmp_path / "none.png").exists()
