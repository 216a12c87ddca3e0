"""Windowing: which native intensities become black and white."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.scan import Scan

# (centre, width) in Hounsfield units, after the usual values at https://radiopaedia.org/articles/windowing-ct
PRESETS: dict[str, tuple[float, float]] = {
    "brain": (40, 80),
    "subdural": (75, 215),
    "stroke": (40, 40),
    "temporal-bone": (600, 2800),
    "head-soft-tissue": (40, 375),
    "bone": (400, 1800),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "abdomen": (50, 400),
    "soft-tissue": (50, 400),
    "liver": (30, 150),
    "pelvis": (40, 400),
    "spine": (50, 250),
    "spine-bone": (400, 1800),
    "angio": (300, 600),
}
BACKGROUND_SHARE = 0.5  # of pixels with the lowest value; from there on they are padding, not image
DEFAULT_PERCENTILES = (0.5, 99.5)
AIR_BELOW = -200.0  # Hounsfield units; fat ends near -120
_SAMPLED_FRAMES = 16
_SAMPLED_PIXELS = 2**20  # per frame


@dataclass(frozen=True)
class Window:
    """Intensities `low` (black, 0) to `high` (white, 1), and where they come from.

    `source` is "preset:NAME", "dicom" (the file's own), "percentiles:LO-HI", "dtype", "full" or "manual".

    Raises:
        InputError: the limits are not finite numbers with low <= high.
    """

    low: float
    high: float
    source: str = "manual"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.high - self.low) and self.low <= self.high):
            raise InputError(f"window: got {self.low} to {self.high}, wanted finite numbers, the lower one first")

    @classmethod
    def from_center(cls, center: float, width: float, source: str = "manual") -> Window:
        """From centre and width, as radiologists say it."""
        if not (math.isfinite(center) and math.isfinite(width) and width > 0):
            raise InputError(
                f"window: got centre {center} and width {width}, wanted finite numbers and a width above 0"
            )
        return cls(center - width / 2, center + width / 2, source)

    def apply(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """Map native intensities to float32 in [0, 1], same shape; NaN becomes 0, infinities are clipped."""
        if frame.dtype == np.uint8 and self.low == 0 and self.high == 255:
            return np.multiply(frame, np.float32(1 / 255), dtype=np.float32)
        values = frame.astype(np.float64 if frame.dtype.itemsize >= 4 else np.float32)
        if self.high == self.low:
            return (values > self.low).astype(np.float32)
        with np.errstate(invalid="ignore"):  # NaN
            np.clip(values, self.low, self.high, out=values)
            values -= self.low
            values /= self.high - self.low
        np.copyto(values, 0, where=np.isnan(values))
        np.clip(values, 0, 1, out=values)
        return values.astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"low": self.low, "high": self.high, "source": self.source}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Window:
        """Back from `to_dict`."""
        return cls(float(data["low"]), float(data["high"]), str(data["source"]))


def resolve_window(scan: Scan, spec: str | Window | None = None) -> Window:
    """The window that `spec` means for `scan`.

    Args:
        spec: None or "auto"; a preset's name; "file" (the file's own); "full" (lowest to highest value);
            "percentiles" or "percentiles:LO,HI"; "C,W" (centre, width); or a `Window`, given back as it is.
            "auto": 8-bit and colour as they are, files with a window by it, other CT in Hounsfield units by
            "abdomen", everything else by percentiles 0.5 to 99.5. Where more than half of the pixels have the lowest
            value, they are padding: the window starts there, and the upper percentile is that of the others.

    Raises:
        InputError: the spec names nothing known, or "file" for a scan without a window.
    """
    if isinstance(spec, Window):
        return spec
    text = "auto" if spec is None else str(spec).strip().lower()
    if text == "auto":
        return _automatic(scan)
    if text in PRESETS:
        return Window.from_center(*PRESETS[text], source=f"preset:{text}")
    if text == "file":
        if scan.file_window is None:
            raise InputError(f"window: {scan.label} has no window of its own; wanted one of {_choices()}")
        return Window.from_center(*scan.file_window, source="dicom")
    if text == "full":
        return _full(scan)
    name, _, limits = text.partition(":")
    if name == "percentiles":
        low, high = _two_numbers(limits, spec) if limits else DEFAULT_PERCENTILES
        return _percentiles(scan, low, high)
    if "," in text:
        return Window.from_center(*_two_numbers(text, spec))
    raise InputError(f"window: unknown {spec!r}; wanted one of {_choices()}")


def _automatic(scan: Scan) -> Window:
    if scan.dtype == np.uint8:
        return Window(0.0, 255.0, "dtype")
    if scan.channels == 3:
        return _colour_range(scan)
    if scan.file_window is not None:
        return Window.from_center(*scan.file_window, source="dicom")
    if scan.modality == "ct" and _in_hounsfield_units(scan):
        return Window.from_center(*PRESETS["abdomen"], source="preset:abdomen")
    return _percentiles(scan, *DEFAULT_PERCENTILES)


def _in_hounsfield_units(scan: Scan) -> bool:
    """Whether a CT holds air as a negative number; stored with an offset or rescaled, presets would miss it."""
    values = _sample(scan)
    return bool(values.size and values.min() < AIR_BELOW)


def _colour_range(scan: Scan) -> Window:
    """The whole range of whole numbers; for real numbers 0 to 1 or 0 to 255, whichever holds them."""
    if scan.dtype.kind in "ui":
        info = np.iinfo(scan.dtype)
        return Window(float(max(info.min, 0)), float(info.max), "dtype")
    values = _sample(scan)
    for top in (1.0, 255.0, 65535.0):
        if values.size == 0 or (values.min() >= 0 and values.max() <= top):
            return Window(0.0, top, "dtype")
    return _full(scan)


def _percentiles(scan: Scan, low: float, high: float) -> Window:
    if not 0 <= low < high <= 100:
        raise InputError(f"window: got percentiles {low:g} and {high:g}, wanted 0 <= LO < HI <= 100")
    source = f"percentiles:{low:g}-{high:g}"
    values = _sample(scan)
    if values.size == 0:
        return Window(0.0, 1.0, source)
    lowest = values.min()
    shown = values[values > lowest]
    if 0 < shown.size < (1 - BACKGROUND_SHARE) * values.size:
        bottom, top = float(lowest), float(np.percentile(shown, high))
    else:
        bottom, top = (float(v) for v in np.percentile(values, (low, high)))
    if top <= bottom:  # nearly all pixels are alike: fall back on the extremes
        bottom, top = float(values.min()), float(values.max())
    return _ordered(bottom, top, source)


def _full(scan: Scan) -> Window:
    """Lowest to highest finite value of all frames."""
    low, high = math.inf, -math.inf
    for frame in scan:
        finite = _finite(frame)
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        return Window(0.0, 1.0, "full")
    return _ordered(low, high, "full")


def _ordered(low: float, high: float, source: str) -> Window:
    if not math.isfinite(high - low):  # absurdly large numbers: keep the difference representable
        low, high = max(low, -8e307), min(high, 8e307)
    return Window(low, high if high > low else low + 1.0, source)


def _sample(scan: Scan) -> NDArray[np.float64]:
    """Finite values of up to 16 evenly spread frames, thinned to about a million pixels each."""
    count = min(scan.num_frames, _SAMPLED_FRAMES)
    indices = np.unique(np.linspace(0, scan.num_frames - 1, count).round().astype(int))
    step = max(1, math.ceil(math.sqrt(scan.height * scan.width / _SAMPLED_PIXELS)))
    return np.concatenate([_finite(scan.frame(int(i))[::step, ::step]) for i in indices])


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    flat = values.astype(np.float64).ravel()
    return flat[np.isfinite(flat)] if values.dtype.kind == "f" else flat


def _two_numbers(text: str, spec: object) -> tuple[float, float]:
    parts = text.split(",")
    try:
        first, second = (float(part) for part in parts)
    except ValueError:
        raise InputError(
            f"window: cannot read {spec!r}; wanted two numbers such as 50,400 or percentiles:1,99"
        ) from None
    return first, second


def _choices() -> str:
    return ", ".join(["auto", "file", "full", "percentiles[:LO,HI]", "CENTRE,WIDTH", *PRESETS])
