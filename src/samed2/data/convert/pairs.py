"""Images and their label files, found by path templates: the converter for most published data sets.

`Source.layout` holds:

- `image`: template(s) of the images (`templates.py` explains them);
- `label`: template(s) of the one label file of an image, whose values `Source.objects` names (`values.py`); or
  `labels`: object -> template(s) of its mask files, each of which must be there, and which are united;
- `name`: the case's name (default: all braces of the image's template joined by "_"), `patient` (default: the name);
- `split`: the split's name, `splits`: word found -> split; `lists`: split -> text file(s) with one case, image or
  patient a line; `tables`: new name -> {file, key, value, by}: the column `value` of the CSV row whose `key` is `by`;
- `groups`: name in braces -> the numbers at which a group begins; in `patient` it stands for its group;
- `stack`: the name in braces that counts the frames: files equal in all others are one volume or video;
- `exclude`: templates of files to leave alone; `optional`: objects that an image may lack (true: all);
- `channel`, `label_channel`: of 4-D files; `axes`: NIfTI axes that are (frame, y, x); `crop`: y0, x0, y1, x1 of
  the part of the image that the labels show;
- `background`, `ignore_other_labels`, `ignore_geometry`, `allow_empty`: what is not an error when a case is loaded.

A file that fits the templates of images and of labels is what the template with more literal characters says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from samed2.data.cases import Case, Dropped
from samed2.data.convert.files import IMAGE_SUFFIXES, NIFTI_AXES, VOLUME_SUFFIXES, HowToRead
from samed2.data.convert.joins import Naming, frame_order
from samed2.data.convert.layout import Layout, read_layout
from samed2.data.convert.load import Plan, load_pair
from samed2.data.convert.registry import Source, register_converter
from samed2.data.convert.templates import Template, templates, walk
from samed2.errors import InputError


@dataclass
class Item:
    """One image file, what its name says, and its label files by object."""

    path: str
    values: dict[str, str]
    found: dict[Template, list[str]] = field(default_factory=dict)

    def labels(self, layout: Layout) -> dict[str, list[str]]:
        """Object -> its label files; one that lacks a file of its templates is left out."""
        if layout.single:
            paths = [path for several in self.found.values() for path in several]
            return dict.fromkeys(layout.labels, paths) if paths else {}
        return {
            name: list(dict.fromkeys(path for one in wanted for path in self.found[one]))
            for name, wanted in layout.labels.items()
            if all(one in self.found for one in wanted)
        }


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
    taken = {path for item in items for several in item.found.values() for path in several}
    naming = Naming(source.root, source.layout, f"layout of {source.name}")
    for group in _stacks(items, layout):
        yield from _cases(source, layout, naming, group)
    yield from naming.unused(source.name)
    for path in stray.labels:
        if path not in taken:
            yield Dropped(source.name, path, "label without image", (source.root / path,))
    if stray.other:
        reason = f"not in the layout: {len(stray.other)} image files, such as {stray.other[0]}"
        yield Dropped(source.name, "(other files)", reason)


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
        for item, several in _join(items, one, labels):
            item.found[one] = several
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
    kept = [(item, item.labels(layout)) for item in group]
    for item, labels in kept:
        if not item.found:
            called = name if len(group) == 1 else f"{name} ({stack} {item.values[stack]})"
            yield Dropped(source.name, called, "image without label", (source.root / item.path,))
        elif layout.single and len(next(iter(labels.values()))) > 1:
            paths = next(iter(labels.values()))
            reason = f"ambiguous: {len(paths)} label files for one image: {', '.join(paths)}"
            yield Dropped(source.name, name, reason, tuple(source.root / path for path in paths))
            return
    kept = [(item, labels) for item, labels in kept if item.found]
    objects = tuple(one for one in layout.labels if kept and all(one in labels for _, labels in kept))
    for one in layout.labels:
        if kept and one not in objects and one not in layout.optional:
            lack = next(item for item, labels in kept if one not in labels)
            missing = ", ".join(wanted.text for wanted in layout.labels[one] if wanted not in lack.found)
            yield Dropped(
                source.name, f"{name}/{one}", f"no label of an object: no file {missing}", (source.root / lack.path,)
            )
    if objects:
        yield _case(source, layout, naming, kept, (name, values, objects))


def _case(
    source: Source,
    layout: Layout,
    naming: Naming,
    kept: list[tuple[Item, dict[str, list[str]]]],
    found: tuple[str, dict[str, str], tuple[str, ...]],
) -> Case:
    name, values, objects = found
    images = tuple(source.root / item.path for item, _ in kept)
    labels = tuple({one: tuple(source.root / path for path in some[one]) for one in objects} for _, some in kept)
    patient, split = naming.patient_and_split(values, name, kept[0][0].path)
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
        crop=tuple(options["crop"]) if options.get("crop") else None,
        allow_empty=bool(options.get("allow_empty", False)),
    )
