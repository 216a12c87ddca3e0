"""One writer at a time: a lock file that dies with its process."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from samed2.errors import InputError

try:
    import fcntl
except ImportError:  # pragma: no cover - not on Windows: there the file's existence alone warns
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock `path` for the block; a file left by a dead process is taken over.

    The operating system drops the lock with the process, however it ends, so nothing has to be guessed from process
    numbers. Worker processes do not inherit it. The file stays when the block raises: it tells that work was left. On
    Windows nothing is locked.

    Raises:
        InputError: another process holds it, or the file cannot be made.
    """
    try:
        descriptor = _acquire(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from error
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())
        yield
        with contextlib.suppress(OSError):
            path.unlink()
    finally:
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """Who holds the lock now ("process 12 on name"), None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _try(descriptor) else _who(descriptor)
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int:
    tries = 3  # `holder` takes the lock for a moment to look at it
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _try(descriptor) and (tries := tries - 1):
                time.sleep(0.05)
            if not tries:
                who = _who(descriptor)
                raise InputError(
                    f"{path.parent}: is being written by {who}; wait for its end, or choose another folder"
                )
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last owner removed the file meanwhile: take the new one


def _try(descriptor: int) -> bool:
    if fcntl is None:  # pragma: no cover
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        record = json.loads(os.read(descriptor, 4096))
        return f"process {int(record['pid'])} on {record['host']}"
    except (ValueError, TypeError, KeyError):
        return "another process"
