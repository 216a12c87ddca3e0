"""Keys: what of an image embedding is kept for comparing, and how alike two embeddings are by it.

A scheme encodes an embedding (d, h, w) into columns of the store, and estimates the cosine of a query to each
entry. Every row is computed on its own, so that a result never depends on what else is in the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samed2.errors import InputError
from samed2.memory.store import FEATURE_DTYPES, Column, Store

MAX_GRID = 64
MAX_NUMBERS = 32_768
COARSE_NUMBERS = 2_048
COARSE_GRID = 4
_SIGN_SEED = 20250703  # part of the file format
_CHUNK_ELEMENTS = 1 << 22
_AT_ONCE = 8
_TINY = 1e-12


@dataclass(frozen=True)
class Query:
    """One embedding made ready for comparing: the `exact` key and its small `coarse` version, if any.

    probe: the embedding's first numbers, by which it is recognised when the key is used again.
    """

    exact: Tensor
    coarse: Tensor | None = None
    probe: Tensor | None = None

    def is_of(self, embedding: Tensor) -> bool:
        """Whether this is the key of an embedding (d, h, w), judged by its first numbers."""
        return self.probe is not None and torch.equal(self.probe, _probe(embedding))


class PooledKeys:
    """Few numbers per entry instead of d*h*w: channel means, and what they leave out as a signed sketch.

    A unit embedding is split into its mean per channel and the rest, which sums to zero in every channel. The
    inner product of two embeddings is then exactly that of the means plus that of the rests, and only the
    second is estimated: at every position (y, x) the channels of a group are summed under fixed random signs,
    drawn anew for each position, into at most 32,768 numbers of 8 bits. That estimate is unbiased (a random
    projection; source: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002), and
    its error shrinks with the rest, so that embeddings that share most of their content are still told apart.
    Maps above 64x64 are averaged down to it first. A sketch of 2,048 numbers and the means (`key_coarse`) pick
    the candidates, the large sketch and the means rank them.
    """

    shortlist = 10

    def columns(self, shape: tuple[int, int, int], dtype: str) -> dict[str, Column]:
        """Return the columns for embeddings of shape (d, h, w)."""
        depth, height, width = shape[0], min(MAX_GRID, shape[1]), min(MAX_GRID, shape[2])
        groups = _groups(depth, height * width)
        return {
            "key": Column((groups, height, width), torch.int8),
            "key_scale": Column((), torch.float32),
            "key_coarse": Column((depth + min(COARSE_NUMBERS, groups * height * width),), torch.float32),
        }

    def encode(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return the columns' values of one embedding (d, h, w)."""
        return self.reuse(self.query(embedding), embedding)

    def reuse(self, query: Query, embedding: Tensor) -> dict[str, Tensor]:
        """Return the same as `encode`, with the work of `query` already done."""
        assert query.coarse is not None
        key = (query.exact * (127 / query.exact.abs().amax().clamp(min=_TINY))).round_().to(torch.int8)
        scale = torch.linalg.vector_norm(query.exact) / torch.linalg.vector_norm(key.float()).clamp(min=_TINY)
        return {"key": key, "key_scale": scale, "key_coarse": query.coarse}

    def query(self, embedding: Tensor) -> Query:
        """Return the unrounded key of one embedding (d, h, w), on the CPU."""
        maps = _pool(embedding.detach().to("cpu", torch.float32), MAX_GRID)
        norm = _norm(maps, "embedding")
        depth, height, width = maps.shape
        means = maps.mean((1, 2))
        signed = _signed_sum(maps, means, _signs(depth, height, width), _groups(depth, height * width))
        means *= (height * width) ** 0.5 / norm
        length = (1 - means.square().sum()).clamp(min=0).sqrt()  # of what the means leave out
        small = _bucketed(signed.flatten(), COARSE_NUMBERS)
        coarse = torch.cat([means, _of_length(small, length)])
        return Query(_of_length(signed, length), coarse, _probe(embedding))

    def estimate(self, store: Store, query: Query) -> Tensor:
        """Return a rough cosine (rows,) of the query to every row."""
        assert query.coarse is not None
        return torch.cat([block @ query.coarse for block in store.blocks("key_coarse")])

    def cosine(self, store: Store, query: Query, rows: list[int]) -> Tensor:
        """Return the cosine (len(rows),) of the query to the given rows."""
        assert query.coarse is not None
        keys = torch.empty((_AT_ONCE, query.exact.numel()))  # small enough to stay in the processor's cache
        parts = []
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            for target, row in zip(keys.numpy(), some, strict=False):
                np.copyto(target, store.row("key", row).flatten().numpy())  # too small for torch's threads
            parts.append(keys[: len(some)] @ query.exact.flatten())
        depth = len(query.coarse) - min(COARSE_NUMBERS, query.exact.numel())
        means = store.gather("key_coarse", rows)[:, :depth] @ query.coarse[:depth]
        return torch.cat(parts) * store.gather("key_scale", rows) + means


