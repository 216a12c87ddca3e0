"""Pixels of a DICOM file: stored values decoded frame by frame, then modality values."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import check_size, eight_bit_colors, grey_if_grey, native_order, one_line
from samed2.io.series_fields import number, short, whole
from samed2.io.series_files import Entry

NO_IMAGE = {
    "1.2.840.10008.1.3.10": "a DICOMDIR, an index of other files; give its folder or one of the images it lists",
    "1.2.840.10008.5.1.4.1.1.66.4": "a DICOM segmentation, not an image; give the image it was made on",
    "1.2.840.10008.5.1.4.1.1.66.7": "a DICOM segmentation, not an image; give the image it was made on",
}
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_INFLATED = 2**31
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def load(entry: Entry) -> Any:
    """The whole file as a dataset; large values stay on disk until they are used.

    Raises:
        InputError: a deflated file that would not fit into memory.
    """
    import pydicom
    from pydicom.filereader import read_file_meta_info

    if not entry.member:
        try:
            meta = read_file_meta_info(entry.path)
        except Exception:  # no preamble, or a damaged one: the full reader decides
            meta = None
        if meta is not None and str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
            _check_deflated(entry, meta)
        return pydicom.dcmread(entry.path, force=True)
    with entry.open() as stream:
        return pydicom.dcmread(stream, force=True)


def _check_deflated(entry: Entry, meta: Any) -> None:
    """pydicom inflates such a file whole; refuse one that would not fit."""
    start = 128 + 4 + 12 + int(meta.get("FileMetaInformationGroupLength", 0))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, pending = 0, entry.path.read_bytes()[start:]
    while pending:
        block = inflater.decompress(pending, 2**20)
        total += len(block)
        pending = inflater.unconsumed_tail
        if total > _MAX_INFLATED:
            raise InputError(f"{entry}: unpacks to more than {_MAX_INFLATED} bytes, which is not read")
        if not block:
            break


def check_header(entry: Entry, dataset: Any, pixels_needed: bool = True) -> None:
    """Refuse what has no image, misses a field that decoding needs, or claims more than the file can hold.

    Raises:
        InputError: see above.
    """
    meta = getattr(dataset, "file_meta", None) or {}
    known = NO_IMAGE.get(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID", "")))
    if known is not None:
        raise InputError(f"{entry}: is {known}")
    if pixels_needed and not any(key in dataset for key in _PIXELS):
        kind = short(dataset.get("Modality")) or "unknown modality"
        raise InputError(f"{entry}: is DICOM without an image ({kind}), or cut off before its pixels; give an image")
    for key in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"):
        if dataset.get(key) is None:
            raise InputError(f"{entry}: DICOM field {key} is missing, the image cannot be decoded")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = max(1, whole(dataset.get("NumberOfFrames"), 1))
    syntax = meta.get("TransferSyntaxUID")
    packed = syntax is not None and (syntax.is_compressed or syntax == _DEFLATED)
    claimed = frames * rows * columns * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    if "YBR_FULL_422" in str(dataset.get("PhotometricInterpretation", "")):
        claimed = claimed * 2 // 3
    # what a byte of a packed stream may stand for has no fixed limit; the number of pixels is bounded anyway
    check_size(entry, entry.size(), rows, columns, 0 if packed else claimed, compressed=packed)


def decode(entry: Entry, index: int | None, dataset: Any = None) -> tuple[NDArray[Any], Any]:
    """Stored values of one frame, (H, W) or (H, W, 3) with colour as RGB, and the dataset of its pixel fields.

    Args:
        index: the frame in a multi-frame file; None for a file of one frame.
        dataset: the whole file, if it is loaded already.

    Raises:
        InputError: packed in a way that cannot be decoded here; other errors are those of the decoders.
    """
    from pydicom.dataset import Dataset
    from pydicom.pixels import pixel_array

    found = dataset
    try:
        if dataset is not None:
            pixels = np.asarray(dataset.pixel_array if index is None else pixel_array(dataset, index=index))
        else:
            found = Dataset()
            with entry.open() as stream:
                pixels = np.asarray(pixel_array(stream, index=index, ds_out=found))
    except (NotImplementedError, RuntimeError) as error:
        meta = getattr(found, "file_meta", None) or {}
        syntax = meta.get("TransferSyntaxUID") or transfer_syntax(entry)
        name = getattr(syntax, "name", None) or "unknown"
        raise InputError(
            f"{entry}: its pixels are packed as {name}, which cannot be decoded here "
            f"({one_line(error, 120)}); pip install 'samed2[dicom-codecs]', or save it uncompressed"
        ) from error
    return _as_frame(entry, pixels, found), found


def transfer_syntax(entry: Entry) -> Any:
    """The UID of how the pixels are packed, or nothing."""
    import pydicom

    try:
        with entry.open() as stream:
            return pydicom.dcmread(stream, specific_tags=["Rows"], stop_before_pixels=True).file_meta.TransferSyntaxUID
    except Exception:  # only wanted for a message
        return None


def _as_frame(entry: Entry, pixels: NDArray[Any], dataset: Any) -> NDArray[Any]:
    from pydicom.pixels import apply_color_lut

    if pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = grey_if_grey(eight_bit_colors(np.asarray(apply_color_lut(pixels, dataset))[..., :3]))
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] != 3):
        raise InputError(f"{entry}: decodes to shape {pixels.shape}, wanted one grey or RGB frame")
    return native_order(pixels)


def modality_values(
    header: Any,
    stored: NDArray[Any],
    window: tuple[float, float] | None,
    rescale: tuple[float, float] | None = None,
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Stored to modality values, float32 if that changes them; MONOCHROME1 turned round with its window.

    Args:
        rescale: (slope, intercept) where they are not the header's own.
    """
    values, mirror = stored, float(sum(stored_range(header)))
    if header.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        values = np.asarray(apply_modality_lut(stored, header)).astype(np.float32)
        mirror = float(values.min()) + float(values.max())
    else:
        slope, intercept = rescale or header_rescale(header)
        if (slope, intercept) != (1.0, 0.0):
            values = (stored * np.float64(slope) + intercept).astype(np.float32)
            mirror = mirror * slope + 2 * intercept
    if header.get("PhotometricInterpretation") != "MONOCHROME1":
        return values, window
    if values.dtype.kind in "ui":
        info = np.iinfo(values.dtype)
        turned = np.clip(int(mirror) - values.astype(np.int64), info.min, info.max).astype(values.dtype)
    else:
        turned = (mirror - values).astype(values.dtype)
    return turned, None if window is None else (mirror - window[0], window[1])


def header_rescale(header: Any) -> tuple[float, float]:
    """(slope, intercept) of the header; what is not a number counts as missing."""
    slope, intercept = number(header.get("RescaleSlope"), 1.0), number(header.get("RescaleIntercept"), 0.0)
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        return 1.0, 0.0
    return slope or 1.0, intercept  # a slope of 0 would erase the image


def stored_range(header: Any) -> tuple[int, int]:
    """Smallest and largest value that the stored bits can hold."""
    bits = min(max(whole(header.get("BitsStored"), 0) or whole(header.get("BitsAllocated"), 16), 1), 64)
    signed = whole(header.get("PixelRepresentation"), 0) == 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
