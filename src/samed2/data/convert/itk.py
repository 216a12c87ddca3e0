"""NRRD, MHA and MHD through SimpleITK, read when the first frame is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Geometry, Scan
from samed2.io.checks import check_claim, reading
from samed2.io.readers import stem

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
_DETACHED = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*(\S[^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


def is_itk(path: Path) -> bool:
    """Whether the name is one of these formats'."""
    return path.name.lower().endswith(SUFFIXES)


def read_itk(path: Path, channel: int | None = None) -> Scan:
    """Frames are (y, x) planes along the last axis; affine to RAS+ millimetres.

    Args:
        channel: which volume of a 4-D file, or which component of one with several values a voxel.

    Raises:
        InputError: missing, damaged, of too many dimensions, or without that channel.
    """
    if not path.is_file():
        raise InputError(f"{path}: does not exist; check the path")
    with reading(path, "NRRD or MetaImage"):
        header = _header(path)
    return Scan(
        ItkSource(path, header, channel),
        name=stem(path),
        path=path,
        kind="volume" if _depth(header) > 1 else "image",
        geometry=_geometry(header),
        properties={"reader": "ITK"},
    )


def metadata(path: Path) -> dict[str, str]:
    """The header's free key-value pairs (a 3D Slicer segmentation names its segments there)."""
    with reading(path, "NRRD or MetaImage"):
        header = _header(path)
        return {key: header.GetMetaData(key) for key in header.GetMetaDataKeys()}


class ItkSource:
    """All frames of one file, kept after the first is asked for."""

    def __init__(self, path: Path, header: Any, channel: int | None) -> None:
        size, parts = header.GetSize(), int(header.GetNumberOfComponents())
        if len(size) not in (2, 3, 4):
            raise InputError(f"{path}: has {len(size)} dimensions, wanted 2 to 4")
        many = size[3] if len(size) == 4 else parts
        if channel is not None and not 0 <= channel < many:
            raise InputError(f"{path}: has no channel {channel}, it has {many}")
        if channel is None and ((len(size) == 4 and size[3] > 1) or parts not in (1, 3)):
            raise InputError(f"{path}: has {many} channels, wanted one; say which with `channel:`")
        self._path, self._channel, self._dims = path, channel, len(size)
        self._component = channel is not None and len(size) < 4
        self._kept: NDArray[Any] | None = None
        kind = _dtype(header)
        claimed = int(np.prod([int(n) for n in size], dtype=object)) * parts * kind.itemsize
        _check_claim(path, size, claimed)
        self.dtype = kind
        self.shape = (_depth(header), int(size[1]), int(size[0]), 1 if self._component else parts)

    def read(self, index: int) -> NDArray[Any]:
        if self._kept is None:
            with reading(self._path, "NRRD or MetaImage"):
                self._kept = self._load()
        return np.asarray(self._kept[index])

    def _load(self) -> NDArray[Any]:
        import SimpleITK as sitk

        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self._path))
        values = sitk.GetArrayFromImage(reader.Execute())
        if self._component and self._channel is not None:
            values = values[..., self._channel]
        if self._dims == 4:
            values = values[self._channel or 0]
        return values.reshape(self.shape if self.shape[3] == 3 else self.shape[:3])


def _header(path: Path) -> Any:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _depth(header: Any) -> int:
    size = header.GetSize()
    return int(size[2]) if len(size) > 2 else 1


def _dtype(header: Any) -> np.dtype[Any]:
    import SimpleITK as sitk

    name = sitk.GetPixelIDValueAsString(header.GetPixelID())
    bits = next((b for b in _BYTES if f"{b}-bit" in name), None)
    if bits is None or "complex" in name:
        raise InputError(f"{header.GetFileName()}: holds {name}, wanted whole or real numbers")
    sign = "f" if "float" in name else ("u" if "unsigned" in name else "i")
    return np.dtype(f"{sign}{_BYTES[bits]}")


def _check_claim(path: Path, size: tuple[int, ...], claimed: int) -> None:
    """As the readers of `samed2.io` do; the pixels may lie in a file beside the header."""
    with open(path, "rb") as handle:
        found = _DETACHED.search(handle.read(65536))
    backing = path
    if found and found[1].strip().upper() != b"LOCAL":
        backing = path.parent / found[1].strip().decode("utf-8", "replace")
        if not backing.is_file():
            if b"%" in found[1] or found[1].upper().startswith(b"LIST"):
                return  # one file per slice: ITK checks each
            raise InputError(f"{path}: its pixels should be in {backing.name}, which is not there; copy it too")
    check_claim(backing, int(size[1]), int(size[0]), claimed)


def _geometry(header: Any) -> Geometry:
    dims = len(header.GetSize())
    used = min(dims, 3)
    direction = np.asarray(header.GetDirection(), dtype=float).reshape(dims, dims)[:used, :used]
    affine = np.eye(4)
    affine[:used, :used] = direction * np.asarray(header.GetSpacing()[:used])
    affine[:used, 3] = header.GetOrigin()[:used]
    if np.allclose(affine, np.eye(4)):
        return Geometry.unknown()
    affine[:2] *= -1  # ITK's LPS+ to RAS+
    try:
        return Geometry.from_xyz(affine)
    except InputError:
        return Geometry.unknown()
