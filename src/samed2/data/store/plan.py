"""What a build will do: cases of all sources without repeats, their splits, and the shards they go to."""

from __future__ import annotations

import glob
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samed2.data.cases import Case, Dropped
from samed2.data.convert.registry import Source
from samed2.data.store import canonical
from samed2.data.store.schema import FORMAT, VERSION

SHARD_WEIGHT = 128  # images in a shard
WEIGHTS = {"image": 1, "volume": 32, "video": 32}
Find = Callable[[Source], Iterable["Case | Dropped"]]


@dataclass(frozen=True)
class Entry:
    """A case with the folder that its messages are relative to, and what its source's options are."""

    case: Case
    root: str
    options: str


@dataclass(frozen=True)
class ShardJob:
    """Everything a worker needs to write one shard: consecutive cases of one data set.

    `key` changes when any file, option or setting that the shard depends on does.
    """

    folder: str
    stem: str
    entries: tuple[Entry, ...]
    max_side: int | None
    key: str
    builder: int  # process id

    @property
    def arrow(self) -> Path:
        return Path(self.folder) / f"{self.stem}.arrow"

    @property
    def sidecar(self) -> Path:
        return Path(self.folder) / f"{self.stem}.json"


def collect(sources: Sequence[Source], find: Find) -> tuple[list[Entry], list[dict[str, Any]]]:
    """All cases sorted by data set and name, and what cannot be used, whatever the order of the sources.

    Of two cases of one name the one whose source and files sort first is kept.
    """
    entries: list[Entry] = []
    dropped: list[dict[str, Any]] = []
    for source in sources:
        options = canonical.digest_of(_plain([source.name, source.converter, source.objects, source.layout]))
        for found in find(source):
            if isinstance(found, Dropped):
                dropped.append(
                    problem(found.dataset, found.name, _kind(found.reason), found.reason, found.files, str(source.root))
                )
            else:
                licensed = found if found.licence else replace(found, licence=source.licence)
                entries.append(Entry(licensed, str(source.root), options))
    entries.sort(key=lambda e: (e.case.dataset, e.case.name, e.options, [(p, n) for p, n, *_ in _stamps(e)]))
    kept: list[Entry] = []
    for entry in entries:
        if kept and (kept[-1].case.dataset, kept[-1].case.name) == (entry.case.dataset, entry.case.name):
            dropped.append(_same_name(kept[-1], entry))
        else:
            kept.append(entry)
    dropped.sort(key=lambda d: (d["dataset"], d["name"], d["reason"]))
    return kept, dropped


def shard_jobs(entries: Sequence[Entry], folder: Path, max_side: int | None) -> list[ShardJob]:
    """Cut sorted entries into shards by the names and kinds of the cases alone."""
    jobs: list[ShardJob] = []
    for dataset, stem in _stems(entries).items():
        for number, part in enumerate(_parts([e for e in entries if e.case.dataset == dataset])):
            name = f"{stem}-{number:05d}"
            jobs.append(ShardJob(str(folder), name, tuple(part), max_side, _key(part, max_side), os.getpid()))
    return jobs


def problem(
    dataset: str, name: str, kind: str, reason: str, files: Iterable[Path] = (), root: str = ""
) -> dict[str, Any]:
    """One line of the report, JSON-able, paths relative to the source."""
    shown = [_relative(path, root) for path in files]
    return {"dataset": dataset, "name": name, "kind": kind, "reason": tidy(reason, root), "files": shown}


def tidy(text: str, root: str) -> str:
    """A message on one line, with paths relative to the source."""
    text = " ".join(text.split())
    return text.replace(f"{root.rstrip(os.sep)}{os.sep}", "") if root else text


def _kind(reason: str) -> str:
    """The part of a converter's reason that others share: before its colon, if short."""
    head = reason.split(":")[0].strip()
    return head if 0 < len(head) <= 40 and "/" not in head else "not usable"


def _same_name(kept: Entry, other: Entry) -> dict[str, Any]:
    first = ", ".join(_relative(p, kept.root) for p in kept.case.files[:1]) or "the first"
    second = ", ".join(_relative(p, other.root) for p in other.case.files[:1]) or "the second"
    reason = f"two cases with one name: kept {first}, dropped {second}"
    return problem(other.case.dataset, other.case.name, "two cases with one name", reason, other.case.files, other.root)


def _stems(entries: Sequence[Entry]) -> dict[str, str]:
    """Data set -> start of its file names, safe and different on every file system."""
    stems: dict[str, str] = {}
    for dataset in sorted({entry.case.dataset for entry in entries}):
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", dataset)[:80]
        taken = {stem.lower() for stem in stems.values()}
        changed = safe != dataset or safe.lower() in taken
        stems[dataset] = f"{safe}_{zlib.crc32(dataset.encode()):08x}" if changed else safe
    return stems


def _parts(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    weight = 0
    for entry in entries:
        part.append(entry)
        weight += WEIGHTS.get(entry.case.kind, 1)
        if weight >= SHARD_WEIGHT:
            yield part
            part, weight = [], 0
    if part:
        yield part


def _key(entries: Sequence[Entry], max_side: int | None) -> str:
    """What a finished shard must have been made from to be trusted: names, options, sizes and times of files."""
    import PIL

    import samed2

    versions = [FORMAT, VERSION, samed2.__version__, PIL.__version__ if max_side is not None else ""]
    cases = [[_fields(e.case), e.options, _stamps(e)] for e in entries]
    return canonical.digest_of(_plain([versions, max_side, cases]))


def _fields(case: Case) -> list[Any]:
    names = ("dataset", "modality", "name", "kind", "objects", "patient", "split", "licence")
    return [getattr(case, name) for name in names]


def _stamps(entry: Entry) -> list[tuple[str, int, int, bool]]:
    """(relative path, bytes, time of change, readable) of every file of a case, folders opened; missing: -1."""
    stamps = []
    for path in entry.case.files:
        for file in _files(path):
            try:
                found = file.stat()
                stamp = (found.st_size, found.st_mtime_ns, os.access(file, os.R_OK))
            except OSError:
                stamp = (-1, 0, False)
            stamps.append((_relative(file, entry.root), *stamp))
    return stamps


def _files(path: Path) -> list[Path]:
    """The file, all files of a folder, or the files of that name with any suffix (an image's, in some layouts)."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    return [path] if path.exists() else sorted(path.parent.glob(f"{glob.escape(path.name)}.*")) or [path]


def _relative(path: Path | str, root: str) -> str:
    try:
        return Path(path).relative_to(root).as_posix() if root else str(path)
    except ValueError:
        return str(path)


def _plain(value: Any) -> Any:
    """JSON-able, tuples as lists and paths as text."""
    return json.loads(json.dumps(value, default=str))
