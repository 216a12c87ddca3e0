"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd): frames are (y, x) planes along the last axis, read when asked for."""

from __future__ import annotations

import bz2
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import check_size, native_order, reading
from samed2.io.geometry import Geometry
from samed2.io.itk_headers import NRRD_MAGIC, ItkHeader, read_itk_header
from samed2.io.readers import register_reader, stem
from samed2.io.scan import Scan

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
_KEEP_BYTES = 2**33  # a packed volume is unpacked once and kept, up to this size
_META = re.compile(rb"^\s*(ObjectType|NDims|Comment)\s*=", re.IGNORECASE)


def is_itk(path: Path) -> bool:
    """Whether the name is one of these formats'."""
    return path.name.lower().endswith(SUFFIXES)


def _sniff(path: Path, head: bytes) -> bool:
    return head.startswith(NRRD_MAGIC) or (_META.match(head) is not None and b"NDims" in head)


@register_reader("NRRD or MetaImage", SUFFIXES, _sniff, ("time",))
def read_itk(path: Path, time: int | None = None) -> Scan:
    """A volume, an image, or one volume of several.

    Args:
        time: which volume of a 4-D file, or which component of one with several values a voxel; three values together
            are colours when it is None.

    Raises:
        InputError: missing, damaged, of too many dimensions, or without that volume.
    """
    if not path.is_file():
        raise InputError(f"{path}: does not exist; check the path")
    with reading(path, "NRRD or MetaImage"):
        header = read_itk_header(path)
    source = ItkSource(path, header, time)
    notes = list(header.notes)
    return Scan(
        source,
        name=stem(path),
        path=path,
        modality="rgb" if source.shape[3] == 3 else "unknown",
        kind="volume" if source.shape[0] > 1 else "image",
        geometry=_geometry(path, header, notes),
        properties={
            "reader": "NRRD or MetaImage",
            "stored_dtype": str(header.dtype),
            **({"time": time, "time_points": header.channels} if time is not None else {}),
        },
        warnings=notes,
    )


def metadata(path: Path) -> dict[str, str]:
    """The header's free key-value pairs (a 3D Slicer segmentation names its segments there)."""
    with reading(path, "NRRD or MetaImage"):
        return read_itk_header(path).metadata


class ItkSource:
    """Planes of one file: from disk where it is not packed, from one unpacking where it is."""

    def __init__(self, path: Path, header: ItkHeader, time: int | None) -> None:
        colour = time is None and header.inner and header.channels == 3
        if time is None and header.channels > 1 and not colour:
            raise InputError(
                f"{path}: has {header.channels} volumes or values a voxel, wanted one; "
                f"choose with time 0 to {header.channels - 1}"
            )
        if time is not None and not 0 <= time < header.channels:
            raise InputError(f"{path}: has {header.channels} volumes, got time {time}; count from 0")
        self._path, self._header = path, header
        self._part = slice(None) if colour else time or 0
        depth = header.size[2] if len(header.size) > 2 else 1
        # as stored, slowest first: (volume, z, y, x) or (z, y, x, value)
        grid = (depth, header.size[1], header.size[0])
        self._stored = (*grid, header.channels) if header.inner else (header.channels, *grid)
        self._kept: NDArray[Any] | None = None
        self.dtype = header.dtype.newbyteorder("=")
        self.shape = (*grid, 3 if colour else 1)
        claimed = int(np.prod(self._stored, dtype=object)) * header.dtype.itemsize
        size = header.data.stat().st_size - max(header.offset, 0)
        packed = header.encoding not in ("raw", "hex")
        check_size(path, max(size, 0), grid[1], grid[2], claimed, compressed=packed)
        if packed and claimed > _KEEP_BYTES:
            raise InputError(f"{path}: unpacks to {claimed} bytes, wanted at most {_KEEP_BYTES}; save it unpacked")
        self._bytes = claimed

    def read(self, index: int) -> NDArray[Any]:
        with reading(self._path, "NRRD or MetaImage"):
            if self._kept is None and self._header.encoding != "raw":
                self._kept = self._unpack()
            values = self._kept if self._kept is not None else self._mapped()
            plane = values[index, ..., self._part] if self._header.inner else values[self._part, index]
            return native_order(np.array(plane))

    def _mapped(self) -> NDArray[Any]:
        header = self._header
        offset = header.offset if header.offset >= 0 else header.data.stat().st_size - self._bytes
        return np.memmap(header.data, header.dtype, "r", offset, self._stored)

    def _unpack(self) -> NDArray[Any]:
        header = self._header
        with open(header.data, "rb") as handle:
            handle.seek(max(header.offset, 0))
            packed = handle.read()
        if header.encoding == "text":
            count = self._bytes // header.dtype.itemsize
            words = packed.split(None, count)[:count]
            values = np.array([float(word) for word in words]).astype(header.dtype)
            if header.dtype.kind in "ui" and header.dtype.itemsize == 8:
                values = np.array([int(word) for word in words], dtype=header.dtype)
        else:
            skip = max(header.skip, 0)
            raw = _inflate(packed, header.encoding, self._bytes + skip)[skip:]
            values = np.frombuffer(raw[: self._bytes], header.dtype)
        if values.size * header.dtype.itemsize < self._bytes:
            raise InputError(f"{self._path}: is cut off, its pixels end early; copy it again")
        return values.reshape(self._stored)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


def _inflate(packed: bytes, encoding: str, count: int) -> bytes:
    """At most the first `count` unpacked bytes."""
    if encoding == "hex":
        return bytes.fromhex(packed.decode("ascii"))[:count]
    if encoding == "bzip2":
        return bz2.BZ2Decompressor().decompress(packed, count)
    found = zlib.decompressobj(47).decompress(packed, count)  # 47: a zlib or a gzip header
    return found


def _geometry(path: Path, header: ItkHeader, notes: list[str]) -> Geometry:
    if header.affine is None:
        return Geometry.unknown()
    affine = header.affine.copy()
    if np.allclose(affine, np.eye(4)):
        return Geometry.unknown()
    affine[:2] *= -1  # LPS+ to RAS+
    try:
        return Geometry.from_xyz(affine)
    except InputError as error:
        notes.append(f"{path}: its geometry is not usable and is left out ({error})")
        return Geometry.unknown()
