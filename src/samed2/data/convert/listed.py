"""Cases that a list names one by one: `Source.layout` holds

- `cases`: a list of {name, image, label | labels, patient, kind}; `label` is one file with the values of
  `Source.objects`, `labels` is object -> file or files, which are united;
- `allow_empty`, `ignore_other_labels`, `ignore_geometry`: what is not an error when a case is loaded.

Paths are relative to the root. The modality of a case may stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from samed2.data.cases import Case, Dropped
from samed2.data.convert.files import VOLUME_SUFFIXES
from samed2.data.convert.load import Plan, load_pair
from samed2.data.convert.registry import Source, register_converter
from samed2.data.convert.values import Rule, parse_rule
from samed2.errors import InputError

KEYS = ("cases", "allow_empty", "ignore_other_labels", "ignore_geometry")
FIELDS = ("name", "image", "label", "labels", "patient", "kind", "modality")
KINDS = ("image", "volume", "video")


@register_converter("listed")
def listed(source: Source) -> Iterator[Case | Dropped]:
    """The cases in the order of the list; those whose files are gone are reported.

    Raises:
        InputError: a list that makes no sense.
    """
    where = f"layout of {source.name}"
    unknown = [key for key in source.layout if key not in KEYS]
    entries = source.layout.get("cases")
    if unknown or not isinstance(entries, list) or not entries:
        raise InputError(f"{where}: got {unknown[0] if unknown else 'no cases'}, wanted {', '.join(KEYS)}")
    rules = {name: parse_rule(rule, f"{source.name}: object {name}") for name, rule in source.objects.items()}
    for number, entry in enumerate(entries):
        case = _case(source, rules, entry, f"{where}: cases: {number}")
        missing = [path for path in case.files if not path.exists()]
        if missing:
            yield Dropped(source.name, case.name, f"file is missing: {missing[0]}", tuple(missing))
        else:
            yield case


def _case(source: Source, rules: Mapping[str, Rule], entry: Any, where: str) -> Case:
    if not isinstance(entry, Mapping) or set(entry) - set(FIELDS) or "image" not in entry:
        raise InputError(f"{where}: got {entry!r}, wanted image, label or labels, and some of {', '.join(FIELDS)}")
    if ("label" in entry) == ("labels" in entry):
        raise InputError(f"{where}: wanted one of label and labels")
    image = source.root / str(entry["image"])
    if "label" in entry:
        labels = {name: _paths(source.root, entry["label"]) for name in rules}
    elif isinstance(entry["labels"], Mapping):
        labels = {str(name): _paths(source.root, given) for name, given in entry["labels"].items()}
    else:
        raise InputError(f"{where}: labels: got {entry['labels']!r}, wanted object: file")
    unknown = [name for name in labels if name not in rules]
    if unknown or not labels:
        raise InputError(f"{where}: object {unknown[0] if unknown else '(none)'}: wanted some of {', '.join(rules)}")
    kind: Any = entry.get("kind") or source.kind or ("volume" if _is_volume(image) else "image")
    if kind not in KINDS:
        raise InputError(f"{where}: kind: got {kind!r}, wanted one of {', '.join(KINDS)}")
    plan = Plan(
        images=(image,),
        labels=(labels,),
        rules={name: rules[name] for name in labels},
        allow_empty=bool(source.layout.get("allow_empty", False)),
        ignore_other_labels=bool(source.layout.get("ignore_other_labels", False)),
        ignore_geometry=bool(source.layout.get("ignore_geometry", False)),
    )
    name = str(entry.get("name") or Path(str(entry["image"])).with_suffix(""))
    return Case(
        dataset=source.name,
        modality=str(entry.get("modality") or source.modality or "unknown"),
        name=name,
        kind=kind,
        objects=tuple(labels),
        patient=str(entry.get("patient") or name),
        licence=source.licence,
        files=tuple(dict.fromkeys([image, *(path for several in labels.values() for path in several)])),
        reader=partial(load_pair, plan),
    )


def _paths(root: Path, given: Any) -> tuple[Path, ...]:
    return tuple(root / str(one) for one in (given if isinstance(given, list | tuple) else [given]))


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(VOLUME_SUFFIXES)
