"""Which label belongs to which image, told by names alone."""

from __future__ import annotations

import pytest

from samed2.data.folders.pairing import pair_files
from samed2.data.folders.patients import patients_of
from samed2.data.folders.words import named

ONE = {"": 1}
LAYOUTS = {
    "two folders": (["images/a.jpg", "masks/a.png"], ONE),
    "two folders below splits": (["train/images/a.png", "train/labels/a.png"], ONE),
    "splits below two folders": (["images/val/a.png", "annotations/val/a.png"], ONE),
    "words in both names": (["images/img_01.png", "masks/mask_01.png"], ONE),
    "a word and a number": (["image001.png", "mask001.png"], ONE),
    "suffix": (["a.png", "a_mask.png"], ONE),
    "suffix in a folder of images": (["images/a.png", "images/a_mask.png"], ONE),
    "several masks of one image": (["a (1).png", "a (1)_mask.png", "a (1)_mask_1.png"], {"": 2}),
    "published suffixes": (["ISIC_01.jpg", "ISIC_01_segmentation.png"], ONE),
    "nifti": (["a.nii.gz", "a_seg.nii.gz"], ONE),
    "words at both ends": (["a_image.nii.gz", "a_label.nii.gz"], ONE),
    "an image called seg": (["a_seg_image.nii.gz", "a_seg_label.nii.gz"], ONE),
    "a mask of an image": (["a_image.png", "a_image_mask.png"], ONE),
    "nnU-Net": (["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"], ONE),
    "decathlon": (["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"], ONE),
    "case folders": (["a/image.nii.gz", "a/label.nii.gz"], ONE),
    "case folders, other words": (["a/ct.nii.gz", "a/segmentation.nii.gz"], ONE),
    "a folder of masks for each object": (
        ["images/a.jpg", "masks_cup/a.png", "masks_disc/a.png"],
        {"cup": 1, "disc": 1},
    ),
    "objects in names": (["a.png", "a_liver_mask.png", "a_spleen_mask.png"], {"liver": 1, "spleen": 1}),
    "objects in a folder": (
        ["a/ct.nii.gz", "a/segmentations/liver.nii.gz", "a/segmentations/kidney_left.nii.gz"],
        {"liver": 1, "kidney_left": 1},
    ),
    "camel case": (["Original/1.tif", "GroundTruth/1.tif"], ONE),
    "upper case": (["IMAGES/A.PNG", "MASKS/A.PNG"], ONE),
}


@pytest.mark.parametrize("paths, labels", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(paths, labels):
    pairing = pair_files(paths)
    assert [pair.image.path for pair in pairing.pairs] == paths[:1]
    assert {name: len(files) for name, files in pairing.pairs[0].labels.items()} == labels
    assert pairing.unused == []
    assert pair_files(reversed(paths)).pairs[0].image.path == paths[0]


@pytest.mark.parametrize("copies", [2, 12])
@pytest.mark.parametrize("paths, labels", LAYOUTS.values(), ids=LAYOUTS)
def test_cases_are_not_mixed_up(paths, labels, copies):
    several = [f"case{n}/{path}" for path in paths for n in range(copies)]
    pairing = pair_files(several)
    assert [pair.image.path for pair in pairing.pairs] == [f"case{n}/{paths[0]}" for n in range(copies)]
    for pair in pairing.pairs:
        owner = pair.image.path.split("/")[0]
        assert all(path.startswith(owner + "/") for files in pair.labels.values() for path in files)


@pytest.mark.parametrize(
    "paths, unused",
    [
        (["a.png"], {"a.png": "image without label"}),
        (["images/a.png", "masks/b.png", "images/c.png", "masks/c.png"], {"masks/b.png": "label without image"}),
        (["a/flair.nii", "a/t1.nii", "a/seg.nii"], {"a/t1.nii": "another sequence"}),
        (["images/a.png", "images/a.jpg", "masks/a.png"], {"masks/a.png": "label without image"}),
    ],
)
def test_what_is_left_over_is_told(paths, unused):
    told = dict(pair_files(paths).unused)
    for path, reason in unused.items():
        assert told[path].startswith(reason)


def test_all_cases_take_the_same_sequence():
    paths = [f"p{n}/{kind}.nii" for n in range(4) for kind in ("seg", "t1", "t2")] + ["p9/t2.nii", "p9/seg.nii"]
    pairing = pair_files(paths)
    assert {pair.image.name for pair in pairing.pairs} == {("t2",)}


@pytest.mark.parametrize(
    "path, split",
    [("train/images/a.png", "train"), ("images/validation/a.png", "val"), ("imagesTs/a.png", "test"), ("a.png", "")],
)
def test_splits_of_names(path, split):
    assert named(path).split == split


@pytest.mark.parametrize(
    "names, groups",
    [
        ([f"patient{p}_slice{s}.png" for p in range(5) for s in range(3)], 5),
        ([f"p{p}/images/{s}.png" for p in range(4) for s in range(2)], 4),
        ([f"img_{n}.png" for n in range(10)], None),
        ([f"{kind}_{n}.png" for kind in ("benign", "malignant") for n in range(5)], None),
        ([f"case{n}.png" for n in range(10)], None),
    ],
)
def test_patients(names, groups):
    found = patients_of([named(name) for name in names])
    assert len(set(found)) == (groups or 1) and (groups is not None or set(found) == {""})
