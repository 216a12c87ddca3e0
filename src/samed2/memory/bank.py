"""The selective memory bank as users meet it: what `Bank` does, and merge, prune, info, save, load."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from samed2.errors import InputError
from samed2.memory import files
from samed2.memory.checks import whole
from samed2.memory.core import Bank
from samed2.memory.entries import Entry, Retrieval, WriteResult
from samed2.memory.store import Storage

__all__ = ["Retrieval", "SelectiveMemory", "WriteResult"]


class SelectiveMemory(Bank):
    """Memory of past cases: add, retrieve (see `Bank`), merge, prune, info, save, load."""

    @classmethod
    def merge(cls, banks: Sequence[SelectiveMemory], *, capacity: int | None = None) -> SelectiveMemory:
        """Join banks of one model into a new one; settings are the first bank's.

        Entries are offered in order of the banks and their positions; an exact copy of an entry already there
        (same feature, confidence and texts) is skipped. Without `capacity` all entries find room.

        Raises:
            InputError: no banks, or banks of different models, shapes, keys or dtypes.
        """
        if not banks:
            raise InputError("memory merge: got no banks, wanted at least one")
        first = banks[0]
        for number, bank in enumerate(banks[1:], start=2):
            _check_same_kind(first, bank, number)
        if capacity is None:
            capacity = max(max(bank.capacity for bank in banks), sum(len(bank) for bank in banks))
        out = first._empty_copy(capacity)
        out._embedding_shape = next((b._embedding_shape for b in banks if b._embedding_shape), None)
        if out._embedding_shape is not None:
            out._store = out._new_store()
        seen: dict[tuple[Entry, float], list[Tensor]] = {}
        for bank in banks:
            for entry, row in zip(bank._entries, bank._order, strict=True):
                store = bank._stored()
                values = {name: store.row(name, row) for name in store.columns}
                alike = seen.setdefault((replace(entry, time=0), float(values["feature_norm"])), [])
                if not any(torch.equal(values["feature"], other) for other in alike):
                    alike.append(values["feature"])
                    out._insert(values, entry)
        return out

    def prune(
        self,
        capacity: int | None = None,
        *,
        min_confidence: float | None = None,
        task: str | None = None,
        modality: str | None = None,
    ) -> int:
        """Drop entries and return how many; list order stays, memory is given back.

        Args:
            capacity: the bank's new capacity; the least confident go first (fifo: the oldest), the older of
                equals.
            min_confidence: drop entries below this.
            task, modality: drop the entries of this task, of this modality (each on its own).
        """
        keep = [
            i
            for i, e in enumerate(self._entries)
            if (min_confidence is None or e.confidence >= min_confidence)
            and (task is None or e.task != task)
            and (modality is None or e.modality != modality)
        ]
        if capacity is not None:
            self._capacity = whole(capacity, "capacity")
            by_time = self._policy.worth == "time"
            keep.sort(key=lambda i: (0.0 if by_time else self._entries[i].confidence, self._entries[i].time))
            keep = sorted(keep[max(0, len(keep) - self._capacity) :])
        return self._keep(keep)

    def forget(self, origin: str, task: str) -> int:
        """Drop the entries that one case has under a task and return how many those were."""
        return self._keep([i for i, e in enumerate(self._entries) if e.origin != origin or e.task != task])

    def _keep(self, positions: list[int]) -> int:
        """Drop all entries but those at positions in order, and return how many those were."""
        dropped = len(self) - len(positions)
        if dropped and self._store is not None:
            self._store = self._store.select([self._order[i] for i in positions])
            self._entries = [self._entries[i] for i in positions]
            self._order, self._known = list(range(len(positions))), None
        return dropped

    def info(self) -> dict[str, Any]:
        """Return facts for people and for JSON: size, settings, entries per task and modality, confidence."""
        sure = [entry.confidence for entry in self._entries]
        return {
            "entries": len(self),
            "capacity": self.capacity,
            "policy": self.policy,
            "key": self.key,
            "model": self.fingerprint or "unknown",
            "feature_shape": list(self._feature_shape),
            "embedding_shape": list(self._embedding_shape or ()),
            "feature_dtype": self.storage.feature_dtype,
            "megabytes": self.nbytes / 1e6,
            "mean_confidence": sum(sure) / len(sure) if sure else 0.0,
            "tasks": dict(Counter(entry.task for entry in self._entries)),
            "modalities": dict(Counter(entry.modality for entry in self._entries)),
            "writes": self._clock,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bank to one safetensors file, which appears whole or not at all; see docs/memory.md.

        Raises:
            InputError: the path cannot be written.
        """
        header = {
            "capacity": self.capacity,
            "clock": self._clock,
            "embedding_shape": list(self._embedding_shape or ()),
            "entries": [[e.task, e.modality, e.origin] for e in self._entries],
            "feature_dtype": self.storage.feature_dtype,
            "feature_shape": list(self._feature_shape),
            "fingerprint": self.fingerprint,
            "key": self.key,
            "key_dtype": self.storage.key_dtype,
            "policy": self.policy,
            "seed": self.seed,
        }
        facts = {
            "confidence": torch.tensor([e.confidence for e in self._entries], dtype=torch.float64),
            "time": torch.tensor([e.time for e in self._entries], dtype=torch.int64),
        }
        files.write(path, header, facts, self._store, self._order)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        fingerprint: str | None = None,
        feature_shape: Sequence[int] | None = None,
        directory: str | os.PathLike[str] | None = None,
        in_memory: bool = False,
    ) -> SelectiveMemory:
        """Open a saved bank; its tensors stay in the file until read, and writing never changes the file.

        Args:
            path: the file.
            fingerprint: of the model at hand, to be sure that the bank is its own.
            feature_shape: (M, h, w) of the model at hand.
            directory: where entries added later get their scratch files; None keeps those in memory.
            in_memory: read everything now, for files on slow or removable disks.

        Raises:
            InputError: missing, cut off or not a memory file; another format version, model or shape.
        """
        found = files.read(path, in_memory=in_memory)
        head = found.header
        if fingerprint is not None and head.fingerprint != fingerprint:
            raise InputError(
                f"{path}: was made by another model: got fingerprint {head.fingerprint or 'unknown'}, "
                f"wanted {fingerprint}; build a bank with the model at hand"
            )
        if feature_shape is not None and head.feature_shape != tuple(feature_shape):
            wanted = tuple(feature_shape)
            raise InputError(f"{path}: feature_shape: got {head.feature_shape}, wanted {wanted}")
        bank = cls(
            head.capacity,
            head.feature_shape,
            key=head.key,
            policy=head.policy,
            fingerprint=head.fingerprint,
            seed=head.seed,
            storage=Storage(head.feature_dtype, head.key_dtype, directory),
        )
        bank._clock, bank._embedding_shape = head.clock, head.embedding_shape
        bank._entries = found.entries
        bank._order = list(range(len(found.entries)))
        if head.embedding_shape is not None:
            bank._store = bank._new_store()
            bank._store.attach(found.tensors(bank._store.columns))
        return bank

    def _empty_copy(self, capacity: int) -> SelectiveMemory:
        return SelectiveMemory(
            capacity,
            self._feature_shape,
            key=self.key,
            policy=self.policy,
            fingerprint=self.fingerprint,
            seed=self.seed,
            storage=self.storage,
        )


def _check_same_kind(first: SelectiveMemory, other: SelectiveMemory, number: int) -> None:
    pairs = {
        "fingerprint": (first.fingerprint, other.fingerprint),
        "feature_shape": (first.feature_shape, other.feature_shape),
        "key": (first.key, other.key),
        "feature_dtype": (first.storage.feature_dtype, other.storage.feature_dtype),
        "key_dtype": (first.storage.key_dtype, other.storage.key_dtype),
    }
    if first.embedding_shape and other.embedding_shape:
        pairs["embedding_shape"] = (first.embedding_shape, other.embedding_shape)
    for field, (got, wanted) in pairs.items():
        if got != wanted:
            raise InputError(f"memory merge: bank {number} has {field} {wanted!r}, bank 1 has {got!r}; they must agree")
