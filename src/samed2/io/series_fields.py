"""Numbers and places in DICOM fields: damaged files mix them up, so each is checked before use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError


def short(value: Any) -> str:
    """A code or identifier as text; nothing for what cannot be one: damaged files mix fields up."""
    text = str(value) if value is not None else ""
    return text if text.isprintable() and len(text) <= 64 else ""


def label_text(value: Any, default: str) -> str:
    """A name that a person gave, on one printable line; the default where nothing is left."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value)) if value is not None else ""
    return " ".join(text.split())[:200] or default


def first(value: Any) -> Any:
    """The first of several values, or the one value."""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return value[0] if len(value) else None
    return value


def number(value: Any, default: float) -> float:
    """The (first) value as a number, or the default."""
    try:
        return float(first(value))
    except (TypeError, ValueError, IndexError, OverflowError):
        return default


def whole(value: Any, default: int) -> int:
    """The (first) value as a whole number, or the default."""
    found = number(value, math.nan)
    return int(found) if math.isfinite(found) else default


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or nothing."""
    try:
        found = tuple(float(item) for item in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def item(dataset: Any, sequence: str) -> Any:
    """The first item of a sequence, or an empty mapping; a field of another kind counts as missing."""
    value: Any = dataset.get(sequence) if dataset is not None else None
    if type(value).__name__ != "Sequence" or not len(value):
        return {}
    return value[0]


def window_of(dataset: Any) -> tuple[float, float] | None:
    """(centre, width) of the first window, where usable."""
    center, width = number(dataset.get("WindowCenter"), math.nan), number(dataset.get("WindowWidth"), math.nan)
    return (center, width) if math.isfinite(center) and math.isfinite(width) and width > 0 else None


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one DICOM image lies: LPS+ millimetres of pixel (0, 0), and the steps to the next row and column."""

    origin: NDArray[np.float64]
    down: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def of(cls, position: Any, orientation: Any, spacing: Any, what: object) -> Plane:
        """From ImagePositionPatient, ImageOrientationPatient and PixelSpacing (between rows, between columns).

        Raises:
            InputError: one is missing, not of numbers, or the axes are no plane.
        """
        found = []
        for name, value, count in (
            ("ImagePositionPatient", position, 3),
            ("ImageOrientationPatient", orientation, 6),
            ("PixelSpacing", spacing, 2),
        ):
            values = numbers(value, count)
            if values is None:
                raise InputError(f"{what}: DICOM field {name} is {_shown(value)}, wanted {count} numbers")
            found.append(np.array(values))
        origin, axes, steps = found
        if (steps <= 0).any():
            raise InputError(f"{what}: DICOM field PixelSpacing is {_shown(spacing)}, wanted numbers above 0")
        if np.linalg.norm(np.cross(axes[:3], axes[3:])) < 1e-3 or np.abs(axes).max() > 2:
            raise InputError(f"{what}: DICOM field ImageOrientationPatient is {_shown(orientation)}, which is no plane")
        return cls(origin, axes[3:] * steps[0], axes[:3] * steps[1])

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the image."""
        across = np.cross(self.right, self.down)
        return np.asarray(across / max(float(np.linalg.norm(across)), 1e-12))

    @property
    def axes(self) -> NDArray[np.float64]:
        """The six direction cosines, along the row first."""
        return np.concatenate([v / max(float(np.linalg.norm(v)), 1e-12) for v in (self.right, self.down)])

    @property
    def spacing(self) -> tuple[float, float]:
        """Millimetres between rows and between columns."""
        return float(np.linalg.norm(self.down)), float(np.linalg.norm(self.right))

    def corners(self) -> NDArray[np.float64]:
        """RAS+ millimetres (3, 3) of pixels (0, 0), (1, 0) and (0, 1)."""
        return np.stack([self.origin, self.origin + self.down, self.origin + self.right]) * (-1, -1, 1)


def _shown(value: Any) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return text if len(text) <= 80 else text[:77] + "..."
