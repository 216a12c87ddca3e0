"""A DICOM series as a block: what a data set is made of must be even, complete and without repeats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samed2.errors import InputError
from samed2.io import Scan, read


def open_series(paths: Sequence[Path]) -> Scan:
    """The files of one series, single frames or multi-frame ones, as a scan whose frames go along the slices' normal.

    Raises:
        InputError: slices differ in size or direction, do not say where they lie, are not evenly spaced, or two lie at
            one place.
    """
    scan = read(list(paths))
    if scan.num_frames > 1 and "frame_positions_lps" not in scan.properties:
        raise InputError(f"{scan.label}: its slices do not say where they lie (ImagePositionPatient)")
    left_out = next((note for note in scan.warnings if "left out" in note), None)
    if scan.kind == "video" or left_out or scan.num_frames < len(paths):
        told = left_out or f"{scan.label}: all slices lie at one place"
        raise InputError(f"{told}; wanted one series without repeats")
    if not scan.properties.get("evenly_spaced", True):
        raise InputError(f"{scan.warnings[0]}; wanted evenly spaced slices without gaps")
    return scan
