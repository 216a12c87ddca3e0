"""Where DICOM files come from: a file, or a member of a zip archive; found by content, not by name."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from samed2.errors import InputError
from samed2.io.checks import MAX_RATIO, one_line

MAX_FILES = 100_000
MAX_MEMBER = 2**31  # bytes of one unpacked member
_NAMED = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True, order=True)
class Entry:
    """One file: `path`, or `member` inside the zip archive at `path`."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.member.rpartition("/")[2] if self.member else self.path.name

    @property
    def folder(self) -> str:
        """Where it lies, for messages."""
        return f"{self.path}: {self.member.rpartition('/')[0]}" if self.member else str(self.path.parent)

    def __str__(self) -> str:
        return f"{self.path}: {one_line(ValueError(self.member))}" if self.member else str(self.path)

    def open(self) -> BinaryIO:
        """A seekable stream of its content; a member of an archive is unpacked into memory.

        Raises:
            InputError: encrypted, damaged, or larger than can be true.
        """
        if not self.member:
            return open(self.path, "rb")
        try:
            archive = _archive(self.path, self.path.stat().st_mtime_ns, os.getpid())
            info = archive.getinfo(self.member)
            if info.flag_bits & 1:
                raise InputError(f"{self}: is encrypted; unpack the archive with its password and give the folder")
            if info.file_size > min(info.compress_size * MAX_RATIO + 2**16, MAX_MEMBER):
                raise InputError(f"{self}: claims {info.file_size} bytes unpacked, which is forged or too large")
            return io.BytesIO(archive.read(info))
        except InputError:
            raise
        except Exception as error:  # a damaged archive raises many kinds
            raise InputError(f"{self}: cannot be unpacked, the archive is damaged ({one_line(error)})") from error

    def size(self) -> int:
        """Bytes of the (unpacked) file."""
        if not self.member:
            return self.path.stat().st_size
        return _archive(self.path, self.path.stat().st_mtime_ns, os.getpid()).getinfo(self.member).file_size


@lru_cache(maxsize=4)
def _archive(path: Path, changed: int, process: int) -> zipfile.ZipFile:
    """An opened archive; opened anew when the file changed, and in a forked process."""
    return zipfile.ZipFile(path)


def is_dicom(name: str, head: bytes) -> bool:
    """Whether a file is DICOM by its first bytes; without preamble only under a usual name."""
    if head[128:132] == b"DICM":
        return True
    named = name.lower().endswith(_NAMED)
    return named and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\0"


def files_below(folder: Path) -> list[Path]:
    """All regular files at any depth, sorted; hidden ones and links to folders are left out.

    Raises:
        InputError: too many files, or the folder may not be listed.
    """
    found: list[Path] = []
    problems: list[OSError] = []
    for base, folders, names in os.walk(folder, onerror=problems.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(base, name) for name in names if not name.startswith(".")]
        if len(found) > MAX_FILES:
            raise InputError(f"{folder}: holds more than {MAX_FILES} files; give the folder of one patient or series")
    if problems and not found:
        raise InputError(f"{folder}: cannot be listed ({problems[0].strerror or problems[0]})")
    return sorted(path for path in found if path.is_file())


def dicom_entries(paths: list[Path]) -> Iterator[Entry]:
    """Those of the files that are DICOM."""
    for path in paths:
        try:
            with open(path, "rb") as handle:
                head = handle.read(132)
        except OSError:
            continue
        if is_dicom(path.name, head):
            yield Entry(path)


def zip_entries(path: Path) -> list[Entry]:
    """The DICOM files in a zip archive.

    Raises:
        InputError: the archive is damaged or holds too many files.
    """
    try:
        archive = _archive(path, path.stat().st_mtime_ns, os.getpid())
        members = [info for info in archive.infolist() if not info.is_dir() and info.file_size]
    except Exception as error:
        raise InputError(f"{path}: is not a usable zip archive ({one_line(error)}); copy it again") from error
    if len(members) > MAX_FILES:
        raise InputError(f"{path}: holds more than {MAX_FILES} files; unpack it and give one patient's folder")
    found = []
    for info in sorted(members, key=lambda one: one.filename):
        if info.flag_bits & 1:
            raise InputError(f"{path}: is encrypted; unpack it with its password and give the folder")
        try:
            with archive.open(info) as stream:
                head = stream.read(132)
        except Exception as error:
            raise InputError(
                f"{path}: cannot be unpacked, the archive is damaged ({one_line(error)}); copy it again"
            ) from error
        if is_dicom(info.filename, head):
            found.append(Entry(path, info.filename))
    return found
