"""DICOM SEG: one binary segment per object, coded, derived from and pointing to the source series (highdicom)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.io.checks import one_line, quiet
from samed2.io.codes import Triple, code_of, dicom_text
from samed2.io.dicom_source import OTHERS, DicomSource, dicom_source, equipment
from samed2.io.segmentation import SegmentedObject
from samed2.io.writers import Job, register_writer

_WHAT = "a DICOM SEG"
_MAY_BE_EMPTY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                 "StudyDate", "StudyTime", "ReferringPhysicianName")  # fmt: skip
_NOT_EMPTY = ("FrameOfReferenceUID", "DeidentificationMethod", "DeidentificationMethodCodeSequence")
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@register_writer("dicom-seg", (".dcm",))
def write_dicom_seg(job: Job) -> list[Path]:
    """One file for all objects: segment numbers 1, 2, ... in the order of the objects, whose id is the tracking id.

    Frames without an object are left out; where nothing at all was found they are there, blank: a file needs frames.
    Patient, study and frame of reference are those of the source, whose images are named as its origin.

    Raises:
        InputError: no objects, the source is not DICOM, lies elsewhere by now, or cannot carry a SEG.
    """
    objects = job.segmentation.objects
    if not objects:
        raise InputError(f"{job.path}: the segmentation has no objects, {_WHAT} needs at least one")
    source = dicom_source(job, _WHAT)
    for header in source.headers:
        _complete(job, header)
    pixels = _segment_numbers(source, [entry.id for entry in objects])
    try:
        with quiet():
            dataset = _build(job, source, pixels)
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds on unusual headers
        raise InputError(f"{job.path}: {_WHAT} of this source cannot be made ({one_line(error)}); {OTHERS}") from error
    with atomic_path(job.path) as temporary, quiet():
        dataset.save_as(temporary, enforce_file_format=True)
    return [job.path]


def _build(job: Job, source: DicomSource, pixels: NDArray[Any]) -> Any:
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian

    tool = equipment(job)
    descriptions = [_describe(job, entry, number) for number, entry in enumerate(job.segmentation.objects, start=1)]
    dataset = highdicom.seg.Segmentation(
        source_images=source.headers,
        pixel_array=pixels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=1000 + int(source.headers[0].get("SeriesNumber") or 0) % 1000,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=tool.manufacturer,
        manufacturer_model_name=tool.model,
        software_versions=tool.version,
        device_serial_number=tool.serial,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label="SEGMENTATION",
        content_description=dicom_text(f"Segmentation by {tool.model}"),
        series_description=dicom_text(f"Segmentation {', '.join(e.label for e in job.segmentation.objects)}"),
        specific_character_set="ISO_IR 192",
        omit_empty_frames=bool(pixels.any()),
    )
    if any(frame.plane is None for frame in source.frames):  # then required, though it may be empty
        dataset.PatientOrientation = source.headers[0].get("PatientOrientation")
    return dataset


def _segment_numbers(source: DicomSource, ids: list[int]) -> NDArray[Any]:
    """(frames of the source, H, W) with segment numbers 1, 2, ... in place of object ids, in the files' order."""
    table = np.zeros(65536, dtype=np.uint8 if len(ids) < 256 else np.uint16)
    table[ids] = np.arange(1, len(ids) + 1)
    labels = source.segmentation.labels
    if not source.multi_frame:
        return table[labels]
    frames = int(source.headers[0].NumberOfFrames)
    pixels = np.zeros((frames, *labels.shape[1:]), dtype=table.dtype)
    for labelled, frame in zip(labels, source.frames, strict=True):
        pixels[frame.number - 1] = table[labelled]
    return pixels


def _describe(job: Job, entry: SegmentedObject, number: int) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    coded = code_of(entry.name or entry.label)
    tool = equipment(job)
    region = [_concept(coded.region)] if coded.region else None
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=dicom_text(entry.label) or f"object {entry.id}",
        segmented_property_category=_concept(coded.category),
        segmented_property_type=_concept(coded.type),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=tool.algorithm, version=tool.version, family=codes.DCM.ArtificialIntelligence
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=f"object {entry.id}",
        anatomic_regions=region,
        display_color=_color(entry),
    )
    if coded.side is not None:
        if region is not None:
            description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(coded.side)]
        else:
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(coded.side)]
    return description


def _color(entry: SegmentedObject) -> Any:
    import highdicom

    make = getattr(highdicom.color.CIELabColor, "from_rgb", None)
    return make(*(int(part) for part in entry.color)) if make is not None and entry.color else None


def _concept(code: Triple) -> Any:
    import highdicom

    value, scheme, meaning = code
    return highdicom.sr.CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


def _complete(job: Job, header: Any) -> None:
    """Add to a header what may be empty but must be there, and take away what must not be there empty."""
    for keyword in _NEEDED:
        if not header.get(keyword):
            raise InputError(f"{job.path}: DICOM field {keyword} is missing in the source, {_WHAT} needs it; {OTHERS}")
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, None)
    for keyword in _NOT_EMPTY:
        if keyword in header and not header.get(keyword):
            delattr(header, keyword)
