"""The register of readers, and `read`, which picks one by the file's content."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samed2.errors import InputError
from samed2.io.checks import reading
from samed2.io.scan import Scan

Sniff = Callable[[Path, bytes], bool]
ReadFunction = Callable[..., Scan]
PathLike = str | os.PathLike[str]
HEAD_BYTES = 1024
_WHY_NOT = {"time": "is no series of volumes", "series": "holds one image only"}


@dataclass(frozen=True)
class Reader:
    """One format: its name, the suffixes people give it, how its content is known, how it is read.

    `options` names the keyword arguments of `read` (of "time" and "series") that its function takes.
    """

    name: str
    suffixes: tuple[str, ...]
    sniff: Sniff
    read: ReadFunction
    options: tuple[str, ...] = ()


READERS: dict[str, Reader] = {}


def register_reader(
    name: str, suffixes: tuple[str, ...], sniff: Sniff, options: tuple[str, ...] = ()
) -> Callable[[ReadFunction], ReadFunction]:
    """Register the decorated `function(path) -> Scan` as the reader of a format.

    `sniff(path, head)` gets the first bytes of the file (at most 1024) and says whether the reader knows it.
    A reader sets the scan's name, path, modality and kind, and puts `"reader": name` into its properties.
    With `options` it is called with those keyword arguments too, None where the user gave none.
    """

    def add(function: ReadFunction) -> ReadFunction:
        READERS[name] = Reader(name, suffixes, sniff, function, options)
        return function

    return add


def read(
    path: PathLike | Sequence[PathLike],
    *,
    modality: str | None = None,
    axis: int | str | None = None,
    time: int | None = None,
    series: str | int | None = None,
) -> Scan:
    """Read an image, volume or video; the content decides the format, not the name.

    Args:
        path: a file; a folder or zip archive with a DICOM series; a folder of images, which become frames; or a
            list of DICOM files or of images.
        modality: what the file shows ("ct", "mr", "ultrasound", ...), when the file does not say or is wrong.
        axis: which axis of (frame, y, x) the frames go along, 0 as stored; or "axial", "coronal" or "sagittal":
            the axis closest to it.
        time: which volume of a 4-D file, from 0.
        series: which DICOM series of a folder, by number, UID or the UID's end (see `list_series`).

    Raises:
        InputError: missing, empty, cut off, too large, of no known format, or an option that does not fit; it names
            the file.
    """
    options: dict[str, Any] = {"time": _checked_time(time), "series": series}
    if isinstance(path, (str, os.PathLike)):
        scan = _read_one(path, options)
    else:
        from samed2.io.read_folder import read_list

        scan = read_list([Path(one) for one in path], **options)
    if modality is not None:
        scan.modality = modality.strip().lower()
    if axis is None:
        return scan
    from samed2.io.slicing import along

    return along(scan, axis)


def _read_one(path: PathLike, options: dict[str, Any]) -> Scan:
    file = Path(path)
    if str(file).isprintable() and file.is_dir():
        from samed2.io.read_folder import read_folder

        with reading(file, "a folder of images"):
            return read_folder(file, **options)
    file, head = _open_checked(path)
    reader = _pick(file, head)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in reader.options:
            raise InputError(f"{file}: {_WHY_NOT[name]} ({reader.name}), got {name} {given[name]!r}; leave {name} out")
    with reading(file, reader.name):
        return reader.read(file, **{name: options[name] for name in reader.options})


def _checked_time(time: int | None) -> int | None:
    if time is not None and (isinstance(time, bool) or not isinstance(time, int) or time < 0):
        raise InputError(f"time: got {time!r}, wanted a whole number from 0")
    return time


def stem(path: Path) -> str:
    """The file's name without its suffix, `.nii.gz` taken as one."""
    name = path.name
    for ending in (".nii.gz",):
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return path.stem


def suffixes() -> tuple[str, ...]:
    """All suffixes that registered readers claim, without repeats."""
    return tuple(dict.fromkeys(ending for reader in READERS.values() for ending in reader.suffixes))


def _open_checked(path: str | os.PathLike[str]) -> tuple[Path, bytes]:
    file = Path(path)
    if not str(file).isprintable():
        raise InputError(f"{str(file)!r}: is not a usable file name, it holds control characters; rename it")
    try:
        if not file.exists():
            raise InputError(f"{file}: does not exist; check the path")
        if not file.is_file():
            raise InputError(f"{file}: is not a regular file, wanted an image file")
        with open(file, "rb") as handle:
            head = handle.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{file}: cannot be opened ({error.strerror or error})") from error
    if not head:
        raise InputError(f"{file}: is empty (0 bytes), wanted an image")
    return file, head


def _pick(file: Path, head: bytes) -> Reader:
    matches = [reader for reader in READERS.values() if reader.sniff(file, head)]
    for reader in matches:  # of several, the one that also claims the suffix
        if file.name.lower().endswith(reader.suffixes):
            return reader
    if matches:
        return matches[0]
    for reader in READERS.values():
        if file.name.lower().endswith(reader.suffixes):
            raise InputError(
                f"{file}: is named like {reader.name} but its content is not; it is damaged or something else"
            )
    raise InputError(f"{file}: is not an image of a known format; wanted one of {', '.join(sorted(READERS))}")
