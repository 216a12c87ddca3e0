"""How pixels and masks become bytes: the source's own file, lossless, or small and lossy for a travelling copy."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import one_line
from samed2.io.read_pillow import pillow_pixels

LOSSY = ("jpeg", "webp")
CODECS = ("png", "jpeg", "webp", "planes")
LOSSY_QUALITY = 80
FINE_LEVELS = 1024
_PILLOW = ("png", "jpeg", "webp")
_EXACT = 2.0**53  # whole numbers below it are exact in float64


@dataclass(frozen=True)
class Packed:
    """A frame as bytes; intensity = stored * slope + intercept, then cast to the frame's own type."""

    codec: str
    data: bytes
    slope: float = 1.0
    intercept: float = 0.0


def pack_lossless(frame: NDArray[Any]) -> Packed:
    """Pack an (H, W) or (H, W, 3) frame of any real type so that every bit comes back.

    Whole numbers that span less than 2**16 are shifted to zero and stored as 8 or 16-bit PNG; the rest is split into
    planes of bytes, each of which compresses better than the mixture.
    """
    if frame.dtype == np.uint8:
        return Packed("png", _pillow_bytes(frame, "PNG"))
    shifted = _shifted(frame) if frame.ndim == 2 else None
    if shifted is not None:
        return Packed("png", _pillow_bytes(shifted[0], "PNG"), intercept=shifted[1])
    little = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(-1, frame.dtype.itemsize).T
    return Packed("planes", zlib.compress(planes.tobytes(), 6))


def pack_lossy(frame: NDArray[Any], limits: tuple[float, float], fine: bool = False) -> Packed:
    """Pack a frame for a travelling copy.

    8-bit frames become WebP as they are, others are scaled so that `limits` become 0 and 255. `fine` instead keeps 1024
    levels in a 16-bit PNG, for intensities that are looked at through narrow windows (CT).
    """
    if frame.dtype == np.uint8:
        return Packed("webp", _pillow_bytes(frame, "WEBP", quality=LOSSY_QUALITY, method=4))
    low, high = limits
    top = FINE_LEVELS - 1 if fine else 255
    slope = (high - low) / top if high > low else 1.0
    if fine and frame.dtype.kind in "ui":
        slope = max(1.0, slope)
    with np.errstate(invalid="ignore"):  # NaN and infinities have no place among whole numbers
        scaled = np.nan_to_num((frame.astype(np.float64) - low) / slope, nan=0.0, posinf=top, neginf=0.0)
    stored = np.rint(np.clip(scaled, 0, top)).astype(np.uint16 if fine else np.uint8)
    if fine:
        return Packed("png", _pillow_bytes(stored, "PNG"), slope, low)
    return Packed("webp", _pillow_bytes(stored, "WEBP", quality=LOSSY_QUALITY, method=4), slope, low)


def pack_source(data: bytes, frame: NDArray[Any]) -> Packed | None:
    """The bytes of a source file as they are, if they are a JPEG or PNG that decodes to exactly this frame."""
    codec = "png" if data.startswith(b"\x89PNG\r\n\x1a\n") else "jpeg" if data.startswith(b"\xff\xd8\xff") else ""
    if not codec or frame.dtype != np.uint8:
        return None
    try:
        pixels = _unpack_pillow(codec, data)
    except InputError:
        return None
    return Packed(codec, data) if pixels.dtype == np.uint8 and np.array_equal(pixels, frame) else None


def decode_frame(row: Mapping[str, Any]) -> NDArray[Any]:
    """The frame of a row in native intensities, (H, W) or (H, W, 3) of the row's `dtype`.

    Raises:
        InputError: damaged bytes, an unknown codec, or another size than the row says.
    """
    where = f"{row['dataset']}/{row['case']} frame {row['frame']}"
    dtype = np.dtype(row["dtype"])
    shape = (row["height"], row["width"], 3) if row["channels"] == 3 else (row["height"], row["width"])
    if row["codec"] == "planes":
        return _unpack_planes(row["image"], dtype, shape, where)
    if row["codec"] not in _PILLOW:
        raise InputError(f"{where}: is packed as {row['codec']!r}, wanted one of {', '.join(CODECS)}; update samed2")
    stored = _unpack_pillow(row["codec"], row["image"], where)
    if stored.ndim == 3 and len(shape) == 2:  # WebP has no grey form
        stored = stored[..., 1]
    elif stored.ndim == 2 and len(shape) == 3:
        stored = np.repeat(stored[..., None], 3, axis=-1)
    if stored.shape != shape:
        raise InputError(f"{where}: decodes to shape {stored.shape}, its row says {shape}; run `samed2 medbank verify`")
    slope, intercept = row["slope"], row["intercept"]
    if slope == 1 and intercept == 0:
        return stored.astype(dtype, copy=False)
    values = stored * np.float64(slope) + intercept
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(dtype)


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """A (H, W) bool mask as 1-bit PNG."""
    return _pillow_bytes(np.ascontiguousarray(mask), "PNG", optimize=True)


def decode_mask(data: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Back from `encode_mask`.

    Raises:
        InputError: damaged bytes, or another size than `shape`.
    """
    pixels = _unpack_pillow("png", data, "mask") > 0
    if pixels.shape != tuple(shape):
        raise InputError(f"mask: has shape {pixels.shape}, its row says {tuple(shape)}; run `samed2 medbank verify`")
    return pixels


def _shifted(frame: NDArray[Any]) -> tuple[NDArray[Any], float] | None:
    """The frame as unsigned 8 or 16-bit numbers and what was taken off, or None where that would lose a bit."""
    low, high = frame.min(), frame.max()
    if not (np.isfinite(low) and np.isfinite(high)) or max(abs(float(low)), abs(float(high))) >= _EXACT:
        return None
    low, high = float(low), float(high)
    if low != int(low) or high - low > 65535:
        return None
    if low >= 0 and high <= 65535 and (high > 255) == (high - low > 255):
        low = 0.0  # a shift would save nothing
    stored = (frame.astype(np.float64) - low).astype(np.uint8 if high - low <= 255 else np.uint16)
    back = (stored.astype(np.float64) + low).astype(frame.dtype)
    same = back.tobytes() == np.ascontiguousarray(frame).tobytes()  # also tells -0.0 and fractions
    return (stored, low) if same else None


def _unpack_planes(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    wanted = int(np.prod(shape)) * dtype.itemsize
    try:
        raw = zlib.decompressobj().decompress(data, wanted + 1)
    except zlib.error as error:
        raise InputError(f"{where}: cannot be unpacked ({error}); run `samed2 medbank verify`") from error
    if len(raw) != wanted:
        raise InputError(f"{where}: holds {len(raw)} bytes, wanted {wanted}; run `samed2 medbank verify`")
    bytes_of = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1).T
    values = np.ascontiguousarray(bytes_of).view(dtype.newbyteorder("<")).reshape(shape)
    return values.astype(dtype, copy=False)


def _unpack_pillow(codec: str, data: Any, where: str = "image") -> NDArray[Any]:
    from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    # the plugins themselves, not Image.open: large frames were accepted by the readers already
    opener: Any = {
        "png": PngImagePlugin.PngImageFile,
        "jpeg": JpegImagePlugin.JpegImageFile,
        "webp": WebPImagePlugin.WebPImageFile,
    }[codec]
    try:
        with opener(io.BytesIO(data)) as image:
            image.load()
            return pillow_pixels(image, [], where)
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        message = f"{where}: cannot be decoded as {codec} ({one_line(error)}); run `samed2 medbank verify`"
        raise InputError(message) from error


def _pillow_bytes(pixels: NDArray[Any], form: str, **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()
