"""The bank's two main acts: retrieve and add. bank.py adds files, joining and thinning out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from samed2.errors import InputError
from samed2.memory.checks import passes, three, whole
from samed2.memory.entries import Entry, Retrieval, WriteResult, check_confidence, texts
from samed2.memory.keys import FeatureKeys, Query, draws, get_keys, sketch
from samed2.memory.policies import Reading, Writing, get_policy
from samed2.memory.store import FEATURE_DTYPES, Storage, Store

_FEATURE_SHORTLIST = 8


class Bank:
    """Entries of (memory feature, key of the raw image embedding, confidence, task, modality, origin, time).

    Tensors stay on the CPU or on disk; only what `retrieve` selects is copied to the query's device. Entries
    have positions 0..n-1 in list order. A bank is not safe to write from several threads.

    Args:
        capacity: most entries; 0 makes a bank that never stores and always answers with k' = 0.
        feature_shape: (M, h, w) of a memory feature.
        key: "pooled" (small), "flat" (the paper's whole embedding) or "released" (with the released layout
            fault).
        policy: a name of `POLICIES`.
        fingerprint: which model made the features, see `samed2.nn.weights.fingerprint`; empty when unknown.
        seed: of the random policy.
        storage: dtypes, and a folder for scratch files.

    Raises:
        InputError: a value that cannot be used, named in the message.
    """

    def __init__(
        self,
        capacity: int,
        feature_shape: Sequence[int],
        *,
        key: str = "pooled",
        policy: str = "paper",
        fingerprint: str = "",
        seed: int = 0,
        storage: Storage | None = None,
    ) -> None:
        self._capacity = whole(capacity, "capacity")
        self._feature_shape = three(feature_shape, "feature_shape")
        self._embedding_shape: tuple[int, int, int] | None = None
        self._keys, self._policy = get_keys(key), get_policy(policy)
        self._features = FeatureKeys(_FEATURE_SHORTLIST if self._keys.shortlist else 0)
        self.key, self.fingerprint, self.seed = key, fingerprint, seed
        self.storage = storage or Storage()
        self._store: Store | None = None  # made when the first embedding tells its shape
        self._entries: list[Entry] = []
        self._order: list[int] = []  # position -> row of the store
        self._clock = 0
        self._known: Reading | None = None  # facts of all entries as tensors, made when first read

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def capacity(self) -> int:
        """Most entries."""
        return self._capacity

    @property
    def policy(self) -> str:
        """Name of the policy; may be set to another one, which then rules over the same entries."""
        return self._policy.name

    @policy.setter
    def policy(self, name: str) -> None:
        policy = get_policy(name)
        for entry in self._entries:
            check_confidence(entry.confidence, bounded=policy.bounded)
        self._policy = policy

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """Shape (M, h, w) of a memory feature."""
        return self._feature_shape

    @property
    def embedding_shape(self) -> tuple[int, int, int] | None:
        """Shape (d, h, w) of an image embedding; None until the first entry."""
        return self._embedding_shape

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries' facts, in list order."""
        return tuple(self._entries)

    def feature(self, index: int) -> Tensor:
        """Return a copy of the memory feature (M, h, w) at a position, in the storage dtype."""
        if not 0 <= index < len(self) or self._store is None:
            raise InputError(f"memory index: got {index}, wanted 0 to {len(self) - 1}")
        return self._store.row("feature", self._order[index]).clone()

    @torch.no_grad()
    def retrieve(
        self,
        embedding: Tensor,
        k: int,
        *,
        task: str | Collection[str] | None = None,
        modality: str | Collection[str] | None = None,
    ) -> Retrieval:
        """Return the k entries that score highest for each query; row b depends only on query b.

        Args:
            embedding: (B, d, h, w) raw, unconditioned image embeddings.
            k: how many entries per query.
            task, modality: only entries of this value, or of any of these values.

        Returns:
            Tensors on the embedding's device, features in the dtype they are stored in.

        Raises:
            InputError: an embedding of another shape than the bank's or with NaN or Inf, or a negative k.
        """
        self._check_embedding(embedding)
        k = whole(k, "k")
        wanted: Sequence[int] = range(len(self))
        if task is not None or modality is not None:
            facts = self._entries
            wanted = [i for i in wanted if passes(facts[i].task, task) and passes(facts[i].modality, modality)]
        known, positions = self._reading(), torch.tensor(wanted, dtype=torch.long)
        queries = [self._keys.query(row) for row in embedding]
        ranked = [
            self._rank(row, query, known, positions, min(k, len(wanted)))
            for row, query in zip(embedding, queries, strict=True)
        ]
        count, device = min(k, len(wanted)), embedding.device
        kept_as = FEATURE_DTYPES[self.storage.feature_dtype]
        features = torch.empty((len(embedding), count, *self._feature_shape), dtype=kept_as)
        for row, (indices, _) in zip(features, ranked, strict=True):
            for target, index in zip(row, indices.tolist(), strict=True):
                target.copy_(self._stored().row("feature", self._order[index]))
        indices = torch.stack([r[0] for r in ranked]) if ranked else torch.empty((0, count), dtype=torch.long)
        scores = torch.stack([r[1] for r in ranked]) if ranked else torch.empty((0, count))
        return Retrieval(
            features.to(device),
            known.confidence[indices].float().to(device),
            indices.to(device),
            scores.to(device),
            tuple(queries),
        )

    @torch.no_grad()
    def add(
        self,
        embedding: Tensor,
        feature: Tensor,
        confidence: Tensor | Sequence[float],
        *,
        task: str | Sequence[str] | None = None,
        modality: str | Sequence[str] | None = None,
        origin: str | Sequence[str] | None = None,
        retrieved: Retrieval | None = None,
    ) -> list[WriteResult]:
        """Offer B samples to the bank, one after the other: the same as B calls with one sample each.

        While there is room every sample is kept; then the policy's replacement rule decides.

        Args:
            embedding: (B, d, h, w) raw, unconditioned image embeddings.
            feature: (B, M, h, w) memory features.
            confidence: (B,) predicted IoU in [0, 1].
            task, modality, origin: one text for all samples, a list of B, or None.
            retrieved: what `retrieve` answered for the same embeddings; saves making their keys again.

        Raises:
            InputError: another shape or number of samples, NaN, Inf, a confidence outside [0, 1], or
                `retrieved` of other embeddings. Nothing is added.
        """
        self._check_embedding(embedding)
        count = len(embedding)
        if tuple(feature.shape) != (count, *self._feature_shape):
            wanted = (count, *self._feature_shape)
            raise InputError(f"memory feature: got shape {tuple(feature.shape)}, wanted {wanted}")
        sure = confidence.flatten().tolist() if isinstance(confidence, Tensor) else list(confidence)
        if len(sure) != count:
            raise InputError(f"memory confidence: got {len(sure)} values, wanted {count}")
        sure = [check_confidence(value, bounded=self._policy.bounded) for value in sure]
        columns = (
            texts(task, count, "task"),
            texts(modality, count, "modality"),
            texts(origin, count, "origin"),
        )
        names = zip(*columns, strict=True)
        encoded = [self._features.encode(row, self.storage.feature_dtype) for row in feature]
        keys = self._key_values(embedding, retrieved) if self._capacity else [{}] * count
        if count and self._capacity and self._store is None:
            self._embedding_shape = three(embedding.shape[1:], "embedding")
            self._store = self._new_store()
        return [
            self._insert({**f, **k}, Entry(c, *text)) for f, k, c, text in zip(encoded, keys, sure, names, strict=True)
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors of the entries."""
        return self._store.nbytes if self._store is not None else 0

    def _insert(self, values: Mapping[str, Tensor], entry: Entry) -> WriteResult:
        """Store a new entry if there is room or the policy finds one that gives way."""
        if self._capacity == 0:
            return WriteResult(None, None, False)
        store, entry = self._stored(), replace(entry, time=self._clock)
        self._clock += 1
        if len(self) < self._capacity:
            self._order.append(store.append(values, self._capacity))
            self._entries.append(entry)
            return WriteResult(len(self) - 1, None, True)
        position = self._policy.victim(self._writing(values, entry.confidence))
        if position is None:
            return WriteResult(None, None, False)
        row, replaced = self._order[position], self._entries[position]
        store.write(row, values)
        if self._policy.appends:
            del self._order[position], self._entries[position]
            self._order.append(row)
            self._entries.append(entry)
            position, self._known = len(self) - 1, None
        else:
            self._entries[position] = entry
            if self._known is not None:
                self._known.confidence[position], self._known.time[position] = entry.confidence, entry.time
        return WriteResult(position, replaced, True)

    def _key_values(self, embedding: Tensor, retrieved: Retrieval | None) -> list[dict[str, Tensor]]:
        if retrieved is None:
            return [self._keys.encode(row) for row in embedding]
        queries = retrieved.keys
        if len(queries) != len(embedding) or not all(map(Query.is_of, queries, embedding)):
            raise InputError("memory retrieved: it is the answer to other embeddings than those to be added")
        return [self._keys.reuse(query, row) for query, row in zip(queries, embedding, strict=True)]

    def _writing(self, values: Mapping[str, Tensor], confidence: float) -> Writing:
        known = self._reading()
        return Writing(
            confidence,
            known.confidence,
            known.time,
            nearest=lambda: self._features.nearest(self._stored(), values, self._order),
            random=self._draws(values["feature"]),
        )

    def _rank(
        self, embedding: Tensor, query: Query, known: Reading, positions: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """Return positions (count,) and scores (count,) of the best for one embedding (d, h, w) and its query."""
        if not count:
            return torch.empty(0, dtype=torch.long), torch.empty(0)
        read = replace(known, random=self._draws(embedding))
        if self._policy.compares:
            read = replace(read, cosine=self._keys.estimate(self._stored(), query)[self._order])
        read = read[positions]
        if self._policy.compares and self._keys.shortlist:
            near = _best(self._policy.score(read), max(self._keys.shortlist, 8 * count)).sort().values
            positions, read = positions[near], read[near]
            rows = [self._order[i] for i in positions.tolist()]
            read = replace(read, cosine=self._keys.cosine(self._stored(), query, rows))
        scores = self._policy.score(read)
        best = _best(scores, count)
        return positions[best], scores[best].float()

    def _reading(self) -> Reading:
        """Return what the policy may read of every entry, in list order, whatever the query."""
        if self._known is None or len(self._known.time) != len(self):
            self._known = Reading(
                cosine=torch.empty(0),
                confidence=torch.tensor([e.confidence for e in self._entries], dtype=torch.float64),
                time=torch.tensor([e.time for e in self._entries], dtype=torch.int64),
            )
        return self._known

    def _draws(self, maps: Tensor) -> Tensor:
        return draws(sketch(maps), len(self), self.seed) if self._policy.draws else torch.empty(0)

    def _stored(self) -> Store:
        if self._store is None:
            raise AssertionError("an empty bank has no rows to read")
        return self._store

    def _new_store(self) -> Store:
        assert self._embedding_shape is not None
        columns = self._features.columns(self._feature_shape, self.storage.feature_dtype)
        columns |= self._keys.columns(self._embedding_shape, self.storage.key_dtype)
        return Store(columns, self.storage.directory)

    def _check_embedding(self, embedding: Tensor) -> None:
        shape = tuple(embedding.shape)
        if len(shape) != 4 or 0 in shape[1:] or not embedding.dtype.is_floating_point:
            raise InputError(f"memory embedding: got {embedding.dtype} of shape {shape}, wanted floats (B, d, h, w)")
        if self._embedding_shape is not None and shape[1:] != self._embedding_shape:
            wanted = ("B", *self._embedding_shape)
            raise InputError(f"memory embedding: got shape {shape}, wanted {wanted} as in the bank")


def _best(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the highest scores, best first, the earlier of equals first."""
    return scores.sort(descending=True, stable=True).indices[:count]
