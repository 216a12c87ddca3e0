"""Images in, segmentations out: readers, the lazily read `Scan`, windows, writers. No torch here."""

from __future__ import annotations

# one line per family of formats: importing it registers its readers and writers
from samed2.io import (
    read_dicom,
    read_folder,
    read_itk,
    read_nifti,
    read_pillow,
    read_tiff,
    read_video,
    write_dicom_seg,
    write_geojson,
    write_itk,
    write_measures,
    write_mesh,
    write_overlay,
    write_rtstruct,
    write_tiff,
    write_video,
)
from samed2.io.atomic import atomic_path, atomic_write
from samed2.io.geometry import Geometry
from samed2.io.read_segments import read_segments
from samed2.io.read_series import list_series
from samed2.io.readers import READERS, read, register_reader
from samed2.io.scan import Scan
from samed2.io.segmentation import Segmentation, SegmentedObject, palette_color
from samed2.io.window import PRESETS, Window, resolve_window
from samed2.io.writers import WRITERS, register_writer, write

__all__ = [
    "PRESETS",
    "READERS",
    "WRITERS",
    "Geometry",
    "Scan",
    "Segmentation",
    "SegmentedObject",
    "Window",
    "atomic_path",
    "atomic_write",
    "list_series",
    "palette_color",
    "read",
    "read_dicom",
    "read_folder",
    "read_itk",
    "read_nifti",
    "read_pillow",
    "read_segments",
    "read_tiff",
    "read_video",
    "register_reader",
    "register_writer",
    "resolve_window",
    "write",
    "write_dicom_seg",
    "write_geojson",
    "write_itk",
    "write_measures",
    "write_mesh",
    "write_overlay",
    "write_rtstruct",
    "write_tiff",
    "write_video",
]
