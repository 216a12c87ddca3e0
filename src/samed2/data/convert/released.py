"""The layout that the released SAMed-2 code reads, its own MedBank included.

    ROOT/Object_Modality_ID/{image,mask}/case_idx_slice_001.png, and train.txt, val.txt, test.txt

`ROOT` may also be one such folder. A mask has the name of its image; 0 is background. A list has one image a line, as
a name or as a path that ends with it (the released reader wants "./" in front). Slices of one case that are in one
split are one volume, in the order of their numbers; other images are cases of their own.

Source: docs/MEDBANK.md, README.md and sam2/dataset.py of https://github.com/ZhilingYan/Medical-SAM-Bench.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from samed2.data.cases import Case, Dropped
from samed2.data.convert.files import IMAGE_SUFFIXES
from samed2.data.convert.joins import read_lines
from samed2.data.convert.load import Plan, load_pair
from samed2.data.convert.names import slug
from samed2.data.convert.registry import Source, register_converter
from samed2.data.convert.templates import walk
from samed2.data.convert.values import Rule
from samed2.errors import InputError

SPLITS = ("train", "val", "test")
MODALITIES = {
    "fundus": "fundus", "dermoscopy": "dermoscopy", "xray": "xray", "cxr": "xray", "ct": "ct", "mr": "mr",
    "mri": "mr", "colonoscopy": "endoscopy", "endoscopy": "endoscopy", "echo": "ultrasound", "us": "ultrasound",
    "ultrasound": "ultrasound", "microscopy": "microscopy",
}  # fmt: skip
_SLICE = re.compile(r"(?P<case>.+?)_slice_?(?P<number>\d+)")


@dataclass(frozen=True)
class _Folder:
    """One task's folder and what its name says."""

    path: Path
    dataset: str
    object: str
    modality: str


@register_converter("released")
def released(source: Source) -> Iterator[Case | Dropped]:
    """Cases of every task folder, sorted by name.

    Raises:
        InputError: no folder with `image` and `mask` in it.
    """
    if not source.root.is_dir():
        raise InputError(f"{source.root}: is not a folder, wanted one with Object_Modality_ID/image and mask in it")
    folders = [source.root] if _is_task(source.root) else [p for p in sorted(source.root.iterdir()) if _is_task(p)]
    if not folders:
        raise InputError(f"{source.root}: has no folder Object_Modality_ID with `image` and `mask` in it")
    for path in folders:
        yield from _task_cases(source, _named(source, path))


def _is_task(path: Path) -> bool:
    return (path / "image").is_dir() and (path / "mask").is_dir()


def _named(source: Source, path: Path) -> _Folder:
    words = path.resolve().name.split("_")
    modality = source.modality
    if len(words) >= 3 and (known := MODALITIES.get(re.sub("[^a-z]", "", words[-2].lower()))):
        return _Folder(path, slug("_".join(words)), slug("_".join(words[:-2])), modality or known)
    return _Folder(path, slug("_".join(words)), slug("_".join(words)), modality or "unknown")


def _task_cases(source: Source, folder: _Folder) -> Iterator[Case | Dropped]:
    splits = _splits(folder.path)
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for found, kind in ((images, "image"), (masks, "mask")):
        for path in _files(folder.path / kind):
            if found.setdefault(_stem(path.name), path) != path:
                yield Dropped(folder.dataset, _stem(path.name), f"two {kind}s with one name", (path,))
    for name in [name for name in images if name not in masks]:
        yield Dropped(folder.dataset, name, "image without label", (images.pop(name),))
    for name in [name for name in masks if name not in images]:
        yield Dropped(folder.dataset, name, "label without image", (masks[name],))
    twice = {name for name, several in splits.items() if len(several) > 1}
    for name, several in splits.items():
        if name not in images:
            yield Dropped(folder.dataset, name, f"listed but not found: {several[0]}.txt")
        elif len(several) > 1:
            yield Dropped(folder.dataset, name, f"in two splits: {' and '.join(several)}", (images[name],))
    usable = {name: path for name, path in images.items() if name not in twice}
    yield from _grouped(source, folder, usable, masks, splits)


def _grouped(
    source: Source, folder: _Folder, images: dict[str, Path], masks: dict[str, Path], splits: dict[str, list[str]]
) -> Iterator[Case]:
    groups: dict[tuple[str, str, bool], list[tuple[int, str]]] = {}
    for name in images:
        found = _SLICE.fullmatch(name)
        case, number = (found["case"], int(found["number"])) if found else (name, 0)
        groups.setdefault((case, splits.get(name, [""])[0], found is not None), []).append((number, name))
    in_splits: dict[str, set[str]] = {}
    for case, split, _ in groups:
        in_splits.setdefault(case, set()).add(split)
    for (case, split, sliced), members in groups.items():
        names = [name for _, name in sorted(members)]
        plan = Plan(
            images=tuple(images[name] for name in names),
            labels=tuple({folder.object: (masks[name],)} for name in names),
            rules={folder.object: Rule()},
        )
        yield Case(
            dataset=folder.dataset,
            modality=folder.modality,
            name=case if len(in_splits[case]) == 1 else f"{case}@{split or 'unlisted'}",
            kind="volume" if sliced else "image",
            objects=(folder.object,),
            patient=case,
            split=split,
            licence=source.licence,
            files=(*plan.images, *(masks[name] for name in names)),
            reader=partial(load_pair, plan),
        )


def _splits(folder: Path) -> dict[str, list[str]]:
    """Image name without suffix -> the lists that name it."""
    found: dict[str, list[str]] = {}
    for split in SPLITS:
        if (folder / f"{split}.txt").is_file():
            for line in read_lines(folder / f"{split}.txt"):
                several = found.setdefault(_stem(line.replace("\\", "/").rsplit("/", 1)[-1]), [])
                if split not in several:
                    several.append(split)
    return found


def _files(folder: Path) -> list[Path]:
    """Image files, sorted."""
    return [folder / path for path in walk(folder) if path.lower().endswith(IMAGE_SUFFIXES)]


def _stem(name: str) -> str:
    ending = next((e for e in sorted(IMAGE_SUFFIXES, key=len, reverse=True) if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]
