"""Where DICOM SEG and RTSTRUCT lie, read by pydicom alone; series and segmentations to write them from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from skimage.measure import points_in_poly
from tests.io import dicom_made

from samed2.io import Scan, Segmentation, SegmentedObject


def make(folder: Path, kind: str) -> Path:
    patient = {"PatientName": "Müller^Jörg", "PatientID": "7", "SpecificCharacterSet": "ISO_IR 100", "StudyID": "s",
               "PatientIdentityRemoved": "NO", "DeidentificationMethod": ""}  # fmt: skip
    if kind == "enhanced":
        dicom_made.enhanced(folder / "in.dcm", [3, 0, 2, 1], **patient)
        return folder / "in.dcm"
    places = {"uneven": [0, 1, 3, 4.5]}.get(kind, 4)
    step = np.cross(*dicom_made.AXES) * 2.5 + np.array([0.0, 0.6, 0.0]) if kind == "tilted" else None
    dicom_made.write_series(folder / "in", places, step, **({} if kind == "bare" else patient))
    return folder / "in"


def labelled(scan: Scan) -> Segmentation:
    """A ring whose hole holds an island of the same object, a second object that touches it, ids beyond 8 bits."""
    labels = np.zeros(scan.shape, np.uint16)
    labels[0:3, 1:8, 2:11] = 300
    labels[0:3, 2:7, 4:9] = 0
    labels[1, 4, 6] = 300
    labels[2:, 8, 3:5] = 7
    labels[-1, 0, -1] = 7
    objects = [SegmentedObject(300, "left kidney"), SegmentedObject(7, "Läsion\\β\n1"), SegmentedObject(9, "spleen")]
    provenance = {"model": "nano", "version": "1.2"}
    return Segmentation(labels, objects, scan.geometry, provenance, scan.name, scan.properties)


def mm_of(scan: Scan, mask: np.ndarray) -> np.ndarray:
    """LPS+ mm of a mask's pixels by the source's files: frames are told by their pixels."""
    frames = {}
    for path in set(scan.properties["series_paths"]):
        header = pydicom.dcmread(path)
        if header.get("NumberOfFrames", 1) == 1:
            slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
            values = header.pixel_array * slope + intercept
            frames[values.astype(np.float32).tobytes()] = header
    found = []
    for index, picture in enumerate(mask):
        header = frames[scan.frame(index).astype(np.float32).tobytes()]
        position, axes = np.array(header.ImagePositionPatient, float), np.array(header.ImageOrientationPatient, float)
        down, right = (float(v) for v in header.PixelSpacing)  # between rows, between columns
        for y, x in np.argwhere(picture):
            found.append(position + axes[:3] * right * x + axes[3:] * down * y)
    return np.array(found)


def seg_points(path: Path, number: int) -> np.ndarray:
    """LPS+ mm of the pixels of a segment, by pydicom alone."""
    data = pydicom.dcmread(path)
    shared = data.SharedFunctionalGroupsSequence[0]
    pixels = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    found = []
    for picture, frame in zip(pixels, data.PerFrameFunctionalGroupsSequence, strict=True):
        named = frame if "SegmentIdentificationSequence" in frame else shared
        if named.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        axes = np.array((shared.PlaneOrientationSequence[0]).ImageOrientationPatient, float)
        down, right = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
        found += [position + axes[:3] * right * x + axes[3:] * down * y for y, x in np.argwhere(picture)]
    return np.array(found).reshape(-1, 3)


def rt_masks(path: Path, scan: Scan, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A ROI's contours filled in mm, united and even-odd; slices by the images that they name."""
    data = pydicom.dcmread(path)
    united, odd = np.zeros(scan.shape, bool), np.zeros(scan.shape, bool)
    headers = {}
    for index, name in enumerate(scan.properties["series_paths"]):
        header = pydicom.dcmread(name, stop_before_pixels=True)
        headers[header.SOPInstanceUID] = index, header
    rois = [roi for roi in data.ROIContourSequence if roi.ReferencedROINumber == number]
    for contour in rois[0].get("ContourSequence", []):
        index, header = headers[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        axes = np.array(header.ImageOrientationPatient, float)
        off = points - np.array(header.ImagePositionPatient, float)
        assert np.abs(off @ np.cross(axes[:3], axes[3:])).max() < 1e-3, "the contour lies in the plane of its image"
        down, right = (float(v) for v in header.PixelSpacing)
        flat = np.stack([off @ axes[3:] / down, off @ axes[:3] / right], axis=1)
        rows, columns = np.mgrid[: scan.height, : scan.width]
        inside = points_in_poly(np.c_[rows.ravel(), columns.ravel()], flat).reshape(scan.height, scan.width)
        united[index] |= inside
        odd[index] ^= inside
    return united, odd


def same_place(first: np.ndarray, second: np.ndarray) -> bool:
    return all(
        np.allclose(measure(first, axis=0), measure(second, axis=0), atol=1e-3) for measure in (np.mean, np.min, np.max)
    )
