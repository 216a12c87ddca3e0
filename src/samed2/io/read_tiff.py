"""TIFF: grey, colour, palette, 8 and 16 bits and real numbers; pages of one size are frames."""

from __future__ import annotations

import logging
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import (
    check_claim,
    drop_alpha,
    eight_bit_colors,
    grey_if_grey,
    native_order,
    one_line,
    quiet,
    reading,
)
from samed2.io.readers import register_reader, stem
from samed2.io.scan import ArraySource, FrameSource, Scan

_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@register_reader("TIFF", (".tif", ".tiff"), lambda path, head: head[:4] in _MAGICS)
def read_tiff(path: Path) -> Scan:
    """Frames are the pages of the first one's size and type; the rest is read when asked for."""
    source, notes, properties = _open(path)
    return Scan(
        source,
        name=stem(path),
        path=path,
        modality="rgb" if source.shape[3] == 3 else "unknown",
        kind="image" if source.shape[0] == 1 else "volume",
        properties={"reader": "TIFF", **properties},
        warnings=notes,
    )


def _open(path: Path) -> tuple[FrameSource, list[str], dict[str, Any]]:
    _check_chain(path)
    tifffile = _tifffile()
    notes: list[str] = []
    with tifffile.TiffFile(path, _multifile=False) as tif:
        if len(tif.pages) == 0:
            raise InputError(f"{path}: has no image in it; it is damaged or cut off")
        first = tif.pages[0]
        _check_page(path, first)
        properties = {"compression": str(first.compression), "photometric": str(first.photometric)}
        stack = _imagej_stack(path, tif)
        if stack is not None:
            return ArraySource(stack), notes, properties
        pages = _alike(path, tif.pages, first)
        if len(pages) < len(tif.pages):
            notes.append(f"{path}: has {len(tif.pages)} pages of many sizes, the {len(pages)} like the first are read")
    source = TiffSource(path, pages, notes)
    return source, notes, properties


