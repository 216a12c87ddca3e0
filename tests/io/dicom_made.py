"""DICOM made for the readers' tests: slices of a small block, enhanced multi-frame files, ultrasound cines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

ROWS, COLUMNS = 10, 14
SPACING = (0.8, 0.6)  # between rows, between columns
STEP = 2.5
AXES = ((np.cos(0.3), np.sin(0.3), 0.0), (-np.sin(0.3), np.cos(0.3), 0.0))  # of a row, of a column, LPS+
ORIGIN = np.array([-30.0, 12.0, 100.0])
UIDS = {"study": "1.2.3.1", "series": "1.2.3.4.5", "frame": "1.2.3.9"}


def pixels(count: int) -> np.ndarray:
    """Stored values (frame, y, x)."""
    return np.random.default_rng(3).integers(0, 3000, (count, ROWS, COLUMNS)).astype(np.uint16)


def position(place: float, axes: Any = AXES, step: Any = None) -> list[float]:
    """LPS+ millimetres of pixel (0, 0) of the slice `place` steps along."""
    along = np.cross(*axes) * STEP if step is None else np.asarray(step)
    return [round(float(v), 6) for v in ORIGIN + along * place]


def dataset(kind: str, values: np.ndarray) -> FileDataset:
    """A file of one or more grey frames with the fields that every image has."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = UIDS["study"], UIDS["series"]
    data.FrameOfReferenceUID = UIDS["frame"]
    data.Rows, data.Columns, data.SamplesPerPixel = *values.shape[-2:], 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    if values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.PixelData = np.ascontiguousarray(values, np.uint16).tobytes()
    return data


def ct_slice(values: np.ndarray, place: float, number: int, step: Any = None, **fields: Any) -> FileDataset:
    """One CT slice."""
    data = dataset(CTImageStorage, values)
    data.Modality, data.InstanceNumber, data.SliceThickness = "CT", number, STEP
    axes = fields.pop("axes", AXES)
    data.ImagePositionPatient = position(place, axes, step)
    data.ImageOrientationPatient = [round(float(v), 9) for axis in axes for v in axis]
    data.PixelSpacing = list(SPACING)
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    for key, value in fields.items():
        if value is None:
            delattr(data, key)
        else:
            setattr(data, key, value)
    return data


def write_series(folder: Path, places: list[float] | int = 5, step: Any = None, **fields: Any) -> list[Path]:
    """A series whose names and numbers are in no order of place; a field may be a function of the index.

    Returns the paths in the order of `places`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    where = list(range(places)) if isinstance(places, int) else places
    values = pixels(len(where))
    paths = []
    for index, place in enumerate(where):
        own = {key: value(index) if callable(value) else value for key, value in fields.items()}
        shown = own.pop("values", values[index])
        data = ct_slice(shown, place, (index * 7) % 11, step, **own)
        paths.append(folder / f"{(index * 5) % 13:02d}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def enhanced(path: Path, places: list[float], times: list[int] | None = None, **fields: Any) -> np.ndarray:
    """An enhanced MR file with per-frame places and rescale; the stored values (frame, y, x)."""
    values = pixels(len(places))
    data = dataset(EnhancedMRImageStorage, values)
    data.Modality = "MR"
    shared, frames = Dataset(), []
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [round(float(v), 9) for axis in AXES for v in axis]
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), STEP
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    for index, place in enumerate(places):
        own, where, rescale, content = Dataset(), Dataset(), Dataset(), Dataset()
        where.ImagePositionPatient = position(place)
        rescale.RescaleSlope, rescale.RescaleIntercept = 1 + index, 10 * index
        content.TemporalPositionIndex = times[index] if times else 1
        own.PlanePositionSequence, own.PixelValueTransformationSequence = Sequence([where]), Sequence([rescale])
        own.FrameContentSequence = Sequence([content])
        frames.append(own)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for key, value in fields.items():
        setattr(data, key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return values


def region(dy: float, dx: float, unit: int = 3, form: int = 1, side: int = 8) -> Dataset:
    """An ultrasound region of centimetres a pixel."""
    made = Dataset()
    made.RegionSpatialFormat, made.PhysicalUnitsXDirection, made.PhysicalUnitsYDirection = form, unit, unit
    made.PhysicalDeltaX, made.PhysicalDeltaY = dx, dy
    made.RegionLocationMinX0, made.RegionLocationMinY0 = 0, 0
    made.RegionLocationMaxX1, made.RegionLocationMaxY1 = side, side
    return made


def cine(path: Path, count: int = 6, regions: tuple[Dataset, ...] = (), **fields: Any) -> np.ndarray:
    """An ultrasound cine; the stored values (frame, y, x)."""
    values = pixels(count)
    data = dataset(UltrasoundMultiFrameImageStorage, values)
    data.Modality, data.FrameTime = "US", 40
    if regions:
        data.SequenceOfUltrasoundRegions = Sequence(regions)
    for key, value in fields.items():
        setattr(data, key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return values
