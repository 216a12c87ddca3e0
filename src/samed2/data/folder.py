"""The `folder` layout: an `items.csv` that lists every labelled image, volume and video of a folder of data sets.

Columns: dataset, modality, object, item, case, split, kind. Files by kind:

- image: `DATASET/images/ITEM.jpg|png`, one mask per object `DATASET/masks_OBJECT/ITEM.png`;
- volume: `DATASET/ITEM_image.nii.gz`, `DATASET/ITEM_label.nii.gz`, values named in `DATASET/labels.json`;
- video: `DATASET/ITEM/frames/*`, `DATASET/ITEM/masks/*` in the same order, values named in `DATASET/labels.json`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan, read

COLUMNS = ("dataset", "modality", "object", "item", "case", "split", "kind")
IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Item:
    """One image, volume or video and the objects labelled in it."""

    root: Path
    dataset: str
    modality: str
    name: str
    case: str
    split: str
    kind: Literal["image", "volume", "video"]
    objects: tuple[str, ...]

    def load(self) -> LoadedItem:
        """Read pixels and masks into memory.

        Raises:
            InputError: a file is missing or unusable, or a mask does not fit its image.
        """
        folder = self.root / self.dataset
        if self.kind == "image":
            frames = _one_of(folder / "images", self.name)
            masks = {o: _one_of(folder / f"masks_{o}", self.name).frames() > 0 for o in self.objects}
            scan = frames
        elif self.kind == "volume":
            scan = read(folder / f"{self.name}_image.nii.gz", modality=self.modality)
            values = read(folder / f"{self.name}_label.nii.gz").frames()
            masks = self._split(values)
        else:
            scan = _stack(sorted((folder / self.name / "frames").iterdir()), self.modality)
            masks = self._split(_stack(sorted((folder / self.name / "masks").iterdir()), None).frames())
        frames_array = scan.frames()
        for name, mask in masks.items():
            if mask.shape != frames_array.shape[:3]:
                raise InputError(
                    f"{folder / self.name}: mask of {name} has shape {mask.shape}, image {frames_array.shape[:3]}"
                )
        return LoadedItem(self, frames_array, masks)

    def _split(self, values: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
        path = self.root / self.dataset / "labels.json"
        names = {name: int(value) for value, name in json.loads(path.read_text()).items()}
        missing = [o for o in self.objects if o not in names]
        if missing:
            raise InputError(f"{path}: has no label value for {', '.join(missing)}")
        return {o: values == names[o] for o in self.objects}


@dataclass
class LoadedItem:
    """An item in memory: frames (T, H, W) or (T, H, W, 3) in native intensities, masks (T, H, W) by object."""

    item: Item
    frames: NDArray[Any]
    masks: dict[str, NDArray[np.bool_]]

    @property
    def scan(self) -> Scan:
        """The frames as a `Scan`, for windowing and prediction."""
        kind = self.item.kind
        scan = Scan.from_array(self.frames, kind=kind, channels_last=self.frames.ndim == 4)
        scan.modality = self.item.modality
        return scan


def read_items(root: Path | str, splits: Iterable[str]) -> list[Item]:
    """The items of some splits of a folder, in the order of `items.csv`.

    Raises:
        InputError: no such folder or index, a column missing, or a split with no item.
    """
    root = Path(root)
    index = root / "items.csv"
    if not index.is_file():
        raise InputError(f"{index}: not found; wanted the index of the `folder` layout")
    with open(index, newline="") as handle:
        reader = csv.DictReader(handle)
        missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{index}: column {missing[0]} is missing, wanted {', '.join(COLUMNS)}")
        rows = list(reader)
    wanted = list(splits)
    grouped: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if row["split"] in wanted:
            entry = grouped.setdefault((row["dataset"], row["item"]), {**row, "objects": []})
            entry["objects"].append(row["object"])
    for split in wanted:
        if not any(entry["split"] == split for entry in grouped.values()):
            have = ", ".join(sorted({row["split"] for row in rows}))
            raise InputError(f"{index}: no item of split {split!r}; it has {have}")
    return [
        Item(
            root,
            e["dataset"],
            e["modality"],
            e["item"],
            e["case"],
            e["split"],
            e["kind"],
            tuple(e["objects"]),
        )
        for e in grouped.values()
    ]


def _one_of(folder: Path, name: str) -> Scan:
    for suffix in IMAGE_SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return read(path)
    raise InputError(f"{folder / name}: no image with suffix {', '.join(IMAGE_SUFFIXES)}")


def _stack(paths: list[Path], modality: str | None) -> Scan:
    frames = np.stack([read(path).frame(0) for path in paths])
    scan = Scan.from_array(frames, kind="video", channels_last=frames.ndim == 4)
    scan.modality = modality or scan.modality
    return scan
