"""Protocols, selection rules and numbers as a report writes them."""

from __future__ import annotations

import math
from typing import Any

DASH = "–"


def slices_words(text: str) -> str:
    """Which frames of volumes and videos were scored."""
    name, _, number = str(text).partition(":")
    if name == "all":
        return "all frames with the object"
    return f"the {number or 2} frames next to the middle of the object" if name == "middle" else str(text)


def number(value: Any, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    if value is None or not isinstance(value, int | float) or not math.isfinite(value):
        return DASH
    return f"{value:.{digits}f}"


def signed(value: Any, digits: int = 3) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return text if text == DASH or text.startswith("-") else f"+{text}"


def interval(pair: Any, digits: int = 3) -> str:
    """A pair of limits, or nothing."""
    if not isinstance(pair, list | tuple) or len(pair) != 2 or DASH in (number(pair[0]), number(pair[1])):
        return ""
    return f"{number(pair[0], digits)} to {number(pair[1], digits)}"


def p_value(value: Any) -> str:
    """A p-value for a table."""
    text = number(value)
    return "<0.001" if text != DASH and value < 0.0005 else text


def seconds(value: Any) -> str:
    """A duration in the unit that fits."""
    if value is None or not math.isfinite(float(value)):
        return DASH
    amount = float(value)
    if amount < 1:
        return f"{amount * 1000:.0f} ms"
    return f"{amount:.1f} s" if amount < 120 else f"{amount / 60:.1f} min"
