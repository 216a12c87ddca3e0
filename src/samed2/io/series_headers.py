"""The slices that DICOM files hold, by their headers alone: one a single-frame file, one a frame of the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samed2.errors import InputError
from samed2.io.checks import one_line, quiet
from samed2.io.series_fields import Plane, item, number, numbers, short, whole, window_of
from samed2.io.series_files import Entry

SEG = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
MAX_FRAMES = 100_000
TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "SeriesDescription", "SeriesNumber", "InstanceNumber", "AcquisitionNumber", "AcquisitionTime", "ContentTime",
    "TemporalPositionIdentifier", "TriggerTime", "EchoNumbers", "EchoTime", "ImageType", "DiffusionBValue",
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "NumberOfFrames", "PixelSpacing", "ImagerPixelSpacing", "ImagePositionPatient",
    "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices", "GantryDetectorTilt", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "FrameTime", "CineRate",
    "RecommendedDisplayFrameRate", "SequenceOfUltrasoundRegions", "GridFrameOffsetVector",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_TIMES = ("TemporalPositionIdentifier", "TriggerTime", "EchoNumbers", "EchoTime", "DiffusionBValue",
          "AcquisitionNumber", "AcquisitionTime", "ContentTime")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame of one file: its place (None where the file does not say), its rescale, and when it was taken."""

    entry: Entry
    frame: int  # in the file, from 0
    header: Any
    plane: Plane | None
    rescale: tuple[float, float]
    thickness: float  # mm, 0 where the file does not say
    times: tuple[float, ...]
    window: tuple[float, float] | None

    @property
    def size(self) -> tuple[int, int, int]:
        """(rows, columns, channels)."""
        head = self.header
        colour = whole(head.get("SamplesPerPixel"), 1) > 1 or head.get("PhotometricInterpretation") == "PALETTE COLOR"
        return whole(head.get("Rows"), 0), whole(head.get("Columns"), 0), 3 if colour else 1

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key among slices of one place, or of unknown places."""
        return (*self.times, whole(self.header.get("InstanceNumber"), 0), self.entry, self.frame)

    def __str__(self) -> str:
        return f"{self.entry.name} frame {self.frame + 1}" if self.frames > 1 else self.entry.name

    @property
    def frames(self) -> int:
        """How many frames its file has."""
        return max(1, whole(self.header.get("NumberOfFrames"), 1))


def read_header(entry: Entry) -> Any:
    """The fields of `TAGS` and the file's meta information, without pixels.

    Raises:
        InputError: it cannot be read as DICOM.
    """
    import pydicom

    try:
        with quiet(), entry.open() as stream:
            return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
    except InputError:
        raise
    except Exception as error:  # a damaged header raises nearly everything
        raise InputError(f"{entry}: cannot be read as DICOM, it is damaged or cut off ({one_line(error)})") from error


def is_image(header: Any) -> bool:
    """Whether the header is that of an image, not of a report, a plan, contours or a segmentation."""
    return whole(header.get("Rows"), 0) > 0 and str(header.get("SOPClassUID", "")) not in SEG


def slices_of(entry: Entry, header: Any) -> list[Slice]:
    """The slices of one file.

    Raises:
        InputError: it claims more frames than can be.
    """
    count = max(1, whole(header.get("NumberOfFrames"), 1))
    if count > MAX_FRAMES or count > entry.size():
        raise InputError(f"{entry}: claims {count} frames, more than its {entry.size()} bytes can hold; copy it again")
    shared = item(header, "SharedFunctionalGroupsSequence")
    own = header.get("PerFrameFunctionalGroupsSequence")
    own = own if type(own).__name__ == "Sequence" else []
    if own and len(own) < count:
        raise InputError(f"{entry}: has {count} frames but describes {len(own)}; it is damaged or cut off")
    offsets = numbers(header.get("GridFrameOffsetVector"), count) if count > 1 else None
    if not own and not shared:
        alone = _slice(entry, 0, header, [header])
        if count == 1:
            return [alone]
        return [_on_grid(alone, frame, offsets) for frame in range(count)]
    return [_slice(entry, f, header, [own[f] if own else {}, shared, header]) for f in range(count)]


def _on_grid(alone: Slice, frame: int, offsets: tuple[float, ...] | None) -> Slice:
    """Frame of a file without functional groups: placed by the offsets of a dose grid, else nowhere."""
    plane = None
    if offsets is not None and alone.plane is not None:
        base = alone.plane
        along = base.normal * (offsets[frame] - (offsets[0] if offsets[0] else 0.0))
        plane = Plane(base.origin + along, base.down, base.right)
    return replace(alone, frame=frame, plane=plane)


def _slice(entry: Entry, frame: int, header: Any, levels: list[Any]) -> Slice:
    """A slice whose facts are searched in the frame's own groups, then the shared ones, then the header."""

    def find(sequence: str, field: str) -> Any:
        for level in levels:
            where = level if level is header else item(level, sequence)
            value = where.get(field) if where else None
            if value is not None:
                return value
        return None

    position = find("PlanePositionSequence", "ImagePositionPatient")
    orientation = find("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = find("PixelMeasuresSequence", "PixelSpacing")
    plane = None
    if position is not None and orientation is not None and spacing is not None:
        try:
            plane = Plane.of(position, orientation, spacing, entry)
        except InputError:
            plane = None  # told when the series is put in order
    thickness = number(find("PixelMeasuresSequence", "SliceThickness"), 0.0)
    slope = number(find("PixelValueTransformationSequence", "RescaleSlope"), 1.0)
    intercept = number(find("PixelValueTransformationSequence", "RescaleIntercept"), 0.0)
    usable = bool(np.isfinite(slope) and np.isfinite(intercept))
    content = item(levels[0], "FrameContentSequence") if levels[0] is not header else {}
    stamps = [number(content.get("TemporalPositionIndex"), 0.0) if content else 0.0]
    stamps += [number(header.get(name), 0.0) for name in _TIMES]
    voi: Any = next((found for level in levels[:-1] if level and (found := item(level, "FrameVOILUTSequence"))), {})
    return Slice(
        entry,
        frame,
        header,
        plane,
        ((slope or 1.0), intercept) if usable else (1.0, 0.0),  # a slope of 0 would erase the image
        abs(thickness) if np.isfinite(thickness) else 0.0,
        tuple(stamp if np.isfinite(stamp) else 0.0 for stamp in stamps),
        window_of(voi) if voi and window_of(voi) else window_of(header),
    )


def series_uid(header: Any) -> str:
    """SeriesInstanceUID, or nothing."""
    return short(header.get("SeriesInstanceUID"))
