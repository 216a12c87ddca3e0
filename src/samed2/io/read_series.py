"""DICOM series: files of one SeriesInstanceUID, or the frames of a multi-frame file, as one lazily read scan."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import quiet, reading
from samed2.io.geometry import Geometry
from samed2.io.read_dicom import KEPT, flat_spacing, modality_of
from samed2.io.scan import Scan
from samed2.io.series_fields import number, short, whole
from samed2.io.series_files import Entry, dicom_entries, files_below, zip_entries
from samed2.io.series_headers import Slice
from samed2.io.series_list import Series, choose, find_series
from samed2.io.series_order import Stack, put_in_order
from samed2.io.series_pixels import check_header, decode, load, modality_values, stored_range
from samed2.io.series_runs import listing, split_choice

_CINE = ("ultrasound", "xray", "endoscopy", "rgb")  # frames without a place follow each other in time


def list_series(path: str | Path) -> list[Series]:
    """The image series in a folder (at any depth), a zip archive or a DICOM file, without their pixels.

    Raises:
        InputError: it does not exist or holds no DICOM.
    """
    place = Path(path)
    if place.is_dir():
        entries = list(dicom_entries(files_below(place)))
    elif place.suffix.lower() == ".zip" and place.is_file():
        entries = zip_entries(place)
    elif place.is_file():
        entries = list(dicom_entries([place]))
    else:
        raise InputError(f"{path}: does not exist; check the path")
    if not entries:
        raise InputError(f"{path}: holds no DICOM files; give the folder, archive or file of a series")
    with quiet():
        return find_series(entries, place).series


def read_entries(
    entries: Iterable[Entry], path: Path, name: str, *, time: int | None = None, series: str | int | None = None
) -> Scan:
    """One series among some DICOM files as a scan.

    Args:
        path, name: what the scan is called.
        time: which of several images at each place.
        series: index, UID or end of the UID, where there are several; ":N" behind it chooses run N of the runs of even
            spacing that uneven slices make, "0:1" run 1 of series 0.

    Raises:
        InputError: see `choose` and `put_in_order`; headers that cannot be decoded.
    """
    with quiet():
        found = find_series(entries, path)
        wanted, run = split_choice(series)
        chosen = choose(found, path, wanted)
        stack = put_in_order(chosen.slices, str(path), time, run)
        first = stack.slices[0]
        for one in {each.entry: each for each in stack.slices}.values():
            check_header(one.entry, one.header, pixels_needed=False)
        notes = [*found.notes, *stack.notes]
        if len(stack.runs) > 1:
            runs = listing(stack.runs, str(chosen.index))
            notes.append(
                f"{path}: its slices make {len(stack.runs)} even runs, each may be read alone (series): {runs}"
            )
        modality = modality_of(first.header, first.size[2] == 3)
        geometry = _geometry(stack, path, notes)
        source = SeriesSource(stack.slices)
        window = _window(stack.slices) if source.shape[3] == 1 else None
        in_time = stack.in_time and (stack.affine is not None or modality in _CINE)
        return Scan(
            source,
            name=name,
            path=path,
            modality=modality,
            kind="image" if len(stack.slices) == 1 else "video" if in_time else "volume",
            geometry=geometry,
            file_window=window,
            properties=_properties(stack, chosen),
            warnings=notes,
        )


def _geometry(stack: Stack, path: Path, notes: list[str]) -> Geometry:
    if stack.affine is not None:
        affine = stack.affine.copy()
        affine[:2] *= -1  # DICOM's LPS+ to RAS+
        try:
            return Geometry(affine)
        except InputError as error:
            notes.append(f"{path}: its geometry is not usable and is left out ({error})")
            return Geometry.unknown()
    spacing = flat_spacing(stack.slices[0].header, notes, path)
    return Geometry.unknown() if spacing is None else Geometry.from_spacing((1.0, *spacing))


def _window(slices: list[Slice]) -> tuple[float, float] | None:
    """The middle slice's window, which most slices share; turned round with MONOCHROME1."""
    one = slices[len(slices) // 2]
    if one.window is None or one.header.get("ModalityLUTSequence"):
        return one.window
    return modality_values(one.header, np.zeros((1, 1)), one.window, one.rescale)[1]


def _properties(stack: Stack, chosen: Series) -> dict[str, Any]:
    """What writers need: identifiers, and per frame its file, its frame there and its place."""
    slices = stack.slices
    header = slices[0].header
    found: dict[str, Any] = {"reader": "DICOM"}
    found.update({key: value for key in KEPT if (value := short(header.get(key)))})
    if len({one.entry for one in slices}) > 1:
        found.pop("SOPInstanceUID", None)
        found.pop("InstanceNumber", None)
    found["series_paths"] = [str(one.entry.path) for one in slices]
    if any(one.entry.member for one in slices):
        found["series_members"] = [one.entry.member for one in slices]
    found["sop_instance_uids"] = [short(one.header.get("SOPInstanceUID")) for one in slices]
    if any(one.frames > 1 for one in slices):
        found["frame_numbers"] = [one.frame + 1 for one in slices]
    if stack.positions is not None:
        found["frame_positions_lps"] = [[float(v) for v in place] for place in stack.positions]
    found["evenly_spaced"] = stack.even
    if len(stack.runs) > 1:
        runs = enumerate(stack.runs)
        found["even_runs"] = [run.to_dict(f"{chosen.index}:{number}", stack.slices) for number, run in runs]
    if chosen.parts > 1:
        found["series_part"] = chosen.part
    rate = number(header.get("CineRate"), 0.0) or number(header.get("RecommendedDisplayFrameRate"), 0.0)
    pause = number(header.get("FrameTime"), 0.0)
    fps = 1000.0 / pause if 0 < pause < np.inf else rate
    if stack.in_time and 0 < fps < 1e6:
        found["fps"] = fps
    return found


class SeriesSource:
    """Slices in order; whole numbers stay whole after the rescale. The last loaded odd file is kept."""

    def __init__(self, slices: list[Slice]) -> None:
        rows, columns, channels = slices[0].size
        self._slices = slices
        self._whole: tuple[Entry, Any] | None = None
        self._lock = threading.Lock()
        self.dtype = series_dtype(slices)
        self.shape = (len(slices), rows, columns, channels)

    def read(self, index: int) -> NDArray[Any]:
        one = self._slices[index]
        with self._lock, reading(one.entry.path, f"DICOM ({one})"), quiet():
            stored, fields = self._stored(one)
            height, width = self.shape[1:3]
            if stored.shape[:2] != (height, width):
                raise InputError(f"{one.entry}: decodes to {stored.shape[:2]}, wanted {(height, width)} as its header")
            if self.shape[3] == 3:
                frame = stored if stored.ndim == 3 else np.repeat(stored[..., None], 3, axis=2)
            elif stored.ndim == 3:
                raise InputError(f"{one.entry}: decodes to colour, wanted one grey value a pixel")
            else:
                frame, _ = modality_values(fields, stored, None, one.rescale)
            return _cast(frame, self.dtype)

    def _stored(self, one: Slice) -> tuple[NDArray[Any], Any]:
        index = one.frame if one.frames > 1 else None
        meta = getattr(one.header, "file_meta", None) or {}
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax and syntax != "1.2.840.10008.1.2.1.99":
            return decode(one.entry, index)
        if self._whole is None or self._whole[0] != one.entry:
            dataset = load(one.entry)
            check_header(one.entry, dataset)
            self._whole = (one.entry, dataset)
        return decode(one.entry, index, self._whole[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_whole": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def _cast(frame: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if frame.dtype == dtype:
        return frame
    if frame.dtype == np.uint16 and dtype == np.uint8 and frame.ndim == 3:
        return (frame >> 8).astype(np.uint8)  # a palette of 16 bits
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return np.clip(np.rint(frame), info.min, info.max).astype(dtype)
    return frame.astype(dtype)


def series_dtype(slices: list[Slice]) -> np.dtype[Any]:
    """The smallest type that holds all slices' modality values (CT: Hounsfield units) exactly, else float32."""
    if slices[0].size[2] == 3:
        if any(one.header.get("PhotometricInterpretation") == "PALETTE COLOR" for one in slices):
            return np.dtype(np.uint8)
        deep = max(whole(one.header.get("BitsAllocated"), 8) for one in slices)
        return np.dtype(np.uint8 if deep <= 8 else np.uint16 if deep <= 16 else np.uint32)
    low, high = 0.0, 0.0
    for slope, intercept, ends, usable in {_values(one) for one in slices}:
        if not usable or not (float(slope).is_integer() and float(intercept).is_integer()):
            return np.dtype(np.float32)
        values = [end * slope + intercept for end in ends]
        low, high = min(low, *values), max(high, *values)
    for kind in (np.uint8, np.uint16, np.int16, np.int32, np.uint32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float32)


def _values(one: Slice) -> tuple[float, float, tuple[int, int], bool]:
    """Slope, intercept, ends of the stored range, and whether these are whole numbers at all."""
    head = one.header
    usable = not head.get("ModalityLUTSequence") and head.get("BitsStored") is not None  # float pixels do not say bits
    return (*one.rescale, stored_range(head), usable)
