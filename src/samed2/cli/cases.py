"""Which cases the arguments of a batch mean, what they are called, and the format their results get by default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from samed2.errors import InputError

STACKS = ("video", "volume")
_BY_SUFFIX = {
    (".nii", ".nii.gz"): "nifti",
    (".nrrd", ".nhdr"): "nrrd",
    (".mha", ".mhd"): "mha",
    (".zip",): "dicom-seg",
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"): "label-tiff",
}


def expand(arguments: Sequence[Path], stack: str | None) -> list[Path]:
    """Return the cases: files, folders of one scan, the files of other folders, what @LIST files name; each once.

    Args:
        stack: "video" or "volume" where the images of a folder are the frames of one, else each is a case.

    Raises:
        InputError: a list that cannot be read or is empty.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        for path in _listed(argument):
            found.update(dict.fromkeys(_of_folder(path, stack) if path.is_dir() else [path]))
    return list(found)


def _listed(argument: Path) -> Iterator[Path]:
    """The lines of @LIST, sought from here or else beside the list; the argument itself otherwise."""
    if not str(argument).startswith("@") or argument.exists():
        yield argument
        return
    file = Path(str(argument).removeprefix("@"))
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(f"{file}: the list of cases cannot be opened ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{file}: is not text, wanted a list of cases, one path a line") from error
    paths = [line for line in lines if line and not line.startswith("#")]
    if not paths:
        raise InputError(f"{file}: names no case, wanted one path a line")
    for line in paths:
        path = Path(line)
        yield path if path.exists() or not (file.parent / path).exists() else file.parent / path


def _of_folder(folder: Path, stack: str | None) -> list[Path]:
    """The folder itself where it is one scan, else the files in it that can be read, in natural order."""
    from samed2.io import READERS  # registers the readers
    from samed2.io.read_folder import natural
    from samed2.io.readers import suffixes

    if stack is not None or is_dicom_folder(folder):
        return [folder]
    known = suffixes() if READERS else ()
    files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    files = [path for path in files if path.name.lower().endswith(known)]
    return sorted(files, key=lambda path: natural(path.name)) or [folder]


def is_dicom_folder(folder: Path) -> bool:
    """Return whether a folder has a DICOM file in it, at any depth."""
    from samed2.io.series_files import dicom_entries, files_below

    return folder.is_dir() and next(dicom_entries(files_below(folder)), None) is not None


def default_format(path: Path) -> str:
    """Return the format that suits what a case is."""
    if path.is_dir():
        return "dicom-seg" if is_dicom_folder(path) else "label-png"
    for endings, name in _BY_SUFFIX.items():
        if path.name.lower().endswith(endings):
            return name
    return "label-png"


def names_of(cases: Sequence[Path]) -> dict[Path, str]:
    """Return a name for the results of each case: its stem, after its folders' names where several share one."""
    from samed2.cli.outputs import stem

    names = {case: stem(case) for case in cases}
    for depth in range(1, 8):
        shared = {name for name, count in Counter(names.values()).items() if count > 1}
        if not shared:
            break
        for case, name in names.items():
            parents = case.resolve().parents
            if name in shared and depth <= len(parents) and parents[depth - 1].name:
                names[case] = f"{parents[depth - 1].name}_{name}"
    return names
