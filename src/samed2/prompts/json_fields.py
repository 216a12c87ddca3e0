"""Fields of the prompts' JSON: checked one by one, so that what is wrong is told by its name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError

_PIXELS_AT_MOST = 2**28


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "missing"}
    return names.get(type(value), f"the number {value}")


def shown(value: Any) -> str:
    """A value for a message, cut and on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def known_fields(entry: dict[str, Any], wanted: tuple[str, ...], where: str) -> None:
    """Refuse a field that is not among the wanted ones."""
    unknown = sorted(set(entry) - set(wanted))
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}, wanted one of {', '.join(wanted)}")


def list_field(entry: dict[str, Any], name: str, where: str) -> list[Any]:
    """A list, [] when left out."""
    value = entry.get(name, [])
    if not isinstance(value, list):
        raise InputError(f"{where}.{name}: is {kind(value)}, wanted a list")
    return value


def text_field(entry: dict[str, Any], name: str, where: str) -> str | None:
    """Text, None when left out."""
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}.{name}: got {value!r}, wanted text")
    return value


def frame_field(item: dict[str, Any], where: str) -> int:
    """The frame, 0 when left out."""
    frame = item.get("frame", 0)
    if isinstance(frame, bool) or not isinstance(frame, int) or frame < 0:
        raise InputError(f"{where}.frame: got {shown(frame)}, wanted a whole number from 0")
    return frame


def numbers(values: Any, counts: tuple[int, ...], where: str, wanted: str) -> list[float]:
    """A list of numbers, as many as `counts` allows.

    Raises:
        InputError: something else; NaN is let through for 2-D prompts, which `Prompts.validate` checks.
    """
    good = isinstance(values, list) and len(values) in counts
    if not good or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise InputError(f"{where}: got {shown(values)}, wanted {wanted}")
    try:
        return [float(v) for v in values]
    except OverflowError:
        raise InputError(f"{where}: holds a number too large for a place, wanted {wanted}") from None


def finite(values: list[float], where: str) -> list[float]:
    """The same numbers.

    Raises:
        InputError: NaN or infinity is among them.
    """
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"{where}: got {shown(values)}, wanted finite numbers")
    return values


def to_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Run lengths of a (H, W) mask, row by row, starting with the zeros."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [flat.size - 1]]))
    return {"size": [int(n) for n in mask.shape], "counts": counts.tolist()}


def from_rle(rle: Any, where: str) -> NDArray[np.bool_]:
    """The (H, W) mask of `to_rle`."""
    size = rle.get("size") if isinstance(rle, dict) else None
    counts = rle.get("counts") if isinstance(rle, dict) else None
    if not _naturals(size, 2) or not _naturals(counts, None):
        raise InputError(f'{where}: wanted {{"size": [H, W], "counts": [...]}} of whole numbers')
    assert size is not None
    assert counts is not None
    if size[0] * size[1] > _PIXELS_AT_MOST or sum(counts) != size[0] * size[1]:
        raise InputError(
            f"{where}.counts: add up to {sum(counts)}, wanted {size[0]} x {size[1]} pixels, at most {_PIXELS_AT_MOST}"
        )
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size)


def _naturals(value: Any, length: int | None) -> bool:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        return False
    return all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)
