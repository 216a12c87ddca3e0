"""Building a store: plan, write the shards that are missing, check, publish the manifest last."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from samed2.data.convert.registry import Source
from samed2.data.store.codec import FINE_LEVELS, LOSSY_QUALITY
from samed2.data.store.finish import make_manifest
from samed2.data.store.manifest import LOCK, NAME, PREVIOUS, SHARDS, Manifest, is_store, parse_manifest
from samed2.data.store.plan import ShardJob, collect, shard_jobs
from samed2.data.store.rows import CLIPPED, FINE
from samed2.data.store.shards import finished, write_shard
from samed2.data.store.splits import Frozen, assign_splits, check_fractions, torn_patients
from samed2.errors import InputError
from samed2.io.lock import locked

Progress = Callable[[int, int, str], None]  # cases done, cases in all, what is at work


def build(
    sources: Sequence[Source],
    out: Path | str,
    *,
    workers: int = 1,
    max_side: int | None = None,
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    progress: Progress | None = None,
) -> Manifest:
    """Build a store, or finish one that was interrupted, and return its manifest.

    Args:
        workers: processes that read and pack; with more than one, a script that calls this needs the usual
            `if __name__ == "__main__":`, because they are started afresh.
        max_side: pixels of the longer side of a travelling copy, packed lossily; None keeps everything as it is.
        seed, fractions: of train, val and test, for cases whose source names no split.
        progress: called as (cases done, cases in all, name of a shard).

    Raises:
        InputError: no or unusable sources or settings, nothing usable in them, another build at work in the folder,
            or the disk is full. Shards written so far are found again by the next build.
    """
    from samed2.data.convert import find_cases

    shares = check_fractions(fractions)
    _check(sources, workers, max_side)
    root = Path(out)
    entries, dropped = collect(sources, find_cases)
    if not entries:
        reasons = dropped[0]["reason"] if dropped else "the sources are empty"
        raise InputError(f"{sources[0].root}: no case was found ({reasons}); check the path and the layout")
    _prepare(root)
    started = time.monotonic()
    settings: dict[str, Any] = {"max_side": max_side, "seed": seed, "fractions": list(shares)}
    if max_side is not None:
        settings |= {
            "webp_quality": LOSSY_QUALITY,
            "percentiles": list(CLIPPED),
            "levels": dict.fromkeys(FINE, FINE_LEVELS),
        }
    with locked(root / LOCK):
        cases = assign_splits([e.case for e in entries], seed, shares, _frozen(root, settings))
        entries = [replace(entry, case=case) for entry, case in zip(entries, cases, strict=True)]
        jobs = shard_jobs(entries, root / SHARDS, max_side)
        _retire(root)
        records = _run(jobs, workers, progress or (lambda done, total, text: None))
        _clean(root / SHARDS, {name for job in jobs for name in (job.arrow.name, job.sidecar.name)})
        manifest = make_manifest(root, jobs, records, sources, dropped, settings, torn_patients(cases))
        manifest.built = {
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "workers": workers,
        }
        manifest.save(root)
        (root / PREVIOUS).unlink(missing_ok=True)
    return manifest


def _check(sources: Sequence[Source], workers: int, max_side: int | None) -> None:
    if not sources:
        raise InputError("sources: got none, wanted at least one, such as folder:PATH")
    if workers < 1:
        raise InputError(f"workers: got {workers}, wanted 1 or more")
    if max_side is not None and not 16 <= max_side <= 16000:
        raise InputError(f"max_side: got {max_side}, wanted 16 to 16000 pixels")


def _prepare(root: Path) -> None:
    """Make the store's folder; what is in it comes after the lock, so that a kill in between leaves it usable."""
    try:
        if root.is_dir() and not is_store(root) and any(root.iterdir()):
            raise InputError(f"{root}: is not empty and not a MedBank store; choose an empty or a new folder")
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{root}: cannot be made or read ({error.strerror or error}); choose another folder"
        ) from error


def _frozen(root: Path, settings: dict[str, Any]) -> Frozen:
    """The splits of an earlier store in the folder that was cut with the same seed and fractions."""
    for name in (NAME, PREVIOUS):
        with suppress(InputError):  # none there, or one of another schema
            earlier = parse_manifest(root / name)
            if all(earlier.settings.get(key) == settings[key] for key in ("seed", "fractions")):
                return earlier.case_splits()
    return {}


def _retire(root: Path) -> None:
    """From here until the end the folder is no store, so that nobody reads half an update."""
    try:
        (root / SHARDS).mkdir(exist_ok=True)
        if (root / NAME).is_file():
            os.replace(root / NAME, root / PREVIOUS)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror or error}); choose another folder") from error
    for leftover in (*root.glob(".*.part-*"), *(root / SHARDS).glob(".*.part-*")):
        leftover.unlink(missing_ok=True)


def _clean(folder: Path, wanted: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in wanted and path.is_file():
            path.unlink(missing_ok=True)


def _run(jobs: Sequence[ShardJob], workers: int, progress: Progress) -> list[dict[str, Any]]:
    """The sidecars of all shards in order, written where they are not there yet."""
    total, done = sum(len(job.entries) for job in jobs), 0
    records: dict[str, dict[str, Any]] = {}
    missing = []
    for job in jobs:
        record = finished(job)
        if record is None:
            missing.append(job)
            continue
        records[job.stem] = record
        done += len(job.entries)
        progress(done, total, job.stem)

    def tick(text: str, cases: int = 1) -> None:
        nonlocal done
        done += cases
        progress(done, total, text)

    if workers == 1:
        for job in missing:
            records[job.stem] = write_shard(job, partial(tick, job.stem))
    else:
        for job, record in _in_processes(missing, workers):
            records[job.stem] = record
            tick(job.stem, len(job.entries))
    return [records[job.stem] for job in jobs]


def _in_processes(jobs: Sequence[ShardJob], workers: int) -> Iterator[tuple[ShardJob, dict[str, Any]]]:
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # threads of libraries do not survive a fork
    pool = ProcessPoolExecutor(min(workers, max(1, len(jobs))), mp_context=context, initializer=_ignore_interrupt)
    waiting = iter(jobs)
    running: dict[Future[dict[str, Any]], ShardJob] = {}
    try:
        while True:
            while len(running) < 2 * workers and (job := next(waiting, None)) is not None:
                running[pool.submit(write_shard, job)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise InputError(
            "workers: one was killed, perhaps for want of memory; run the build again with fewer, it goes on from here"
        ) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:  # after an error or Ctrl-C: do not wait
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the builder stops its workers itself
