"""Files that appear whole or not at all: write beside the target, then rename over it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from samed2.errors import InputError

_HINTS = {
    errno.ENOSPC: "no space left on the device; free some or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
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


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write bytes, or text as UTF-8, to `path` in one step and return the path.

    Raises:
        InputError: see `atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return Path(path)


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
