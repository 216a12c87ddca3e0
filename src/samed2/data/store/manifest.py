"""The manifest: what a store holds, what it was made of, and what could not be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samed2.data.store import canonical
from samed2.data.store.schema import FORMAT, VERSION
from samed2.errors import InputError
from samed2.io.atomic import atomic_write

NAME = "manifest.json"
PREVIOUS = "manifest.previous.json"  # during a rebuild: keeps the frozen splits, but is no manifest
LOCK = "building.lock"
SHARDS = "shards"


@dataclass(frozen=True)
class ShardInfo:
    """One Arrow file: `file` and `sidecar` relative to the store, with their SHA-256."""

    file: str
    sha256: str
    bytes: int
    rows: int
    sidecar: str
    sidecar_sha256: str


@dataclass
class Manifest:
    """The record of a finished store.

    Attributes:
        content_hash: SHA-256 over the digests of all rows in order; time, machine, workers, order of sources and
            interruptions do not enter.
        settings: max_side, seed, fractions.
        sources: one {"name", "converter", "root", "licence"} per source.
        datasets: per data set, in cases: {"found", "kept", "dropped", "frames", "objects" (object -> cases that show
            it), "reasons" (kind of reason -> cases), "splits", "duplicates" (listed pairs across splits)}.
        splits: data set -> split -> names of cases, frozen: a later build into the same folder keeps them.
        dropped, left_out: {"dataset", "name", "reason", "files"}: cases not in the store; objects of kept cases.
        duplicates: see `duplicates.find_duplicates`.
        warnings: one line each.
        shards: in the order of their rows.
        versions: of samed2 and the libraries that wrote it.
        built: when, how long, with how many workers; not part of any hash but the manifest's own.
    """

    content_hash: str
    settings: dict[str, Any]
    sources: list[dict[str, Any]]
    datasets: dict[str, dict[str, Any]]
    splits: dict[str, dict[str, list[str]]]
    dropped: list[dict[str, Any]]
    left_out: list[dict[str, Any]]
    duplicates: dict[str, Any]
    warnings: list[str]
    shards: list[ShardInfo]
    versions: dict[str, str]
    built: dict[str, Any] = field(default_factory=dict)
    schema: int = VERSION
    format: str = FORMAT

    @property
    def rows(self) -> int:
        """Frames in the store."""
        return sum(shard.rows for shard in self.shards)

    @property
    def cases(self) -> int:
        """Cases in the store."""
        return sum(len(names) for by_split in self.splits.values() for names in by_split.values())

    def case_splits(self) -> dict[str, dict[str, str]]:
        """Data set -> case -> split."""
        return {
            dataset: {name: split for split, names in by_split.items() for name in names}
            for dataset, by_split in self.splits.items()
        }

    def table(self) -> list[tuple[str, int, int, int, int, str]]:
        """Per data set (name, cases read, kept, dropped, frames kept, reasons for dropping)."""
        return [
            (
                name,
                t["found"],
                t["kept"],
                t["dropped"],
                t["frames"],
                "; ".join(f"{n} {r}" for r, n in t["reasons"].items()),
            )
            for name, t in self.datasets.items()
        ]

    def save(self, root: Path) -> None:
        """Write it into a store's folder."""
        atomic_write(root / NAME, canonical.to_text(asdict(self)))


def load_manifest(root: Path) -> Manifest:
    """The manifest of a finished store.

    Raises:
        InputError: no store there, one that is being written or was left unfinished, damage, or another schema.
    """
    return parse_manifest(_find(root))


def parse_manifest(path: Path) -> Manifest:
    """Read one file; see `load_manifest`."""
    try:
        head = json.loads(path.read_bytes())
    except (OSError, ValueError):
        head = None  # said properly below
    if isinstance(head, dict) and head.get("format") == FORMAT and head.get("schema") != VERSION:
        found = head.get("schema")
        newer = isinstance(found, int) and found > VERSION
        way_out = "update samed2" if newer else "build it again from its sources"
        raise InputError(f"{path}: has schema version {found}, this samed2 reads version {VERSION}; {way_out}")
    value = canonical.from_file(path)
    value.pop("sha256", None)
    if value.get("format") != FORMAT:
        raise InputError(f"{path}: is not the manifest of a MedBank store, its format is {value.get('format')!r}")
    try:
        return Manifest(**{**value, "shards": [ShardInfo(**shard) for shard in value["shards"]]})
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: is not a whole manifest ({error}); build the store again") from error


def is_store(root: Path) -> bool:
    """Whether a folder is a store, finished or not."""
    return any((root / name).exists() for name in (NAME, PREVIOUS, LOCK))


def _find(root: Path) -> Path:
    from samed2.io.lock import holder

    path = root / NAME
    if path.is_file():
        return path
    if not is_store(root):
        raise InputError(f"{root}: is not a MedBank store (it has no {NAME}); make one with `samed2 medbank build`")
    writer = holder(root / LOCK)
    if writer is not None:
        raise InputError(f"{root}: is being written by {writer}; wait until its build has ended")
    raise InputError(f"{root}: its build was interrupted; run the same `samed2 medbank build` again to finish it")


def tables(
    datasets: Mapping[str, Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Counts per data set with the reasons for dropping added; a reason's kind is what stands before its colon."""
    result: dict[str, dict[str, Any]] = {}
    for name in sorted({*datasets, *(entry["dataset"] for entry in dropped)}):
        table = dict(datasets.get(name, {"kept": 0, "frames": 0, "objects": {}, "splits": {}}))
        reasons: dict[str, int] = {}
        for entry in dropped:
            if entry["dataset"] == name:
                kind = entry["kind"]
                reasons[kind] = reasons.get(kind, 0) + 1
        table["dropped"] = sum(reasons.values())
        table["found"] = table["kept"] + table["dropped"]
        table["reasons"] = dict(sorted(reasons.items()))
        result[name] = table
    return result
