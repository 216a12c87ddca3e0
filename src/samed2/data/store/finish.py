"""From finished shards to the manifest."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from samed2.data.convert.registry import Source
from samed2.data.store.duplicates import Mark, find_duplicates
from samed2.data.store.manifest import Manifest, ShardInfo, tables
from samed2.data.store.plan import ShardJob
from samed2.data.store.schema import FORMAT, VERSION
from samed2.data.store.shard_file import ShardFile
from samed2.data.store.shards import file_sha256
from samed2.errors import InputError

LIBRARIES = ("samed2", "numpy", "pillow", "pyarrow", "scipy")


def make_manifest(
    root: Path,
    jobs: Sequence[ShardJob],
    records: Sequence[dict[str, Any]],
    sources: Sequence[Source],
    dropped: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    warnings: Sequence[str],
) -> Manifest:
    """The manifest of shards that are all on disk; `records` are their sidecars.

    Raises:
        InputError: not one case could be used.
    """
    dropped = [*dropped, *(entry for record in records for entry in record["dropped"])]
    if not any(record["rows"] for record in records):
        raise InputError(f"{root}: none of {len(dropped)} cases can be used; the first: {dropped[0]['reason']}")
    counts, content, splits = _count(job.arrow for job in jobs)
    duplicates = find_duplicates([m for record, job in zip(records, jobs, strict=True) for m in _marks(record, job)])
    datasets = tables(counts, dropped)
    for name, table in datasets.items():
        table["duplicates"] = {kind: _pairs_of(name, duplicates[kind]) for kind in ("exact", "near")}
    return Manifest(
        content_hash=content,
        settings=settings,
        sources=sorted(
            ({"name": s.name, "converter": s.converter, "root": str(s.root), "licence": s.licence} for s in sources),
            key=str,
        ),
        datasets=datasets,
        splits=splits,
        dropped=sorted(dropped, key=lambda d: (d["dataset"], d["name"], d["reason"])),
        left_out=[entry for record in records for entry in record["left_out"]],
        duplicates=duplicates,
        warnings=[*warnings, *(line for record in records for line in record["warnings"])],
        shards=[_info(root, job, record) for job, record in zip(jobs, records, strict=True)],
        versions={name: _version(name) for name in LIBRARIES},
    )


def content_hash(digests: Iterable[str]) -> str:
    """The hash of a store from the digests of its rows in order of (data set, case, frame)."""
    whole = hashlib.sha256(f"{FORMAT} {VERSION}\n".encode())
    for digest in digests:
        whole.update(f"{digest}\n".encode())
    return whole.hexdigest()


def _count(paths: Iterable[Path]) -> tuple[dict[str, dict[str, Any]], str, dict[str, dict[str, list[str]]]]:
    """(per data set counts, content hash, data set -> split -> cases) from the shards' light columns."""
    digests: list[str] = []
    cases: dict[str, dict[str, str]] = defaultdict(dict)
    frames: Counter[str] = Counter()
    shown: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for path in paths:
        columns = ("dataset", "case", "split", "masks", "digest")
        table = ShardFile(path).index().select(columns)
        for dataset, case, split, masks, digest in zip(*(table[c].to_pylist() for c in columns), strict=True):
            digests.append(digest)
            cases[dataset][case] = split
            frames[dataset] += 1
            shown[dataset].update((mask["object"], case) for mask in masks)
    counts: dict[str, dict[str, Any]] = {}
    splits: dict[str, dict[str, list[str]]] = {}
    for dataset, found in cases.items():
        by_split: dict[str, list[str]] = defaultdict(list)
        for case, split in found.items():
            by_split[split].append(case)
        splits[dataset] = {split: sorted(names) for split, names in sorted(by_split.items())}
        counts[dataset] = {
            "kept": len(found),
            "frames": frames[dataset],
            "objects": dict(sorted(Counter(name for name, _ in shown[dataset]).items())),
            "splits": {split: len(names) for split, names in splits[dataset].items()},
        }
    return counts, content_hash(digests), splits


def _marks(record: dict[str, Any], job: ShardJob) -> Iterable[Mark]:
    dataset = job.entries[0].case.dataset
    for case in record["cases"]:
        hashes = case["hashes"]
        for frame, (exact, near) in enumerate(hashes):
            yield Mark(dataset, case["name"], case["split"], case["modality"], frame, len(hashes), exact, near)


def _pairs_of(dataset: str, pairs: Sequence[dict[str, Any]]) -> int:
    return sum(any(str(pair[side]).startswith(f"{dataset}/") for side in ("a", "b")) for pair in pairs)


def _info(root: Path, job: ShardJob, record: dict[str, Any]) -> ShardInfo:
    return ShardInfo(
        file=job.arrow.relative_to(root).as_posix(),
        sha256=record["file_sha256"],
        bytes=record["bytes"],
        rows=record["rows"],
        sidecar=job.sidecar.relative_to(root).as_posix(),
        sidecar_sha256=file_sha256(job.sidecar),
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
