"""The journal of a propagation: what one that was killed goes on from.

A folder with two files. `answers.jsonl` has a line for each frame that a pass answered, in order. `state.safetensors`
is the last snapshot: the tracker's tensors, and in the metadata what it belongs to and how much of the answers. What
was written after the snapshot, torn lines too, is cut off when the next one is made.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from samed2.errors import InputError
from samed2.io import Scan
from samed2.io.atomic import atomic_path
from samed2.memory import SelectiveMemory
from samed2.predict.held import Held
from samed2.predict.tracking import Tracker

FORMAT, FORMAT_VERSION = "samed2-journal", "1"
SAVE_SECONDS = 30.0  # of work between snapshots
SAVE_SHARE = 0.1  # of the time may go into snapshots
_ANSWERS, _STATE = "answers.jsonl", "state.safetensors"
_HALVES = (f".*.part-{_STATE}", ".tmp??????")  # the latter by safetensors
_BLOCK = 1 << 20


class _Snapshot(NamedTuple):
    """A pass at work or finished, the bytes of answers up to there with their CRC-32, and the tracker's state."""

    reverse: bool
    finished: bool
    size: int
    crc: int
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


class Journal:
    """The journal of one propagation. Whatever is wrong with it is a warning: then the work starts over.

    Nothing is written before `SAVE_SECONDS` of work. The folder stays after the end, until `discard`.

    Args:
        folder: where it lies or will lie.
        key: gives a text that changes with everything the answers depend on; only called when it is needed.
        warn: told when the journal cannot be read or written.
    """

    def __init__(self, folder: str | PathLike[str], key: Callable[[], str], warn: Callable[[str], None]) -> None:
        self.folder = Path(folder)
        self._key, self._warn = functools.cache(key), warn
        self._lines: list[bytes] = []  # not written yet
        self._lost = False
        self._last = self._opened()
        self._size, self._crc = (self._last.size, self._last.crc) if self._last is not None else (0, 0)
        self._due = time.monotonic() + SAVE_SECONDS

    def answers(self) -> Iterator[tuple[bool, int, list[Held]]]:
        """(backward, frame, objects) of every frame answered before, in the order in which they were."""
        if self._last is None:
            return
        with open(self.folder / _ANSWERS, "rb") as handle:
            while handle.tell() < self._last.size:
                line = json.loads(handle.readline())
                yield line["reverse"], line["frame"], [Held.from_json(held) for held in line["found"]]

    def passed(self, reverse: bool) -> bool:
        """Whether a pass was finished before; the backward one comes after the forward one."""
        last = self._last
        return last is not None and (last.reverse, last.finished) >= (reverse, True)

    def resume(self, tracker: Tracker) -> None:
        """Bring a tracker to where it was, if it was at work."""
        last = self._last
        if last is not None and last.reverse == tracker.reverse and not last.finished:
            tracker.restore(last.tensors, last.facts)
            self._last = last._replace(tensors={}, facts={})

    def add(self, reverse: bool, frame: int, found: Sequence[Held]) -> None:
        """Note the answer to a frame."""
        if not self._lost:
            line = {"reverse": reverse, "frame": frame, "found": [held.to_json() for held in found]}
            self._lines.append(json.dumps(line).encode() + b"\n")

    def keep(self, tracker: Tracker) -> None:
        """Make a snapshot if the last one is old; the tracker's last frame was added."""
        if time.monotonic() >= self._due:
            self._save(tracker, finished=False)

    def finish(self, tracker: Tracker) -> None:
        """Note that a pass has ended, if anything was written before."""
        if self._size:
            self._save(tracker, finished=True)

    def _opened(self) -> _Snapshot | None:
        """The last snapshot, None where there is none to go on from."""
        if not (self.folder / _STATE).exists():
            return None
        try:
            found = _read(self.folder / _STATE, self._key())
            if _crc_of_file(self.folder / _ANSWERS, found.size) != found.crc:
                raise ValueError("it is damaged")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError, SafetensorError) as error:
            self._warn(f"{self.folder}: is not gone on with: {error}; starting over")
            discard(self.folder)
            return None
        return found

    def _save(self, tracker: Tracker, *, finished: bool) -> None:
        if self._lost:
            return
        start = time.monotonic()
        data = b"".join(self._lines)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / _ANSWERS, "ab") as handle:
                handle.truncate(self._size)
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            size, crc = self._size + len(data), zlib.crc32(data, self._crc)
            tensors, facts = ({}, {}) if finished else tracker.state()
            _write(self.folder / _STATE, self._key(), _Snapshot(tracker.reverse, finished, size, crc, tensors, facts))
        except (OSError, InputError, SafetensorError) as error:  # room is needed more for the results
            self._lost, self._lines = True, []
            discard(self.folder)
            self._warn(f"{self.folder}: cannot be written, an interrupted run would start over: {error}")
            return
        self._lines, self._size, self._crc = [], size, crc
        end = time.monotonic()
        self._due = end + max(SAVE_SECONDS, (end - start) / SAVE_SHARE)


def discard(folder: str | PathLike[str]) -> None:
    """Remove a journal and what a killed run left of it; nothing else in the folder is touched."""
    folder = Path(folder)
    with contextlib.suppress(OSError):
        halves = [path for pattern in _HALVES for path in folder.glob(pattern)]
        for path in (folder / _STATE, folder / _ANSWERS, *halves):
            path.unlink(missing_ok=True)
        folder.rmdir()


def key_of(scan: Scan, memory: SelectiveMemory | None, facts: dict[str, Any]) -> str:
    """A hash of a scan, a memory of past cases that is read, and further JSON-able facts.

    Raises:
        InputError: the scan's first, middle or last frame cannot be read.
    """
    file = scan.path.stat() if scan.path is not None and scan.path.is_file() else None
    read = None
    if memory is not None:
        read = [memory.fingerprint, memory.key, hashlib.sha256(repr(memory.entries).encode()).hexdigest()]
    whole = [scan.mark(), [file.st_size, file.st_mtime_ns] if file is not None else None, read, facts]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _write(path: Path, key: str, snapshot: _Snapshot) -> None:
    tensors = snapshot.tensors
    header = json.dumps({"key": key, **snapshot._replace(tensors={})._asdict()})
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "header": header}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {**metadata, "crc": str(_crc_of(header, tensors))})


def _read(path: Path, key: str) -> _Snapshot:
    with safe_open(path, "pt") as handle:
        metadata = handle.metadata() or {}
        if (metadata.get("format"), metadata.get("format_version")) != (FORMAT, FORMAT_VERSION):
            raise ValueError("it is of another version")
        header = json.loads(metadata["header"])
        if header.pop("key") != key:
            raise ValueError("it was made in another way")
        tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
    if _crc_of(metadata["header"], tensors) != int(metadata["crc"]):
        raise ValueError("it is damaged")
    return _Snapshot(**{**header, "tensors": tensors})


def _crc_of(header: str, tensors: dict[str, torch.Tensor]) -> int:
    crc = zlib.crc32(header.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].view(torch.uint8).numpy().data, zlib.crc32(name.encode(), crc))
    return crc


def _crc_of_file(path: Path, size: int) -> int | None:
    """CRC-32 of the first bytes of a file, None where it is shorter."""
    crc = 0
    with open(path, "rb") as handle:
        while size and (block := handle.read(min(size, _BLOCK))):
            crc, size = zlib.crc32(block, crc), size - len(block)
    return None if size else crc
