"""Which layout a folder of images and labels has, and the cases in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samed2.data.cases import Case, Dropped
from samed2.data.convert import find_cases
from samed2.data.convert.files import IMAGE_SUFFIXES, open_image
from samed2.data.convert.names import slug
from samed2.data.convert.registry import Source
from samed2.data.convert.templates import walk
from samed2.data.folders.meaning import Meaning, look_at_labels, meaning_of, names_beside
from samed2.data.folders.pairing import Pair, pair_files
from samed2.data.folders.patients import patients_of
from samed2.errors import InputError

LAYOUTS = """pairs of image and label files (images/ and masks/, imagesTr/ and labelsTr/, NAME.png and NAME_mask.png,
NAME.nii.gz and NAME_seg.nii.gz, CASE/image.nii.gz and CASE/label.nii.gz, images/ and masks_OBJECT/), DICOM series with
SEG or RTSTRUCT, items.csv, a MedBank store, or a data.yaml"""
OBJECT = "object"  # what the only object is called where nothing says more


@dataclass
class Found:
    """A recognised folder.

    Attributes:
        layout: what was recognised, in words.
        cases: unread; `split` where the folder says one.
        source: how to find them again; None where `open_cases(root)` does.
        unused: (file or case, why) of everything else that looks like data.
        notes: what should be told.
    """

    root: Path
    layout: str
    cases: list[Case]
    source: Source | None = None
    unused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recognise(root: Path, modality: str = "", labels: Mapping[str, int] | None = None) -> Found:
    """Recognise the layout of a folder (or of a data.yaml) and find its cases; reads labels, but no images.

    Args:
        modality: of all cases, where the files do not say.
        labels: object -> value in the label files; others are background then.

    Raises:
        InputError: no such folder, nothing of a known layout in it, or labels without a meaning.
    """
    root = Path(root)
    given = dict(labels or {})
    if not root.exists():
        raise InputError(f"{root}: does not exist; check the path")
    ready = _ready(root)
    if ready is not None:
        if given:
            raise InputError(f"--label: {root} names its objects itself ({ready.layout}); leave --label out")
        return ready
    if not root.is_dir():
        raise InputError(f"{root}: is a file, wanted a folder of images and labels")
    files = [path for path in walk(root) if not any(part.startswith(".") for part in path.split("/"))]
    dicom = [path for path in files if _is_dicom(root / path)]
    slicer = any(path.lower().endswith((".seg.nrrd", ".seg.nhdr")) for path in files)
    found = _clinic(root, modality, given) if dicom or slicer else None
    if found is not None and found.cases:
        return found
    pairs = _pairs(root, files, modality, given)
    if pairs is not None:
        return pairs
    raise InputError(_nothing(root, files, found))


def _ready(root: Path) -> Found | None:
    """A folder that says itself what it holds."""
    from samed2.data import open_cases

    for file, layout in (("manifest.json", "a MedBank store"), ("items.csv", "a folder with items.csv")):
        if (root / file).is_file():
            return Found(root, layout, open_cases(root))
    if root.suffix in (".yaml", ".yml") and root.is_file():
        return Found(root, "a description of data", open_cases(root))
    return None


def _clinic(root: Path, modality: str, labels: Mapping[str, int]) -> Found:
    """DICOM series with SEG or RTSTRUCT, or 3D Slicer's files."""
    if labels:
        raise InputError(f"--label: DICOM and .seg.nrrd labels in {root} have names of their own; leave --label out")
    source = Source(root, slug(root.resolve().name), "dicom", modality)
    cases, unused = [], []
    for one in find_cases(source):
        if isinstance(one, Dropped):
            unused.append((one.name, one.reason))
        else:
            cases.append(one)
    return Found(root, "DICOM series with SEG or RTSTRUCT, or NRRD with segments", cases, source, unused)


