"""A scan cut along another of its axes, and masks brought back onto the grid they came from."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.geometry import Geometry
from samed2.io.scan import FrameSource, Scan

# new (frame, y, x) from old: the cut axis comes first, the others keep their order
ORDERS: dict[int, tuple[int, int, int]] = {0: (0, 1, 2), 1: (1, 0, 2), 2: (2, 0, 1)}
_PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the RAS axis that the frames go along
_BLOCK_BYTES = 2**28


def along(scan: Scan, axis: int | str) -> Scan:
    """The scan with its frames along `axis` of (frame, y, x), 0 as it is; read lazily, in blocks of bounded memory.

    The affine goes along, so millimetres stay the same. `properties["axis"]` says how it was cut; `to_stored` brings
    labels back.

    Args:
        axis: 0, 1 or 2; or "axial", "coronal" or "sagittal".

    Raises:
        InputError: no such axis, a video, or a plane of a scan that does not know where it lies.
    """
    number = _number(scan, axis)
    if number == 0:
        return scan
    if scan.kind != "volume":
        raise InputError(f"{scan.label}: is {_called(scan)}, got axis {axis!r}; only volumes can be cut along another")
    order = ORDERS[number]
    notes = list(scan.warnings)
    if scan.properties.get("evenly_spaced") is False:
        notes.append(f"{scan.label}: its slices are not evenly spaced, cut along axis {number} it looks distorted")
    return Scan(
        AxisSource(scan.source, order),
        name=scan.name,
        path=scan.path,
        modality=scan.modality,
        kind="volume",
        geometry=permuted(scan.geometry, order),
        file_window=scan.file_window,
        properties={**scan.properties, "axis": number},
        warnings=notes,
    )


def permuted(geometry: Geometry, order: tuple[int, int, int]) -> Geometry:
    """The geometry over axes taken in another order."""
    return Geometry(geometry.affine[:, [*order, 3]], known=geometry.known)


def to_stored(labels: NDArray[Any], properties: dict[str, Any]) -> NDArray[Any]:
    """Labels (T, H, W) of a scan that was cut along an axis, on the grid of the file."""
    order = ORDERS[int(properties.get("axis", 0))]
    return np.transpose(labels, np.argsort(order))


def stored_geometry(geometry: Geometry, properties: dict[str, Any]) -> Geometry:
    """The geometry of the file's own grid, from that of a scan that was cut along an axis."""
    first, second, third = np.argsort(ORDERS[int(properties.get("axis", 0))])
    return permuted(geometry, (int(first), int(second), int(third)))


class AxisSource:
    """Frames across those of another source; a block of them is kept."""

    def __init__(self, source: FrameSource, order: tuple[int, int, int]) -> None:
        self._source, self._order = source, order
        sides = [source.shape[i] for i in order]
        self.dtype = source.dtype
        self.shape = (sides[0], sides[1], sides[2], source.shape[3])
        one = int(np.prod(self.shape[1:])) * source.dtype.itemsize
        self._step = max(1, min(sides[0], _BLOCK_BYTES // max(one, 1)))
        self._kept: tuple[int, NDArray[Any]] | None = None
        self._lock = threading.Lock()

    def read(self, index: int) -> NDArray[Any]:
        start = index // self._step * self._step
        with self._lock:
            if self._kept is None or self._kept[0] != start:
                self._kept = None  # let the old block go before the new one is made
                self._kept = (start, self._block(start))
            return np.ascontiguousarray(self._kept[1][index - start])

    def _block(self, start: int) -> NDArray[Any]:
        part = slice(start, min(start + self._step, self.shape[0]))
        tail = (3,) if self.shape[3] == 3 else ()
        block = np.empty((part.stop - start, *self.shape[1:3], *tail), dtype=self.dtype)
        for frame in range(self._source.shape[0]):
            picture = self._source.read(frame)
            # the old frame is axis 1 of the new one; rows or columns of the picture become frames
            block[:, frame] = picture[part] if self._order[0] == 1 else picture[:, part].swapaxes(0, 1)
        return block

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def _number(scan: Scan, axis: int | str) -> int:
    if isinstance(axis, str) and axis.strip().lower() in _PLANES:
        if not scan.geometry.known:
            raise InputError(f"{scan.label}: does not say how it lies, got axis {axis!r}; wanted 0, 1 or 2")
        directions = scan.geometry.affine[:3, :3] / np.linalg.norm(scan.geometry.affine[:3, :3], axis=0)
        return int(np.argmax(np.abs(directions[_PLANES[axis.strip().lower()]])))
    text = str(axis).strip()
    if isinstance(axis, bool) or text not in ("0", "1", "2"):
        raise InputError(f"axis: got {axis!r}, wanted 0, 1 or 2 of (frame, y, x), or {', '.join(sorted(_PLANES))}")
    return int(text)


def _called(scan: Scan) -> str:
    return "a video" if scan.kind == "video" else "one image"
