"""Folders, archives and lists: a DICOM series if there is one, else images whose order is that of their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import quiet
from samed2.io.readers import read, register_reader, stem
from samed2.io.scan import Scan
from samed2.io.series_files import dicom_entries, files_below, zip_entries

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff")
_COLOUR = ("RGB", "RGBA", "CMYK", "YCbCr", "P", "PA", "RGBX", "HSV")


def read_folder(folder: Path, time: int | None = None, series: str | int | None = None) -> Scan:
    """The DICOM series below a folder, else its images as the frames of a video, sorted by their names' numbers.

    Raises:
        InputError: neither is there, several series and no choice, frames of different size or kind.
    """
    from samed2.io.read_series import read_entries

    entries = list(dicom_entries(files_below(folder)))
    if entries:
        return read_entries(entries, folder, folder.resolve().name, time=time, series=series)
    frames = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES and not path.name.startswith(".")),
        key=lambda path: natural(path.name),
    )
    if not frames:
        raise InputError(f"{folder}: is a folder without DICOM files or images in it; give a file, or another folder")
    _no_options(folder, time, series)
    return _images(frames, folder, folder.resolve().name)


def read_list(paths: list[Path], time: int | None = None, series: str | int | None = None) -> Scan:
    """The files of a DICOM series in any order, or images as frames in the order that they are given.

    Raises:
        InputError: none, some missing, both kinds mixed, or what `read_folder` refuses.
    """
    from samed2.io.read_series import read_entries

    if not paths:
        raise InputError("read: got an empty list of files, wanted at least one")
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: does not exist or is no file; check the list")
    if len(paths) == 1:
        return read(paths[0], time=time, series=series)
    entries = list(dicom_entries(paths))
    label = paths[0].parent
    if len(entries) == len(paths):
        return read_entries(entries, label, label.resolve().name, time=time, series=series)
    if entries:
        other = next(path for path in paths if path not in {entry.path for entry in entries})
        raise InputError(f"{other}: is not DICOM as others of the list are; give files of one kind")
    _no_options(label, time, series)
    return _images(paths, label, label.resolve().name)


def _is_zip(path: Path, head: bytes) -> bool:
    return head[:4] == b"PK\x03\x04"


@register_reader("ZIP", (".zip",), _is_zip, ("time", "series"))
def read_zip(path: Path, time: int | None = None, series: str | int | None = None) -> Scan:
    """The DICOM series in an archive; its files are unpacked one by one, into memory."""
    from samed2.io.read_series import read_entries

    entries = zip_entries(path)
    if not entries:
        raise InputError(f"{path}: is a zip archive without DICOM files; unpack it and give what is inside")
    return read_entries(entries, path, stem(path), time=time, series=series)


def natural(name: str) -> tuple[Any, ...]:
    """Sort key under which frame10 comes after frame9."""
    parts = re.split(r"(\d+)", name.lower())
    return tuple((int(part), part) if index % 2 else (0, part) for index, part in enumerate(parts))


def _no_options(label: Path, time: int | None, series: str | int | None) -> None:
    for name, value in (("time", time), ("series", series)):
        if value is not None:
            raise InputError(f"{label}: holds images, not DICOM, got {name} {value!r}; leave {name} out")


def _images(paths: list[Path], label: Path, name: str) -> Scan:
    if len(paths) == 1:
        return read(paths[0])
    source = ImagesSource(paths)
    return Scan(
        source,
        name=name,
        path=label,
        modality="rgb" if source.shape[3] == 3 else "unknown",
        kind="video",
        properties={"reader": "images", "frame_paths": [str(path) for path in paths]},
        warnings=source.notes,
    )


class ImagesSource:
    """One image file a frame; grey frames among colour ones are given as colour."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        first = self._open(0)
        colour = first.channels == 3
        for path in paths[1:]:
            size, coloured = _header(path)
            if size is not None and size != first.shape[1:]:
                raise InputError(
                    f"{path}: is {_sized(size)} (rows x columns), {paths[0].name} is {_sized(first.shape[1:])}; "
                    "wanted frames of one size, move the others elsewhere"
                )
            colour = colour or coloured
        self.notes: list[str] = list(first.warnings)
        self.dtype = first.dtype
        self.shape = (len(paths), first.height, first.width, 3 if colour else 1)

    def _open(self, index: int) -> Scan:
        scan = read(self._paths[index])
        if scan.num_frames != 1:
            raise InputError(f"{scan.label}: has {scan.num_frames} frames itself; give that file alone")
        return scan

    def read(self, index: int) -> NDArray[Any]:
        scan = self._open(index)
        frame = scan.frame(0)
        if scan.shape[1:] != self.shape[1:3] or scan.dtype != self.dtype or scan.channels > self.shape[3]:
            raise InputError(
                f"{self._paths[index]}: is {_sized(scan.shape[1:])} of {scan.dtype} with {scan.channels} channels, the "
                f"first frame {_sized(self.shape[1:3])} of {self.dtype} with {self.shape[3]}; wanted one kind"
            )
        self.notes += [note for note in scan.warnings if note not in self.notes and len(self.notes) < 50]
        if scan.channels == 1 and self.shape[3] == 3:
            return np.repeat(frame[..., None], 3, axis=2)
        return frame


def _header(path: Path) -> tuple[tuple[int, int] | None, bool]:
    """((rows, columns), colour) without decoding; (None, False) where Pillow cannot tell."""
    from PIL import Image

    try:
        with quiet(), Image.open(path, formats=["PNG", "JPEG", "BMP", "TIFF"]) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8) and image.format in ("PNG", "JPEG", "BMP")
            size = (image.width, image.height) if turned else (image.height, image.width)
            return size, image.mode in _COLOUR
    except Exception:  # told when the frame is read
        return None, False


def _sized(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
