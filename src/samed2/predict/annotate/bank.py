"""The memory of confirmed cases: a selective memory that knows which case an entry came from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from samed2.errors import InputError
from samed2.memory import SelectiveMemory, WriteResult
from samed2.predict.predictor import Predictor

CAPACITY = 640


class CaseMemory(SelectiveMemory):
    """A memory whose new entries say which case they came from (`origin`), and which can forget a case.

    Attributes:
        origin: of the entries added from now on.
        kept: how many of the entries offered since this was set to 0 found room.
    """

    origin: str = ""
    kept: int = 0

    def add(self, *tensors: Any, **facts: Any) -> list[WriteResult]:
        """As `SelectiveMemory.add`, with `origin` filled in."""
        results = super().add(*tensors, **{"origin": self.origin, **facts})
        self.kept += sum(result.kept for result in results)
        return results

    def forget(self, origin: str, task: str) -> int:
        """Drop the entries that one case has under a task and return how many those were."""
        keep = [i for i, e in enumerate(self._entries) if e.origin != origin or e.task != task]
        dropped = len(self) - len(keep)
        if dropped and self._store is not None:
            self._store = self._store.select([self._order[i] for i in keep])
            self._entries = [self._entries[i] for i in keep]
            self._order = list(range(len(keep)))
        return dropped

    def mark(self, task: str) -> str:
        """A short text that changes with the entries of a task, "" where there is none."""
        own = [(e.time, e.origin, e.confidence) for e in self.entries if e.task == task]
        return hashlib.sha256(repr(own).encode()).hexdigest()[:16] if own else ""


def open_memory(predictor: Predictor, path: Path) -> CaseMemory:
    """The memory at `path` for a model, an empty one where there is no file.

    Raises:
        InputError: not a memory, of another model, or in a folder that does not exist.
    """
    if path.exists():
        in_memory = os.name == "nt"  # there a mapped file cannot be written over
        opened = CaseMemory.load(path, fingerprint=predictor.fingerprint, in_memory=in_memory)
        assert isinstance(opened, CaseMemory)
        return opened
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    shape = predictor.new_memory(0).feature_shape
    return CaseMemory(CAPACITY, shape, fingerprint=predictor.fingerprint)
