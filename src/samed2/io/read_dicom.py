"""Single-frame DICOM: modality values (CT: Hounsfield units), colour as RGB, window and geometry."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import check_claim, eight_bit_colors, grey_if_grey, native_order, one_line, quiet
from samed2.io.geometry import Geometry
from samed2.io.readers import register_reader, stem
from samed2.io.scan import ArraySource, Scan

MODALITIES = {
    "CT": "ct", "MR": "mr", "US": "ultrasound", "IVUS": "ultrasound",
    "CR": "xray", "DX": "xray", "MG": "xray", "XA": "xray", "RF": "xray", "RG": "xray",
    "IO": "xray", "PX": "xray",
    "OP": "fundus", "OPT": "oct", "ES": "endoscopy", "SM": "histopathology", "GM": "microscopy",
    "PT": "pet", "NM": "nuclear", "XC": "rgb",
}  # fmt: skip
_KEPT = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
         "Modality", "PhotometricInterpretation", "InstanceNumber", "SeriesNumber", "BitsStored")  # fmt: skip
_NO_IMAGE = {
    "1.2.840.10008.1.3.10": "a DICOMDIR, an index of other files; give one of the images it lists",
    "1.2.840.10008.5.1.4.1.1.66.4": "a DICOM segmentation, not an image; give the image it was made on",
}
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_INFLATED = 2**31


def _is_dicom(path: Path, head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return True
    # files without preamble begin with an element of group 0002 or 0008, little endian
    named = path.suffix.lower() in (".dcm", ".dicom", ".ima")
    return named and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\0"


@register_reader("DICOM", (".dcm", ".dicom", ".ima"), _is_dicom)
def read_dicom(path: Path) -> Scan:
    """One image; MONOCHROME1 is inverted so that larger is brighter, the file's window goes along."""
    with quiet():
        dataset = _dataset(path)
        _check(path, dataset)
        pixels = native_order(_decode(path, dataset))
        palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        grey = int(dataset.SamplesPerPixel) == 1 and not palette and pixels.ndim == 2
        notes: list[str] = []
        window = _file_window(dataset)
        if grey:
            pixels, window = _modality_values(dataset, pixels, window)
        modality = MODALITIES.get(str(dataset.get("Modality", "")).upper(), "rgb" if pixels.ndim == 3 else "unknown")
        geometry = _geometry(path, dataset, notes)
        properties = {key: value for key in _KEPT if (value := _short(dataset.get(key)))}
    return Scan(
        ArraySource(pixels[None]),
        name=stem(path),
        path=path,
        modality=modality,
        kind="image",
        geometry=geometry,
        file_window=window if grey else None,
        properties={"reader": "DICOM", **properties},
        warnings=notes,
    )


def _dataset(path: Path) -> Any:
    import pydicom
    from pydicom.filereader import read_file_meta_info

    try:
        meta = read_file_meta_info(path)
    except Exception:  # no preamble, or a damaged one: the full reader decides
        meta = None
    if meta is not None and str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
        _check_deflated(path, meta)
    return pydicom.dcmread(path, force=True)


def _check_deflated(path: Path, meta: Any) -> None:
    """pydicom inflates such a file whole; refuse one that would not fit."""
    start = 128 + 4 + 12 + int(meta.get("FileMetaInformationGroupLength", 0))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, pending = 0, path.read_bytes()[start:]
    while pending:
        block = inflater.decompress(pending, 2**20)
        total += len(block)
        pending = inflater.unconsumed_tail
        if total > _MAX_INFLATED:
            raise InputError(f"{path}: unpacks to more than {_MAX_INFLATED} bytes, which is not read")
        if not block:
            break


