"""The `pairs` converter: what is reported when a folder is searched, and what when a case is loaded."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.convert.trees import GRID, SIZE, boxes, nifti, picture, save

from samed2.data.cases import Case, Dropped
from samed2.data.convert import Source, find_cases
from samed2.errors import InputError

LAYOUT = {"image": "images/{case}.png", "label": "masks/{case}.png"}


def mask(path, size=SIZE):
    return save(path, (boxes(size, 1, path.name) > 0).astype(np.uint8) * np.uint8(255)) > 0


def small(root, names=("a", "b")):
    for name in names:
        picture(root / f"images/{name}.png")
        mask(root / f"masks/{name}.png")
    return root


def search(root, layout=None, objects=None, **more):
    found = list(find_cases(Source(root, "set", "pairs", "ct", layout=layout or LAYOUT, objects=objects or {}, **more)))
    return [f for f in found if isinstance(f, Case)], {f.name: f.reason for f in found if isinstance(f, Dropped)}


def test_a_minimal_layout_has_one_object_of_the_sets_name(tmp_path):
    cases, dropped = search(small(tmp_path))
    assert [(c.name, c.patient, c.objects, c.kind, c.split) for c in cases] == [
        ("a", "a", ("set",), "image", ""), ("b", "b", ("set",), "image", ""),
    ]  # fmt: skip
    assert dropped == {}
    np.testing.assert_array_equal(cases[0].load().masks["set"][0], mask(tmp_path / "masks/a.png"))


def test_what_does_not_fit_together_is_reported(tmp_path):
    root = small(tmp_path, ("a", "b", "c"))
    (root / "masks/a.png").unlink()
    (root / "images/b.png").unlink()
    picture(root / "images/d.jpg")
    cases, dropped = search(root)
    assert [c.name for c in cases] == ["c"]
    assert dropped["a"] == "image without label"
    assert dropped["masks/b.png"] == "label without image"
    assert "not in the layout: 1 image files" in dropped["(other files)"] and "images/d.jpg" in dropped["(other files)"]


def test_two_images_of_one_name_and_two_labels_of_one_image(tmp_path):
    root = small(tmp_path, ("a", "b"))
    picture(root / "images/a.bmp")
    mask(root / "masks/b.bmp")
    layout = {"image": "images/{case}.*", "label": "masks/{case}.*"}
    cases, dropped = search(root, layout)
    assert [(c.name, c.files[0].name) for c in cases] == [("a", "a.bmp")]
    assert "two cases with one name" in dropped["a"] and "a.bmp is kept" in dropped["a"]
    assert "ambiguous: 2 label files for one image" in dropped["b"]


NAMES = [
    f"{folder}/{name}" for folder in ("images", "masks", "else") for name in ("a.png", "a.bmp", "b.png", "b_1.png")
]


@given(st.sets(st.sampled_from(NAMES), min_size=1))
@settings(max_examples=60, deadline=None)
def test_no_image_file_is_skipped_silently(names):
    """Whatever is there, each file is in a case or in the report, and no label file is in a case it does not name."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in names:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).touch()
        layout = {"image": "images/{case}.*", "labels": {"x": "masks/{case}*.*"}}
        source = Source(root, "set", "pairs", layout=layout)
        if not any(name.startswith("images") for name in names):
            with pytest.raises(InputError, match="no file fits"):
                list(find_cases(source))
            return
        found = list(find_cases(source))
        told = {path.relative_to(root).as_posix() for one in found for path in one.files}
        others = [one.reason for one in found if one.name == "(other files)"]
        unseen = names - told
        assert all(name.startswith("else") for name in unseen)
        assert bool(others) is bool(unseen) and all(f": {len(unseen)} image files" in reason for reason in others)
        cases = [one for one in found if isinstance(one, Case)]
        assert len({case.name for case in cases}) == len(cases)
        assert all(path.name.startswith(case.name) for case in cases for path in case.files)


def test_a_file_that_fits_both_templates_is_what_says_more(tmp_path):
    for name in ("p_1", "p_2"):
        picture(tmp_path / f"{name}.png")
        mask(tmp_path / f"{name}_mask.png")
    for layout in (
        {"image": "{case}.png", "label": "{case}_mask.png"},
        {"image": "{patient}_{n:1|2}.png", "label": "{patient}_{n}_mask.png"},
    ):
        cases, dropped = search(tmp_path, layout)
        assert [c.name for c in cases] == ["p_1", "p_2"] and dropped == {}


