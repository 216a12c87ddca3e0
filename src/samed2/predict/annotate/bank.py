"""The memory file of an annotation."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from samed2.errors import InputError
from samed2.memory import SelectiveMemory
from samed2.predict.predictor import Predictor


def open_memory(predictor: Predictor, path: Path) -> SelectiveMemory:
    """The memory at `path` for a model, an empty one where there is no file.

    Raises:
        InputError: not a memory, of another model, or in a folder that does not exist.
    """
    if path.exists():
        in_memory = os.name == "nt"  # there a mapped file cannot be written over
        return SelectiveMemory.load(path, fingerprint=predictor.fingerprint, in_memory=in_memory)
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    return predictor.new_memory()


def version_of(memory: SelectiveMemory, task: str) -> str:
    """A short text that changes with the entries of a task, "" where there is none."""
    own = [(e.time, e.origin, e.confidence) for e in memory.entries if e.task == task]
    return hashlib.sha256(repr(own).encode()).hexdigest()[:16] if own else ""
