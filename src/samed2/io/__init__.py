"""Images in, segmentations out: readers, the lazily read `Scan`, windows, atomic writing. No torch here."""

from __future__ import annotations

# one line per family of formats: importing it registers its readers
from samed2.io import read_dicom, read_nifti, read_pillow, read_tiff
from samed2.io.atomic import atomic_path, atomic_write
from samed2.io.geometry import Geometry
from samed2.io.readers import READERS, read, register_reader
from samed2.io.scan import Scan
from samed2.io.window import PRESETS, Window, resolve_window

__all__ = [
    "PRESETS",
    "READERS",
    "Geometry",
    "Scan",
    "Window",
    "atomic_path",
    "atomic_write",
    "read",
    "read_dicom",
    "read_nifti",
    "read_pillow",
    "read_tiff",
    "register_reader",
    "resolve_window",
]
