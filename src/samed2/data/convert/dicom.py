"""Radiology cases as they leave the clinic: DICOM series with SEG or RTSTRUCT, and NRRD images with NRRD labels.

Series and segmentations belong together by what the segmentation refers to, else by their frame of reference, else by
their folder; where the files lie below the root does not matter. Objects are called as the segment or ROI is, as a
slug ("Lt Lung" is lt_lung); `Source.objects` (name -> label or list of labels) keeps only some, under these names.
NRRD cases: one folder each, see `slicer.py`. A series without segmentation and the reverse are reported.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samed2.data.cases import Case, Dropped, LoadedCase, MaskArrays
from samed2.data.convert.files import IMAGE_SUFFIXES
from samed2.data.convert.names import slug, wanted
from samed2.data.convert.registry import Source, register_converter
from samed2.data.convert.slicer import slicer_cases
from samed2.data.convert.templates import walk
from samed2.data.convert.values import check_extent
from samed2.errors import InputError
from samed2.io.checks import one_line, quiet, reading
from samed2.io.read_itk import is_itk

_SEG, _RTSTRUCT = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"), "1.2.840.10008.5.1.4.1.1.481.3"
_TAGS = [
    "SOPClassUID", "Modality", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID", "Rows",
    "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "SegmentSequence", "StructureSetROISequence",
    "ROIContourSequence",
]  # fmt: skip
_SUFFIXES = ("", ".dcm", ".dicom", ".ima", ".seg")


@dataclass
class _Series:
    """Files of one image series."""

    uid: str
    modality: str
    patient: str
    frame_of_reference: str
    files: list[str] = field(default_factory=list)
    labels: list[_Label] = field(default_factory=list)

    @property
    def folder(self) -> str:
        return self.files[0].rpartition("/")[0]


@dataclass(frozen=True)
class _Label:
    """A SEG or RTSTRUCT: what it names and what it refers to."""

    file: str
    kind: str
    names: tuple[str, ...]
    series: tuple[str, ...]
    frame_of_reference: str


@dataclass(frozen=True)
class Plan:
    """How a case is read: the series' files, its segmentations as (kind, file), and object -> labels."""

    images: tuple[Path, ...]
    labels: tuple[tuple[str, Path], ...]
    wanted: Mapping[str, tuple[str, ...]]


@register_converter("dicom")
def dicom(source: Source) -> Iterator[Case | Dropped]:
    """Cases sorted by their folders.

    Raises:
        InputError: no such folder, options in the layout, or neither DICOM nor NRRD in it.
    """
    if source.layout:
        raise InputError(
            f"layout of {source.name}: the dicom converter has no options, got {next(iter(source.layout))!r}"
        )
    series: dict[str, _Series] = {}
    labels: list[_Label] = []
    itk: list[str] = []
    known = 0
    for path in walk(source.root):
        if is_itk(Path(path)):
            itk.append(path)
        elif Path(path).suffix.lower() in _SUFFIXES or Path(path).suffix[1:].isdigit():
            try:
                known += _sort_in(source.root / path, path, series, labels)
            except InputError as error:
                yield Dropped(source.name, path, str(error), (source.root / path,))
        elif path.lower().endswith(IMAGE_SUFFIXES):
            yield Dropped(source.name, path, "neither DICOM nor NRRD", (source.root / path,))
    if not known and not itk:
        raise InputError(f"{source.root}: has neither DICOM files nor NRRD files in it")
    for label in labels:
        reason = _attach(label, series)
        if reason:
            yield Dropped(source.name, label.file, reason, (source.root / label.file,))
    yield from _series_cases(source, sorted(series.values(), key=lambda one: one.files[0]))
    yield from slicer_cases(source, itk)


