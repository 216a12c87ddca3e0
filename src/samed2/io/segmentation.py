"""The result: a label map on the scan's grid, what its values mean, and how it came about."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.geometry import Geometry
from samed2.io.scratch import walked

FORMAT, FORMAT_VERSION = "samed2-segmentation", 1
Color = tuple[int, int, int]

# bright enough for dark images, apart in hue and lightness, the first ones also on red and pink images;
# further ids go round the colour circle
_COLORS: tuple[Color, ...] = (
    (40, 214, 255),
    (255, 212, 59),
    (255, 82, 82),
    (104, 232, 116),
    (214, 112, 255),
    (255, 150, 50),
    (32, 227, 200),
    (255, 130, 190),
    (142, 154, 255),
    (196, 230, 80),
    (200, 148, 104),
    (70, 140, 255),
)


def palette_color(object_id: int) -> Color:
    """The (red, green, blue) colour, 0 to 255, that an object id has everywhere; 0 is black."""
    if object_id < 1:
        return 0, 0, 0
    if object_id <= len(_COLORS):
        return _COLORS[object_id - 1]
    step = object_id - len(_COLORS)
    hue = (step * 0.618033988749895) % 1.0  # the golden ratio keeps neighbours apart
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.3 * (step % 2), 1.0 - 0.2 * (step % 3) / 2)
    return round(red * 255), round(green * 255), round(blue * 255)


@dataclass
class SegmentedObject:
    """One object of a segmentation.

    `id` is its value in the label map (1 to 65535); `confidence` the predicted IoU (0 to 1) per frame;
    `present` whether the model saw it, per frame; a frame missing from either was not looked at.
    """

    id: int
    name: str = ""
    color: Color | None = None  # (red, green, blue); the palette's colour of the id when None
    confidence: dict[int, float] = field(default_factory=dict)
    present: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.id <= 65535:
            raise InputError(f"object id: got {self.id}, wanted 1 to 65535")
        if self.color is None:
            self.color = palette_color(self.id)

    @property
    def label(self) -> str:
        """The name, or "object ID" without one."""
        return self.name or f"object {self.id}"


@dataclass
class Segmentation:
    """Label map (T, H, W), uint8 or uint16, 0 = background, on the scan's grid (frame, y, x).

    A (H, W) map becomes one frame; the map may be a `numpy.memmap`, it is only walked frame by frame. `provenance`
    (JSON-able) says how it was made: model, version, prompts, window, seconds. `properties` are the scan's, for
    writers that keep something of the source file.

    Raises:
        InputError: labels of another shape or type, an id used twice, or labels that belong to no object.
    """

    labels: NDArray[Any]
    objects: list[SegmentedObject] = field(default_factory=list)
    geometry: Geometry = field(default_factory=Geometry.unknown)
    provenance: dict[str, Any] = field(default_factory=dict)
    scan_name: str = ""
    properties: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = _checked_labels(self.labels)
        ids = [entry.id for entry in self.objects]
        if len(set(ids)) != len(ids):
            raise InputError(f"objects: an id is used twice among {ids}, wanted each once")
        known = np.zeros(65536, dtype=bool)
        known[[0, *ids]] = True
        for frame in walked(self.labels):  # the map may be larger than memory
            if not known[frame].all():
                stranger = int(frame[~known[frame]].min())
                raise InputError(f"labels: value {stranger} belongs to no object, the ids are {ids}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        frames, height, width = self.labels.shape
        return frames, height, width

    def object(self, key: int | str) -> SegmentedObject:
        """The object with an id, or the first with a name.

        Raises:
            InputError: there is none.
        """
        for entry in self.objects:
            if (entry.name if isinstance(key, str) else entry.id) == key:
                return entry
        known = ", ".join(f"{entry.id} ({entry.label})" for entry in self.objects) or "none"
        raise InputError(f"object {key!r} is unknown; the objects are {known}")

    def mask(self, key: int | str) -> NDArray[np.bool_]:
        """The (T, H, W) mask of one object, by id or name."""
        mask: NDArray[np.bool_] = self.labels == self.object(key).id
        return mask

    def frames_with_labels(self) -> list[int]:
        """The frames that hold anything but background, in order."""
        return [index for index, frame in enumerate(walked(self.labels)) if frame.any()]

    def pixel_counts(self) -> NDArray[np.int64]:
        """How many pixels each object has on each frame, (T, objects) in the order of `objects`."""
        ids = [entry.id for entry in self.objects]
        counts = np.zeros((len(self.labels), len(ids)), dtype=np.int64)
        for index, frame in enumerate(walked(self.labels)):
            counts[index] = np.bincount(frame.ravel(), minlength=65536)[ids] if frame.any() else 0
        return counts

    def voxel_volumes(self) -> NDArray[np.float64]:
        """Cubic millimetres of a voxel of each frame, (T,).

        They differ where the slices of a DICOM series are not evenly spaced: a slice then reaches half-way to its
        neighbours, whatever the affine says.
        """
        even = np.full(len(self.labels), self.geometry.voxel_volume)
        places = self.frame_places()
        if places is None or len(places) < 2:
            return even
        across = np.cross(self.geometry.affine[:3, 1], self.geometry.affine[:3, 2])  # its length: a pixel's area
        gaps = np.abs(np.diff(places, axis=0) @ across)
        return np.asarray((np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2)

    def frame_places(self) -> NDArray[np.float64] | None:
        """RAS+ mm of the first pixel of each frame, (T, 3), where the slices are not evenly spaced, else None."""
        places = self.properties.get("frame_positions_lps")
        uneven = self.geometry.known and self.properties.get("evenly_spaced") is False
        if not uneven or self.properties.get("axis") or places is None or len(places) != len(self.labels):
            return None
        return np.asarray(places, dtype=np.float64) * (-1.0, -1.0, 1.0)

    def to_mm(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """RAS+ mm (n, 3) of points (n, 3) given as (frame, y, x), between and beyond frames too."""
        places = self.frame_places()
        if places is None or len(places) < 2:
            return self.geometry.to_mm(points)
        values = np.asarray(points, dtype=np.float64)
        below = np.clip(np.floor(values[:, 0]).astype(int), 0, len(places) - 2)
        rest = (values[:, 0] - below)[:, None]
        origins = places[below] * (1 - rest) + places[below + 1] * rest
        return origins + values[:, 1:] @ self.geometry.affine[:3, 1:3].T

    def to_dict(self) -> dict[str, Any]:
        """JSON-able description without pixels.

        Areas are in pixels, and where the geometry is known (else None) in square millimetres for one frame,
        in millilitres for several.
        """
        counts = self.pixel_counts()
        pixels, volumes = counts.sum(axis=0), self.voxel_volumes() @ counts
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "scan": self.scan_name,
            "shape": list(self.shape),
            "index_order": "frame,y,x",
            "geometry": self.geometry.to_dict(),
            "objects": [
                self._describe(entry, int(number), float(volume))
                for entry, number, volume in zip(self.objects, pixels, volumes, strict=True)
            ],
            "provenance": plain(self.provenance),
        }

    def _describe(self, entry: SegmentedObject, pixels: int, volume: float) -> dict[str, Any]:
        single = self.labels.shape[0] == 1
        pixel_area = self.geometry.spacing[1] * self.geometry.spacing[2]
        known = self.geometry.known
        return {
            "id": int(entry.id),
            "name": entry.name,
            "color": [int(value) for value in entry.color or ()],
            "area_px": pixels,
            "area_mm2": pixels * pixel_area if known and single else None,
            "volume_ml": volume / 1000 if known and not single else None,
            "confidence": {str(int(k)): plain(v) for k, v in sorted(entry.confidence.items())},
            "present": {str(int(k)): bool(v) for k, v in sorted(entry.present.items())},
        }


def plain(value: Any) -> Any:
    """The same in JSON's own types: numpy numbers and arrays, paths, tuples; NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    return value.as_posix() if isinstance(value, PurePath) else str(value)


def _checked_labels(labels: Any) -> NDArray[Any]:
    values = np.asarray(labels)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or min(values.shape) < 1:
        raise InputError(f"labels: got shape {np.shape(labels)}, wanted (T, H, W)")
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype.kind not in "uib":
        raise InputError(f"labels: got type {values.dtype}, wanted whole numbers")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InputError(f"labels: run from {low} to {high}, wanted 0 to 65535")
    return values.astype(np.uint8 if high <= 255 else np.uint16)