def _check(path: Path, dataset: Any) -> None:
    known = _NO_IMAGE.get(str(dataset.get("SOPClassUID", dataset.file_meta.get("MediaStorageSOPClassUID", ""))))
    if known is not None:
        raise InputError(f"{path}: is {known}")
    if not any(key in dataset for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        kind = _short(dataset.get("Modality")) or "unknown modality"
        raise InputError(f"{path}: is DICOM without an image ({kind}), or cut off before its pixels; give an image")
    for key in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"):
        if dataset.get(key) is None:
            raise InputError(f"{path}: DICOM field {key} is missing, the image cannot be decoded")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise InputError(
            f"{path}: has {frames} frames, only single-frame DICOM is read; split it into one file per frame"
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    packed = syntax is not None and (syntax.is_compressed or syntax == _DEFLATED)
    claimed = rows * columns * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    if "YBR_FULL_422" in str(dataset.get("PhotometricInterpretation", "")):
        claimed = claimed * 2 // 3
    # what a byte of a packed stream may stand for has no fixed limit; the number of pixels is bounded anyway
    check_claim(path, rows, columns, 0 if packed else claimed, compressed=packed)


def _decode(path: Path, dataset: Any) -> NDArray[Any]:
    """(H, W) or (H, W, 3) stored values; YBR and palette colour as RGB."""
    from pydicom.pixels import apply_color_lut

    try:
        pixels = np.asarray(dataset.pixel_array)
    except (NotImplementedError, RuntimeError) as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
        name = getattr(syntax, "name", None) or "unknown"
        raise InputError(
            f"{path}: its pixels are packed as {name}, which cannot be decoded here "
            f"({one_line(error, 120)}); pip install 'samed2[dicom-codecs]', or save it uncompressed"
        ) from error
    if pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = grey_if_grey(eight_bit_colors(np.asarray(apply_color_lut(pixels, dataset))[..., :3]))
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] != 3):
        raise InputError(f"{path}: decodes to shape {pixels.shape}, wanted one grey or RGB frame")
    return pixels


def _modality_values(
    dataset: Any, stored: NDArray[Any], window: tuple[float, float] | None
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Stored to modality values, float32 if that changes them; MONOCHROME1 turned round with its window."""
    values, mirror = stored, float(sum(_stored_range(dataset)))
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        values = np.asarray(apply_modality_lut(stored, dataset)).astype(np.float32)
        mirror = float(values.min()) + float(values.max())
    else:
        slope, intercept = (
            _number(dataset.get("RescaleSlope"), 1.0),
            _number(dataset.get("RescaleIntercept"), 0.0),
        )
        slope = slope or 1.0  # a slope of 0 would erase the image
        if (slope, intercept) != (1.0, 0.0):
            values = (stored * np.float64(slope) + intercept).astype(np.float32)
            mirror = mirror * slope + 2 * intercept
    if dataset.get("PhotometricInterpretation") != "MONOCHROME1":
        return values, window
    if values.dtype.kind in "ui":
        info = np.iinfo(values.dtype)
        turned = np.clip(int(mirror) - values.astype(np.int64), info.min, info.max).astype(values.dtype)
    else:
        turned = (mirror - values).astype(values.dtype)
    return turned, None if window is None else (mirror - window[0], window[1])


def _stored_range(dataset: Any) -> tuple[int, int]:
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation", 0) or 0) == 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _file_window(dataset: Any) -> tuple[float, float] | None:
    center = _number(_first(dataset.get("WindowCenter")), math.nan)
    width = _number(_first(dataset.get("WindowWidth")), math.nan)
    return (center, width) if math.isfinite(center) and math.isfinite(width) and width > 0 else None


def _geometry(path: Path, dataset: Any, notes: list[str]) -> Geometry:
    """DICOM's LPS+ directions and positions as an RAS+ affine."""
    spacing = _numbers(dataset.get("PixelSpacing"), 2) or _numbers(dataset.get("ImagerPixelSpacing"), 2)
    if spacing is None or min(spacing) <= 0:
        return Geometry.unknown()
    thickness = _number(dataset.get("SpacingBetweenSlices"), 0.0) or _number(dataset.get("SliceThickness"), 0.0)
    step = abs(thickness) if math.isfinite(thickness) and thickness else 1.0
    axes = _numbers(dataset.get("ImageOrientationPatient"), 6)
    origin = _numbers(dataset.get("ImagePositionPatient"), 3)
    try:
        if axes is None or origin is None:
            return Geometry.from_spacing((step, *spacing))
        along_row, along_column = np.array(axes[:3]), np.array(axes[3:])
        affine = np.eye(4)
        affine[:3, 0] = np.cross(along_row, along_column) * step
        affine[:3, 1] = along_column * spacing[0]  # PixelSpacing is (between rows, between columns)
        affine[:3, 2] = along_row * spacing[1]
        affine[:3, 3] = origin
        affine[:2] *= -1
        return Geometry(affine)
    except InputError as error:
        notes.append(f"{path}: its geometry is not usable and is left out ({error})")
        return Geometry.unknown()


def _short(value: Any) -> str:
    """A code or identifier as text; nothing for what cannot be one: damaged files mix fields up."""
    text = str(value) if value is not None else ""
    return text if text.isprintable() and len(text) <= 64 else ""


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else value


def _number(value: Any, default: float) -> float:
    try:
        return float(_first(value))
    except (TypeError, ValueError, IndexError, OverflowError):
        return default


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(item) for item in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