def _sort_in(file: Path, path: str, series: dict[str, _Series], labels: list[_Label]) -> bool:
    """Put one file where it belongs, and say whether it is DICOM that matters here.

    Raises:
        InputError: named like DICOM but not readable.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with quiet():
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
            return _take(header, path, series, labels)
    except InvalidDicomError as error:
        if file.suffix.lower() in ("", ".seg"):
            return False  # a README and the like
        raise InputError(f"unreadable: {file} is not DICOM; it is damaged or something else") from error
    except Exception as error:  # a damaged header raises nearly everything
        raise InputError(f"unreadable: {file} ({one_line(error)})") from error


def _take(header: Any, path: str, series: dict[str, _Series], labels: list[_Label]) -> bool:
    kind = str(header.get("SOPClassUID", ""))
    if kind in _SEG:
        from samed2.io.read_seg import segment_labels

        names = segment_labels(header)
        if kind == _SEG[1]:  # a label map may call its background a segment
            names = {number: name for number, name in names.items() if slug(name) != "background"}
        refers = tuple(str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence", []))
        labels.append(_Label(path, "seg", tuple(names.values()), refers, str(header.get("FrameOfReferenceUID", ""))))
        return True
    if kind == _RTSTRUCT:
        from samed2.io.read_rtstruct import roi_names

        frames = list(header.get("ReferencedFrameOfReferenceSequence", []))
        refers = tuple(
            str(one.SeriesInstanceUID)
            for frame in frames
            for study in frame.get("RTReferencedStudySequence", [])
            for one in study.get("RTReferencedSeriesSequence", [])
        )
        reference = str(frames[0].get("FrameOfReferenceUID", "")) if frames else ""
        labels.append(_Label(path, "rtstruct", tuple(roi_names(header).values()), refers, reference))
        return True
    if header.get("Rows") is None:
        return False  # a plan, a report, an index
    uid = str(header.get("SeriesInstanceUID", ""))
    one = series.get(uid)
    if one is None:
        one = series[uid] = _Series(
            uid,
            {"CT": "ct", "MR": "mr", "PT": "pet"}.get(str(header.get("Modality", "")), "unknown"),
            str(header.get("PatientID", "") or "").strip(),
            str(header.get("FrameOfReferenceUID", "")),
        )
    one.files.append(path)
    return True


def _attach(label: _Label, series: dict[str, _Series]) -> str:
    """Give a segmentation to its series; else why not."""
    if not label.names:
        return "nothing labelled: has no segment with a contour or a label"
    folder = label.file.rpartition("/")[0]
    groups = (
        [series[uid] for uid in dict.fromkeys(label.series) if uid in series],
        [one for one in series.values() if one.frame_of_reference == label.frame_of_reference != ""],
        [one for one in series.values() if one.folder == folder and not label.series],
    )
    for group in groups:
        if len(group) == 1:
            group[0].labels.append(label)
            return ""
        if group:
            return f"ambiguous: fits {len(group)} series: {', '.join(one.folder or one.uid for one in group)}"
    return "label without image: the series it refers to is not here"


def _series_cases(source: Source, several: list[_Series]) -> Iterator[Case | Dropped]:
    in_folder = Counter(one.folder for one in several)
    tops: dict[str, set[str]] = defaultdict(set)
    for one in several:
        tops[one.patient].add(one.files[0].partition("/")[0])
    anonymous = len(tops) == 1 and len(next(iter(tops.values()))) > 1  # one ID for all: folders tell patients apart
    for one in several:
        name = one.folder.replace("/", "_") or one.patient or "case"
        if in_folder[one.folder] > 1:
            name += f"_{one.uid[-8:]}"
        files = tuple(source.root / path for path in [*one.files, *(label.file for label in one.labels)])
        found = wanted(source.objects, (label for several in one.labels for label in several.names))
        if not one.labels:
            yield Dropped(source.name, name, "image without label: no SEG or RTSTRUCT refers to the series", files)
        elif not found:
            yield Dropped(source.name, name, f"no label of an object: has none of {', '.join(source.objects)}", files)
        else:
            yield Case(
                dataset=source.name,
                modality=source.modality or one.modality,
                name=name,
                kind="volume",
                objects=tuple(found),
                patient=(one.patient if not anonymous else "") or one.files[0].partition("/")[0],
                licence=source.licence,
                files=files,
                reader=partial(_load, Plan(files[: len(one.files)], _labels(source, one), found)),
            )


def _labels(source: Source, one: _Series) -> tuple[tuple[str, Path], ...]:
    return tuple((label.kind, source.root / label.file) for label in one.labels)


def _load(plan: Plan, case: Case) -> LoadedCase:
    from samed2.data.convert.series import open_series
    from samed2.io.read_rtstruct import read_rtstruct
    from samed2.io.read_seg import read_seg
    from samed2.io.series_grid import Grid

    with reading(plan.images[0].parent, "a DICOM series"):
        scan = open_series(plan.images)
    scan.name, scan.modality = case.name, case.modality
    grid = Grid.of(scan)
    masks = {name: np.zeros(scan.shape, dtype=bool) for name in case.objects}
    labels = {label for several in plan.wanted.values() for label in several}
    for kind, path in plan.labels:
        with reading(path, "DICOM"):  # fields that are missing or odd show up while it is laid out
            found = read_seg(path, grid) if kind == "seg" else read_rtstruct(path, grid, labels)
        for name, several in plan.wanted.items():
            for label in several:
                if label in found:
                    masks[name] |= found[label]
    arrays = MaskArrays(masks)
    check_extent(arrays, case.label)
    return LoadedCase(case, scan, arrays)
