"""Masks that others drew, on the grid of a scan: DICOM SEG and RTSTRUCT."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import quiet, reading
from samed2.io.read_rtstruct import read_rtstruct
from samed2.io.read_seg import read_seg
from samed2.io.scan import Scan
from samed2.io.series_fields import short
from samed2.io.series_grid import Grid
from samed2.io.series_headers import RTSTRUCT, SEG


def read_segments(path: str | os.PathLike[str], scan: Scan) -> dict[str, NDArray[np.bool_]]:
    """Name -> mask (T, H, W) on the scan's grid, of a DICOM SEG or RTSTRUCT; masks may overlap.

    Slices of the scan that need not be evenly spaced are met where they truly lie. Objects of one name are united.

    Raises:
        InputError: another kind of file, damaged, drawn on another frame of reference or beside the scan's slices; the
            scan has no geometry.
    """
    import pydicom

    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: does not exist or is no file; check the path")
    with reading(file, "DICOM SEG or RTSTRUCT"), quiet():
        tags = ["SOPClassUID", "FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence"]
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
        kind = str(header.get("SOPClassUID", ""))
        frames = {short(one.get("FrameOfReferenceUID")) for one in header.get(tags[2]) or []}
        frames.add(short(header.get("FrameOfReferenceUID")))
    if kind not in (*SEG, RTSTRUCT):
        raise InputError(f"{file}: is no DICOM SEG or RTSTRUCT; give a segmentation")
    ours = scan.properties.get("FrameOfReferenceUID", "")
    if ours and frames - {""} and ours not in frames:
        raise InputError(
            f"{file}: is drawn in frame of reference {sorted(frames - {''})[0]}, {scan.label} lies in {ours}; "
            "give the segmentation of this series"
        )
    grid = Grid.of(scan)
    with reading(file, "DICOM SEG or RTSTRUCT"), quiet():
        return read_rtstruct(file, grid) if kind == RTSTRUCT else read_seg(file, grid)
