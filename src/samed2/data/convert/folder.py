"""The `folder` layout: an `items.csv` that lists every labelled image, volume and video of a folder of data sets.

Columns: dataset, modality, object, item, case, split, kind. Files by kind:

- image: `DATASET/images/ITEM.jpg|png`, one mask per object `DATASET/masks_OBJECT/ITEM.png`;
- volume: `DATASET/ITEM_image.nii.gz`, `DATASET/ITEM_label.nii.gz`, values named in `DATASET/labels.json`;
- video: `DATASET/ITEM/frames/*`, `DATASET/ITEM/masks/*` in the same order, values named in `DATASET/labels.json`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case, Dropped, LabelMap, LoadedCase, MaskArrays
from samed2.data.convert.registry import Source, register_converter
from samed2.errors import InputError
from samed2.io import Scan, read

COLUMNS = ("dataset", "modality", "object", "item", "case", "split", "kind")
IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".tif", ".tiff", ".bmp")


def folder_cases(root: Path | str, splits: Iterable[str] | None = None) -> list[Case]:
    """The cases of some splits (None: all) of a folder, in the order of `items.csv`.

    Raises:
        InputError: no such folder or index, a column missing, an unknown kind, or a split with no case.
    """
    root = Path(root)
    rows = read_items(root)
    wanted = None if splits is None else list(splits)
    grouped: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        if wanted is None or row["split"] in wanted:
            grouped.setdefault((row["dataset"], row["item"]), []).append(row)
    for split in wanted or ():
        if not any(found[0]["split"] == split for found in grouped.values()):
            have = ", ".join(sorted({row["split"] for row in rows}))
            raise InputError(f"{root / 'items.csv'}: no item of split {split!r}; it has {have}")
    return [_case(root, found) for found in grouped.values()]


def read_items(root: Path) -> list[dict[str, str]]:
    """The rows of a folder's `items.csv`, by column.

    Raises:
        InputError: no such file, a column missing, or an unknown kind.
    """
    index = root / "items.csv"
    if not index.is_file():
        raise InputError(f"{index}: not found; wanted the index of the `folder` layout")
    with open(index, newline="") as handle:
        reader = csv.DictReader(handle)
        missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{index}: column {missing[0]} is missing, wanted {', '.join(COLUMNS)}")
        rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if row["kind"] not in ("image", "volume", "video"):
            raise InputError(f"{index}: line {number}: kind is {row['kind']!r}, wanted image, volume or video")
    return rows


def _case(root: Path, rows: list[dict[str, str]]) -> Case:
    first = rows[0]
    folder, name = root / first["dataset"], first["item"]
    objects = tuple(row["object"] for row in rows)
    kind: Any = first["kind"]
    files: tuple[Path, ...]
    if kind == "image":
        files = (folder / "images" / name, *(folder / f"masks_{o}" / name for o in objects))
    elif kind == "volume":
        files = (folder / f"{name}_image.nii.gz", folder / f"{name}_label.nii.gz")
    else:
        files = (folder / name / "frames", folder / name / "masks")
    return Case(
        dataset=first["dataset"],
        modality=first["modality"],
        name=name,
        kind=kind,
        objects=objects,
        patient=first["case"],
        split=first["split"],
        files=files,
        reader=partial(_load, folder),
    )


def _load(folder: Path, case: Case) -> LoadedCase:
    if case.kind == "image":
        scan = _one_of(folder / "images", case.name)
        scan.modality = case.modality
        return LoadedCase(
            case, scan, MaskArrays({o: _one_of(folder / f"masks_{o}", case.name).frames() > 0 for o in case.objects})
        )
    if case.kind == "volume":
        scan = read(folder / f"{case.name}_image.nii.gz", modality=case.modality)
        labels = read(folder / f"{case.name}_label.nii.gz").frames()
    else:
        scan = _stack(folder / case.name / "frames")
        scan.modality = case.modality
        labels = _stack(folder / case.name / "masks").frames()
    return LoadedCase(case, scan, LabelMap(labels, _values(folder / "labels.json", case.objects)))


def _values(path: Path, objects: tuple[str, ...]) -> dict[str, tuple[int]]:
    names = {name: int(value) for value, name in json.loads(path.read_text()).items()}
    missing = [o for o in objects if o not in names]
    if missing:
        raise InputError(f"{path}: has no label value for {', '.join(missing)}")
    return {o: (names[o],) for o in objects}


def _one_of(folder: Path, name: str) -> Scan:
    for suffix in IMAGE_SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return read(path)
    raise InputError(f"{folder / name}: no image with suffix {', '.join(IMAGE_SUFFIXES)}")


def _stack(folder: Path) -> Scan:
    if not folder.is_dir():
        raise InputError(f"{folder}: not found, wanted a folder of frames")
    paths = sorted(folder.iterdir())
    frames = np.stack([read(path).frame(0) for path in paths])
    return Scan.from_array(frames, kind="video", channels_last=frames.ndim == 4)


class FileFrames:
    """Frames of a video that are one file each: a `FrameSource` that also tells its `files`."""

    def __init__(self, files: list[Path]) -> None:
        first = read(files[0])
        self.files = files
        self.shape = (len(files), first.height, first.width, first.channels)
        self.dtype = first.dtype

    def read(self, index: int) -> NDArray[Any]:
        scan = read(self.files[index])
        if (*scan.shape, scan.channels) != (1, *self.shape[1:]) or scan.dtype != self.dtype:
            raise InputError(
                f"{self.files[index]}: is {scan.shape}, {scan.channels} channels, {scan.dtype}; the first frame "
                f"is {(1, *self.shape[1:3])}, {self.shape[3]} channels, {self.dtype}"
            )
        return scan.frame(0)


@register_converter("folder")
def convert_folder(source: Source) -> Iterator[Case | Dropped]:
    """Every case of every split of a folder with `items.csv`; a store checks more than `open_cases` does."""
    for case in folder_cases(source.root):
        folder = source.root / case.dataset
        files = _existing(folder, case)
        missing = [stem for stem, path in files if path is None]
        if missing:
            reason = f"file is missing: {missing[0].relative_to(source.root)}"
            yield Dropped(case.dataset, case.name, reason, tuple(missing))
        else:
            found = tuple(path for _, path in files if path is not None)
            yield replace(case, files=found, reader=partial(_load_checked, folder))


def _existing(folder: Path, case: Case) -> list[tuple[Path, Path | None]]:
    """(path as `folder_cases` says it, file or folder that is there) of everything a case is read from."""
    if case.kind == "image":
        suffixed = [(p, [p.with_name(p.name + suffix) for suffix in IMAGE_SUFFIXES]) for p in case.files]
        return [(p, next((f for f in choices if f.is_file()), None)) for p, choices in suffixed]
    return [(p, p if p.exists() else None) for p in (*case.files, folder / "labels.json")]


def _load_checked(folder: Path, case: Case) -> LoadedCase:
    """Like `_load`, but labels must lie where the image lies, values not listed are told, videos are read lazily."""
    if case.kind == "image":
        return _load(folder, case)
    values = {0, *(int(value) for value in json.loads((folder / "labels.json").read_text()))}
    if case.kind == "video":
        scan = Scan(
            FileFrames(_frame_files(folder / case.name / "frames")),
            name=case.name,
            modality=case.modality,
            kind="video",
        )
        labels = _stack(folder / case.name / "masks").frames()
    else:
        scan = read(folder / f"{case.name}_image.nii.gz", modality=case.modality)
        label_scan = read(folder / f"{case.name}_label.nii.gz")
        _check_place(case, scan, label_scan)
        labels = label_scan.frames()
    strange = sorted(set(np.unique(labels).tolist()) - values)
    if strange:  # taken as background: data sets name the classes they care about
        shown, listed = ", ".join(f"{v:g}" for v in strange), ", ".join(str(v) for v in sorted(values))
        scan.warnings.append(f"{case.label}: label values outside the list are background: {shown}; listed: {listed}")
    return LoadedCase(case, scan, LabelMap(labels, _values(folder / "labels.json", case.objects)))


def _check_place(case: Case, scan: Scan, labels: Scan) -> None:
    """Image and label corners may lie at most half a voxel apart, where both files say where they lie."""
    if scan.shape != labels.shape or not (scan.geometry.known and labels.geometry.known):
        return  # the shape is checked for every case
    corners = np.array(np.meshgrid(*((0, n - 1) for n in scan.shape))).reshape(3, -1).T
    apart = np.abs(scan.geometry.to_voxel(labels.geometry.to_mm(corners)) - corners).max()
    if apart > 0.5:
        raise InputError(f"image and labels do not fit: {case.label} has labels {apart:.1f} voxels beside the image")


def _frame_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        raise InputError(f"{folder}: has no frames")
    return files