def test_an_object_without_its_file_is_reported_and_the_others_stay(tmp_path):
    root = small(tmp_path)
    for name in ("a", "b"):
        mask(root / f"left/{name}.png")
    mask(root / "right/a.png")
    layout = {
        "image": "images/{case}.png",
        "labels": {"whole": "masks/{case}.png", "lungs": ["left/{case}.png", "right/{case}.png"]},
    }
    cases, dropped = search(root, layout)
    assert {c.name: c.objects for c in cases} == {"a": ("whole", "lungs"), "b": ("whole",)}
    assert dropped == {"b/lungs": "no label of an object: no file right/{case}.png"}
    both = mask(root / "left/a.png") | mask(root / "right/a.png")
    np.testing.assert_array_equal(cases[0].load().masks["lungs"][0], both)
    assert search(root, {**layout, "optional": ["lungs"]})[1] == {}
    assert search(root, {**layout, "optional": True})[1] == {}


def test_splits_from_names_lists_and_tables(tmp_path):
    root = small(tmp_path, ("p1_1", "p1_2", "p2_1", "p3_1"))
    (root / "train.txt").write_text("./images/p1_1.png\np1_2\n\n")
    (root / "test.txt").write_text("p2\np9\n")
    (root / "meta.csv").write_text("frame,sequence\np3_1,s7\np1_1,s1\n")
    layout = {
        "image": "images/{patient}_{n}.png",
        "label": "masks/{patient}_{n}.png",
        "patient": "{patient}{sequence}",
        "lists": {"train": "train.txt", "test": ["test.txt"]},
        "split": "rest",
        "splits": {"rest": "val"},
        "tables": {"sequence": {"file": "meta.csv", "key": "frame", "value": "sequence", "by": "{patient}_{n}"}},
    }
    cases, dropped = search(root, {**layout, "patient": "{patient}"})
    assert {c.name: c.split for c in cases} == {"p1_1": "train", "p1_2": "train", "p2_1": "test", "p3_1": "val"}
    assert dropped == {"p9": "listed but not found: test.txt (test)"}
    cases, _ = search(root, layout)
    assert {c.name: c.patient for c in cases} == {"p1_1": "p1s1", "p1_2": "p1", "p2_1": "p2", "p3_1": "p3s7"}


def test_one_case_in_two_lists_is_refused(tmp_path):
    root = small(tmp_path)
    (root / "train.txt").write_text("a\nb\n")
    (root / "test.txt").write_text("b\n")
    with pytest.raises(InputError, match=r"test.txt: lists b, which train.txt lists for train"):
        search(root, {**LAYOUT, "lists": {"train": "train.txt", "test": "test.txt"}})


