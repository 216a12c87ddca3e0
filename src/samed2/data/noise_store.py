"""A store with worse training masks: another store's rows with the masks of some cases replaced, and the record."""

from __future__ import annotations

import json
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from samed2.data.cases import Case
from samed2.data.noise import apply_change
from samed2.data.noise_cases import (
    NoisePlan,
    case_changes,
    choose_cases,
    compared,
    record_entry,
    summed_record,
)
from samed2.data.store import Manifest, Store, canonical
from samed2.data.store.codec import decode_mask, encode_mask
from samed2.data.store.finish import content_hash
from samed2.data.store.manifest import SHARDS, ShardInfo
from samed2.data.store.schema import arrow_schema, row_digest
from samed2.data.store.shard_file import ShardFile
from samed2.data.store.shards import file_sha256
from samed2.errors import InputError
from samed2.io.atomic import atomic_path, atomic_write

RECORD = "noise/record.json"
BATCH_ROWS = 64
Progress = Callable[[int, int, str], None]  # shards done, shards in all, file


def write_noisy_store(
    source: Path | str, out: Path | str, plan: NoisePlan, progress: Progress = lambda done, total, text: None
) -> tuple[Manifest, dict[str, Any]]:
    """Write a copy of a store with noise, and `noise/record.json` in it; images, splits and other masks stay.

    The folder appears whole or not at all. Lengths in pixels are those of the store, which may be a smaller copy.

    Returns:
        the manifest, whose `settings["noise"]` holds the plan and the record's checksum; the record of `summed_record`.

    Raises:
        InputError: no store, one that has noise already, `out` is in use, the disk is full, or the plan fits no case.
    """
    store, target = Store.open(source), Path(out)
    if "noise" in store.manifest.settings:
        raise InputError(
            f"{store.path}: has noise already ({store.manifest.settings['noise']['protocol']}); use a clean one"
        )
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target}: is not empty; choose a new folder")
    chosen = {(case.dataset, case.name): case for case in choose_cases(store.cases(), plan)}
    if not chosen and plan.fraction > 0:
        raise InputError(f"{store.path}: a fraction of {plan.fraction:g} is no case of any data set; take a larger one")
    half = target.with_name(f".{secrets.token_hex(4)}.part-{target.name}")
    try:
        (half / SHARDS).mkdir(parents=True)
        (half / RECORD).parent.mkdir()
        result = _write(store, half, chosen, plan, progress)
        if target.exists():
            target.rmdir()
        half.rename(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return result


def _write(
    store: Store, out: Path, chosen: dict[tuple[str, str], Case], plan: NoisePlan, progress: Progress
) -> tuple[Manifest, dict[str, Any]]:
    old = store.manifest
    entries: list[dict[str, Any]] = []
    shards = []
    for number, shard in enumerate(old.shards):
        shards.append(_write_shard(store.path, out, shard, chosen, plan, entries))
        progress(number + 1, len(old.shards), shard.file)
    record = summed_record(entries, plan)
    record["clean"] = old.content_hash
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    atomic_write(out / RECORD, text)
    digests, objects = _summary([out / shard.file for shard in shards])
    manifest = replace(
        old,
        content_hash=content_hash(digests),
        shards=shards,
        datasets={name: {**table, "objects": objects.get(name, {})} for name, table in old.datasets.items()},
        settings={**old.settings, "noise": {**plan.to_dict(), "record_sha256": file_sha256(out / RECORD)}},
        built={**old.built, "noise_added_to": old.content_hash},
    )
    manifest.save(out)
    return manifest, record


def _write_shard(
    root: Path,
    out: Path,
    shard: ShardInfo,
    chosen: dict[tuple[str, str], Case],
    plan: NoisePlan,
    entries: list[dict[str, Any]],
) -> ShardInfo:
    """Copy a shard, or write it anew where a chosen case is in it; adds to `entries`."""
    source = ShardFile(root / shard.file)
    index = source.index().select(["dataset", "case"]).to_pylist()
    if not any((row["dataset"], row["case"]) in chosen for row in index):
        for name in (shard.file, shard.sidecar):
            with atomic_path(out / name) as temporary:
                shutil.copyfile(root / name, temporary)
        return shard
    masks = _NoisyRows(chosen, plan)
    with (
        atomic_path(out / shard.file) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_stream(sink, arrow_schema()) as stream,
    ):
        for begin in range(0, source.rows, BATCH_ROWS):
            rows = [masks.change(source.row(i)) for i in range(begin, min(begin + BATCH_ROWS, source.rows))]
            stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=arrow_schema()))
    entries += masks.entries()
    file = out / shard.file
    sidecar = canonical.from_file(root / shard.sidecar)
    sidecar |= {"key": canonical.digest_of([sidecar["key"], plan.to_dict()])}
    sidecar |= {"file_sha256": file_sha256(file), "bytes": file.stat().st_size}
    atomic_write(out / shard.sidecar, canonical.to_text(sidecar))
    return replace(
        shard,
        sha256=sidecar["file_sha256"],
        bytes=sidecar["bytes"],
        sidecar_sha256=file_sha256(out / shard.sidecar),
    )


class _NoisyRows:
    """Rows with worse masks, and what was done to them."""

    def __init__(self, chosen: dict[tuple[str, str], Case], plan: NoisePlan) -> None:
        self._chosen = chosen
        self._changes = {key: case_changes(case, plan) for key, case in chosen.items()}
        self._frames: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}

    def change(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as it is written."""
        row["image"] = bytes(row["image"])
        key = (row["dataset"], row["case"])
        if key not in self._chosen:
            return row
        seen = self._frames.setdefault(key, defaultdict(dict))
        kept = []
        for mask in row["masks"]:
            clean = decode_mask(mask["png"], (row["height"], row["width"]))
            noisy = apply_change(clean, self._changes[key][mask["object"]], row["frame"])
            seen[mask["object"]][str(row["frame"])] = compared(clean, noisy)
            if noisy.any():
                kept.append(
                    {"object": mask["object"], "pixels": int(np.count_nonzero(noisy)), "png": encode_mask(noisy)}
                )
        row["masks"] = kept
        return {**row, "digest": row_digest(row)}

    def entries(self) -> list[dict[str, Any]]:
        """The record of the rows so far."""
        return [
            record_entry(self._chosen[key], name, change, frames.get(name, {}))
            for key, frames in self._frames.items()
            for name, change in self._changes[key].items()
        ]


def _summary(paths: Sequence[Path]) -> tuple[list[str], dict[str, dict[str, int]]]:
    """(digests of all rows in order, data set -> object -> cases that still have it)."""
    digests: list[str] = []
    shown: dict[str, set[tuple[str, str]]] = defaultdict(set)
    columns = ("dataset", "case", "masks", "digest")
    for path in paths:
        table = ShardFile(path).index().select(columns)
        for dataset, case, masks, digest in zip(*(table[c].to_pylist() for c in columns), strict=True):
            digests.append(digest)
            shown[dataset].update((mask["object"], case) for mask in masks)
    return digests, {name: dict(sorted(Counter(o for o, _ in found).items())) for name, found in shown.items()}
