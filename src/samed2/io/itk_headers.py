"""The headers of NRRD and MetaImage files: grid, place, and where and how the voxels are stored.

Written after https://teem.sourceforge.net/nrrd/format.html and https://itk.org/Wiki/MetaIO/Documentation. They are read
here, not by ITK, so that raw voxels can stay on disk and a damaged file cannot take the process down.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.itk_fields import (
    MAX_HEADER,
    MAX_LINES,
    ItkHeader,
    after_lines,
    beside,
    cut,
    floats,
    ints,
    real,
    split,
    true,
    whole_in,
)

NRRD_MAGIC = b"NRRD000"
_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t", "char"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_META_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4",
    "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip
_ENCODINGS = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text", "hex": "hex",
}  # fmt: skip
# to LPS+: signs of the first two axes, by the space's name
_SPACES = {"left-posterior-superior": (1, 1), "lps": (1, 1), "right-anterior-superior": (-1, -1), "ras": (-1, -1),
           "left-anterior-superior": (1, -1), "las": (1, -1)}  # fmt: skip
_DOMAIN = ("domain", "space", "???", "none")


def read_itk_header(path: Path) -> ItkHeader:
    """The header of either format, by its first bytes.

    Raises:
        InputError: a field is missing, makes no sense, or is of a kind that is not read here.
    """
    with open(path, "rb") as handle:
        start = handle.read(MAX_HEADER)
    return _nrrd(path, start) if start.startswith(NRRD_MAGIC) else _meta(path, start)


def _nrrd(path: Path, start: bytes) -> ItkHeader:
    fields, metadata, offset = _nrrd_fields(path, start)
    sizes = ints(path, fields, "sizes", whole=True)
    dimension = ints(path, fields, "dimension")[0]
    if len(sizes) != dimension:
        raise InputError(f"{path}: NRRD field sizes has {len(sizes)} numbers, wanted {dimension} as its dimension")
    wanted = fields.get("type", "").strip().lower()
    kind = next((code for code, names in _NRRD_TYPES.items() if wanted in names), None)
    if kind is None:
        raise InputError(f"{path}: NRRD field type is {cut(wanted)!r}, wanted whole or real numbers")
    order = ">" if fields.get("endian", "little").strip().lower() == "big" else "<"
    encoding = _ENCODINGS.get(fields.get("encoding", "raw").strip().lower())
    if encoding is None:
        raise InputError(f"{path}: NRRD encoding {cut(fields['encoding'])!r} is unknown; save it as raw or gzip")
    directions = _directions(path, fields, len(sizes))
    kinds = fields.get("kinds", "").lower().split()
    if directions is not None:
        spatial = [axis for axis, vector in enumerate(directions) if vector is not None][:3]  # ITK calls time an axis
    elif len(kinds) == len(sizes):
        spatial = [axis for axis, name in enumerate(kinds) if name in _DOMAIN]
    else:
        spatial = list(range(len(sizes)))[:3]
    size, channels, inner = split(path, sizes, spatial)
    notes: list[str] = []
    affine = _nrrd_affine(path, fields, directions, spatial, notes)
    data, skip = path, int(whole_in(fields, "byte skip", 0))
    detached = fields.get("data file")
    if detached is not None:
        data, offset = beside(path, detached), 0
    offset = after_lines(data, offset, int(whole_in(fields, "line skip", 0)))
    if encoding == "raw" and skip:
        offset, skip = (offset + skip, 0) if skip > 0 else (-1, 0)
    return ItkHeader(
        size, np.dtype(order + kind), channels, inner, affine, data, offset, encoding, skip, metadata, tuple(notes)
    )  # fmt: skip


def _nrrd_fields(path: Path, start: bytes) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, key-value pairs, and where the header ends."""
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    at = start.find(b"\n") + 1
    while 0 < at < len(start):
        end = start.find(b"\n", at)
        line = start[at : end if end >= 0 else len(start)].rstrip(b"\r").decode("utf-8", "replace")
        at = end + 1 if end >= 0 else len(start)
        if not line.strip():
            return fields, metadata, at
        name, colon, value = line.partition(":")
        if line.startswith("#") or not colon:
            continue
        if value.startswith("="):
            metadata[name] = value[1:]
        else:
            key = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}.get(name.lower().strip())
            fields[key or name.lower().strip()] = value.strip()
    return fields, metadata, len(start)  # the header of a detached file may end with the file


def _directions(path: Path, fields: dict[str, str], count: int) -> list[tuple[float, ...] | None] | None:
    text = fields.get("space directions")
    if text is None:
        return None
    found: list[tuple[float, ...] | None] = []
    for part in re.findall(r"\([^()]*\)|none", text.lower()):
        found.append(None if part == "none" else tuple(real(path, one) for one in part[1:-1].split(",")))
    lengths = {len(vector) for vector in found if vector is not None}
    if len(found) != count or len(lengths) != 1 or lengths.pop() not in (2, 3, 4):
        raise InputError(f"{path}: NRRD field space directions is {cut(text)!r}, wanted {count} vectors of one length")
    return found


