"""One DICOM file: modality values (CT: Hounsfield units), colour as RGB, window, geometry; cines and stacks too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from samed2.errors import InputError
from samed2.io.checks import quiet
from samed2.io.geometry import Geometry
from samed2.io.readers import register_reader, stem
from samed2.io.scan import ArraySource, Scan
from samed2.io.series_fields import item, number, numbers, short, whole, window_of
from samed2.io.series_files import Entry, is_dicom
from samed2.io.series_pixels import check_header, decode, load, modality_values

MODALITIES = {
    "CT": "ct", "MR": "mr", "US": "ultrasound", "IVUS": "ultrasound",
    "CR": "xray", "DX": "xray", "MG": "xray", "XA": "xray", "RF": "xray", "RG": "xray",
    "IO": "xray", "PX": "xray",
    "OP": "fundus", "OPT": "oct", "ES": "endoscopy", "SM": "histopathology", "GM": "microscopy",
    "PT": "pet", "NM": "nuclear", "XC": "rgb",
}  # fmt: skip
KEPT = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
        "Modality", "PhotometricInterpretation", "InstanceNumber", "SeriesNumber", "BitsStored")  # fmt: skip
_CM, _FLAT = 3, 1  # PhysicalUnitsXDirection, RegionSpatialFormat of PS3.3 C.8.5.5


@register_reader("DICOM", (".dcm", ".dicom", ".ima"), lambda path, head: is_dicom(path.name, head), ("time", "series"))
def read_dicom(path: Path, time: int | None = None, series: str | int | None = None) -> Scan:
    """One image, or the frames of a multi-frame file; MONOCHROME1 is inverted so that larger is brighter.

    Args:
        time: of a multi-frame file with several images at each place.
        series: of a multi-frame file with several stacks.
    """
    entry = Entry(path)
    with quiet():
        dataset = load(entry)
        check_header(entry, dataset)
        if whole(dataset.get("NumberOfFrames"), 1) > 1 or "PerFrameFunctionalGroupsSequence" in dataset:
            from samed2.io.read_series import read_entries

            return read_entries([entry], path, stem(path), time=time, series=series)
        if time not in (None, 0):
            raise InputError(f"{path}: has one image, got time {time}; leave time out")
        return _single(entry, dataset)


def _single(entry: Entry, dataset: Any) -> Scan:
    path = entry.path
    pixels, _ = decode(entry, None, dataset)
    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    grey = int(dataset.SamplesPerPixel) == 1 and not palette and pixels.ndim == 2
    notes: list[str] = []
    window = window_of(dataset)
    if grey:
        pixels, window = modality_values(dataset, pixels, window)
    modality = modality_of(dataset, pixels.ndim == 3)
    geometry = single_geometry(path, dataset, notes)
    return Scan(
        ArraySource(pixels[None]),
        name=stem(path),
        path=path,
        modality=modality,
        kind="image",
        geometry=geometry,
        file_window=window if grey else None,
        properties={
            "reader": "DICOM",
            **kept(dataset),
            "series_paths": [str(path)],
            "sop_instance_uids": [short(dataset.get("SOPInstanceUID"))],
        },
        warnings=notes,
    )


def modality_of(dataset: Any, colour: bool) -> str:
    """What the image shows, by its Modality."""
    return MODALITIES.get(str(dataset.get("Modality", "")).upper(), "rgb" if colour else "unknown")


def kept(dataset: Any) -> dict[str, Any]:
    """The identifiers that writers need."""
    return {key: value for key in KEPT if (value := short(dataset.get(key)))}


def ultrasound_spacing(dataset: Any, notes: list[str], label: object) -> tuple[float, float] | None:
    """Millimetres between rows and columns of the largest calibrated 2-D region, or nothing."""
    regions = dataset.get("SequenceOfUltrasoundRegions")
    if type(regions).__name__ != "Sequence":
        return None
    found = []
    for region in regions:
        units = [whole(region.get(f"PhysicalUnits{axis}Direction"), 0) for axis in "XY"]
        steps = [abs(number(region.get(f"PhysicalDelta{axis}"), 0.0)) * 10 for axis in "YX"]
        if units == [_CM, _CM] and whole(region.get("RegionSpatialFormat"), 0) == _FLAT and 0 < min(steps) < math.inf:
            sides = [
                whole(region.get(f"RegionLocationMax{axis}1"), 0) - whole(region.get(f"RegionLocationMin{axis}0"), 0)
                for axis in "XY"
            ]
            found.append((sides[0] * sides[1], steps[0], steps[1]))
    if not found:
        return None
    largest = max(found)[1:]
    if any(not np.allclose(one[1:], largest, rtol=1e-3) for one in found):
        notes.append(f"{label}: has ultrasound regions of different scale, that of the largest one is used")
    return largest


def flat_spacing(dataset: Any, notes: list[str], label: object) -> tuple[float, float] | None:
    """Millimetres between rows and columns, from wherever the file says it."""
    measures = item(item(dataset, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence")
    spacing = (
        ultrasound_spacing(dataset, notes, label)
        or numbers(dataset.get("PixelSpacing"), 2)
        or numbers(measures.get("PixelSpacing"), 2)
        or numbers(dataset.get("ImagerPixelSpacing"), 2)
    )
    return (spacing[0], spacing[1]) if spacing is not None and min(spacing) > 0 else None


def single_geometry(path: object, dataset: Any, notes: list[str]) -> Geometry:
    """DICOM's LPS+ directions and positions of one image as an RAS+ affine."""
    spacing = flat_spacing(dataset, notes, path)
    if spacing is None:
        return Geometry.unknown()
    thickness = number(dataset.get("SpacingBetweenSlices"), 0.0) or number(dataset.get("SliceThickness"), 0.0)
    step = abs(thickness) if math.isfinite(thickness) and thickness else 1.0
    axes = numbers(dataset.get("ImageOrientationPatient"), 6)
    origin = numbers(dataset.get("ImagePositionPatient"), 3)
    try:
        if axes is None or origin is None:
            return Geometry.from_spacing((step, *spacing))
        along_row, along_column = np.array(axes[:3]), np.array(axes[3:])
        affine = np.eye(4)
        affine[:3, 0] = np.cross(along_row, along_column) * step
        affine[:3, 1] = along_column * spacing[0]  # PixelSpacing is (between rows, between columns)
        affine[:3, 2] = along_row * spacing[1]
        affine[:3, 3] = origin
        affine[:2] *= -1
        return Geometry(affine)
    except InputError as error:
        notes.append(f"{path}: its geometry is not usable and is left out ({error})")
        return Geometry.unknown()
