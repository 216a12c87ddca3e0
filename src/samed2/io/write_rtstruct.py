"""DICOM RTSTRUCT: objects as closed planar contours in patient millimetres on the images of the source series."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.io.checks import quiet
from samed2.io.codes import dicom_text
from samed2.io.dicom_source import OTHERS, DicomSource, SourceFrame, dicom_source, equipment
from samed2.io.outlines import keyhole, polygons
from samed2.io.writers import Job, register_writer

_WHAT = "an RTSTRUCT"
_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # retired, but what the standard's macro still names for the study
_COPIED = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
           "PatientName", "PatientID", "PatientBirthDate", "PatientSex")  # fmt: skip
_COPIED_IF_THERE = ("StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved",
                    "DeidentificationMethod", "DeidentificationMethodCodeSequence")  # fmt: skip


@register_writer("rtstruct", (".dcm",), endings=("rtstruct.dcm", "rtss.dcm"))
def write_rtstruct(job: Job) -> list[Path]:
    """One file; ROI number = object id. Contours run half-way between pixels inside and outside.

    A hole is joined to its outer contour by a key-hole (PS3.3 C.8.8.6.3), so readers that unite contours and those
    that take even-odd see the same. An object found nowhere keeps its ROI, without contours.

    Raises:
        InputError: no objects, or the source is not DICOM, has no place in the patient, or lies elsewhere by now.
    """
    if not job.segmentation.objects:
        raise InputError(f"{job.path}: the segmentation has no objects, {_WHAT} needs at least one")
    source = dicom_source(job, _WHAT)
    first = source.headers[0]
    if any(frame.plane is None for frame in source.frames) or not first.get("FrameOfReferenceUID"):
        raise InputError(
            f"{job.path}: the source does not say where its images lie in the patient (position, orientation, pixel "
            f"spacing, frame of reference), {_WHAT} needs that; {OTHERS}"
        )
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not first.get(keyword):
            raise InputError(f"{job.path}: DICOM field {keyword} is missing in the source, {_WHAT} needs it; {OTHERS}")
    with quiet():
        dataset = _header(job, first)
        _add_references(dataset, source)
        _add_objects(dataset, job, source)
        with atomic_path(job.path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
    return [job.path]


def _header(job: Job, first: Any) -> Any:
    """Patient, study, series, equipment, frame of reference, and the name of the set."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    meta: Any = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _CLASS
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit ones cut contours at 64 kB
    dataset: Any = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    now = datetime.datetime.now()
    tool = equipment(job)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = _CLASS, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.SeriesNumber = 1000 + int(first.get("SeriesNumber") or 0) % 1000
    dataset.SeriesDescription = "SAMed-2 contours"
    dataset.InstanceNumber = 1
    dataset.OperatorsName = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = tool.manufacturer, tool.model
    dataset.SoftwareVersions = tool.version
    for keyword in (*_COPIED, *_COPIED_IF_THERE):
        value = first.get(keyword)
        if value or keyword in _COPIED:
            name = type(value).__name__ == "PersonName"
            setattr(dataset, keyword, str(value) if name else value)
    dataset.FrameOfReferenceUID = first.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    dataset.InstanceCreationDate = dataset.StructureSetDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.StructureSetTime = now.strftime("%H%M%S")
    dataset.StructureSetLabel = "SAMed-2"
    dataset.StructureSetDescription = dicom_text(f"contours by {tool.algorithm} {tool.version}", 1024)
    return dataset


def _add_references(dataset: Any, source: DicomSource) -> None:
    """Frame of reference, study and series with every image."""
    from pydicom.dataset import Dataset

    first = source.headers[0]
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_image(header) for header in source.headers]
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]


def _image(header: Any, number: int | None = None) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if number is not None:
        item.ReferencedFrameNumber = number
    return item


def _add_objects(dataset: Any, job: Job, source: DicomSource) -> None:
    from pydicom.dataset import Dataset

    contours: dict[int, list[Any]] = {entry.id: [] for entry in job.segmentation.objects}
    for labels, frame in zip(source.segmentation.labels, source.frames, strict=True):
        for value in np.unique(labels):
            if value:
                contours[int(value)] += _contours(labels == value, frame, source)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    method = dicom_text(f"{equipment(job).algorithm} {equipment(job).version}")
    for entry in job.segmentation.objects:
        roi = Dataset()
        roi.ROINumber = entry.id
        roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
        roi.ROIName = dicom_text(entry.label) or f"object {entry.id}"
        roi.ROIGenerationAlgorithm = "SEMIAUTOMATIC"
        roi.ROIGenerationDescription = method
        dataset.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ROIDisplayColor = [int(part) for part in entry.color or (255, 255, 255)]
        if contours[entry.id]:
            drawn.ContourSequence = contours[entry.id]
            for number, contour in enumerate(drawn.ContourSequence, start=1):
                contour.ContourNumber = number
        drawn.ReferencedROINumber = entry.id
        dataset.ROIContourSequence.append(drawn)
        seen = Dataset()
        seen.ObservationNumber = entry.id
        seen.ReferencedROINumber = entry.id
        seen.RTROIInterpretedType = ""
        seen.ROIInterpreter = ""
        dataset.RTROIObservationsSequence.append(seen)


def _contours(mask: NDArray[np.bool_], frame: SourceFrame, source: DicomSource) -> list[Any]:
    from pydicom.dataset import Dataset

    found = []
    for rings in polygons(mask):
        ring = keyhole(rings)
        plane = frame.plane
        if plane is None:  # checked before
            continue
        points = plane.origin + ring[:, :1] * plane.down + ring[:, 1:] * plane.right
        contour = Dataset()
        contour.ContourImageSequence = [_image(frame.header, frame.number if source.multi_frame else None)]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(points)
        contour.ContourData = [f"{value:.4f}" for value in points.ravel()]  # a tenth of a micrometre, under 16 bytes
        found.append(contour)
    return found
