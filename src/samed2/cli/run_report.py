"""What a batch leaves behind besides its results: a report of the run, and a note beside each result for --resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from samed2.errors import InputError

FORMAT, FORMAT_VERSION = "samed2-run", 1
NOTES = ".samed2"
Files = list[tuple[str, Path]]


def now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class RunReport:
    """The report of a run, written anew after each case; only kept in memory where `path` is None.

    Raises:
        InputError: something else than a report lies at `path`, or it cannot be written.
    """

    def __init__(self, path: Path | None, cases: Sequence[Path], facts: dict[str, Any]) -> None:
        self.path = path
        self.cases: list[dict[str, Any]] = [{"case": str(case), "status": "waiting"} for case in cases]
        self._facts = facts
        self._status, self._started = "running", now()
        self._finished: str | None = None
        if path is not None:
            _check_place(path)
        self.write()

    def set(self, index: int, entry: dict[str, Any]) -> None:
        """Say how a case went."""
        self.cases[index] = entry
        self.write()

    def describe(self, **facts: Any) -> None:
        """Add what is only known later."""
        self._facts.update(facts)

    def finish(self, status: str) -> None:
        """Say how the run ended."""
        self._status, self._finished = status, now()
        self.write()

    def counts(self) -> dict[str, int]:
        """How many cases have which status."""
        return dict(Counter(entry["status"] for entry in self.cases))

    def write(self) -> None:
        """Write the report, whole or not at all."""
        if self.path is None:
            return
        from samed2.io.atomic import atomic_write
        from samed2.io.segmentation import plain

        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "status": self._status,
            "started": self._started,
            "finished": self._finished,
            "counts": self.counts(),
            **self._facts,
            "cases": self.cases,
        }
        atomic_write(self.path, json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _check_place(path: Path) -> None:
    """Refuse to write a report over anything that is not one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = not path.exists() or f'"{FORMAT}"' in path.read_text(encoding="utf-8")[:200]
    except OSError as error:
        raise InputError(f"--report {path}: cannot be written ({error.strerror or error})") from error
    except ValueError:
        known = False
    if not known:
        raise InputError(f"--report {path}: exists and is no report of a run; give another name")


def state_of(path: Path) -> Any:
    """Return what changes when a file, or a file in a folder, changes: sizes and times; None where there is none."""
    try:
        if not path.is_dir():
            found = path.stat()
            return [found.st_size, found.st_mtime_ns]
        digest = hashlib.sha256()
        for base, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in names if not name.startswith(".")):
                file = Path(base, name)
                found = file.stat()
                digest.update(f"{file.relative_to(path)}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
        return digest.hexdigest()
    except OSError:
        return None


def key_of(facts: Any) -> str:
    """Return a hash of everything that a result depends on."""
    from samed2.io.segmentation import plain

    return hashlib.sha256(json.dumps(plain(facts), sort_keys=True).encode()).hexdigest()


def _note_path(files: Files) -> Path:
    first = files[0][1]
    return first.parent / NOTES / f"{first.name}.json"


def journal_of(files: Files) -> Path:
    """Return the folder in which a case that is at work notes how far it is."""
    first = files[0][1]
    return first.parent / NOTES / f"{first.name}.journal"


def drop_journal(files: Files) -> None:
    """Remove what a case noted, and the folder of notes where it held nothing else."""
    folder = journal_of(files)
    if folder.exists():
        from samed2.predict.journal import discard

        discard(folder)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def note(files: Files, key: str, entry: dict[str, Any]) -> None:
    """Keep beside the results how they were made."""
    from samed2.io.atomic import atomic_write
    from samed2.io.segmentation import plain

    path = _note_path(files)
    path.parent.mkdir(exist_ok=True)
    sizes = {name: state_of(Path(name)) for name in entry["files"]}
    atomic_write(path, json.dumps(plain({"key": key, "sizes": sizes, "case": entry}), allow_nan=False))


def made_before(files: Files, key: str) -> dict[str, Any] | None:
    """Return the entry of a case whose results are all there, unchanged and made in the same way, else None."""
    try:
        kept = json.loads(_note_path(files).read_text(encoding="utf-8"))
        if kept["key"] != key or any(state_of(Path(name)) != state for name, state in kept["sizes"].items()):
            return None
        entry = kept["case"]
        return entry if isinstance(entry, dict) and kept["sizes"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or not ours
        return None
