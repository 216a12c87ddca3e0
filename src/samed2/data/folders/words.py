"""What the name of a file says: image or label, split, and the words that an image and its labels share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from samed2.data.convert.names import slug
from samed2.io.readers import stem

LABEL = frozenset(
    [
        "mask",
        "masks",
        "label",
        "labels",
        "labelmap",
        "labelmaps",
        "seg",
        "segs",
        "segm",
        "segmentation",
        "segmentations",
        "segmented",
        "gt",
        "gts",
        "groundtruth",
        "truth",
        "annotation",
        "annotations",
        "annotated",
        "manual",
        "target",
        "targets",
        "roi",
        "rois",
        "contour",
        "contours",
        "matte",
        "1sthol",
        "1stho",
        "2ndho",
        "pngmasks",
        "pedmasks",
        "segmentationclass",
    ]
)
IMAGE = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "imaging",
        "input",
        "inputs",
        "scan",
        "scans",
        "original",
        "originals",
        "photo",
        "photos",
        "picture",
        "pictures",
        "frame",
        "frames",
        "raw",
        "volume",
        "volumes",
        "vol",
        "pngimages",
        "jpegimages",
    ]
)
SPLITS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}
_NUMBERED = re.compile(r"([a-z]+)(\d+)")


@dataclass(frozen=True)
class Named:
    """A file and what its path says.

    Attributes:
        path: relative to the data folder, with "/".
        label: whether it is called a label.
        split: "train", "val", "test" or "".
        folder, name: the words of its folders and of its own name, without those that only tell its role or split.
        rest: what else the folder of labels is called (masks_cup: cup), an object or a part of the key.
    """

    path: str
    label: bool
    split: str
    folder: tuple[str, ...]
    name: tuple[str, ...]
    rest: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What an image and its label have in common."""
        return (*self.folder, *self.name)


def named(path: str, by_name: bool = False) -> Named:
    """Take a relative path apart; `by_name`: a file is a label by its own name even in a folder of images."""
    *folders, _ = path.split("/")
    label = image = False
    split, kept, rest = "", list[str](), tuple[str, ...]()
    for folder in folders:
        words = _words(folder)
        split = split or next((SPLITS[word] for word in words if word in SPLITS), "")
        words = [word for word in words if word not in SPLITS]
        plain = [word for word in words if word not in LABEL and word not in IMAGE]
        if any(word in LABEL for word in words):
            label, rest = True, tuple(plain)
        elif any(word in IMAGE for word in words):
            image = True
            kept += plain
        else:
            kept += words
    words = _words(stem(Path(path)))
    words, says_label, says_image = _without_role(words)
    if not folders and len(words) > 1 and words[0] in SPLITS and (says_label or says_image):
        split = SPLITS[words[0]]
    is_label = label or (says_label and (by_name or not image))
    return Named(path, is_label, split, tuple(kept), tuple(words), rest)


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in slug(text).replace("ground_truth", "groundtruth").split("_"):
        numbered = _NUMBERED.fullmatch(word)
        if numbered and numbered[1] in LABEL | IMAGE:
            words += [numbered[1], numbered[2]]
        else:
            words.append(word)
    return words


def _without_role(words: list[str]) -> tuple[list[str], bool, bool]:
    """Words of a name without those at its ends that tell a role; whether it says label, and image.

    The last word decides before the first (x_seg_image is an image called x_seg). A number behind such a word counts
    several masks of one image: `_mask_1`.
    """
    if len(words) > 2 and words[-1].isdigit() and words[-2] in LABEL:
        words = words[:-1]
    label = image = False
    for end in (-1, 0):
        if words and not (label or image):
            label, image = words[end] in LABEL, words[end] in IMAGE
            words = _cut(words, end) if label or image else words
    for end in (-1, 0):
        if label and words and words[end] in IMAGE:
            words = _cut(words, end)
    return words, label, image


def _cut(words: list[str], end: int) -> list[str]:
    return words[:-1] if end else words[1:]
