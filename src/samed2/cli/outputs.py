"""Where results go: one name per image and format, checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.io import Scan, Segmentation

SUFFIXES = {
    "label-png": "_mask.png",
    "nifti": "_mask.nii.gz",
    "json": ".json",
    "overlay": "_overlay.png",
}  # what any image can have
FORMATS = {
    **SUFFIXES,
    "nrrd": "_mask.seg.nrrd",
    "mha": "_mask.mha",
    "label-tiff": "_mask.tif",
    "dicom-seg": "_seg.dcm",
    "rtstruct": "_rtstruct.dcm",
    "geojson": ".geojson",
    "stl": ".stl",
    "obj": ".obj",
    "measures": "_measures.csv",
    "overlay-video": "_overlay.mp4",
}  # all, some of which need a DICOM source or an object that was found


def stem(path: Path) -> str:
    """Return a file's name without its suffix, `.nii.gz` being one; a folder's whole name."""
    if path.is_dir():
        return path.name if path.name not in ("", "..") else path.resolve().name or "root"
    name = path.name
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else path.stem


def is_folder(out: str, images: int) -> bool:
    """Return whether --out means a folder: it exists as one, ends with "/", has no suffix, or serves many."""
    path = Path(out)
    return images > 1 or path.is_dir() or out.endswith(("/", os.sep)) or not path.suffix


def plan(
    image: Path, out: str | None, images: int, formats: Sequence[str], overlay: bool, name: str | None = None
) -> list[tuple[str, Path]]:
    """Return (format, file) for each result of one image; the format is "" where the file's suffix decides.

    Args:
        images: how many there are in all.
        name: what results in a folder are called; the image's stem when None.

    Raises:
        InputError: a format that is not known, several formats for one file, or a result over its own image.
    """
    for one in formats:
        if one not in FORMATS:
            raise InputError(f"--format {one}: unknown, wanted one of {', '.join(FORMATS)}")
    name = name or stem(image)
    wanted = list(dict.fromkeys(formats))
    if out is None or is_folder(out, images):
        folder = Path(out) if out is not None else Path()
        files = [(one, folder / (name + FORMATS[one])) for one in wanted]
    else:
        if len(wanted) > 1:
            raise InputError(f"--out {out}: is one file for {len(wanted)} formats; give a folder")
        folder = Path(out).parent
        files = [(wanted[0] if wanted else "", Path(out))]
    if overlay and "overlay" not in wanted:
        base = name if out is None or is_folder(out, images) else stem(Path(out))
        files.append(("overlay", folder / (base + FORMATS["overlay"])))
    for _, file in files:
        if file.resolve() == image.resolve():
            raise InputError(f"--out {file}: is the image itself; give another name")
    return files


def check(plans: dict[Path, list[tuple[str, Path]]]) -> None:
    """Check that all results have a name of their own and folders that can be made and written.

    Raises:
        InputError: two images with one result's name, a suffix that does not fit the format, a file where a
            folder is meant, or no permission.
    """
    owner: dict[Path, Path] = {}
    for image, files in plans.items():
        for name, file in files:
            _check_suffix(name, file)
            other = owner.setdefault(file.resolve(), image)
            if other != image:
                raise InputError(f"{other} and {image}: would both be written to {file}; rename one of them")
    for folder in {file.parent for file in owner}:
        parent = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        if not parent.is_dir():
            raise InputError(f"--out {folder}: cannot be a folder, {parent} is a file; choose another name")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(f"--out {folder}: cannot be written (permission denied); choose another folder")


def _check_suffix(name: str, file: Path) -> None:
    from samed2.io.writers import WRITERS

    fitting = WRITERS[name].suffixes if name else tuple(e for w in WRITERS.values() for e in w.suffixes)
    if not file.name.lower().endswith(fitting):
        meant = f"for --format {name} " if name else ""
        wanted = ", ".join(dict.fromkeys(fitting))
        raise InputError(f"--out {file}: wanted a name that ends {meant}in {wanted}")


def write_all(result: Segmentation, scan: Scan, files: list[tuple[str, Path]], window: str | None) -> list[Path]:
    """Write a segmentation in each format and return the files written.

    Raises:
        InputError: the system refuses.
    """
    from samed2.io.atomic import make_folder
    from samed2.io.writers import write

    for folder in {file.parent for _, file in files}:
        make_folder(folder, "--out")
    written: list[Path] = []
    for name, path in files:
        written += write(result, path, format=name or None, scan=scan, window=window)
    return written


def print_objects(label: str, summary: dict[str, Any]) -> None:
    """Print one line per object of `Segmentation.to_dict()`: name, size, frames, confidence."""
    for entry in brief(summary):
        parts = [f"{entry['area_px']} px"]
        if entry["area_mm2"] is not None:
            parts.append(f"{entry['area_mm2']:.1f} mm2")
        if entry["volume_ml"] is not None:
            parts.append(f"{entry['volume_ml']:.2f} ml")
        if len(summary["shape"]) == 3 and summary["shape"][0] > 1 and entry["frames"]:
            first, last = entry["frames"]
            parts.append(f"frame {first}" if first == last else f"frames {first} to {last}")
        if entry["confidence"] is not None:
            parts.append(f"confidence {entry['confidence']:.2f}")
        print(f"{label}: {entry['name'] or 'object ' + str(entry['id'])}: {', '.join(parts)}")


def brief(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of `Segmentation.to_dict()` with their first and last frame and mean confidence there."""
    found = []
    for entry in summary["objects"]:
        frames = sorted(int(frame) for frame, there in entry["present"].items() if there)
        sure = [value for frame in frames if (value := entry["confidence"].get(str(frame))) is not None]
        found.append(
            {
                **{name: entry[name] for name in ("id", "name", "area_px", "area_mm2", "volume_ml")},
                "frames": [frames[0], frames[-1]] if frames else None,
                "confidence": round(sum(sure) / len(sure), 4) if sure else None,
            }
        )
    return found
