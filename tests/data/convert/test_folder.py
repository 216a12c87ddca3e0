"""Reading the `folder` layout, and what is said when it is not one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from samed2.data.convert.folder import folder_cases
from samed2.errors import InputError


def test_items_are_grouped_by_file(folder):
    items = folder_cases(folder, ["train"])
    assert [(i.dataset, i.name, i.objects) for i in items[:2]] == [
        ("spots", "train0", ("disc", "dot")),
        ("spots", "train1", ("disc", "dot")),
    ]
    assert {i.kind for i in items} == {"image", "volume", "video"}
    assert {i.split for i in folder_cases(folder, ["train", "val"])} == {"train", "val"}


@pytest.mark.parametrize("kind", ["image", "volume", "video"])
def test_masks_lie_on_the_bright_object(folder, kind):
    loaded = next(i for i in folder_cases(folder, ["val"]) if i.kind == kind).load()
    mask = next(iter(loaded.masks.values()))
    assert mask.shape == loaded.frames.shape[:3]
    assert loaded.frames[mask].mean() > loaded.frames[~mask].mean() + 50
    assert loaded.scan.kind == kind and loaded.scan.modality == loaded.case.modality
    np.testing.assert_array_equal(loaded.scan.frame(0), loaded.frames[0])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: (r / "items.csv").unlink(), "items.csv"),
        (lambda r: (r / "items.csv").write_text("dataset,object\na,b\n"), "modality"),
        (lambda r: (r / "spots/masks_disc/train0.png").unlink(), "train0"),
        (lambda r: (r / "stack/labels.json").write_text("{}"), "ball"),
        (lambda r: shutil.copy(r / "film/ftrain/masks/000.png", r / "spots/masks_disc/train0.png"), "train0"),
    ],
    ids=["no index", "no column", "no mask", "no label", "other size"],
)
def test_what_is_wrong_is_named(folder, tmp_path, spoil, words):
    root = tmp_path / "copy"
    shutil.copytree(folder, root)
    spoil(root)
    with pytest.raises(InputError, match=words):
        [item.load() for item in folder_cases(root, ["train"])]


def test_an_unknown_split_lists_the_known_ones(folder):
    with pytest.raises(InputError, match="train, val"):
        folder_cases(folder, ["tests"])