class FlatKeys:
    """The whole embedding, flattened: the paper's key. Costs d*h*w numbers per entry."""

    shortlist = 0

    def columns(self, shape: tuple[int, int, int], dtype: str) -> dict[str, Column]:
        """Return the columns for embeddings of shape (d, h, w)."""
        return {"key": Column(shape, FEATURE_DTYPES[dtype]), "key_norm": Column((), torch.float32)}

    def encode(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return the columns' values of one embedding (d, h, w)."""
        return {"key": embedding, "key_norm": _norm(embedding, "embedding")}

    def reuse(self, query: Query, embedding: Tensor) -> dict[str, Tensor]:
        """Return the same as `encode`; what is stored is the embedding itself."""
        return self.encode(embedding)

    def query(self, embedding: Tensor) -> Query:
        """Return one embedding (d, h, w) as a unit vector of the same shape, on the CPU."""
        return Query((embedding.float() / _norm(embedding, "embedding")).cpu(), probe=_probe(embedding))

    def estimate(self, store: Store, query: Query) -> Tensor:
        """Return the exact cosine (rows,) of the query to every row."""
        dots = torch.cat([_dots(block, query.exact) for block in store.blocks("key")])
        return dots / torch.cat(list(store.blocks("key_norm")))

    def cosine(self, store: Store, query: Query, rows: list[int]) -> Tensor:
        """Return the exact cosine (len(rows),) of the query to the given rows."""
        dots = torch.stack([_dots(store.row("key", row)[None], query.exact)[0] for row in rows])
        return dots / store.gather("key_norm", rows)


class ReleasedKeys(FlatKeys):
    """The released code's layout fault: the query is flattened (h, w, d), the bank (d, h, w)."""

    def query(self, embedding: Tensor) -> Query:
        """Return one embedding (d, h, w) as a unit vector in (h, w, d) order, in the old shape."""
        query = super().query(embedding)
        return replace(query, exact=query.exact.permute(1, 2, 0).reshape(query.exact.shape))


KEYS: dict[str, PooledKeys | FlatKeys] = {
    "pooled": PooledKeys(),
    "flat": FlatKeys(),
    "released": ReleasedKeys(),
}


def get_keys(name: str) -> PooledKeys | FlatKeys:
    """Return a key scheme by name.

    Raises:
        InputError: no scheme of that name.
    """
    if name not in KEYS:
        raise InputError(f"memory key: got {name!r}, wanted one of {', '.join(KEYS)}")
    return KEYS[name]


class FeatureKeys:
    """Similarity of memory features (M, h, w), which decides what a new entry may replace.

    With `shortlist` = 0 the cosine to every stored feature is taken. Otherwise a 4x4 pooled version picks
    that many, and the exact cosine among them decides.
    """

    def __init__(self, shortlist: int) -> None:
        self.shortlist = shortlist

    def columns(self, shape: tuple[int, int, int], dtype: str) -> dict[str, Column]:
        """Return the columns for features of shape (M, h, w)."""
        columns = {"feature": Column(shape, FEATURE_DTYPES[dtype]), "feature_norm": Column((), torch.float32)}
        if self.shortlist:
            cells = min(COARSE_GRID, shape[1]) * min(COARSE_GRID, shape[2])
            columns["feature_sketch"] = Column((shape[0] * cells,), torch.float32)
        return columns

    def encode(self, feature: Tensor, dtype: str) -> dict[str, Tensor]:
        """Return the columns' values of one feature (M, h, w); it is compared as it will be stored."""
        stored = feature.detach().to("cpu", FEATURE_DTYPES[dtype])
        norm = _norm(stored, f"feature, held as {dtype},")
        values = {"feature": stored, "feature_norm": norm}
        if self.shortlist:
            pooled = sketch(stored)
            values["feature_sketch"] = pooled / _norm(pooled, "feature")
        return values

    def nearest(self, store: Store, values: Mapping[str, Tensor], rows: list[int]) -> int:
        """Return the position in `rows` of the most similar stored feature; the first of equals."""
        if not self.shortlist or len(rows) <= self.shortlist:
            return int(self._exact(store, values, rows).argmax())
        sketch = torch.cat([block @ values["feature_sketch"] for block in store.blocks("feature_sketch")])
        near = sketch[rows].topk(self.shortlist).indices.sort().values.tolist()
        return int(near[int(self._exact(store, values, [rows[i] for i in near]).argmax())])

    def _exact(self, store: Store, values: Mapping[str, Tensor], rows: list[int]) -> Tensor:
        unit = values["feature"].float().flatten() / values["feature_norm"]
        feature = torch.empty_like(unit)  # one block for all rows: fresh memory costs more than the product
        dots = [torch.dot(feature.copy_(store.row("feature", row).flatten()), unit) for row in rows]
        return torch.stack(dots) / store.gather("feature_norm", rows)


def draws(vector: Tensor, count: int, seed: int) -> Tensor:
    """Return `count` uniform numbers that depend only on the vector's direction and the seed.

    The hash is the signs of 32 random projections: rounding noise of 1e-6 leaves it as it is, so that the
    same image draws the same numbers in whatever batch its embedding was computed.
    """
    flat = vector.detach().flatten().to("cpu", torch.float64).numpy()
    signs = (_projection(flat.size, seed) @ flat > 0).astype(np.uint32)
    word = int((signs << np.arange(32, dtype=np.uint32)).sum(dtype=np.uint64))
    stream = np.random.RandomState([seed & 0xFFFFFFFF, word])
    return torch.from_numpy(stream.random_sample(count))


def sketch(maps: Tensor) -> Tensor:
    """Return the 4x4 pooled version (C*16,) of one map (C, h, w), for hashing."""
    return _pool(maps.float(), COARSE_GRID).flatten()


@functools.lru_cache(maxsize=4)
def _projection(size: int, seed: int) -> np.ndarray:
    return np.random.RandomState([seed & 0xFFFFFFFF, size]).standard_normal((32, size))


@functools.lru_cache(maxsize=4)
def _signs(depth: int, height: int, width: int) -> Tensor:
    bits = np.random.RandomState(_SIGN_SEED).randint(0, 2, (depth, height, width), dtype=np.int8)
    return torch.from_numpy(bits).float().mul_(2).sub_(1)


def _probe(embedding: Tensor) -> Tensor:
    return embedding.detach().flatten()[:: max(1, embedding.numel() // 64)].to("cpu", torch.float32, copy=True)


def _signed_sum(maps: Tensor, means: Tensor, signs: Tensor, groups: int) -> Tensor:
    """Sum channels i, i + groups, i + 2 groups, ... of (d, h, w), less their means (d,), to (groups, h, w).

    In steps of `groups` channels: a copy of all maps would cost several times the arithmetic.
    """
    out = maps.new_zeros(groups, *maps.shape[1:])
    for start in range(0, len(maps), groups):
        some = slice(start, start + groups)
        rest = maps[some] - means[some, None, None]
        out[: len(rest)].addcmul_(rest, signs[some])
    return out


def _groups(depth: int, cells: int) -> int:
    """Return into how many numbers per position `depth` channels are pooled."""
    return min(depth, max(1, MAX_NUMBERS // cells))


def _bucketed(values: Tensor, count: int) -> Tensor:
    """Sum neighbouring numbers of a vector into at most `count` buckets."""
    if len(values) <= count:
        return values
    width = -(-len(values) // count)
    return F.pad(values, (0, width * count - len(values))).view(count, width).sum(1)


def _of_length(values: Tensor, length: Tensor) -> Tensor:
    return values * (length / torch.linalg.vector_norm(values).clamp(min=_TINY))


def _pool(maps: Tensor, grid: int) -> Tensor:
    height, width = maps.shape[1:]
    if height <= grid and width <= grid:
        return maps
    if height % grid == 0 and width % grid == 0:  # much faster than the general case
        return maps.reshape(len(maps), grid, height // grid, grid, width // grid).mean((2, 4))
    return F.adaptive_avg_pool2d(maps, (min(grid, height), min(grid, width)))


def _norm(values: Tensor, what: str) -> Tensor:
    norm = torch.linalg.vector_norm(values.detach().float()).cpu()
    if not bool(torch.isfinite(norm)):
        raise InputError(f"memory {what} holds NaN, Inf or numbers too large, wanted finite numbers")
    return norm.clamp(min=_TINY)


def _dots(block: Tensor, unit: Tensor) -> Tensor:
    """Return the inner products (rows,) of rows of any float dtype with a float32 vector, in float32."""
    vector = unit.flatten()
    rows = block.flatten(1)
    if rows.dtype == torch.float32:
        return rows @ vector
    step = max(1, _CHUNK_ELEMENTS // vector.numel())
    return torch.cat([rows[i : i + step].float() @ vector for i in range(0, len(rows), step)])
