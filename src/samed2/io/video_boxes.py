"""Whether a video file is as long as its outermost parts say: a cut-off one would decode as a shorter film."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from samed2.errors import InputError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_NAMES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"meta", b"uuid", b"free", b"skip", b"wide",
          b"pnot", b"udta")  # fmt: skip
_MOST_PARTS = 1_000_000  # a stream in fragments has two a second or so


def check_whole(path: Path, kind: str) -> None:
    """Check a file of the container `kind`: "mov", "avi" or "matroska".

    Parts that leave their length open (recordings that never ended) are taken as they are.

    Raises:
        InputError: a part reaches past the end of the file.
    """
    size = path.stat().st_size
    walk = {"mov": _boxes, "avi": _riff, "matroska": _ebml}[kind]
    with open(path, "rb") as stream:
        for count, (name, end) in enumerate(walk(stream)):
            if end > size:
                raise InputError(
                    f"{path}: is cut off, its part {name} reaches to byte {end}, the file has {size}; copy it again"
                )
            if count >= _MOST_PARTS:
                return


def _boxes(stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """Boxes of MP4 and QuickTime (ISO 14496-12, 4.2): a size of 32 bits, or of 64 behind the name; 0: to the end."""
    start = 0
    while len(head := _at(stream, start, 16)) >= 8:
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8 or name not in _NAMES:  # to the end of the file, or padding behind it
            return
        start += length
        yield repr(name.decode("latin-1")), start


def _riff(stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """RIFF lists of AVI, of which large files have several; even in length."""
    start = 0
    while len(head := _at(stream, start, 12)) == 12:
        mark, length, name = struct.unpack("<4sI4s", head)
        if mark != b"RIFF" or length in (0, 2**32 - 1):
            return
        yield repr(name.decode("latin-1")), start + 8 + length
        start += 8 + length + length % 2


def _ebml(stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """The header and the segment of Matroska and WebM (RFC 8794, 4): an id, then a length of 1 to 8 bytes."""
    start = 0
    for mark, name in ((_EBML, "header"), (_SEGMENT, "segment")):
        head = _at(stream, start, 12)
        width = 9 - head[4].bit_length() if len(head) > 4 else 9
        if head[:4] != mark or len(head) < 4 + width or width > 8:
            return
        length = int.from_bytes(head[4 : 4 + width], "big") - (1 << 7 * width)
        if length == (1 << 7 * width) - 1:  # open
            return
        start += 4 + width + length
        yield name, start


def _at(stream: BinaryIO, start: int, count: int) -> bytes:
    stream.seek(start)
    return stream.read(count)
