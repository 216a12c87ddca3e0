"""DICOM files against the standard: required attributes of their modules, and values that fit their types.

The tables are PS3.3's, as JSON inside highdicom; highdicom itself only uses them to copy patient and study.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import highdicom
import pydicom
from pydicom import config

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TABLES = Path(highdicom.__file__).parent / "_standard"


@cache
def table(name: str) -> Any:
    return json.loads((TABLES / f"{name}.json").read_text())


def problems(path: Path) -> list[str]:
    """What PS3.3 requires of a file's modules and is missing or empty, and values that break their type (PS3.5)."""
    with config.disable_value_validation():
        dataset = pydicom.dcmread(path)
    found = [f"value: {text}" for text in bad_values(path)]
    kind = table("sop_class_iod_map")[dataset.SOPClassUID]
    for module in table("iod_module_map")[kind]:
        if module["usage"] != "M":
            continue
        for attribute in table("module_attribute_map")[module["key"]]:
            if attribute["path"] and attribute["path"][-1] in GROUPS:
                continue  # a group stands in one of the two places: see below
            for item in items_at(dataset, attribute["path"]):
                found += [f"{module['key']}: {text}" for text in missing(item, attribute)]
    if "SharedFunctionalGroupsSequence" in dataset:
        found += missing_groups(dataset)
    meta = dataset.file_meta
    if meta.MediaStorageSOPClassUID != dataset.SOPClassUID or meta.MediaStorageSOPInstanceUID != dataset.SOPInstanceUID:
        found.append("file meta information is not that of the data set")
    return found


def missing_groups(dataset: Any) -> list[str]:
    """PS3.3 A.51.5: the functional groups of a segmentation that lies in the patient."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    wanted = ["FrameContentSequence", "SegmentIdentificationSequence", "DerivationImageSequence"]
    if "FrameOfReferenceUID" in dataset:
        wanted += ["PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence"]
    frames = dataset.PerFrameFunctionalGroupsSequence
    found = [f"{name} is missing" for name in wanted if not (name in shared or all(name in frame for frame in frames))]
    if len(frames) != dataset.NumberOfFrames:
        found.append(f"{len(frames)} frames are described, NumberOfFrames is {dataset.NumberOfFrames}")
    return found


def missing(item: Any, attribute: dict[str, Any]) -> Iterator[str]:
    keyword, where = attribute["keyword"], "/".join([*attribute["path"], attribute["keyword"]])
    if attribute["type"] in ("1", "2") and keyword not in item:
        yield f"{where} is missing (type {attribute['type']})"
    elif attribute["type"] in ("1", "1C") and keyword in item and item[keyword].VM == 0:
        yield f"{where} is empty (type {attribute['type']})"


def items_at(dataset: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield dataset
        return
    for item in dataset.get(path[0]) or []:
        yield from items_at(item, path[1:])


def bad_values(path: Path) -> list[str]:
    """Values that break the rules of their representation: length, characters, numbers, UIDs."""
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.RAISE
    found = []
    try:
        for element in pydicom.dcmread(path).iterall():
            if element.VR == "UI" and element.value:
                values = [element.value] if isinstance(element.value, str) else element.value
                found += [f"{element.keyword} {uid}" for uid in values if not pydicom.uid.UID(uid).is_valid]
            if element.VR == "UN":
                found.append(f"{element.tag} is of unknown type")
    except (ValueError, TypeError, NotImplementedError) as error:
        found.append(str(error))
    finally:
        config.settings.reading_validation_mode = before
    return found
