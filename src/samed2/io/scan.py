"""A scan: an ordered, lazily read sequence of 2-D frames with geometry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.geometry import Geometry

Kind = Literal["image", "volume", "video"]


class FrameSource(Protocol):
    """Where frames come from: `shape` is (T, H, W, C) with C 1 or 3, `dtype` that of every frame."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]

    def read(self, index: int) -> NDArray[Any]:
        """Frame `index`, (H, W) for C = 1 and (H, W, 3) for C = 3."""
        ...


class ArraySource:
    """Frames held in memory, (T, H, W) or (T, H, W, 3)."""

    def __init__(self, frames: NDArray[Any]) -> None:
        self._frames = frames
        channels = 3 if frames.ndim == 4 else 1
        self.shape = (frames.shape[0], frames.shape[1], frames.shape[2], channels)
        self.dtype = frames.dtype

    def read(self, index: int) -> NDArray[Any]:
        return np.asarray(self._frames[index])


@dataclass(eq=False)
class Scan:
    """An image (one frame), a volume (one frame per slice) or a video (one per time point).

    Frames are (H, W) or (H, W, 3) in native intensities (for CT: Hounsfield units), never cut to 8 bits.
    Index order is (frame, y, x) everywhere. `file_window` is (centre, width) in the frames' own intensities.
    `properties` holds what a writer may need on the way back, JSON-able. `warnings` is one line per oddity
    met while reading; frames with NaN or infinite pixels add to it when they are first read.
    """

    source: FrameSource
    name: str
    path: Path | None = None
    modality: str = "unknown"
    kind: Kind = "image"
    geometry: Geometry = field(default_factory=Geometry.unknown)
    file_window: tuple[float, float] | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._last: tuple[int, NDArray[Any]] | None = None
        self._hash: str | None = None
        self._checked: set[int] = set()
        if min(self.source.shape) < 1:
            raise InputError(f"{self.label}: has no pixels, its shape is {self.source.shape} (frames, height, width)")

    @property
    def label(self) -> str:
        """How messages call this scan: its path, or else its name."""
        return str(self.path) if self.path is not None else self.name

    @property
    def num_frames(self) -> int:
        return self.source.shape[0]

    @property
    def height(self) -> int:
        return self.source.shape[1]

    @property
    def width(self) -> int:
        return self.source.shape[2]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.source.shape[3]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """The grid (T, H, W)."""
        return self.source.shape[:3]

    def __len__(self) -> int:
        return self.num_frames

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.frame(index) for index in range(self.num_frames))

    def __repr__(self) -> str:
        size = f"{self.num_frames}x{self.height}x{self.width}"
        return f"Scan({self.name!r}, {self.kind}, {self.modality}, {size}x{self.channels}, {self.dtype})"

    def frame(self, index: int) -> NDArray[Any]:
        """Frame `index` as a read-only (H, W) or (H, W, 3) array of native intensities; the last one is kept.

        Raises:
            InputError: no such frame, or the file cannot be decoded there.
        """
        number = self._checked_index(index)
        last = self._last
        if last is not None and last[0] == number:
            return last[1]
        frame = np.asarray(self.source.read(number)).view()
        self._note_non_finite(number, frame)
        frame.flags.writeable = False
        self._last = (number, frame)
        return frame

    def frames(self, indices: Iterable[int] | None = None) -> NDArray[Any]:
        """The chosen frames (all by default) stacked as (n, H, W) or (n, H, W, 3)."""
        chosen = range(self.num_frames) if indices is None else list(indices)
        if len(chosen) == 0:
            tail = (self.height, self.width, 3) if self.channels == 3 else (self.height, self.width)
            return np.empty((0, *tail), dtype=self.dtype)
        return np.stack([self.frame(index) for index in chosen])

    def content_hash(self) -> str:
        """SHA-256 (hex) of shape, dtype and all frames; computed once."""
        if self._hash is None:
            digest = hashlib.sha256(f"{self.source.shape}{self.dtype.str}".encode())
            for frame in self:
                digest.update(np.ascontiguousarray(frame).tobytes())
            self._hash = digest.hexdigest()
        return self._hash

    def mark(self) -> str:
        """SHA-256 (hex) of shape, dtype and the first, middle and last frame: tells scans apart without reading all."""
        digest = hashlib.sha256(f"{self.source.shape}{self.dtype.str}".encode())
        for frame in sorted({0, self.num_frames // 2, self.num_frames - 1}):
            digest.update(np.ascontiguousarray(self.frame(frame)).tobytes())
        return digest.hexdigest()

    def _checked_index(self, index: int) -> int:
        try:
            number = int(index)
        except (TypeError, ValueError, OverflowError):
            number = -1
        if not 0 <= number < self.num_frames or number != index:
            raise InputError(f"{self.label}: has no frame {index}, wanted 0 to {self.num_frames - 1}")
        return number

    def _note_non_finite(self, index: int, frame: NDArray[Any]) -> None:
        if index in self._checked or frame.dtype.kind != "f":
            return
        self._checked.add(index)
        bad = int(frame.size - np.count_nonzero(np.isfinite(frame)))
        if bad:
            self.warnings.append(
                f"{self.label}: frame {index} has {bad} NaN or infinite values, shown as black or white"
            )

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any],
        *,
        kind: Kind | None = None,
        channels_last: bool | None = None,
        name: str = "array",
        modality: str = "unknown",
        geometry: Geometry | None = None,
        file_window: tuple[float, float] | None = None,
    ) -> Scan:
        """A scan of frames already in memory.

        Args:
            array: (H, W), (H, W, 3), (T, H, W) or (T, H, W, 3); numbers or bool (which become 0 and 255).
            kind: "image" when None and there is one frame, else "volume".
            channels_last: True when the last axis is colour. None decides: always for 4-D, never for 2-D;
                for 3-D when the last axis is 3 and `kind` is None or "image".

        Raises:
            InputError: wrong number of axes, no pixels, or values that are not real numbers.
        """
        values = _as_frames(np.asarray(array), kind, channels_last, name)
        if kind == "image" and len(values) != 1:
            raise InputError(f"{name}: got {len(values)} frames, an image has one; say kind='volume' or kind='video'")
        if kind is None:
            kind = "image" if len(values) == 1 else "volume"
        return cls(
            ArraySource(values),
            name=name,
            modality=modality.lower(),
            kind=kind,
            geometry=geometry if geometry is not None else Geometry.unknown(),
            file_window=file_window,
        )


def _as_frames(values: NDArray[Any], kind: str | None, colour: bool | None, name: str) -> NDArray[Any]:
    """(T, H, W) or (T, H, W, 3) numbers in native byte order; arguments as of `Scan.from_array`."""
    shape = values.shape
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise InputError(f"{name}: holds values of type {values.dtype}, wanted whole or real numbers")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if colour is None:
        colour = values.ndim == 4 or (values.ndim == 3 and shape[-1] == 3 and kind in (None, "image"))
    if colour and (values.ndim not in (3, 4) or shape[-1] not in (1, 3)):
        raise InputError(f"{name}: got shape {shape}, wanted (H, W, 3) or (T, H, W, 3)")
    if colour and shape[-1] == 1:
        values, colour = values[..., 0], False
    if values.ndim == (3 if colour else 2):
        values = values[None]
    if values.ndim != (4 if colour else 3):
        raise InputError(f"{name}: got shape {shape}, wanted (H, W), (H, W, 3), (T, H, W) or (T, H, W, 3)")
    return values
