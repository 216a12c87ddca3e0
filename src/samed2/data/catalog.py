"""The catalogue: data sets as published, as data (`catalog/*.yaml`), and what they serve of the paper's tasks.

`resolve_source("NAME:PATH")` is how a command line names what to convert.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from samed2.data.catalog_model import Dataset, PairsFile, Served, read_yaml
from samed2.data.convert.registry import Source
from samed2.errors import InputError

__all__ = [
    "GENERIC", "Dataset", "NamedSource", "PublishedTask", "Served", "Serving", "check_layout", "datasets",
    "get_dataset", "layout_warnings", "named_sources", "published_tasks", "resolve_source",
]  # fmt: skip

# sources that need no entry: name before the colon -> what stands behind it
GENERIC = {
    "folder": "a folder with items.csv",
    "released": "Object_Modality_ID/{image,mask} folders with train.txt, val.txt, test.txt",
    "dicom": "DICOM series with SEG or RTSTRUCT objects",
    "pairs": "a YAML file that says which images and labels belong together",
}


@dataclass(frozen=True)
class Serving:
    """A data set that can stand for a published task, with these of its objects; `named` as in `Served`."""

    dataset: str
    objects: tuple[str, ...]
    named: bool


@dataclass(frozen=True)
class PublishedTask:
    """A row of the paper's tables.

    Attributes:
        dice: the paper's own score of SAMed-2, never one of ours.
        source: where that stands.
        same_as: for an external task, the internal one of the same object in the same modality, or "".
        served_by: data sets of the catalogue, those that the authors name first.
    """

    task: str
    set: Literal["internal", "external"]
    dice: float
    source: str
    same_as: str
    served_by: tuple[Serving, ...]


class NamedSource(BaseModel):
    """A source of the authors' own list, and the entries that are it; `note` says why there is none."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    source: str
    datasets: list[str]
    note: str = ""


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    task: str
    set: Literal["internal", "external"]
    dice: float
    same_as: str = ""


class _Published(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    source: str
    tasks: list[_Row]
    named: list[NamedSource]


def _here() -> Path:
    return Path(str(resources.files("samed2.data")))


@cache
def _read_all() -> dict[str, Dataset]:
    found = {path.stem: read_yaml(path, Dataset) for path in sorted((_here() / "catalog").glob("*.yaml"))}
    for stem, dataset in found.items():
        if dataset.name != stem:
            raise InputError(f"catalog/{stem}.yaml: name: got {dataset.name!r}, wanted the file's name {stem!r}")
    return found


def datasets() -> dict[str, Dataset]:
    """All entries by name, sorted."""
    return dict(_read_all())


def get_dataset(name: str) -> Dataset:
    """One entry.

    Raises:
        InputError: no entry of that name; close ones are named.
    """
    known = _read_all()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5)
    close += [one for one in known if len(name) > 2 and name.lower() in one and one not in close]
    hint = f"close: {', '.join(close[:5])}" if close else "`samed2 medbank list` shows all"
    raise InputError(f"data set: got {name!r}, wanted a name of the catalogue ({hint})")


@cache
def _published() -> _Published:
    return read_yaml(_here() / "published_tasks.yaml", _Published)


def published_tasks() -> tuple[PublishedTask, ...]:
    """The rows of the paper's two tables, internal ones first, with the data sets that can stand for them."""
    table = _published()
    serving: dict[tuple[str, str], list[Serving]] = {}
    for dataset in _read_all().values():
        for served in dataset.published:
            one = Serving(dataset.name, tuple(served.objects), served.named)
            serving.setdefault((served.task, served.set), []).append(one)
    return tuple(
        PublishedTask(
            **row.model_dump(),
            source=table.source,
            served_by=tuple(sorted(serving.get((row.task, row.set), ()), key=lambda one: not one.named)),
        )
        for row in table.tasks
    )


def named_sources() -> tuple[NamedSource, ...]:
    """The sources that the paper's authors list for their training data."""
    return tuple(_published().named)


