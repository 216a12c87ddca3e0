"""From a case to the rows of a shard."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case, LoadedCase
from samed2.data.store.codec import Packed, decode_frame, encode_mask, pack_lossless, pack_lossy, pack_source
from samed2.data.store.duplicates import frame_hashes
from samed2.data.store.resize import shrink_frame, shrink_geometry, shrink_mask, target_size
from samed2.data.store.schema import row_digest
from samed2.errors import InputError

CLIPPED = (0.05, 99.95)  # percentiles of a case that become black and white of an 8-bit copy
FINE = ("ct",)  # modalities that keep 1024 levels in a copy
_SAMPLED_FRAMES = 16


class Unusable(InputError):
    """A case that was read but has nothing to learn from or to test on."""


@dataclass
class CaseRows:
    """What one case gives: rows of the shard, hashes (exact, near) per frame, objects left out and why, warnings."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    hashes: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def case_rows(case: Case, max_side: int | None = None) -> CaseRows:
    """Read a case and pack all its frames.

    Raises:
        InputError: it cannot be read, or image and labels do not fit.
        Unusable: every mask is empty, or covers everything.
    """
    loaded = case.load()
    result = CaseRows()
    objects = _usable_objects(loaded, result.left_out)
    scan = loaded.scan
    old, new = (scan.height, scan.width), target_size(scan.height, scan.width, max_side)
    common = _common(loaded, objects, new)
    limits = _limits(loaded) if max_side is not None and scan.dtype != np.uint8 else (0.0, 255.0)
    for number in range(scan.num_frames):
        frame = scan.frame(number)
        pixels = shrink_frame(frame, new)
        packed = _pack(loaded, number, pixels, old == new, max_side is not None, limits)
        row = {**common, "frame": number, "codec": packed.codec, "image": packed.data}
        row |= {
            "slope": packed.slope,
            "intercept": packed.intercept,
            "masks": list(_masks(loaded, objects, number, new)),
        }
        if max_side is None and not _same(decode_frame(row), pixels):
            raise RuntimeError(f"{case.label}: frame {number} does not come back from {packed.codec} as it was")
        row["digest"] = row_digest(row)
        exact, near = frame_hashes(frame)
        # unlabelled ends of volumes look alike in everybody
        result.hashes.append((exact, near if row["masks"] or case.kind == "image" else ""))
        result.rows.append(row)
    result.warnings = list(scan.warnings)
    return result


def _usable_objects(loaded: LoadedCase, left_out: list[str]) -> tuple[str, ...]:
    """The objects without those that cover every pixel of the case; an object that is absent stays."""
    total = math.prod(loaded.scan.shape)
    pixels = {
        name: sum(int(loaded.masks.on_frame(name, frame).sum()) for frame in range(loaded.scan.num_frames))
        for name in loaded.masks.names
    }
    full = [name for name, count in pixels.items() if count == total]
    left = tuple(name for name in pixels if name not in full)
    if not pixels or not any(pixels.values()):
        raise Unusable(f"empty masks: no pixel of {', '.join(pixels) or 'any object'}")
    if not any(pixels[name] for name in left):
        raise Unusable(f"full masks: {', '.join(full)} covers every pixel")
    left_out += [f"full mask: {name} covers every pixel, left out" for name in full]
    return left


def _common(loaded: LoadedCase, objects: tuple[str, ...], new: tuple[int, int]) -> dict[str, Any]:
    case, scan = loaded.case, loaded.scan
    geometry = shrink_geometry(scan.geometry, (scan.height, scan.width), new)
    return {
        "dataset": case.dataset,
        "case": case.name,
        "patient": case.patient or case.name,
        "modality": case.modality,
        "kind": case.kind,
        "split": case.split,
        "licence": case.licence,
        "frames": scan.num_frames,
        "height": new[0],
        "width": new[1],
        "spacing": list(geometry.spacing) if geometry.known else [math.nan] * 3,
        "affine": [float(value) for value in geometry.affine.ravel()],
        "dtype": scan.dtype.name,
        "channels": scan.channels,
        "objects": list(objects),
        "file_window": [float(value) for value in scan.file_window or ()],
    }


def _pack(
    loaded: LoadedCase, number: int, pixels: NDArray[Any], same_size: bool, copy: bool, limits: tuple[float, float]
) -> Packed:
    source = _source_bytes(loaded, number) if same_size else None
    as_it_was = pack_source(source, pixels) if source else None
    if not copy:
        return as_it_was or pack_lossless(pixels)
    small = pack_lossy(pixels, limits, fine=loaded.case.modality in FINE and pixels.ndim == 2)
    return as_it_was if as_it_was and len(as_it_was.data) <= len(small.data) else small


def _source_bytes(loaded: LoadedCase, number: int) -> bytes | None:
    """The file that one frame came from, if it is a file of its own; whether it is the frame is checked later."""
    files = getattr(loaded.scan.source, "files", None)
    path = files[number] if files else loaded.scan.path if loaded.scan.num_frames == 1 else None
    if path is None or loaded.scan.dtype != np.uint8 or not Path(path).is_file():
        return None
    return Path(path).read_bytes()


def _masks(loaded: LoadedCase, objects: tuple[str, ...], number: int, new: tuple[int, int]) -> Iterator[dict[str, Any]]:
    for name in objects:
        mask = loaded.masks.on_frame(name, number)
        if mask.any():
            mask = shrink_mask(mask, new)
            yield {"object": name, "pixels": int(mask.sum()), "png": encode_mask(mask)}


def _limits(loaded: LoadedCase) -> tuple[float, float]:
    """What becomes black and white of an 8-bit copy, the same for all frames of the case."""
    chosen = np.unique(np.linspace(0, loaded.scan.num_frames - 1, _SAMPLED_FRAMES).round().astype(int))
    values = np.concatenate(
        [loaded.scan.frame(int(i)).ravel()[:: 1 + loaded.scan.frame(int(i)).size // 2**18] for i in chosen]
    )
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    percentiles = (0, 100) if loaded.case.modality in FINE else CLIPPED
    low, high = np.percentile(finite.astype(np.float64), percentiles)
    return float(low), float(high)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == np.ascontiguousarray(b).tobytes()
