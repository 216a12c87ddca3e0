"""The file that says how a folder is to be read (`data.yaml`): made by `samed2 train --data`, may be edited.

root: /data/polyps          # relative paths: to this file's folder
name: polyps
converter: listed           # or dicom; see `samed2.data.convert`
modality: endoscopy
objects: {polyp: [255]}     # object -> value, values or rule
layout: {allow_empty: true, cases: [{name: a, image: images/a.png, label: masks/a.png}, ...]}
splits: {train: [a, ...], val: [b, ...]}   # cases in no split are left out
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from samed2.data.cases import Case
from samed2.data.convert.registry import Source
from samed2.errors import InputError
from samed2.io.atomic import atomic_path

KEYS = ("root", "name", "converter", "modality", "kind", "objects", "layout", "splits")
HEAD = "# How the data are read. `samed2 train --data` wrote this; edit it and train again with the recipe beside it.\n"


@dataclass(frozen=True)
class Description:
    """A source and the names of its cases by split."""

    source: Source
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def write_description(description: Description, path: Path) -> None:
    """Write the YAML file, whole or not at all."""
    source = description.source
    values: dict[str, Any] = {
        "root": str(source.root.resolve()),
        "name": source.name,
        "converter": source.converter,
        "modality": source.modality,
        "kind": source.kind,
        "objects": dict(source.objects),
        "layout": dict(source.layout),
        "splits": {split: list(names) for split, names in description.splits.items()},
    }
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(HEAD + text, encoding="utf-8")


def read_description(path: Path | str) -> Description:
    """Read the YAML file.

    Raises:
        InputError: missing, not YAML, or with other fields than are meant.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict) or set(values) - set(KEYS) or not {"root", "converter"} <= set(values):
        got = ", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise InputError(f"{path}: got {got}, wanted root, converter and some of {', '.join(KEYS)}")
    for key in ("objects", "layout", "splits"):
        if not isinstance(values.get(key) or {}, dict):
            raise InputError(f"{path}: {key}: got {values[key]!r}, wanted names with what they stand for")
    root = Path(str(values["root"]))
    source = Source(
        root=root if root.is_absolute() else path.parent / root,
        name=str(values.get("name") or root.name),
        converter=str(values["converter"]),
        modality=str(values.get("modality") or ""),
        kind=str(values.get("kind") or ""),
        objects=values.get("objects") or {},
        layout=values.get("layout") or {},
    )
    splits = {}
    for split, names in (values.get("splits") or {}).items():
        if not isinstance(names, list):
            raise InputError(f"{path}: splits: {split}: got {names!r}, wanted a list of cases")
        splits[str(split)] = tuple(str(name) for name in names)
    return Description(source, splits)


def described_cases(path: Path | str, splits: Iterable[str] | None = None) -> list[Case]:
    """The cases of some splits (None: all that are in one) of a description.

    Raises:
        InputError: as `read_description`, an unknown split, a case in two splits, or one that is not there.
    """
    from samed2.data.convert import find_cases

    description = read_description(path)
    wanted = list(description.splits) if splits is None else list(splits)
    found = {case.name: case for case in find_cases(description.source) if isinstance(case, Case)}
    owner: dict[str, str] = {}
    for split, names in description.splits.items():
        for name in names:
            if owner.setdefault(name, split) != split:
                raise InputError(f"{path}: splits: {name} is in {owner[name]} and in {split}")
    cases = []
    for split in wanted:
        if not description.splits.get(split):
            have = ", ".join(name for name, names in description.splits.items() if names) or "none"
            raise InputError(f"{path}: no case of split {split!r}; it has {have}")
        for name in description.splits[split]:
            if name not in found:
                raise InputError(f"{path}: splits: {split}: the case {name!r} is not in {description.source.root}")
            cases.append(replace(found[name], split=split))
    return cases
