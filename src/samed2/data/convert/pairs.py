"""Images and their label files, found by path templates: the converter for most published data sets.

`Source.layout` holds:

- `image`: template(s) of the images (`templates.py` explains them);
- `label`: template(s) of one label file an image, whose values `Source.objects` names (`values.py`); or
  `labels`: object -> template(s) of its mask files, which are united;
- `name`: the case's name (default: all braces of the image's template joined by "_"), `patient` (default: the name);
- `split`: the split's name, `splits`: word found -> split; `lists`: split -> text file(s) with one case, image or
  patient a line; `tables`: new name -> {file, key, value, by}: the column `value` of the CSV row whose `key` is `by`;
- `stack`: the name in braces that counts the frames: files equal in all others are one volume or video;
- `exclude`: templates of files to leave alone; `optional`: objects that an image may lack (true: all);
- `channel`, `label_channel`: of 4-D files; `axes`: NIfTI axes that are (frame, y, x);
- `background`, `ignore_other_labels`, `ignore_geometry`, `allow_empty`: what is not an error when a case is loaded.

A file that fits the templates of images and of labels is what the template with more literal characters says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from samed2.data.cases import Case, Dropped
from samed2.data.convert.files import IMAGE_SUFFIXES, NIFTI_AXES, VOLUME_SUFFIXES, HowToRead
from samed2.data.convert.joins import Naming, frame_order
from samed2.data.convert.load import Plan, load_pair
from samed2.data.convert.registry import Source, register_converter
from samed2.data.convert.templates import Template, templates, walk
from samed2.data.convert.values import Rule, parse_rule
from samed2.errors import InputError

KEYS = (
    "image", "label", "labels", "name", "patient", "split", "splits", "lists", "tables", "stack", "exclude",
    "optional", "channel", "label_channel", "axes", "background", "ignore_other_labels", "ignore_geometry",
    "allow_empty", "root",
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


@dataclass
class Item:
    """One image file, what its name says, and its label files by object."""

    path: str
    values: dict[str, str]
    labels: dict[str, list[str]] = field(default_factory=dict)


@register_converter("pairs")
def pairs(source: Source) -> Iterator[Case | Dropped]:
    """Cases in the order of their images' paths; then what was left over.

    Raises:
        InputError: no such folder, a layout that makes no sense, or no image at all.
    """
    layout = read_layout(source)
    items, stray = _assign(source, layout)
    if not items:
        wanted = " or ".join(one.text for one in layout.image)
        raise InputError(f"{source.root}: no file fits {wanted}; check the folder and the layout of {source.name}")
    taken = {path for item in items for several in item.labels.values() for path in several}
    naming = Naming(source.root, source.layout, f"layout of {source.name}")
    for group in _stacks(items, layout):
        yield from _cases(source, layout, naming, group)
    yield from naming.unused(source.name)
    for path in stray.labels:
        if path not in taken:
            yield Dropped(source.name, path, "label without image", (source.root / path,))
    if stray.other:
        reason = f"{len(stray.other)} image files fit no template of the layout, such as {stray.other[0]}"
        yield Dropped(source.name, "(other files)", reason)


def read_layout(source: Source) -> Layout:
    """Check and complete the layout of a source.

    Raises:
        InputError: an unknown or missing key, a template or rule that cannot be read.
    """
    options, where = source.layout, f"layout of {source.name}"
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
    return Layout(
        image=templates(options["image"], f"{where}: image"),
        labels=labels,
        single="label" in options,
        rules={name: parse_rule(given, f"{source.name}: object {name}") for name, given in named.items()},
        options=options,
        optional=frozenset(labels if optional is True else optional or ()),
    )


@dataclass
class _Stray:
    labels: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def _assign(source: Source, layout: Layout) -> tuple[list[Item], _Stray]:
    """Images with their labels. A label belongs to the images that agree with it in all names both have."""
    exclude = templates(layout.options["exclude"], "exclude") if layout.options.get("exclude") else ()
    items: list[Item] = []
    found: dict[Template, list[tuple[str, dict[str, str]]]] = {one: [] for one in layout.label_templates}
    stray = _Stray()
    for path in walk(source.root, exclude):
        as_image = _best(layout.image, path)
        as_label = [(one, values) for one in found if (values := one.match(path)) is not None]
        if as_image and all(as_image[0].literals > one.literals for one, _ in as_label):
            items.append(Item(path, as_image[1]))
        elif as_label:
            stray.labels.append(path)
            for one, values in as_label:
                found[one].append((path, values))
        elif path.lower().endswith(IMAGE_SUFFIXES):
            stray.other.append(path)
    for one, labels in found.items():
        names = [name for name, several in layout.labels.items() if one in several]
        for item, several in _join(items, one, labels):
            for name in names:
                known = item.labels.setdefault(name, [])
                known.extend(path for path in several if path not in known)
    return items, stray


def _best(several: tuple[Template, ...], path: str) -> tuple[Template, dict[str, str]] | None:
    fits = [(one, values) for one in several if (values := one.match(path)) is not None]
    return max(fits, key=lambda fit: fit[0].literals) if fits else None


def _join(
    items: list[Item], template: Template, labels: list[tuple[str, dict[str, str]]]
) -> Iterator[tuple[Item, list[str]]]:
    """Each image with the labels that agree with it in all names they share."""
    index: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}
    for item in items:
        shared = tuple(name for name in template.fields if name in item.values)
        if shared not in index:
            index[shared] = {}
            for path, values in labels:
                index[shared].setdefault(tuple(values[name] for name in shared), []).append(path)
        several = index[shared].get(tuple(item.values[name] for name in shared))
        if several:
            yield item, several


def _stacks(items: list[Item], layout: Layout) -> list[list[Item]]:
    """Items that are one case: single ones, or the frames of a stack in order."""
    counter = layout.options.get("stack")
    if not counter:
        return [[item] for item in items]
    groups: dict[tuple[tuple[str, str], ...], list[Item]] = {}
    for item in items:
        if counter not in item.values:
            raise InputError(f"layout: stack: no template has {{{counter}}}, the image's has {', '.join(item.values)}")
        rest = {name: value for name, value in item.values.items() if name != counter}
        groups.setdefault(tuple(rest.items()), []).append(item)
    return [sorted(group, key=lambda item: frame_order(item.values[counter])) for group in groups.values()]


def _cases(source: Source, layout: Layout, naming: Naming, group: list[Item]) -> Iterator[Case | Dropped]:
    """The case of one image or stack, or why there is none; objects without a file are reported too."""
    stack = str(layout.options.get("stack") or "")
    values = {name: value for name, value in group[0].values.items() if name != stack}
    name = naming.name(values, group[0].path)
    kept = [item for item in group if item.labels]
    for item in group:
        if not item.labels:
            called = name if len(group) == 1 else f"{name} ({stack} {item.values[stack]})"
            yield Dropped(source.name, called, "image without label", (source.root / item.path,))
    if not kept:
        return
    objects = tuple(one for one in layout.labels if all(one in item.labels for item in kept))
    for one in layout.labels:
        if one not in objects and one not in layout.optional:
            yield Dropped(source.name, f"{name}/{one}", f"no label of {one}", tuple(source.root / i.path for i in kept))
    several = [item for item in kept if any(layout.single and len(paths) > 1 for paths in item.labels.values())]
    if several:
        paths = next(iter(several[0].labels.values()))
        reason = f"ambiguous: {len(paths)} label files for one image: {', '.join(paths)}"
        yield Dropped(source.name, name, reason, tuple(source.root / path for path in paths))
        return
    if not objects:
        yield Dropped(
            source.name, name, "no object is labelled on all frames", tuple(source.root / i.path for i in kept)
        )
        return
    yield _case(source, layout, naming, kept, (name, values, objects))


def _case(
    source: Source,
    layout: Layout,
    naming: Naming,
    kept: list[Item],
    found: tuple[str, dict[str, str], tuple[str, ...]],
) -> Case:
    name, values, objects = found
    images = tuple(source.root / item.path for item in kept)
    labels = tuple({one: tuple(source.root / path for path in item.labels[one]) for one in objects} for item in kept)
    patient, split = naming.patient_and_split(values, name, kept[0].path)
    kind: Any = source.kind or ("volume" if len(kept) > 1 or images[0].name.endswith(VOLUME_SUFFIXES) else "image")
    files = dict.fromkeys([*images, *(path for some in labels for paths in some.values() for path in paths)])
    return Case(
        dataset=source.name,
        modality=source.modality or "unknown",
        name=name,
        kind=kind,
        objects=objects,
        patient=patient,
        split=split,
        licence=source.licence,
        files=tuple(files),
        reader=partial(load_pair, _plan(layout, images, labels, objects)),
    )


def _plan(
    layout: Layout, images: tuple[Path, ...], labels: tuple[dict[str, tuple[Path, ...]], ...], objects: tuple[str, ...]
) -> Plan:
    options = layout.options
    axes = tuple(options.get("axes") or NIFTI_AXES)
    background = options.get("background")
    return Plan(
        images=images,
        labels=labels,
        rules={name: layout.rules[name] for name in objects},
        image_how=HowToRead(options.get("channel"), axes),
        label_how=HowToRead(options.get("label_channel"), axes),
        background=None if background is None else tuple([background] if isinstance(background, int) else background),
        ignore_other_labels=bool(options.get("ignore_other_labels", False)),
        ignore_geometry=bool(options.get("ignore_geometry", False)),
        allow_empty=bool(options.get("allow_empty", False)),
    )
