"""Checks and helpers that every reader shares."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError

MAX_PIXELS = 2**28  # per frame; a frame of this size as float32 is 1 GiB
MAX_RATIO = 2000  # deflate reaches about 1030 bytes per stored byte; more than this is a forged header
_LOCK = threading.RLock()


def check_claim(path: Path, height: int, width: int, claimed_bytes: int, *, compressed: bool = True) -> None:
    """Refuse frames without pixels, frames too large to hold, and sizes that the file cannot back.

    Args:
        claimed_bytes: bytes of raw pixels that the header promises in this file.

    Raises:
        InputError: see above.
    """
    check_size(path, path.stat().st_size, height, width, claimed_bytes, compressed=compressed)


def check_size(path: object, size: int, height: int, width: int, claimed_bytes: int, *, compressed: bool) -> None:
    """As `check_claim`, for something that has `size` bytes and is called `path`."""
    if height < 1 or width < 1:
        raise InputError(f"{path}: has no pixels, its header says {width} x {height}")
    if height * width > MAX_PIXELS:
        raise InputError(f"{path}: claims {width} x {height} pixels, wanted at most {MAX_PIXELS} a frame; shrink it")
    if claimed_bytes > (size * MAX_RATIO + 2**16 if compressed else size):
        raise InputError(
            f"{path}: is cut off or forged, its header claims {claimed_bytes} bytes of pixels "
            f"({width} x {height}) but the file has {size} bytes; copy it again"
        )


def one_line(error: BaseException, limit: int = 200) -> str:
    """What an exception says, on one line."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(error))
    text = " ".join(printable.split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a broken file into one InputError that names the file.

    Decoders raise nearly every type of exception on damaged input, so all are caught; the cause is chained.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no longer exists") from error
    except PermissionError as error:
        raise InputError(f"{path}: may not be read (permission denied)") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory as {what}") from error
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read as {what}, it is damaged, cut off or of an unsupported kind ({one_line(error)})"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep decoders' Python warnings off the screen; the filters are process-wide, hence the lock."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def drop_alpha(pixels: NDArray[Any], notes: list[str], label: object) -> NDArray[Any]:
    """(H, W, 2) to (H, W), (H, W, 4) to (H, W, 3): colour over black, or as it is when alpha is constant."""
    colour, alpha = pixels[..., :-1], pixels[..., -1]
    if colour.shape[-1] == 1:
        colour = colour[..., 0]
    if alpha.size == 0 or alpha.min() == alpha.max():
        return np.ascontiguousarray(colour)
    note = f"{label}: has transparent pixels, they were laid over black"
    if note not in notes:
        notes.append(note)
    top = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "ui" else 1.0
    weight = alpha.astype(np.float64) / top
    mixed = colour * (weight[..., None] if colour.ndim == 3 else weight)
    return (mixed.round() if pixels.dtype.kind in "ui" else mixed).astype(pixels.dtype)


def grey_if_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W) when the three channels of (H, W, 3) are equal everywhere, else unchanged."""
    same = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
    return np.ascontiguousarray(pixels[..., 0]) if same else pixels


def eight_bit_colors(colors: NDArray[Any]) -> NDArray[Any]:
    """16-bit palette colours that hold 8-bit ones, in either usual way, as 8 bits; others unchanged."""
    if colors.dtype != np.uint16 or ((colors & 255).any() and not np.array_equal(colors, (colors >> 8) * 257)):
        return colors
    return (colors >> 8).astype(np.uint8)


def native_order(pixels: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in the machine's byte order."""
    return pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))
