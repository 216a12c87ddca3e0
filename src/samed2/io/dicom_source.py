"""The DICOM images that a segmentation lies on: headers of the source series and the place of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samed2.errors import InputError
from samed2.io.checks import quiet, reading
from samed2.io.codes import dicom_text
from samed2.io.segmentation import Segmentation
from samed2.io.series_fields import Plane, short
from samed2.io.series_files import Entry
from samed2.io.series_headers import slices_of
from samed2.io.writers import Job

OTHERS = "write nifti, nrrd, label-tiff, label-png, geojson, stl or json instead"
_TOLERANCE = 0.01  # of a pixel: how far the sides of pixels may differ between the files and the grid
_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SourceFrame:
    """One frame: the header of its file (without pixels), its number there from 1, its place in LPS+ mm if known."""

    header: Any
    number: int
    plane: Plane | None


@dataclass(frozen=True)
class DicomSource:
    """The headers of the source files, the frames in the order of the segmentation, and the labels on that grid."""

    headers: list[Any]
    frames: list[SourceFrame]
    segmentation: Segmentation

    @property
    def multi_frame(self) -> bool:
        """Whether the source is one file of several frames."""
        return int(self.headers[0].get("NumberOfFrames", 1) or 1) > 1


def dicom_source(job: Job, what: str) -> DicomSource:
    """The source files of a segmentation, read again and checked against its grid.

    Raises:
        InputError: the source was no DICOM, its files moved or changed, or the grid is not theirs.
    """
    entries, numbers = _files(job, what)
    segmentation = job.stored
    if len(entries) != len(segmentation.labels):
        raise InputError(
            f"{job.path}: the source has {len(entries)} frames, the segmentation {len(segmentation.labels)}; {OTHERS}"
        )
    headers = {entry: _header(entry) for entry in dict.fromkeys(entries)}
    slices = {entry: slices_of(entry, header) for entry, header in headers.items()}
    frames = []
    for entry, number in zip(entries, numbers, strict=True):
        if not 1 <= number <= len(slices[entry]):
            raise InputError(f"{entry}: has no frame {number}, it changed since it was segmented; segment it again")
        frames.append(SourceFrame(headers[entry], number, slices[entry][number - 1].plane))
    source = DicomSource(list(headers.values()), frames, segmentation)
    if source.multi_frame and len(headers) > 1:
        raise InputError(f"{job.path}: its source is several multi-frame files, wanted one; {OTHERS}")
    _check_files(job, entries, frames)
    _check_grid(job, segmentation, frames)
    return source


def _files(job: Job, what: str) -> tuple[list[Entry], list[int]]:
    """The file of every frame, and the frame's number in it."""
    kept = job.properties
    paths = kept.get("series_paths") or []
    if kept.get("reader") != "DICOM" or not paths:
        reader = kept.get("reader")
        origin = f"a {reader} file" if reader else "not read from a file"
        raise InputError(f"{job.path}: {what} needs a DICOM source, the segmented image is {origin}; {OTHERS}")
    members = kept.get("series_members") or [""] * len(paths)
    numbers = kept.get("frame_numbers") or [1] * len(paths)
    entries = [Entry(Path(path), str(member)) for path, member in zip(paths, members, strict=True)]
    return entries, [int(number) for number in numbers]


def _header(entry: Entry) -> Any:
    import pydicom

    with reading(entry.path, "DICOM, which the segmentation was made on"), quiet(), entry.open() as stream:
        header = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    methods = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    if header.get("PatientIdentityRemoved") == "YES" and not any(header.get(keyword) for keyword in methods):
        header.DeidentificationMethod = "not stated by the source"  # one of the two is required then
    return header


def _check_files(job: Job, entries: list[Entry], frames: list[SourceFrame]) -> None:
    _, height, width = job.stored.shape
    known = job.properties.get("sop_instance_uids") or [""] * len(frames)
    for entry, frame, uid in zip(entries, frames, known, strict=True):
        head = frame.header
        size = int(head.get("Rows", 0) or 0), int(head.get("Columns", 0) or 0)
        if size != (height, width):
            raise InputError(
                f"{job.path}: the segmentation has frames of {width} x {height} pixels, {entry} has "
                f"{size[1]} x {size[0]}, wanted the series' own grid; {OTHERS}"
            )
        if uid and short(head.get("SOPInstanceUID")) != uid:
            raise InputError(f"{entry}: is another image than the one segmented (SOPInstanceUID); segment it again")


def _check_grid(job: Job, segmentation: Segmentation, frames: list[SourceFrame]) -> None:
    """Never a wrong grid: the pixels of the segmentation must be those of the files.

    The distance between frames is left out: an affine cannot say uneven ones, the files' own places count.
    """
    geometry, places = segmentation.geometry, job.properties.get("frame_positions_lps")
    first = frames[0].plane
    if not geometry.known or first is None:
        return
    down, right = geometry.affine[:3, 1] * _TO_LPS, geometry.affine[:3, 2] * _TO_LPS
    limit = _TOLERANCE * min(first.spacing)
    off = float(np.abs(first.origin - geometry.to_mm([0, 0, 0]) * _TO_LPS).max()) * _TOLERANCE * 10
    for index, frame in enumerate(frames):
        if frame.plane is None:
            continue
        off = max(off, *np.abs(frame.plane.down - down), *np.abs(frame.plane.right - right))
        if places is not None:
            off = max(off, *np.abs(frame.plane.origin - places[index]))
        if off > limit:
            raise InputError(
                f"{job.path}: frame {index} of the segmentation does not lie on its source image (it was resampled or "
                f"moved), wanted the series' own grid; {OTHERS}"
            )


@dataclass(frozen=True)
class Equipment:
    """What made a file: the equipment, and the algorithm by the segmentation's provenance."""

    algorithm: str
    version: str
    manufacturer: str = "SAMed-2"
    model: str = "samed2"
    serial: str = "0"


def equipment(job: Job) -> Equipment:
    """The names that a written file gives its maker."""
    from samed2 import __version__

    provenance = job.segmentation.provenance
    model, version = provenance.get("model"), provenance.get("version")
    name = f"SAMed-2 {model}" if isinstance(model, str) and model else "SAMed-2"
    return Equipment(dicom_text(name), dicom_text(version if isinstance(version, str) else "") or __version__)
