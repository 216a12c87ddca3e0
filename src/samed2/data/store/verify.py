"""Checking a store: every byte of every file, and that what is in them agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from samed2.data.store import canonical
from samed2.data.store.finish import content_hash
from samed2.data.store.manifest import LOCK, NAME, SHARDS, Manifest, ShardInfo, load_manifest
from samed2.data.store.schema import row_digest
from samed2.data.store.shard_file import ShardFile
from samed2.data.store.shards import file_sha256
from samed2.errors import InputError


def verify(
    path: Path | str, *, decode: bool = True, progress: Callable[[int, int, str], None] | None = None
) -> list[str]:
    """Problems of a store, one line each; none if all is well.

    Checked are the manifest and every sidecar (their own checksums, byte for byte), the SHA-256 of every shard, files
    that are missing or do not belong, and with `decode` that every image and mask decodes to the content that the
    digest of its row says, that rows and manifest agree on splits, and the content hash.

    Raises:
        InputError: there is no finished store of this schema at all.
    """
    root = Path(path)
    try:
        manifest = load_manifest(root)
    except InputError as error:
        if not (root / NAME).is_file() or "schema version" in str(error):
            raise
        return [str(error)]
    problems: list[str] = []
    digests: list[str] = []
    splits = manifest.case_splits()
    for number, shard in enumerate(manifest.shards):
        found = _check_files(root, shard)
        if not found and decode:
            found = _check_rows(root / shard.file, shard, splits, digests)
        problems += found
        if progress is not None:
            progress(number + 1, len(manifest.shards), shard.file)
    problems += _strangers(root, manifest)
    if decode and not problems and content_hash(digests) != manifest.content_hash:
        problems.append(f"{root / NAME}: its content hash is not that of its rows; build the store again")
    return problems


def _check_files(root: Path, shard: ShardInfo) -> list[str]:
    problems = []
    for name, wanted in ((shard.file, shard.sha256), (shard.sidecar, shard.sidecar_sha256)):
        file = root / name
        if not file.is_file():
            problems.append(f"{file}: is missing; build the store again to repair it")
        elif file_sha256(file) != wanted:
            problems.append(
                f"{file}: was changed, its SHA-256 is not the manifest's; build the store again to repair it"
            )
    if problems:
        return problems
    try:
        canonical.from_file(root / shard.sidecar)
    except InputError as error:
        return [str(error)]
    return []


def _check_rows(path: Path, info: ShardInfo, splits: dict[str, dict[str, str]], digests: list[str]) -> list[str]:
    problems = []
    try:
        shard = ShardFile(path)
    except InputError as error:
        return [str(error)]
    if shard.rows != info.rows:
        problems.append(f"{path}: has {shard.rows} rows, the manifest says {info.rows}")
    for number in range(shard.rows):
        row = shard.row(number)
        digests.append(row["digest"])
        problems += [
            f"{path}: row {number} ({row['dataset']}/{row['case']}): {line}" for line in _check_row(row, splits)
        ]
    return problems


def _check_row(row: dict[str, Any], splits: dict[str, dict[str, str]]) -> list[str]:
    problems = []
    try:
        if row_digest(row) != row["digest"]:
            problems.append("its content is not what its digest says")
    except InputError as error:
        problems.append(str(error))
    said = splits.get(row["dataset"], {}).get(row["case"])
    if said != row["split"]:
        problems.append(f"is in split {row['split']!r}, the manifest says {said!r}")
    return problems


def _strangers(root: Path, manifest: Manifest) -> list[str]:
    """Files that no finished build leaves there."""
    known = {NAME, LOCK, *(s.file for s in manifest.shards), *(s.sidecar for s in manifest.shards)}
    found = [*root.glob("*"), *(root / SHARDS).glob("*")]
    strange = sorted(p for p in found if p.is_file() and p.relative_to(root).as_posix() not in known)
    return [f"{p}: does not belong to the store; remove it or build again" for p in strange]
