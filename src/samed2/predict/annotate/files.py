"""The files of one case of an annotation: mask, description, overlay, thumbnail."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, Window, atomic_path, read, write
from samed2.io.atomic import make_folder
from samed2.io.readers import suffixes
from samed2.predict.annotate.state import Entry
from samed2.predict.rows import box_of

CASES, THUMBS = "cases", "thumbs"
_THUMB = 360  # pixels, longer side


def write_case(
    out: Path,
    entry: Entry,
    scan: Scan,
    result: Segmentation | None,
    window: Window | str | None,
    extra: tuple[tuple[str, str], ...],
    *,
    mask: bool = True,
) -> Entry:
    """Write what belongs to a result, or for None a picture of the scan; the entry with files and figures filled in.

    Args:
        mask: write the mask file too; else the one there stays.
    """
    base = out / CASES / entry.stem
    for folder in (base.parent, (out / THUMBS / entry.stem).parent):
        make_folder(folder)
    written: list[Path] = []
    shown = result
    if result is None:
        shown = Segmentation(np.zeros(scan.shape, np.uint8), [], scan.geometry, {}, scan.name, scan.properties)
        entry = replace(entry, mask="", digest="", box=[], area=0)
    else:
        target = Path(f"{base}_mask{'.png' if scan.num_frames == 1 and scan.kind == 'image' else '.nii.gz'}")
        written += write(result, target, scan=scan) if mask else [out / entry.mask]
        for name, ending in (("json", ".json"), *extra):
            written += write(result, Path(f"{base}{ending}"), name, scan, window)
        masks = result.labels == 1
        area, box = _extent(masks)
        entry = replace(entry, mask=written[0].relative_to(out).as_posix(), digest=digest_of(masks), area=area, box=box)
    assert shown is not None
    overlay = Path(f"{base}_overlay.png")
    written += write(shown, overlay, "overlay", scan, window)
    written.append(_thumbnail(overlay, Path(f"{out / THUMBS / entry.stem}.jpg")))
    return replace(entry, files=[path.relative_to(out).as_posix() for path in written])


def read_mask(path: Path, scan: Scan) -> NDArray[np.bool_]:
    """The (T, H, W) mask that a file holds: what is not 0.

    Raises:
        InputError: it is missing, damaged, or on another grid than the scan.
    """
    drawn = read(path)
    masks = np.stack([frame.any(axis=-1) if frame.ndim == 3 else frame != 0 for frame in drawn])
    if masks.shape != scan.shape:
        raise InputError(f"{path}: has shape {masks.shape}, {scan.label} has {scan.shape} (frame, y, x)")
    return np.asarray(masks, bool)


def digest_of(masks: NDArray[np.bool_]) -> str:
    """A short hash of masks."""
    return hashlib.sha256(repr(masks.shape).encode() + np.packbits(masks).tobytes()).hexdigest()[:16]


def without_suffix(name: str) -> str:
    """A case's name without the suffix of its file."""
    for ending in sorted(suffixes(), key=len, reverse=True):
        if name.lower().endswith(ending) and len(name.rsplit("/", 1)[-1]) > len(ending):
            return name[: -len(ending)]
    return name


def remove_halves(out: Path) -> None:
    """Take away what a killed process was writing below `out`, which nobody else writes to."""
    for path in out.rglob(".*.part*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def remove(out: Path, names: set[str]) -> None:
    """Take away files below `out`; those that are gone or held by others do not matter."""
    for name in names:
        with contextlib.suppress(OSError):
            (out / name).unlink(missing_ok=True)


def _extent(masks: NDArray[np.bool_]) -> tuple[int, list[int]]:
    """Pixels in all, and (frame, x0, y0, x1, y1) on the largest frame, [] for none."""
    areas = masks.sum(axis=(1, 2))
    if not areas.any():
        return 0, []
    frame = int(areas.argmax())
    y0, x0, y1, x1 = (int(value) for value in box_of(masks[frame]))
    return int(areas.sum()), [frame, x0, y0, x1, y1]


def _thumbnail(overlay: Path, path: Path) -> Path:
    from PIL import Image

    with Image.open(overlay) as opened:
        picture: Any = opened.convert("RGB")
    picture.thumbnail((_THUMB, _THUMB * 2))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="JPEG", quality=80)
    return path
