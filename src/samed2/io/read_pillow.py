"""PNG, JPEG and BMP through Pillow; one frame each."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import check_claim, drop_alpha, grey_if_grey, native_order, quiet
from samed2.io.readers import register_reader, stem
from samed2.io.scan import ArraySource, Scan

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples per pixel
# transpositions of EXIF orientation 2..8, as (transpose first, flip rows, flip columns)
_EXIF = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@register_reader("PNG", (".png",), lambda path, head: head.startswith(_PNG))
def read_png(path: Path) -> Scan:
    """A PNG of any colour type; 16-bit colour keeps its 16 bits."""
    from PIL import PngImagePlugin

    with open(path, "rb") as handle:
        header = handle.read(33)
    if len(header) < 33 or header[12:16] != b"IHDR":
        raise InputError(f"{path}: is cut off, it ends inside the PNG header")
    width, height, bits, colour = struct.unpack(">IIBB", header[16:26])
    samples = _PNG_SAMPLES.get(colour)
    if samples is None:
        raise InputError(f"{path}: is damaged, its PNG colour type is {colour}, wanted one of {list(_PNG_SAMPLES)}")
    check_claim(path, height, width, height * ((width * samples * bits + 7) // 8))
    if bits == 16 and samples > 1:
        from samed2.io.png16 import decode_png16

        notes: list[str] = []
        pixels = decode_png16(path)
        if pixels.shape[-1] in (2, 4):
            pixels = drop_alpha(pixels, notes, path)
        return _scan(path, "PNG", pixels, notes, {"bits": 16, "colour_type": colour})
    with quiet():
        image = PngImagePlugin.PngImageFile(path)
    return _from_pillow(path, "PNG", image)


@register_reader("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), lambda path, head: head.startswith(b"\xff\xd8\xff"))
def read_jpeg(path: Path) -> Scan:
    """A JPEG, grey, colour or CMYK."""
    from PIL import JpegImagePlugin

    with quiet():
        image = JpegImagePlugin.JpegImageFile(path)
    check_claim(path, image.height, image.width, image.height * image.width * len(image.getbands()))
    return _from_pillow(path, "JPEG", image)


@register_reader("BMP", (".bmp", ".dib"), lambda path, head: head.startswith(b"BM"))
def read_bmp(path: Path) -> Scan:
    """A Windows bitmap."""
    from PIL import BmpImagePlugin

    with quiet():
        image = BmpImagePlugin.BmpImageFile(path)
    check_claim(path, image.height, image.width, image.height * image.width // 8)
    return _from_pillow(path, "BMP", image)


def pillow_pixels(image: Any, notes: list[str], label: object) -> NDArray[Any]:
    """The (H, W) or (H, W, 3) array of a Pillow image: palettes expanded, alpha laid over black.

    Raises:
        InputError: a colour model that has no plain RGB form.
    """
    mode = image.mode
    if mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(255)
    if mode in ("P", "PA"):
        transparent = mode == "PA" or "transparency" in image.info
        colours = np.asarray(image.convert("RGBA" if transparent else "RGB"))
        return grey_if_grey(drop_alpha(colours, notes, label) if transparent else colours)
    if mode in ("LA", "RGBA", "La", "RGBa"):
        return drop_alpha(np.asarray(image), notes, label)
    if mode in ("CMYK", "YCbCr", "RGBX", "HSV"):
        return np.asarray(image.convert("RGB"))
    if mode in ("L", "RGB", "I", "F") or mode.startswith("I;16"):
        return native_order(np.asarray(image))
    raise InputError(f"{label}: has pixels of kind {mode}, wanted grey, RGB, RGBA or a palette; convert it to PNG")


def _from_pillow(path: Path, name: str, image: Any) -> Scan:
    notes: list[str] = []
    with image:
        image.load()
        pixels = pillow_pixels(image, notes, path)
        properties: dict[str, Any] = {"pillow_mode": image.mode}
        orientation = _orientation(image)
    if orientation in _EXIF:
        pixels = _turn(pixels, orientation)
        properties["exif_orientation"] = orientation
        notes.append(
            f"{path}: was turned as its EXIF orientation {orientation} asks, as viewers do; "
            "coordinates and results are those of the turned image"
        )
    return _scan(path, name, pixels, notes, properties)


def _scan(path: Path, name: str, pixels: NDArray[Any], notes: list[str], properties: dict[str, Any]) -> Scan:
    return Scan(
        ArraySource(pixels[None]),
        name=stem(path),
        path=path,
        modality="rgb" if pixels.ndim == 3 else "unknown",
        kind="image",
        properties={"reader": name, **properties},
        warnings=notes,
    )


def _orientation(image: Any) -> int:
    """EXIF orientation 1..8; 1 when there is none or it cannot be read."""
    try:
        with quiet():
            return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block does not make the pixels wrong
        return 1


def _turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    transpose, rows, columns = _EXIF[orientation]
    if transpose:
        pixels = pixels.swapaxes(0, 1)
    if rows:
        pixels = pixels[::-1]
    if columns:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
