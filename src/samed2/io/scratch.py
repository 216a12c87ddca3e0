"""Label maps that may be larger than memory: kept in a nameless file, its pages given back as frames are passed."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from samed2.errors import InputError

IN_MEMORY = 1 << 26  # bytes; larger maps go to a file
STRETCH = 1 << 24  # bytes of frames between two calls to `give_back`


def nameless(nbytes: int, directory: str | os.PathLike[str] | None = None) -> NDArray[np.uint8]:
    """Zero bytes mapped from a file without a name, which disappears with the last use of the array.

    Raises:
        OSError: no room in the directory, which without one is the system's for temporary files.
    """
    with tempfile.TemporaryFile(dir=directory) as handle:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash at the first write
            os.posix_fallocate(handle.fileno(), 0, nbytes)
        return np.memmap(handle, dtype=np.uint8, mode="r+" if os.name == "posix" else "w+", shape=(nbytes,))


def empty_labels(shape: tuple[int, int, int], dtype: DTypeLike) -> NDArray[Any]:
    """A label map (T, H, W) of zeros; a large one lies in a file that disappears with it.

    Raises:
        InputError: no room for the file.
    """
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if nbytes <= IN_MEMORY:
        return np.zeros(shape, dtype)
    try:
        return nameless(nbytes).view(dtype).reshape(shape)
    except OSError as error:
        raise InputError(
            f"{tempfile.gettempdir()}: no room for a label map of {shape} ({error.strerror or error}); "
            "set TMPDIR to a folder with more"
        ) from error


def walked(labels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The frames (H, W) of a label map in order; of one in a file little stays in memory behind."""
    for index, frame in enumerate(labels):
        yield frame
        passed(labels, index)
    give_back(labels)


def passed(labels: NDArray[Any], count: int) -> None:
    """Note that one more frame is done with, after `count` others: from time to time their memory is given back."""
    step = max(1, STRETCH // max(1, labels[0].nbytes))
    if count % step == step - 1:
        give_back(labels)


def give_back(labels: NDArray[Any]) -> None:
    """Tell the system that a map in a file is not looked at for now: its pages need no memory. Nothing is lost."""
    base: Any = labels
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    held = getattr(base, "_mmap", None)
    if isinstance(held, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)