def _check_chain(path: Path) -> None:
    """Refuse a file whose list of pages leads out of it or back into itself; decoders just stop there."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\0", b"\0+")
        count_form, entry, offset_form = (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}I")
        word, count_size = struct.calcsize(offset_form), struct.calcsize(count_form)
        (offset,) = struct.unpack_from(offset_form, head.ljust(16, b"\0"), 8 if big else 4)
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise InputError(f"{path}: is damaged, its list of pages runs in a circle")
            seen.add(offset)
            file.seek(min(offset, size))
            (entries,) = struct.unpack(count_form, file.read(count_size).ljust(count_size, b"\0"))
            end = offset + count_size + entries * entry
            if entries == 0 or end > size:
                raise InputError(f"{path}: is cut off, its page {len(seen)} lies behind its end; copy it again")
            file.seek(end)
            (offset,) = struct.unpack(offset_form, file.read(word).ljust(word, b"\0"))


def _alike(path: Path, pages: Any, first: Any) -> list[int]:
    """Numbers of the pages that share shape and type with the first; their pixels must lie in the file."""
    size = path.stat().st_size
    found = []
    for number, page in enumerate(pages):
        if (page.shape, page.dtype) != (first.shape, first.dtype):
            continue
        ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if max(ends, default=0) > size:
            raise InputError(f"{path}: is cut off, pixels of page {number} lie behind its end; copy it again")
        found.append(number)
    return found


class TiffSource:
    """Pages of a TIFF file, by tifffile, or by Pillow where tifffile lacks the codec."""

    def __init__(self, path: Path, pages: list[int], notes: list[str]) -> None:
        self._path = path
        self._pages = pages
        self._notes = notes
        self._first: NDArray[Any] | None = None
        self._file: Any = None
        self._lock = threading.Lock()
        first = self.read(0)
        self._first = first
        self.shape = (len(pages), first.shape[0], first.shape[1], 3 if first.ndim == 3 else 1)
        self.dtype = first.dtype

    def read(self, index: int) -> NDArray[Any]:
        if index == 0 and self._first is not None:
            return self._first
        with self._lock, reading(self._path, f"TIFF (page {index})"):
            pixels = native_order(self._page(self._pages[index]))
        if self._first is not None and (pixels.shape, pixels.dtype) != (self._first.shape, self._first.dtype):
            raise InputError(f"{self._path}: page {index} differs in kind from the first; split the file")
        return pixels

    def _page(self, number: int) -> NDArray[Any]:
        try:
            if self._file is None:
                self._file = _tifffile().TiffFile(self._path, _multifile=False)
            page = self._file.pages[number]
            _check_page(self._path, page)
            return _page_pixels(page, self._notes, self._path)
        except InputError:
            raise
        except Exception as error:
            return self._by_pillow(number, error)

    def _by_pillow(self, number: int, cause: Exception) -> NDArray[Any]:
        from PIL import TiffImagePlugin

        from samed2.io.read_pillow import pillow_pixels

        try:
            with quiet(), TiffImagePlugin.TiffImageFile(self._path) as image:
                image.seek(number)
                check_claim(self._path, image.height, image.width, image.height * image.width // 8)
                image.load()
                return pillow_pixels(image, self._notes, self._path)
        except InputError:
            raise
        except Exception:
            hint = "; pip install imagecodecs may help" if "imagecodecs" in str(cause) else ""
            raise InputError(
                f"{self._path}: TIFF page {number} is damaged, cut off or of an unsupported kind "
                f"({one_line(cause)}){hint}"
            ) from cause

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_file", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _file=None, _lock=threading.Lock())


def _tifffile() -> Any:
    import tifffile

    log = logging.getLogger("tifffile")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # otherwise every oddity is printed on stderr
    return tifffile


def _check_page(path: Path, page: Any) -> None:
    if page.imagedepth != 1:
        raise InputError(f"{path}: has pages of depth {page.imagedepth}, wanted flat pages; save slices as pages")
    samples, bits = int(page.samplesperpixel), int(page.bitspersample)
    claimed = int(page.imagelength) * ((int(page.imagewidth) * samples * bits + 7) // 8)
    check_claim(path, int(page.imagelength), int(page.imagewidth), claimed, compressed=int(page.compression) != 1)
    if page.dtype is None or page.dtype.kind not in "uifb":
        raise InputError(f"{path}: holds values of type {page.dtype}, wanted whole or real numbers")


def _page_pixels(page: Any, notes: list[str], path: Path) -> NDArray[Any]:
    """(H, W) or (H, W, 3) of one page: palette expanded, white-is-zero inverted, alpha laid over black."""
    photometric = int(page.photometric)
    if photometric not in (0, 1, 2, 3):  # CMYK, YCbCr, Lab: Pillow converts what it can
        raise ValueError(f"colour model {page.photometric!s} is not read directly")
    pixels = np.asarray(page.asarray())
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] > 4):
        raise InputError(f"{path}: has pages of shape {pixels.shape} ({page.axes}), wanted 1, 3 or 4 channels")
    if photometric == 3:
        return _palette(pixels, page.colormap)
    if photometric == 0 and pixels.dtype.kind == "u":
        top = 2 ** int(page.bitspersample) - 1 if page.bitspersample > 1 else 255
        pixels = (top - pixels.astype(np.int64)).astype(pixels.dtype)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        return np.ascontiguousarray(pixels[..., 0])
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        return drop_alpha(pixels, notes, path)
    return np.ascontiguousarray(pixels)


def _palette(indices: NDArray[Any], colours: NDArray[Any] | None) -> NDArray[Any]:
    if colours is None or indices.ndim != 2:
        raise ValueError("palette image without a palette")
    table = eight_bit_colors(np.asarray(colours).T)  # (entries, 3), 16 bits per channel by the standard
    return grey_if_grey(table[indices])


def _imagej_stack(path: Path, tif: Any) -> NDArray[Any] | None:
    """All frames of an ImageJ file that describes only its first page, else None."""
    if not tif.is_imagej or len(tif.pages) != 1:
        return None
    count = int((tif.imagej_metadata or {}).get("images", 1))
    if count < 2:
        return None
    first = tif.pages[0]
    check_claim(path, first.imagelength, first.imagewidth, count * int(first.nbytes), compressed=False)
    if first.samplesperpixel != 1 or not first.is_contiguous:
        raise InputError(f"{path}: is an ImageJ stack of colour or packed pages; save it as separate pages")
    shape = (count, int(first.imagelength), int(first.imagewidth))
    return np.memmap(path, first.dtype.newbyteorder(tif.byteorder), "r", int(first.dataoffsets[0]), shape)
