"""The options of the `pairs` converter, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samed2.data.convert.registry import Source
from samed2.data.convert.templates import Template, templates
from samed2.data.convert.values import Rule, parse_rule
from samed2.errors import InputError

KEYS = (
    "image", "label", "labels", "name", "patient", "split", "splits", "lists", "tables", "stack", "exclude",
    "optional", "channel", "label_channel", "axes", "background", "crop", "groups",
    "ignore_other_labels", "ignore_geometry", "allow_empty", "root",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """`Source.layout`, checked."""

    image: tuple[Template, ...]
    labels: Mapping[str, tuple[Template, ...]]  # object -> templates; all the same ones with `label`
    single: bool  # one label file for all objects
    rules: Mapping[str, Rule]
    options: Mapping[str, Any]
    optional: frozenset[str]

    @property
    def label_templates(self) -> tuple[Template, ...]:
        return tuple(dict.fromkeys(one for several in self.labels.values() for one in several))


def read_layout(source: Source) -> Layout:
    """Check and complete the layout of a source.

    Raises:
        InputError: an unknown or missing key, a template or rule that cannot be read.
    """
    options, where = source.layout, f"layout of {source.name}"
    _check_kinds(options, where)
    unknown = [key for key in options if key not in KEYS]
    if unknown:
        raise InputError(f"{where}: has {unknown[0]!r}, wanted some of {', '.join(KEYS)}")
    if "image" not in options or ("label" in options) == ("labels" in options):
        raise InputError(f"{where}: wanted `image` and one of `label` and `labels`, got {', '.join(options) or 'none'}")
    named: Mapping[str, Any]
    if "label" in options:
        named = source.objects or {source.name: None}
        one = templates(options["label"], f"{where}: label")
        labels = dict.fromkeys(named, one)
    else:
        if not isinstance(options["labels"], Mapping) or not options["labels"]:
            raise InputError(f"{where}: labels: wanted a template for each object, got {options['labels']!r}")
        labels = {name: templates(given, f"{where}: labels: {name}") for name, given in options["labels"].items()}
        missing = [name for name in source.objects if name not in labels]
        if missing:
            raise InputError(f"{where}: labels: has no template for the object {missing[0]}")
        named = {name: source.objects.get(name) for name in labels}
    optional = options.get("optional", ())
    image = templates(options["image"], f"{where}: image")
    for label in {label for several in labels.values() for label in several}:
        if image[0].fields and not any(set(label.fields) & set(other.fields) for other in image):
            raise InputError(f"{where}: {label.text!r} shares no name in braces with the image's {image[0].text!r}")
    return Layout(
        image=image,
        labels=labels,
        single="label" in options,
        rules={name: parse_rule(given, f"{source.name}: object {name}") for name, given in named.items()},
        options=options,
        optional=frozenset(labels if optional is True else optional or ()),
    )


def _check_kinds(options: Mapping[str, Any], where: str) -> None:
    """Refuse options of another kind than is meant, so that nothing fails later in odd ways."""
    for keys, kinds, meant in (
        (("name", "patient", "split", "stack"), str, "text"),
        (("splits", "lists", "tables", "groups"), Mapping, "a mapping"),
        (("channel", "label_channel"), int, "a number"),
        (("ignore_other_labels", "ignore_geometry", "allow_empty"), bool, "true or false"),
        (("axes", "crop"), list | tuple, "a list of numbers"),
        (("background",), int | list | tuple, "a value or a list of values"),
    ):
        for key in keys:
            if options.get(key) is not None and not isinstance(options[key], kinds):
                raise InputError(f"{where}: {key}: got {options[key]!r}, wanted {meant}")
    for key, count in (("axes", 3), ("crop", 4)):
        given = options.get(key)
        if given and (len(given) != count or not all(type(value) is int and value >= 0 for value in given)):
            raise InputError(f"{where}: {key}: got {given!r}, wanted {count} whole numbers")
