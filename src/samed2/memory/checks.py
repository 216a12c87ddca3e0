"""Checks of what callers hand to the bank."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from samed2.errors import InputError


def passes(value: str, wanted: str | Collection[str] | None) -> bool:
    """Tell whether a text is the wanted one, or one of several; None wants all."""
    if wanted is None:
        return True
    return value == wanted if isinstance(wanted, str) else value in wanted


def whole(value: int, field: str) -> int:
    """Return a whole number of 0 or more, or raise an InputError naming the field."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"memory {field}: got {value!r}, wanted a whole number, 0 or more")
    return value


def three(shape: Sequence[int], field: str) -> tuple[int, int, int]:
    """Return three sizes of 1 or more, or raise an InputError naming the field."""
    numbers = [int(size) for size in shape]
    if len(numbers) != 3 or min(numbers) < 1:
        raise InputError(f"memory {field}: got {tuple(shape)}, wanted three sizes (channels, h, w) of 1 or more")
    return numbers[0], numbers[1], numbers[2]