def test_frames_of_a_stack_are_one_case_in_counting_order(tmp_path):
    truth = {}
    for number in (10, 2, 1):
        picture(tmp_path / f"v/frames/{number}.png")
        truth[number] = mask(tmp_path / f"v/masks/{number}.png")
    picture(tmp_path / "v/frames/11.png")
    layout = {"image": "{video}/frames/{n}.png", "label": "{video}/masks/{n}.png", "stack": "n"}
    cases, dropped = search(tmp_path, layout, kind="video")
    assert [(c.name, c.kind) for c in cases] == [("v", "video")]
    assert dropped == {"v (n 11)": "image without label"}
    loaded = cases[0].load()
    assert loaded.scan.shape == (3, *SIZE) and loaded.scan.channels == 3
    np.testing.assert_array_equal(loaded.masks["set"], np.stack([truth[1], truth[2], truth[10]]))
    picture(tmp_path / "v/frames/2.png", (8, 8))
    mask(tmp_path / "v/masks/2.png", (8, 8))
    with pytest.raises(InputError, match=r"2.png"):
        cases[0].load()


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({}, "wanted `image` and one of"),
        ({"image": "{c}.png"}, "one of `label` and `labels`"),
        ({**LAYOUT, "labels": {}}, "one of `label` and `labels`"),
        ({"image": "images/{c}.png", "labels": {}}, "labels: wanted a template"),
        ({**LAYOUT, "image": 3}, "image: got 3"),
        ({**LAYOUT, "imgae": "x"}, "has 'imgae', wanted some of image, label"),
        ({**LAYOUT, "name": "{patient}"}, r"name: '\{patient\}' uses"),
        ({**LAYOUT, "label": "masks/{other}.png"}, "shares no name in braces"),
        ({**LAYOUT, "lists": {"train": "no.txt"}}, "no.txt: cannot be read"),
        ({**LAYOUT, "lists": "no.txt"}, "lists: got 'no.txt', wanted a mapping"),
        ({**LAYOUT, "tables": {"t": {"file": "x.csv"}}}, "tables: t: got"),
        ({**LAYOUT, "stack": "frame"}, "stack: no template has {frame}"),
        ({**LAYOUT, "axes": [0, 1]}, "axes: got"),
        ({**LAYOUT, "channel": "0"}, "channel: got '0', wanted a number"),
        ({**LAYOUT, "groups": {"case": [1, 5]}}, "groups: {case} is 'a'"),
        ({"image": "no/{case}.png", "label": "masks/{case}.png"}, "no file fits no/{case}.png"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(tmp_path, layout, words):
    with pytest.raises(InputError) as caught:
        list(find_cases(Source(small(tmp_path), "set", "pairs", layout=layout)))
    assert words.replace("\\", "") in str(caught.value)


def test_objects_need_their_templates_and_rules(tmp_path):
    layout = {"image": "images/{case}.png", "labels": {"a": "masks/{case}.png"}}
    with pytest.raises(InputError, match="no template for the object b"):
        search(small(tmp_path), layout, {"b": 1})
    with pytest.raises(InputError, match="object a: got 'x'"):
        search(small(tmp_path), layout, {"a": "x"})
    with pytest.raises(InputError, match="does not exist"):
        search(tmp_path / "no")


VOLUME = {"image": "{case}_image.nii.gz", "label": "{case}_label.nii.gz"}


def volumes(root, labels=None, **label):
    nifti(root / "v_image.nii.gz", np.zeros(GRID, np.int16))
    nifti(root / "v_label.nii.gz", boxes(GRID, 2, 0) if labels is None else labels, **label)
    return search(root, VOLUME, {"one": 1, "two": 2})[0][0]


@pytest.mark.parametrize(
    ("labels", "label", "words"),
    [
        (np.zeros((3, 9, 16), np.uint8), {}, "v_image.nii.gz has 4x9x16 .*v_label.nii.gz 3x9x16"),
        (None, {"spacing": (2.5, 0.8, 0.702)}, "v_image.nii.gz and its labels .*v_label.nii.gz lie apart"),
        (boxes(GRID, 3, 0), {}, "v_label.nii.gz: has label values outside the list: 3; wanted 1, 2 and background 0"),
        (np.zeros(GRID, np.uint8), {}, "set/v: all-empty"),
        (np.full(GRID, 2, np.uint8), {}, "set/v: all-foreground: two"),
        (boxes(GRID, 2, 0) * np.float32(0.5), {}, "v_label.nii.gz: has label 0.5, wanted whole numbers"),
    ],
    ids=["size", "spacing", "values", "empty", "full", "fraction"],
)
def test_pairs_that_do_not_fit_are_refused_when_loaded(tmp_path, labels, label, words):
    with pytest.raises(InputError, match=words):
        volumes(tmp_path, labels, **label).load()


def test_a_shifted_label_is_refused_unless_geometry_is_ignored(tmp_path):
    import nibabel

    case = volumes(tmp_path)
    path = tmp_path / "v_label.nii.gz"
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 0.5
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)
    with pytest.raises(InputError, match=r"corners up to 0\.5 mm"):
        case.load()
    layout = {**VOLUME, "ignore_geometry": True}
    assert search(tmp_path, layout, {"one": 1, "two": 2})[0][0].load().masks["one"].any()


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"ignore_other_labels": True}, boxes(GRID, 3, 0)),
        ({"background": [0, 3]}, boxes(GRID, 3, 0)),
        ({"allow_empty": True}, np.zeros(GRID, np.uint8)),
    ],
)
def test_the_layout_may_allow_it(tmp_path, options, labels):
    volumes(tmp_path, labels)
    loaded = search(tmp_path, {**VOLUME, **options}, {"one": 1, "two": 2})[0][0].load()
    np.testing.assert_array_equal(loaded.masks["two"], labels == 2)


@pytest.mark.parametrize("name", ["images/a.png", "masks/a.png"])
@pytest.mark.parametrize("spoil", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"no image", None])
def test_damaged_and_missing_files_are_named_when_loaded(tmp_path, name, spoil):
    case = search(small(tmp_path))[0][0]
    path = tmp_path / name
    path.unlink() if spoil is None else path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=f"{name}"):
        case.load().scan.frames()


def test_a_volume_where_images_are_expected(tmp_path):
    volumes(tmp_path)
    case = search(tmp_path, VOLUME, {"one": 1, "two": 2}, kind="image")[0][0]
    with pytest.raises(InputError, match="has 4 frames, set should hold single images"):
        case.load()
