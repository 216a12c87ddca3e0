"""The released SAMed-2 memory: its bank file, and how its code lays out selected entries as tokens.

Reading and replacing with the released code's faults is `SelectiveMemory(key="released", policy="released")`:
the key holds each entry's map channel by channel while the query runs position by position, the confidence, a
probability already, goes through a sigmoid once more, and a replacing entry moves to the end of the list.
Nothing here is needed for banks made by this package. Source: the audit in docs/method.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samed2.errors import InputError
from samed2.memory.bank import SelectiveMemory
from samed2.memory.foreign import read_objects
from samed2.memory.store import Storage

_ITEMS = ("memory feature", "position code", "confidence", "embedding")


def assemble(selected: Tensor) -> Tensor:
    """Lay out selected entries as the released code does, which mixes the samples of a batch.

    Column b holds, at each position, the b-th ranked entry of every sample one after another, so it only
    works for k = B.

    Args:
        selected: (B, k, M, h, w) memory features, or their position codes, of the k = B best entries per
            sample.

    Returns:
        (h*w*k, B, M) tokens.

    Raises:
        ValueError: k is not B.
    """
    batch, count, channels = selected.shape[:3]
    if count != batch:
        raise ValueError(
            f"selected: got {count} entries for each of {batch} samples, the released layout needs as many"
        )
    tokens = selected.flatten(3).permute(3, 0, 1, 2)  # [hw, b, k, m]
    return tokens.reshape(-1, batch, channels)


def as_entries(tokens: Tensor, height: int, width: int) -> Tensor:
    """Cut token columns into maps, so that `SAMed2Model.condition` reads them in exactly the given order.

    Args:
        tokens: (k*h*w, B, M), from `assemble`.

    Returns:
        (B, k, M, h, w); with assembled tokens a map is a mixture of entries, not one of them.
    """
    columns = tokens.permute(1, 2, 0).unflatten(2, (-1, height, width))  # [b, m, k, h, w]
    return columns.transpose(1, 2)


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    key: str = "released",
    policy: str = "released",
    fingerprint: str = "",
) -> dict[str, Any]:
    """Convert a released memory bank to a memory file.

    The embeddings in a released bank are conditioned maps, while queries are raw ones (a fault of the
    released code that the stored numbers cannot undo). Position codes are dropped: all entries share one.

    Args:
        source: `.pkl` with a Python list of [feature, position code, confidence, embedding], or the same list
            written by torch.save.
        out: file to write.
        key, policy: of the new bank; the defaults answer as the released code does.
        fingerprint: of the model the bank belongs to; empty when unknown.

    Returns:
        What was read and written, for people and as JSON.

    Raises:
        InputError: the file cannot be read, or an entry does not look as expected.
    """
    bank = read_bank(source, key=key, policy=policy, fingerprint=fingerprint)
    bank.save(out)
    return {"kind": "memory", **bank.info(), "out": str(out)}


def read_bank(
    source: str | os.PathLike[str], *, key: str = "released", policy: str = "released", fingerprint: str = ""
) -> SelectiveMemory:
    """Read a released memory bank, entry by entry in list order; see `convert`."""
    path = Path(source)
    content = read_objects(path)
    if not isinstance(content, list) or not content:
        got = "an empty list" if isinstance(content, list) else f"a {type(content).__name__}"
        raise InputError(f"{path}: got {got}, wanted a list of memory entries")
    entries = [_entry(path, number, item) for number, item in enumerate(content)]
    shape, embedding_shape = tuple(entries[0][0].shape), tuple(entries[0][2].shape)
    for number, (feature, _, embedding) in enumerate(entries):
        if tuple(feature.shape) != shape:
            raise InputError(f"{path}: entry {number}: feature: got {_what(feature)}, entry 0 has {shape}")
        if tuple(embedding.shape) != embedding_shape:
            raise InputError(
                f"{path}: entry {number}: embedding: got {_what(embedding)}, entry 0 has {embedding_shape}"
            )
    storage = Storage("bfloat16", "bfloat16" if _all_bfloat16(content) else "float32")
    bank = SelectiveMemory(len(entries), shape, key=key, policy=policy, fingerprint=fingerprint, storage=storage)
    for number, (feature, confidence, embedding) in enumerate(entries):
        try:
            bank.add(embedding[None].float(), feature[None], [confidence], origin=f"{path.name}:{number}")
        except InputError as error:
            raise InputError(f"{path}: entry {number}: {error}") from error
    return bank


def _entry(path: Path, number: int, item: object) -> tuple[Tensor, float, Tensor]:
    """Return the feature (M, h, w), the confidence and the embedding (d, h, w) of one released entry."""
    if not isinstance(item, list | tuple) or len(item) != len(_ITEMS):
        size = len(item) if isinstance(item, list | tuple) else type(item).__name__
        raise InputError(f"{path}: entry {number}: got {size}, wanted 4 items: {', '.join(_ITEMS)}")
    feature, _, confidence, embedding = item
    if not _floats(feature) or feature.ndim not in (3, 4) or (feature.ndim == 4 and feature.shape[0] != 1):
        raise InputError(f"{path}: entry {number}: feature: got {_what(feature)}, wanted a float tensor (1, M, h, w)")
    feature = feature.detach().reshape(feature.shape[-3:])
    if isinstance(confidence, Tensor):
        if confidence.numel() != 1:
            raise InputError(f"{path}: entry {number}: confidence: got {_what(confidence)}, wanted one number")
        confidence = confidence.item()
    if isinstance(confidence, bool) or not isinstance(confidence, int | float):
        raise InputError(f"{path}: entry {number}: confidence: got {_what(confidence)}, wanted a number")
    places = feature.shape[1] * feature.shape[2]
    if not _floats(embedding) or not places or embedding.numel() % places or not embedding.numel():
        raise InputError(
            f"{path}: entry {number}: embedding: got {_what(embedding)}, wanted floats for {places} positions"
        )
    maps = embedding.detach().reshape(-1, *feature.shape[1:])  # the bank stores channel by channel
    return feature, float(confidence), maps


def _floats(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype.is_floating_point


def _all_bfloat16(entries: Iterable[Any]) -> bool:
    return all(entry[3].dtype == torch.bfloat16 for entry in entries)


def _what(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