def resolve_source(text: str) -> Source:
    """What `--source NAME:PATH` means: an entry of the catalogue and its root, or one of `GENERIC`.

    Raises:
        InputError: no colon, an unknown name, nothing at the path, or a YAML file for `pairs` with a wrong field.
    """
    name, colon, given = str(text).partition(":")
    if not colon or not name or not given:
        raise InputError(f"--source: got {text!r}, wanted NAME:PATH, such as folder:DIR, acdc:DIR or pairs:FILE.yaml")
    path = Path(given).expanduser()
    if name == "pairs":
        return _pairs(path)
    dataset = None if name in GENERIC else get_dataset(name)
    if not path.exists():
        raise InputError(f"--source {text}: {path} does not exist, wanted {_wanted(name, dataset)}")
    if not path.is_dir() and name != "dicom":
        raise InputError(f"--source {text}: {path} is a file, wanted {_wanted(name, dataset)}")
    if dataset is None:
        return Source(path, name, name)
    return Source(
        root=path,
        name=name,
        converter=dataset.converter,
        modality=dataset.modality,
        kind=dataset.kind,
        licence=dataset.licence,
        objects=dict(dataset.objects),
        layout=dict(dataset.layout),
    )


def _wanted(name: str, dataset: Dataset | None) -> str:
    return GENERIC[name] if dataset is None else f"the folder of {dataset.title} (`samed2 medbank show {name}`)"


def _pairs(path: Path) -> Source:
    if path.is_dir():
        raise InputError(f"--source pairs:{path}: is a folder, wanted {GENERIC['pairs']}")
    given = read_yaml(path, PairsFile)
    root = path.parent / Path(given.root).expanduser()
    if not root.is_dir():
        raise InputError(f"{path}: root: {root} is not a folder; it is taken from the YAML file's own folder")
    source = Source(
        root, given.name, "pairs", given.modality.lower(), given.kind, given.licence, dict(given.objects), given.layout
    )
    from samed2.data.convert.layout import read_layout

    try:
        read_layout(source)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return source


def layout_warnings(source: Source) -> list[str]:
    """`check_layout` for a source of the catalogue; nothing for others."""
    dataset = _read_all().get(source.name)
    if dataset is None or source.converter != dataset.converter or dict(source.layout) != dataset.layout:
        return []
    return check_layout(dataset, source.root)


def check_layout(dataset: Dataset, root: Path | str, *, hashes: bool = False) -> list[str]:
    """How a folder differs from the published set: file counts, and with `hashes` archives that lie in or beside it.

    Differences are not errors: a part of a set is usable. Each is one line for a person.
    """
    root = Path(root)
    counts = {pattern: _count(root, pattern) for pattern in dataset.files}
    if counts and not any(counts.values()):
        inner = _inner_root(dataset, root)
        hint = f"; {inner} looks right, give that folder" if inner else f"; see `samed2 medbank show {dataset.name}`"
        return [f"{dataset.name}: {root} holds none of the files of the published layout{hint}"]
    problems = [
        f"{dataset.name}: {pattern}: {counts[pattern]} files, the published set has {wanted}"
        for pattern, wanted in dataset.files.items()
        if counts[pattern] != wanted
    ]
    for file, digest in dataset.checksums.items() if hashes else ():
        for path in (root / file, root.absolute().parent / file):
            if path.is_file() and (found := _digest(path, digest.split(":")[0])) != digest:
                problems.append(f"{dataset.name}: {path}: has checksum {found}, the published one is {digest}")
    return problems


def _count(root: Path, pattern: str) -> int:
    """Files below `root` that fit, without the `._` files that some archives carry."""
    return sum(1 for path in root.glob(pattern) if not path.name.startswith("._") and path.is_file())


def _inner_root(dataset: Dataset, root: Path) -> Path | None:
    """A folder at most two levels below where the layout begins, if the user gave its parent."""
    for pattern in ("*/", "*/*/"):
        for inner in islice(sorted(path for path in root.glob(pattern) if path.is_dir()), 50):
            if any(next(inner.glob(one), None) is not None for one in dataset.files):
                return inner
    return None


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as handle:
        found = hashlib.new(algorithm, usedforsecurity=False)
        while block := handle.read(2**20):
            found.update(block)
    return f"{algorithm}:{found.hexdigest()}"
