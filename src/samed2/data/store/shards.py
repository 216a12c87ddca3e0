"""Writing one shard and finding it again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from samed2.data.store import canonical
from samed2.data.store.plan import Entry, ShardJob, problem, tidy
from samed2.data.store.rows import CaseRows, Unusable, case_rows
from samed2.data.store.schema import FORMAT, VERSION, arrow_schema
from samed2.errors import InputError
from samed2.io.atomic import atomic_path, atomic_write
from samed2.io.checks import one_line

BATCH_ROWS, BATCH_BYTES = 64, 2**24


def finished(job: ShardJob) -> dict[str, Any] | None:
    """The sidecar of a shard that an earlier build finished from the same files, checked byte by byte; else None."""
    if not (job.sidecar.is_file() and job.arrow.is_file()):
        return None
    try:
        record = canonical.from_file(job.sidecar)
        good = record["key"] == job.key and record["bytes"] == job.arrow.stat().st_size
        return record if good and file_sha256(job.arrow) == record["file_sha256"] else None
    except (InputError, KeyError, OSError):
        return None


def write_shard(job: ShardJob, on_case: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Write the Arrow file, then its sidecar, each in one step; cases that cannot be used are told in the sidecar.

    Raises:
        InputError: the disk is full or cannot be written.
    """
    record: dict[str, Any] = {"format": FORMAT, "schema": VERSION, "key": job.key, "file": job.arrow.name}
    record |= {"dropped": [], "left_out": [], "warnings": [], "cases": []}
    with atomic_path(job.arrow) as temporary, open(temporary, "wb") as raw:
        sink = _Hashing(raw)
        with pa.ipc.new_stream(sink, arrow_schema()) as stream:
            batches = _Batches(stream)
            for entry in job.entries:
                result = _convert(entry, job.max_side, record)
                if result is not None:
                    batches.add(result.rows)
                on_case()
            batches.flush()
        raw.flush()
        if _orphaned(job):
            raise InputError(f"{job.arrow}: its builder has gone; run the build again")
    record |= {"file_sha256": sink.digest.hexdigest(), "bytes": sink.count, "rows": batches.rows}
    atomic_write(job.sidecar, canonical.to_text(record))
    return canonical.from_file(job.sidecar)


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _convert(entry: Entry, max_side: int | None, record: dict[str, Any]) -> CaseRows | None:
    case = entry.case
    try:
        result = case_rows(case, max_side)
    except Unusable as error:
        kind = str(error).split(":")[0]
        record["dropped"].append(problem(case.dataset, case.name, kind, str(error), case.files, entry.root))
        return None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # one bad case, whatever its decoder raised, does not end the build
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {one_line(error)}"
        kind = "image and labels do not fit" if "labels have shape" in reason else "cannot be read"
        record["dropped"].append(problem(case.dataset, case.name, kind, reason, case.files, entry.root))
        return None
    for reason in result.left_out:
        record["left_out"].append(problem(case.dataset, case.name, "full mask", reason, case.files, entry.root))
    record["warnings"] += [tidy(line, entry.root) for line in result.warnings]
    record["cases"].append(
        {"name": case.name, "split": case.split, "modality": case.modality, "hashes": [list(h) for h in result.hashes]}
    )
    return result


def _orphaned(job: ShardJob) -> bool:
    """Whether this is a worker whose builder has died: then another build may be at work in the folder."""
    return job.builder not in (os.getpid(), os.getppid())


class _Batches:
    """Collects rows and writes them as record batches of moderate size."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._held: list[dict[str, Any]] = []
        self._bytes = self.rows = 0

    def add(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._held.append(row)
            self._bytes += len(row["image"])
            if len(self._held) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        if self._held:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._held, schema=arrow_schema()))
        self.rows += len(self._held)
        self._held, self._bytes = [], 0


class _Hashing:
    """A file that is hashed while it is written."""

    closed = False

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self.digest, self.count = raw, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.count += len(data)
        return self._raw.write(data)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._raw.flush()

    def close(self) -> None:
        """Left to the owner of the file."""
