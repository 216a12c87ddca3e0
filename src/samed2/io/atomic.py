"""Files that appear whole or not at all: write beside the target, then rename over it; and folders for them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from samed2.errors import InputError

_HINTS = {
    errno.ENOSPC: "no space left on the device; free some or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a file stands where a folder is wanted; choose another place",
    errno.EEXIST: "a file stands where a folder is wanted; choose another place",
    errno.ENAMETOOLONG: "the file name is too long; choose a shorter one",
}


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the target's folder; rename it to `path` when the block ends well.

    The temporary name ends with the target's own name, so that suffixes such as `.nii.gz` keep their meaning.
    If the block raises, the temporary file is removed and an older file at `path` stays as it was.

    Raises:
        InputError: the folder is missing, the target is a folder or a device, or the system refuses to write.
    """
    target = _checked_target(path)
    temporary = target.with_name(f".{secrets.token_hex(4)}.part-{target.name}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {_why(error)}") from error
    finally:
        _remove(temporary)


@contextlib.contextmanager
def together(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a temporary path for each target; all are moved into place when the block ends well, else none.

    The temporary files lie in one hidden folder beside the targets, under the targets' own names. Should the system
    refuse half-way through the moving, targets that are new are taken away again and older ones put back.

    Raises:
        InputError: as `atomic_path`.
    """
    places = [_checked_target(target) for target in targets]
    mark = secrets.token_hex(4)
    folders = {place.parent: place.parent / f".{mark}.part" for place in places}
    temporaries = [folders[place.parent] / place.name for place in places]
    try:
        for folder in folders.values():
            folder.mkdir()
        yield temporaries
        for temporary in temporaries:
            _flush_to_disk(temporary)
        _move(temporaries, places)
    except OSError as error:
        raise InputError(f"{targets[0]}: cannot be written: {_why(error)}") from error
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _move(temporaries: list[Path], places: list[Path]) -> None:
    """Rename each file over its place; at the first refusal or interrupt everything is as it was."""
    olders: list[Path | None] = []
    try:
        for temporary, place in zip(temporaries, places, strict=True):
            older = temporary.with_name(f"{temporary.name}.older") if place.exists() else None
            if older is not None:
                with contextlib.suppress(OSError):  # a file system without links: the older file is lost
                    os.link(place, older)
            olders.append(older)
            os.replace(temporary, place)
    except BaseException:
        for older, place in zip(olders, places, strict=False):
            if older is None:
                _remove(place)
            elif older.exists():
                with contextlib.suppress(OSError):
                    os.replace(older, place)
        raise


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write bytes, or text as UTF-8, to `path` in one step and return the path.

    Raises:
        InputError: see `atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return Path(path)


def make_folder(folder: str | os.PathLike[str], option: str = "") -> Path:
    """Make a folder and those above it, where they are not there yet, and return it.

    Args:
        option: what it was given by, such as "--out", for the error.

    Raises:
        InputError: the system refuses.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot be made a folder: {_why(error)}".lstrip()) from error
    return Path(folder)


def _checked_target(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if not str(target).isprintable():
        raise InputError(f"{str(path)!r}: is not a usable file name, it holds control characters; choose another")
    try:
        if target.is_symlink():  # keep the link, replace what it points to
            target = target.resolve()
        if target.is_dir():
            raise InputError(f"{path}: is a folder; give the name of a file to write")
        if target.exists() and not target.is_file():
            raise InputError(f"{path}: is not a regular file; give the name of a file to write")
        if not target.parent.is_dir():
            raise InputError(f"{path}: the folder {target.parent} does not exist; create it first")
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written: {_why(error)}") from error
    return target


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in _HINTS:
        return _HINTS[number]
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the folder went away meanwhile: nothing is left to clean
        path.unlink(missing_ok=True)
