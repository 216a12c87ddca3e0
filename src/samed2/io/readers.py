"""The register of readers, and `read`, which picks one by the file's content."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samed2.errors import InputError
from samed2.io.checks import reading
from samed2.io.scan import Scan

Sniff = Callable[[Path, bytes], bool]
ReadFunction = Callable[[Path], Scan]
HEAD_BYTES = 1024


@dataclass(frozen=True)
class Reader:
    """One format: its name, the suffixes people give it, how its content is known, how it is read."""

    name: str
    suffixes: tuple[str, ...]
    sniff: Sniff
    read: ReadFunction


READERS: dict[str, Reader] = {}


def register_reader(name: str, suffixes: tuple[str, ...], sniff: Sniff) -> Callable[[ReadFunction], ReadFunction]:
    """Register the decorated `function(path) -> Scan` as the reader of a format.

    `sniff(path, head)` gets the first bytes of the file (at most 1024) and says whether the reader knows it.
    A reader sets the scan's name, path, modality and kind, and puts `"reader": name` into its properties.
    """

    def add(function: ReadFunction) -> ReadFunction:
        READERS[name] = Reader(name, suffixes, sniff, function)
        return function

    return add


def read(path: str | os.PathLike[str], *, modality: str | None = None) -> Scan:
    """Read an image or volume; the content decides the format, not the name.

    Args:
        modality: what the file shows ("ct", "mr", "ultrasound", ...), when the file does not say or is wrong.

    Raises:
        InputError: missing, a folder, empty, cut off, too large or of no known format; it names the file.
    """
    file, head = _open_checked(path)
    reader = _pick(file, head)
    with reading(file, reader.name):
        scan = reader.read(file)
    if modality is not None:
        scan.modality = modality.strip().lower()
    return scan


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
        if file.is_dir():
            raise InputError(f"{file}: is a folder, wanted a file")
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
