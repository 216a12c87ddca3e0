"""What the headers of NRRD and MetaImage files have in common: numbers, axes, where the pixels lie."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError

MAX_HEADER, MAX_LINES = 2**20, 20_000


@dataclass(frozen=True)
class ItkHeader:
    """What a header says.

    `size` is (x, y) or (x, y, z); `channels` more values a voxel, which lie together (`inner`) or as whole volumes one
    after the other. `affine` maps voxel (x, y, z, 1) to LPS+ mm, None where the file does not say.
    """

    size: tuple[int, ...]
    dtype: np.dtype[np.generic]
    channels: int
    inner: bool
    affine: NDArray[np.float64] | None
    data: Path
    offset: int  # of the (packed) data; negative: the data end where the file ends
    encoding: str
    skip: int = 0  # bytes to leave out after unpacking
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def split(path: Path, sizes: list[int], spatial: list[int]) -> tuple[tuple[int, ...], int, bool]:
    """Sizes of the spatial axes, values a voxel, and whether these lie together."""
    others = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] != 1]
    flat = [sizes[axis] for axis in spatial]
    if len(flat) not in (2, 3) or len(others) > 1 or (others and spatial[0] < others[0] < spatial[-1]):
        raise InputError(
            f"{path}: has axes of {' x '.join(map(str, sizes))}, wanted an image or volume, or a list of them"
        )
    if min(sizes) < 1:
        raise InputError(f"{path}: has no pixels, its header says {' x '.join(map(str, sizes))}")
    return tuple(flat), sizes[others[0]] if others else 1, bool(others) and others[0] < spatial[0]


def beside(path: Path, name: str) -> Path:
    """The file that holds the pixels: it must lie in the header's folder or below."""
    text = name.strip()
    if text.upper().startswith("LIST") or "%" in text:
        raise InputError(f"{path}: its pixels are split over several files; save it as one .nrrd or .mha")
    if not text or not text.isprintable() or Path(text).is_absolute() or ".." in Path(text).parts:
        raise InputError(f"{path}: its pixels should be in {cut(text)!r}, wanted a file in the same folder")
    data = path.parent / text
    if not data.is_file():
        raise InputError(f"{path}: its pixels should be in {cut(text)!r}, which is not there; copy it too")
    return data


def after_lines(path: Path, offset: int, lines: int) -> int:
    """Where the data begin when some lines behind the header are left out."""
    if lines <= 0:
        return offset
    with open(path, "rb") as handle:
        handle.seek(offset)
        for _ in range(min(lines, MAX_LINES)):
            handle.readline(MAX_HEADER)
        return handle.tell()


def ints(path: Path, fields: dict[str, str], name: str, whole: bool = False) -> list[int]:
    """Whole numbers of a field, 0 and above."""
    words = fields.get(name, "").split()
    if not words or len(words) > 8 or not all(re.fullmatch(r"\d{1,12}", word) for word in words):
        shown = cut(fields[name]) if name in fields else "missing"
        raise InputError(f"{path}: header field {name} is {shown}, wanted whole numbers")
    return [int(word) for word in (words if whole else words[:1])]


def floats(path: Path, fields: dict[str, str], names: tuple[str, ...], count: int) -> list[float] | None:
    """The numbers of the first of the fields that is there."""
    name = next((one for one in names if one in fields), None)
    if name is None:
        return None
    values = [real(path, word) for word in fields[name].split()[: count + 1]]
    if len(values) != count:
        raise InputError(f"{path}: header field {name} is {cut(fields[name])!r}, wanted {count} numbers")
    return values


def real(path: Path, word: str) -> float:
    """One number."""
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{path}: its header says {cut(word)!r} where a number should be") from None


def whole_in(fields: dict[str, str], name: str, default: int) -> int:
    """A field as a whole number, else the default."""
    word = fields.get(name, "")
    return int(word) if re.fullmatch(r"-?\d{1,12}", word) else default


def true(text: str) -> bool:
    """Whether a field says yes."""
    return text.strip().lower() in ("true", "1", "t", "yes")


def cut(text: str) -> str:
    """A field for a message: printable and short."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
