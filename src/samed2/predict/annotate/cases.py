"""Which files and folders below a folder are cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from samed2.errors import InputError
from samed2.io import READERS
from samed2.io.read_folder import FRAME_SUFFIXES, natural
from samed2.io.readers import HEAD_BYTES


def find_cases(folder: Path, leave_out: Iterable[Path] = ()) -> dict[str, Path]:
    """Name (the path below `folder`, with slashes) -> path of every case, in natural order.

    A file that a reader knows is a case. Below `folder` itself, a folder of DICOM files only (a series) or of several
    pictures only (frames of a video) is one case. Hidden files, others, and what lies in `leave_out` are passed over.

    Raises:
        InputError: not a folder, or nothing in it is a case.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder that holds the cases")
    out = {path.resolve() for path in leave_out}
    found = sorted(_walk(folder, out, top=True), key=lambda path: natural(path.relative_to(folder).as_posix()))
    if not found:
        raise InputError(f"{folder}: holds no image, volume or video of a known format; check the path")
    return {path.relative_to(folder).as_posix(): path for path in found}


def choose(names: Iterable[str], cases: Iterable[str], where: str) -> dict[str, str]:
    """Given name -> case, each meant by its whole name, or by its file name or stem where only one has it.

    Raises:
        InputError: a name that means no case, or several.
    """
    known = list(cases)
    short: dict[str, set[str]] = {}
    for case in known:
        last = case.rsplit("/", 1)[-1]
        for form in {last, last.split(".")[0]}:
            short.setdefault(form, set()).add(case)
    chosen = {}
    for name in names:
        if name in known:
            chosen[name] = name
            continue
        fitting = short.get(name) or short.get(Path(name).name) or set()
        if len(fitting) != 1:
            several = f"means several cases ({', '.join(sorted(fitting)[:3])}); give the path below the folder"
            none = f"is no case; there are {', '.join(known[:5])}" + (", ..." if len(known) > 5 else "")
            raise InputError(f"{where}: {name!r} {several if fitting else none}")
        chosen[name] = next(iter(fitting))
    return chosen


def mark_of(path: Path) -> str:
    """A short text that changes when a file, or a file of a folder, is changed."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def digest(value: Any) -> str:
    """A short hash of JSON-able facts."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _walk(folder: Path, out: set[Path], top: bool) -> Iterator[Path]:
    try:
        inside = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.resolve() not in out)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    kinds = {path: _kind(path) for path in inside if path.is_file()}
    files = [path for path, kind in kinds.items() if kind]
    folders = [path for path in inside if path.is_dir()]
    if not top and len(files) > 1 and not folders and len({_frames(p, kinds[p]) for p in files} | {""}) == 2:
        yield folder  # all are DICOM, or all are pictures
        return
    yield from files
    for path in folders:
        yield from _walk(path, out, top=False)


def _kind(path: Path) -> str:
    """The name of the reader that knows a file, by content, else by suffix (then it is damaged); "" for none."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(HEAD_BYTES)
    except OSError:
        head = b""
    for reader in READERS.values():
        if (head and reader.sniff(path, head)) or path.name.lower().endswith(reader.suffixes):
            return reader.name
    return ""


def _frames(path: Path, kind: str) -> str:
    """What a file could be a frame of: "series", "video", or "itself"."""
    if kind.startswith("DICOM"):
        return "series"
    return "video" if path.suffix.lower() in FRAME_SUFFIXES else "itself"
