"""Cases of one folder each with an NRRD (or MHA) image and its labels, as 3D Slicer saves them.

A file whose name says seg, label or mask is a label, the one other file of the folder is the image. A `.seg.nrrd` names
its segments itself; any other label file holds the values that `Source.objects` lists, else one object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case, Dropped, LoadedCase
from samed2.data.convert.files import HowToRead, check_fit, open_labels
from samed2.data.convert.files import LabelFile as Labels
from samed2.data.convert.load import Plan, load_pair
from samed2.data.convert.names import slug, wanted
from samed2.data.convert.registry import Source
from samed2.data.convert.values import Rule, RuledMasks, check_extent, parse_rule
from samed2.errors import InputError
from samed2.io import Geometry, Scan
from samed2.io.itk_headers import read_itk_header
from samed2.io.read_itk import metadata, read_itk

_LABEL = re.compile(r"(?<![a-z])(seg|segmentation|label|labels|labelmap|mask|gt)(?![a-z])", re.IGNORECASE)
_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")


def slicer_cases(source: Source, paths: list[str]) -> Iterator[Case | Dropped]:
    """One case a folder, or why there is none."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    for folder, several in folders.items():
        labels = [path for path in several if _LABEL.search(path.rpartition("/")[2].replace("_", " "))]
        images = [path for path in several if path not in labels]
        name = folder.replace("/", "_") or "case"
        files = tuple(source.root / path for path in [*images, *labels])
        if len(images) != 1 or len(labels) != 1:
            got = f"{len(images)} image and {len(labels)} label files"
            reason = "image without label" if not labels else "label without image" if not images else "ambiguous"
            yield Dropped(source.name, name, f"{reason}: {got} in one folder, wanted one of each", files)
            continue
        try:
            yield _case(source, name, folder.partition("/")[0], files)
        except InputError as error:
            yield Dropped(source.name, name, str(error), files)


def segments(path: Path) -> dict[str, tuple[int, int]]:
    """Segment name -> (layer, label value) of a 3D Slicer segmentation; empty for any other file."""
    found: dict[str, dict[str, str]] = {}
    for key, value in metadata(path).items():
        if match := _SEGMENT.fullmatch(key):
            found.setdefault(match[1], {})[match[2]] = value
    return {
        parts["Name"]: (int(parts.get("Layer", 0)), int(parts.get("LabelValue", 1)))
        for _, parts in sorted(found.items(), key=lambda item: int(item[0]))
        if "Name" in parts
    }


def _case(source: Source, name: str, patient: str, files: tuple[Path, ...]) -> Case:
    image, label = files
    named = segments(label)
    reader: Any
    if named:
        found = wanted(source.objects, named)
        if not found:
            raise InputError(f"no label of an object: has none of {', '.join(source.objects)}")
        places = {one: tuple(named[several] for several in labels) for one, labels in found.items()}
        reader, objects = partial(_load_segments, (image, label), places), tuple(found)
    else:
        given = source.objects or {slug(source.name): None}
        rules = {one: parse_rule(rule, f"{source.name}: object {one}") for one, rule in given.items()}
        objects = tuple(rules)
        reader = partial(load_pair, Plan((image,), (dict.fromkeys(rules, (label,)),), rules))
    return Case(
        dataset=source.name,
        modality=source.modality or "unknown",
        name=name,
        kind="volume",
        objects=objects,
        patient=patient or name,
        licence=source.licence,
        files=files,
        reader=reader,
    )


def _load_segments(
    files: tuple[Path, Path], places: Mapping[str, tuple[tuple[int, int], ...]], case: Case
) -> LoadedCase:
    image, path = files
    scan = read_itk(image)
    scan.name, scan.modality, scan.kind = case.name, case.modality, case.kind
    layers: dict[int, NDArray[Any]] = {}
    several = max(layer for where in places.values() for layer, _ in where) > 0 or read_itk_header(path).channels > 1
    for layer in {layer for where in places.values() for layer, _ in where}:
        label = open_labels(path, HowToRead(channel=layer if several else None))
        layers[layer] = _on_grid(scan, image, label)
    parts = {name: [(layers[layer], Rule(values=(value,))) for layer, value in where] for name, where in places.items()}
    masks = RuledMasks(parts)
    check_extent(masks, case.label)
    return LoadedCase(case, scan, masks)


def _on_grid(scan: Scan, image: Path, label: Labels) -> NDArray[Any]:
    """Labels on the scan's grid: 3D Slicer may save only the part that is used."""
    if label.values.shape == scan.shape:
        check_fit(image, scan.shape, scan.geometry, label)
        return label.values
    start = np.rint(scan.geometry.to_voxel(label.geometry.to_mm((0, 0, 0)))).astype(int)
    affine = label.geometry.affine.copy()
    affine[:3, 3] = label.geometry.to_mm(-start)
    stop = start + label.values.shape
    if (start < 0).any() or (stop > scan.shape).any():
        check_fit(image, scan.shape, scan.geometry, label)
    whole = np.zeros(scan.shape, dtype=label.values.dtype)
    whole[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = label.values
    check_fit(image, scan.shape, scan.geometry, Labels(label.path, whole, Geometry(affine)))
    return whole