def _pairs(root: Path, files: Sequence[str], modality: str, given: Mapping[str, int]) -> Found | None:
    pairing = pair_files(path for path in files if path.lower().endswith(IMAGE_SUFFIXES))
    if not pairing.pairs:
        return None
    other = Counter(Path(path).suffix.lower() or "(no suffix)" for path in files if not _expected(path))
    unused = pairing.unused + [(f"{count} {suffix} files", "not an image format") for suffix, count in other.items()]
    named, told = names_beside(root)
    objects = list(dict.fromkeys(name for pair in pairing.pairs for name in pair.labels))
    single = objects == [""] and all(len(pair.labels[""]) == 1 for pair in pairing.pairs)
    meaning = _meaning(root, pairing.pairs, objects, single, named, given)
    patients = patients_of([pair.image for pair in pairing.pairs])
    names = _names([pair.image.path for pair in pairing.pairs])
    entries: list[dict[str, Any]] = []
    for pair, patient, name in zip(pairing.pairs, patients, names, strict=True):
        entry: dict[str, Any] = {"name": name, "image": pair.image.path}
        if single:
            entry["label"] = pair.labels[""][0]
        else:
            entry["labels"] = {
                one or OBJECT: paths if len(paths) > 1 else paths[0] for one, paths in pair.labels.items()
            }
        if patient and patient != name:
            entry["patient"] = patient
        if _frames(root / pair.image.path) > 1:
            entry["kind"] = "volume"
        entries.append(entry)
    source = Source(
        root,
        slug(root.resolve().name),
        "listed",
        modality or told,
        objects=meaning.objects,
        layout={"allow_empty": True, "ignore_other_labels": meaning.ignore_other, "cases": entries},
    )
    split_of = {name: pair.image.split for name, pair in zip(names, pairing.pairs, strict=True)}
    cases = [replace(one, split=split_of[one.name]) for one in find_cases(source) if isinstance(one, Case)]
    notes = [*meaning.notes]
    if any(patients):
        grouped = len({patient or name for patient, name in zip(patients, names, strict=True)})
        notes.append(f"names say that {len(names)} cases come from {grouped} patients or folders: these stay together")
    return Found(root, _words(pairing.pairs), cases, source, unused, notes)


def _meaning(
    root: Path,
    pairs: Sequence[Pair],
    objects: Sequence[str],
    single: bool,
    named: Mapping[str, int],
    given: Mapping[str, int],
) -> Meaning:
    """Rules of all objects: of the values of one label file, or of each object's own files."""
    if single:
        paths = [root / pair.labels[""][0] for pair in pairs]
        return meaning_of(look_at_labels(paths), OBJECT, named, given, f"{root}: label files")
    if given:
        raise InputError(f"--label: each object has its own files in {root} ({', '.join(objects)}); leave --label out")
    rules: dict[str, Any] = {}
    notes: list[str] = []
    for one in objects:
        name = one or OBJECT
        paths = [root / path for pair in pairs for path in pair.labels.get(one, ())]
        values = look_at_labels(paths)
        if values.looked_at and not values.above:
            notes.append(f"{name}: no pixel in any of its {len(paths)} label files")
            rules[name] = ">0"
            continue
        meaning = meaning_of(values, name, {}, {}, f"{root}: label files of {name}", single=True)
        rules |= meaning.objects
        notes += [note if note.startswith(name) else f"{name}: {note}" for note in meaning.notes]
    return Meaning(rules, tuple(notes))


def _frames(path: Path) -> int:
    """Frames of a file that may have several without being named like a volume; 1 where the check will tell more."""
    if path.suffix.lower() not in (".tif", ".tiff", ".dcm"):
        return 1
    try:
        return open_image(path).num_frames
    except InputError:
        return 1


def _names(paths: Sequence[str]) -> list[str]:
    """Case names: the path below what all images share, without suffix; the suffix too where it tells them apart."""
    folders = [path.split("/")[:-1] for path in paths]
    levels = enumerate(zip(*folders, strict=False))  # as deep as the shallowest
    shared = next((n for n, names in levels if len(set(names)) > 1), min(map(len, folders)))
    short = ["/".join(path.split("/")[shared:]) for path in paths]
    bare = [_without_suffix(path) for path in short]
    many = Counter(bare)
    return [name if many[name] == 1 else path for name, path in zip(bare, short, strict=True)]


def _without_suffix(path: str) -> str:
    for ending in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if path.lower().endswith(ending):
            return path[: -len(ending)]
    return path


def _words(pairs: Sequence[Pair]) -> str:
    """The layout by its first pair."""
    first = pairs[0]
    labels = [path for paths in first.labels.values() for path in paths]
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f"pairs of image and label files, such as {first.image.path} and {labels[0]}{more}"


def _expected(path: str) -> bool:
    """Whether a file needs no word: an image, or what usually lies beside images."""
    usual = (".txt", ".csv", ".json", ".md", ".yaml", ".yml", ".pdf", ".xlsx", ".html")
    return path.lower().endswith((*IMAGE_SUFFIXES, *usual)) or "." not in path.rpartition("/")[2]


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(tuple(end for end in IMAGE_SUFFIXES if end != ".dcm")):
        return False
    try:
        with open(path, "rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _nothing(root: Path, files: Sequence[str], clinic: Found | None) -> str:
    """Why no case was found, with what is there."""
    if clinic is not None and clinic.unused:
        name, reason = clinic.unused[0]
        return f"{root}: no case can be used; {len(clinic.unused)} were found, the first, {name}: {reason}"
    kinds = Counter(Path(path).suffix.lower() or "(no suffix)" for path in files)
    have = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6)) or "no files"
    images = sum(path.lower().endswith(IMAGE_SUFFIXES) for path in files)
    why = (
        "no label belongs to an image by its name"
        if images
        else "none is an image; convert arrays, videos and annotation files to PNG or NIfTI first"
    )
    return f"{root}: has {have}: {why}. Known layouts: {' '.join(LAYOUTS.split())}"