def _nrrd_affine(
    path: Path,
    fields: dict[str, str],
    directions: list[tuple[float, ...] | None] | None,
    spatial: list[int],
    notes: list[str],
) -> NDArray[np.float64] | None:
    affine = np.eye(4)
    if directions is not None:
        for column, axis in enumerate(spatial[:3]):
            vector = (directions[axis] or ())[:3]
            affine[: len(vector), column] = vector
            affine[len(vector) :, column] = 0
        origin = fields.get("space origin", "")
        values = [real(path, one) for one in origin.strip(" ()").split(",")] if origin.strip(" ()") else []
        affine[: len(values[:3]), 3] = values[:3]
        if len(spatial) == 2:
            _fill_third(affine)
        space = re.sub(r"(-time|(?<=^...)t)$", "", fields.get("space", "").strip().lower())
        signs = _SPACES.get(space, (1, 1))
        if space not in _SPACES:
            notes.append(f"{path}: NRRD space is {cut(space or 'not given')!r}, taken as left-posterior-superior")
        affine[:2] *= np.array(signs)[:, None]
        return affine
    spacings = fields.get("spacings", "").split()
    steps = [real(path, spacings[axis]) for axis in spatial[:3] if axis < len(spacings)]
    if not steps or all(math.isnan(step) for step in steps):
        return None
    for axis, step in enumerate(steps):
        affine[axis, axis] = step
    return affine


def _fill_third(affine: NDArray[np.float64]) -> None:
    """A third axis across the two that an image has."""
    across = np.cross(affine[:3, 0], affine[:3, 1])
    length = float(np.linalg.norm(across))
    affine[:3, 2] = across / length if np.isfinite(length) and length > 0 else (0, 0, 1)


def _meta(path: Path, start: bytes) -> ItkHeader:
    fields: dict[str, str] = {}
    at = 0
    while at < len(start) and "elementdatafile" not in fields and len(fields) < MAX_LINES:
        end = start.find(b"\n", at)
        end = end if end >= 0 else len(start)
        name, equals, value = start[at:end].decode("utf-8", "replace").partition("=")
        at = end + 1
        if equals:
            fields[name.strip().lower()] = value.strip()
    if "elementdatafile" not in fields:
        raise InputError(f"{path}: is cut off, its MetaImage header has no ElementDataFile")
    dims = ints(path, fields, "ndims")[0]
    sizes = ints(path, fields, "dimsize", whole=True)
    if len(sizes) != dims:
        raise InputError(f"{path}: MetaImage field DimSize has {len(sizes)} numbers, wanted {dims} as its NDims")
    kind = _META_TYPES.get(fields.get("elementtype", "").upper().removeprefix("MET_").removesuffix("_ARRAY"))
    if kind is None:
        raise InputError(f"{path}: MetaImage ElementType is {cut(fields.get('elementtype', ''))!r}, wanted numbers")
    parts = ints(path, fields, "elementnumberofchannels")[0] if "elementnumberofchannels" in fields else 1
    size, channels, inner = split(path, [parts, *sizes], list(range(1, len(sizes) + 1))[:3])
    msb = fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "false"))
    encoding = "gzip" if true(fields.get("compresseddata", "")) else "raw"
    if "binarydata" in fields and not true(fields["binarydata"]):
        encoding = "text"
    data, offset = path, at
    if fields["elementdatafile"].upper() != "LOCAL":
        data = beside(path, fields["elementdatafile"])
        offset = int(whole_in(fields, "headersize", 0))
    return ItkHeader(
        size, np.dtype((">" if true(msb) else "<") + kind), channels, inner, _meta_affine(path, fields, dims), data,
        offset, encoding, 0, fields,
    )  # fmt: skip


def _meta_affine(path: Path, fields: dict[str, str], dims: int) -> NDArray[np.float64] | None:
    spacing = floats(path, fields, ("elementspacing", "elementsize"), dims)
    origin = floats(path, fields, ("offset", "position", "origin"), dims)
    matrix = floats(path, fields, ("transformmatrix", "rotation", "orientation"), dims * dims)
    if spacing is None and origin is None and matrix is None:
        return None
    used = min(dims, 3)
    axes = np.eye(dims) if matrix is None else np.array(matrix).reshape(dims, dims)  # row i: direction of axis i
    affine = np.eye(4)
    affine[:used, :used] = axes[:used, :used].T * np.array(spacing or [1.0] * dims)[:used]
    affine[:used, 3] = (origin or [0.0] * dims)[:used]
    return affine
