"""DICOM made for tests: a small oblique CT series, SEG by highdicom, RTSTRUCT by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

ROWS, COLUMNS = 22, 30
SPACING = (0.8, 0.6)  # between rows, between columns
STEP = 2.5
ANGLE = 0.3
RIGHT = np.array([np.cos(ANGLE), np.sin(ANGLE), 0.0])  # LPS+
DOWN = np.array([-np.sin(ANGLE), np.cos(ANGLE), 0.0])
NORMAL = np.cross(RIGHT, DOWN)
ORIGIN = np.array([-30.0, 12.0, 100.0])


def lps(frame: float, y: float, x: float) -> np.ndarray:
    """LPS+ millimetres of a voxel."""
    return ORIGIN + NORMAL * STEP * frame + DOWN * SPACING[0] * y + RIGHT * SPACING[1] * x


def stored(count: int = 4) -> np.ndarray:
    """Stored values (frame, y, x) of the series; Hounsfield units are 1024 less."""
    return np.random.default_rng(3).integers(0, 3000, (count, ROWS, COLUMNS)).astype(np.uint16)


def series(folder: Path, count: int = 4, patient: str = "P1", places=None, **fields) -> list[FileDataset]:
    """Write a series; the files' names are in no order of place."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = {name: generate_uid() for name in ("study", "series", "frame")}
    made = []
    values = stored(count)
    for index in range(count):
        data = _dataset(CTImageStorage)
        data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = patient, "A^B", "19000101", "O"
        data.StudyInstanceUID, data.SeriesInstanceUID = uids["study"], uids["series"]
        data.FrameOfReferenceUID, data.PositionReferenceIndicator = uids["frame"], ""
        data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20200101", "000000", "1", "1"
        data.ReferringPhysicianName, data.Manufacturer = "B", "none"
        data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 1, index + 1
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        place = index if places is None else places[index]
        data.ImagePositionPatient = [round(float(v), 6) for v in lps(place, 0, 0)]
        data.ImageOrientationPatient = [round(float(v), 9) for v in (*RIGHT, *DOWN)]
        data.PixelSpacing, data.SliceThickness = list(SPACING), STEP
        data.Rows, data.Columns, data.SamplesPerPixel = ROWS, COLUMNS, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        data.PixelData = values[index].tobytes()
        for key, value in fields.items():
            setattr(data, key, value(index) if callable(value) else value)
        data.save_as(folder / f"{(index * 7) % 11:02d}.dcm", enforce_file_format=True)
        made.append(data)
    return made


def _dataset(kind: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    return data


def seg(path: Path, images: list[FileDataset], masks: dict[str, np.ndarray], kind: str = "BINARY") -> None:
    """A SEG of masks (frame, y, x) by label, made by highdicom; empty frames are left out."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, start=1)
    ]
    pixels = np.stack(list(masks.values()), axis=-1)
    made = hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels.astype(np.float32 if kind == "FRACTIONAL" else np.uint8),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)


def rtstruct(path: Path, images: list[FileDataset], rois: dict[str, list[tuple[float, list]]], **fields) -> None:
    """An RTSTRUCT: ROI name -> contours as (frame, [(y, x), ...]) in voxels; `kind` a contour type."""
    data = _dataset(RTStructureSetStorage)
    data.Modality, data.PatientID, data.StructureSetLabel = "RTSTRUCT", images[0].PatientID, "x"
    data.StudyInstanceUID, data.SeriesInstanceUID = images[0].StudyInstanceUID, generate_uid()
    one_series, study, frame = Dataset(), Dataset(), Dataset()
    one_series.SeriesInstanceUID = images[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = Sequence([one_series])
    frame.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = Sequence([study])
    data.ReferencedFrameOfReferenceSequence = Sequence([frame])
    named, drawn = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, drawing = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawing.ReferencedROINumber, parts = number, []
        for index, points in contours:
            contour = Dataset()
            contour.ContourGeometricType = fields.get("kind", "CLOSED_PLANAR")
            contour.NumberOfContourPoints = len(points)
            flat = [value for point in points for value in lps(*(point if len(point) == 3 else (index, *point)))]
            contour.ContourData = [f"{value:.6f}" for value in flat]
            parts.append(contour)
        if parts:
            drawing.ContourSequence = Sequence(parts)
        named.append(roi)
        drawn.append(drawing)
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(named), Sequence(drawn)
    if "orphan" in fields:
        data.ReferencedFrameOfReferenceSequence = Sequence([])
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
