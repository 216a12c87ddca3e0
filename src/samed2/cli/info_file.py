"""What is known about one file or folder, without looking at all of its pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samed2.cli.segment_case import Reading
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.io import Geometry, Scan


def describe(path: Path, window: str | None, reading: Reading) -> dict[str, Any]:
    """Return the facts by name; only the list of series where there are several to choose from.

    Raises:
        InputError: it cannot be read, or an option does not fit.
    """
    series = _series(path)
    if len(series) > 1 and reading.series is None:
        return {"file": str(path), "series": series, "next": "choose one with --series NUMBER"}
    scan = _open(path, reading)
    return {**_facts(scan, window), **({"series": series} if len(series) > 1 else {})}


def _open(path: Path, reading: Reading) -> Scan:
    """The scan; of a 4-D file without a choice the first volume, which tells how many there are."""
    try:
        return reading.open(path)
    except InputError:
        if reading.time is not None:
            raise
        try:
            first = replace(reading, time=0).open(path)
        except InputError:
            first = None
        if first is None:  # it was something else
            raise
        return first


def _series(path: Path) -> list[dict[str, Any]]:
    """The DICOM series in a folder or archive; [] of anything else."""
    from samed2.cli.cases import is_dicom_folder
    from samed2.io import list_series

    if not is_dicom_folder(path) and not (path.is_file() and path.suffix.lower() == ".zip"):
        return []
    return [one.to_dict() for one in list_series(path)]


def _facts(scan: Scan, window: str | None) -> dict[str, Any]:
    from samed2.io import resolve_window

    applied = resolve_window(scan, window)  # may read frames, and so add warnings
    known, kept = scan.geometry.known, scan.properties
    points = kept.get("time_points")
    facts: dict[str, Any] = {
        "file": scan.label,
        "kind": scan.kind,
        "modality": scan.modality,
        "reader": kept.get("reader"),
        "shape (frames, rows, columns)": list(scan.shape),
        "channels": scan.channels,
        "dtype": str(scan.dtype),
        "time points": f"{points}, this is {kept.get('time', 0)}" if points else None,
        "frames per second": kept.get("fps"),
        "spacing (frame, y, x) in mm": [float(v) for v in scan.geometry.spacing] if known else None,
        "evenly spaced": "no" if kept.get("evenly_spaced") is False else None,
        "even runs": kept.get("even_runs"),
        "orientation (frame, y, x)": orientation(scan.geometry) if known else None,
        "centre (RAS) in mm": _centre(scan) if known else None,
        "window": applied.to_dict(),
        "description": kept.get("description") or None,
        "warnings": list(scan.warnings) or "none",
    }
    always = ("spacing (frame, y, x) in mm", "orientation (frame, y, x)")
    return {name: value for name, value in facts.items() if value is not None or name in always}


def orientation(geometry: Geometry) -> str:
    """Return where the frames, rows and columns grow to, such as "SPL": up, back and left; "oblique" by how much."""
    import numpy as np

    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    free = [0, 1, 2]
    letters = [""] * 3
    for axis in np.argsort(-np.abs(axes).max(axis=0)):  # the clearest one first, each direction once
        way = max(free, key=lambda k: abs(axes[k, axis]))
        free.remove(way)
        letters[axis] = "RAS"[way] if axes[way, axis] > 0 else "LPI"[way]
    tilt = max(float(np.degrees(np.arccos(min(1.0, np.abs(axes[:, i]).max())))) for i in range(3))
    return "".join(letters) + (f", oblique by {tilt:.1f} degrees" if tilt > 0.5 else "")


def _centre(scan: Scan) -> list[float]:
    middle = [(side - 1) / 2 for side in scan.shape]
    return [round(float(v), 2) for v in scan.geometry.to_mm(middle)]
