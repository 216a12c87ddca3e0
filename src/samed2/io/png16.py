"""16-bit PNG with colour or alpha, which Pillow would cut to 8 bits.

Written after the PNG specification (https://www.w3.org/TR/png-3/, sections 9 and 10).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError

_SAMPLES = {2: 3, 4: 2, 6: 4}


def decode_png16(path: Path) -> NDArray[np.uint16]:
    """The (H, W, samples) pixels of a 16-bit PNG of colour type 2, 4 or 6; the caller has checked its size.

    Raises:
        InputError: interlaced, cut off or damaged.
    """
    header, data = _chunks(path)
    width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if interlace:
        raise InputError(f"{path}: is an interlaced 16-bit colour PNG, which is not read; save it without interlacing")
    if bits != 16 or colour not in _SAMPLES:
        raise InputError(f"{path}: is damaged, wanted a 16-bit PNG with several samples per pixel")
    pixel = 2 * _SAMPLES[colour]
    row = width * pixel + 1
    raw = zlib.decompressobj().decompress(data, height * row)
    if len(raw) < height * row:
        raise InputError(f"{path}: is cut off, {len(raw)} of {height * row} bytes of pixels are there; copy it again")
    lines = np.frombuffer(raw, dtype=np.uint8).reshape(height, row)
    kinds = lines[:, 0]
    if (kinds > 4).any():
        raise InputError(f"{path}: is damaged, a PNG row has filter {int(kinds.max())}, wanted 0 to 4")
    values = _unfilter(lines[:, 1:].reshape(height, width, pixel), kinds)
    return values.view(">u2").astype(np.uint16)


def _chunks(path: Path) -> tuple[bytes, bytes]:
    """The IHDR body and the joined IDAT bodies."""
    header = b""
    parts: list[bytes] = []
    with open(path, "rb") as handle:
        handle.seek(8)
        while len(start := handle.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            body = handle.read(length)
            check = handle.read(4)
            if len(body) < length or len(check) < 4:
                raise InputError(f"{path}: is cut off inside its {kind.decode('latin-1')!r} part; copy it again")
            if kind in (b"IHDR", b"IDAT") and zlib.crc32(kind + body) != struct.unpack(">I", check)[0]:
                raise InputError(
                    f"{path}: is damaged, the checksum of its {kind.decode()} part is wrong; copy it again"
                )
            if kind == b"IHDR":
                header = body
            elif kind == b"IDAT":
                parts.append(body)
            elif kind == b"IEND":
                break
    if len(header) != 13 or not parts:
        raise InputError(f"{path}: is cut off, it has no pixels")
    return header, b"".join(parts)


def _unfilter(lines: NDArray[np.uint8], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the row filters of (H, W, bytes per pixel) lines.

    Every byte depends on its left, upper and upper-left neighbours only, so the pixels of one anti-diagonal
    are independent: W + H - 1 vector steps instead of a loop over all bytes.
    """
    height, width, pixel = lines.shape
    out = np.zeros((height + 1, width + 1, pixel), dtype=np.int16)  # a border of zeros above and to the left
    kind = kinds.astype(np.intp)
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        columns = diagonal - rows
        left, up, corner = out[rows + 1, columns], out[rows, columns + 1], out[rows, columns]
        guess = left + up - corner
        to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
        nearest = np.where(to_up <= to_corner, up, corner)
        paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)
        options = np.stack([np.zeros_like(left), left, up, (left + up) // 2, paeth])
        prediction = options[kind[rows], np.arange(len(rows))]
        out[rows + 1, columns + 1] = (lines[rows, columns] + prediction) & 255
    return np.ascontiguousarray(out[1:, 1:].astype(np.uint8))
