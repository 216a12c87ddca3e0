"""The bank's file: one safetensors file whose metadata holds a JSON header. Format: docs/memory.md.

Written row by row, so that saving needs no second copy of the bank, and mapped rather than read, so that
opening one costs neither time nor memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.memory.entries import Entry, check_confidence
from samed2.memory.keys import get_keys
from samed2.memory.policies import get_policy
from samed2.memory.store import Column, Storage, Store

FORMAT = "samed2-memory"
FORMAT_VERSION = 1
_MAX_HEADER = 64 * 2**20
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I8": torch.int8,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Header:
    """The JSON header, checked. embedding_shape is None in a bank that never held an entry."""

    capacity: int
    clock: int
    embedding_shape: tuple[int, int, int] | None
    entries: list[list[str]]
    feature_dtype: str
    feature_shape: tuple[int, int, int]
    fingerprint: str
    key: str
    key_dtype: str
    policy: str
    seed: int


@dataclass(frozen=True)
class Found:
    """An opened file: its header, its entries and, on request, its tensors."""

    path: str
    header: Header
    entries: list[Entry]
    stored: dict[str, Tensor]

    def tensors(self, columns: Mapping[str, Column]) -> dict[str, Tensor]:
        """Return the tensors of the given columns, each (entries, *column shape).

        Raises:
            InputError: one is missing or has another shape or dtype.
        """
        out = {}
        for name, column in columns.items():
            out[name] = _tensor(self.path, self.stored, name, (len(self.entries), *column.shape), column.dtype)
            if not column.shape and not bool(torch.isfinite(out[name]).all()):
                raise InputError(f"{self.path}: tensor {name} holds NaN or Inf: the file is damaged")
        return out


def write(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    facts: Mapping[str, Tensor],
    store: Store | None,
    order: list[int],
) -> None:
    """Write a bank in list order; the file appears whole or not at all."""
    table: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "header": json.dumps(dict(header), sort_keys=True),
        }
    }
    columns = {name: Column(tuple(value.shape[1:]), value.dtype) for name, value in facts.items()}
    columns |= store.columns if store is not None else {}
    columns = dict(sorted(columns.items(), key=lambda item: -item[1].dtype.itemsize))  # keeps all of them aligned
    start = 0
    for name, column in columns.items():
        size = len(order) * math.prod(column.shape) * column.dtype.itemsize
        shape = [len(order), *column.shape]
        table[name] = {"dtype": _NAMES[column.dtype], "shape": shape, "data_offsets": [start, start + size]}
        start += size
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        handle.write(len(head).to_bytes(8, "little") + head)
        for name in columns:
            if name in facts:
                _put(handle, facts[name])
            elif store is not None:
                for row in order:
                    _put(handle, store.row(name, row))


def read(path: str | os.PathLike[str], *, in_memory: bool = False) -> Found:
    """Open a bank's file; its tensors are mapped copy-on-write unless `in_memory`.

    Raises:
        InputError: missing, cut off, damaged, not a memory file, or of another format version.
    """
    name = os.fspath(path)
    try:
        size = _size(Path(path))
        with open(path, "rb") as handle:
            table, start = _table(name, handle, size)
        header = _header(name, table.pop("__metadata__", None))
        raw = np.fromfile(path, dtype=np.uint8) if in_memory else np.memmap(path, dtype=np.uint8, mode="c")
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    data = torch.from_numpy(raw)[start:]
    stored = {key: _view(name, key, item, data) for key, item in table.items()}
    count = len(header.entries)
    confidence = _tensor(name, stored, "confidence", (count,), torch.float64).tolist()
    times = _tensor(name, stored, "time", (count,), torch.int64).tolist()
    bounded = get_policy(header.policy).bounded
    entries = [
        Entry(
            check_confidence(sure, bounded=bounded, field=f"file {name}: confidence"),
            text[0],
            text[1],
            text[2],
            time,
        )
        for sure, text, time in zip(confidence, header.entries, times, strict=True)
    ]
    return Found(name, header, entries, stored)


def _size(path: Path) -> int:
    if path.is_dir():
        raise InputError(f"{path}: is a folder, wanted a memory file")
    if not path.exists():
        raise InputError(f"{path}: does not exist; check the path")
    size = path.stat().st_size
    if size < 8:
        raise InputError(f"{path}: {'is empty' if not size else 'is cut off'}, wanted a memory file")
    return size


def _table(name: str, handle: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the safetensors table and the position of the first tensor byte."""
    length = int.from_bytes(handle.read(8), "little")
    if length > _MAX_HEADER:
        raise InputError(f"{name}: is not a memory file (its header claims {length} bytes)")
    if 8 + length > size:
        raise InputError(f"{name}: is cut off or not a memory file: {size} bytes, wanted {8 + length} for its header")
    try:
        table = json.loads(handle.read(length))
        ends = [int(item["data_offsets"][1]) for key, item in table.items() if key != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"{name}: is not a memory file (no safetensors header)") from error
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        raise InputError(f"{name}: is cut off or damaged: got {size} bytes, wanted {wanted}; copy or make it again")
    return table, 8 + length


def _header(name: str, metadata: Any) -> Header:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{name}: is a safetensors file but not a memory of samed2")
    version = metadata.get("format_version")
    if version != str(FORMAT_VERSION):
        raise InputError(
            f"{name}: format_version: got {version}, wanted {FORMAT_VERSION}; "
            "open it with the samed2 version that wrote it"
        )
    try:
        values = json.loads(metadata["header"])
        values = {field.name: values[field.name] for field in fields(Header)}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{name}: header: is damaged ({error})") from error
    for field in ("capacity", "clock", "seed"):
        _check(name, field, values[field], isinstance(values[field], int), "a whole number")
    for field in ("fingerprint", "key", "policy", "feature_dtype", "key_dtype"):
        _check(name, field, values[field], isinstance(values[field], str), "text")
    for field in ("feature_shape", "embedding_shape"):
        shape = values[field]
        good = isinstance(shape, list) and all(isinstance(n, int) and n > 0 for n in shape)
        good = good and (len(shape) == 3 or (field == "embedding_shape" and not shape))
        _check(name, field, shape, good, "three sizes (channels, h, w)")
        values[field] = tuple(shape) or None
    rows = values["entries"]
    good = isinstance(rows, list) and all(
        isinstance(row, list) and len(row) == 3 and all(isinstance(text, str) for text in row) for row in rows
    )
    _check(name, "entries", "something else", good, "a list of [task, modality, origin]")
    _check(name, "capacity", values["capacity"], values["capacity"] >= len(rows), f"at least {len(rows)}")
    _check(name, "embedding_shape", None, bool(values["embedding_shape"]) or not rows, "three sizes")
    try:
        get_keys(values["key"]), get_policy(values["policy"])
        Storage(values["feature_dtype"], values["key_dtype"])
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return Header(**values)


def _check(name: str, field: str, got: object, good: bool, wanted: str) -> None:
    if not good:
        raise InputError(f"{name}: header {field}: got {got!r}, wanted {wanted}")


def _view(name: str, key: str, item: Any, data: Tensor) -> Tensor:
    """Return one tensor of the table as a view of the file's bytes."""
    try:
        dtype, shape = _DTYPES[item["dtype"]], [int(size) for size in item["shape"]]
        start, end = (int(offset) for offset in item["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name}: tensor {key}: its description is damaged") from error
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= start <= end <= len(data) or end - start != size:
        raise InputError(f"{name}: tensor {key}: shape {shape} does not fit its bytes {start} to {end}")
    part = data[start:end]
    if part.storage_offset() % dtype.itemsize:
        part = part.clone()
    return part.view(dtype).view(shape)


def _tensor(path: str, stored: Mapping[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if name not in stored:
        raise InputError(f"{path}: tensor {name}: is missing, wanted shape {shape}")
    value = stored[name]
    if tuple(value.shape) != shape or value.dtype != dtype:
        got = f"{value.dtype} of shape {tuple(value.shape)}"
        raise InputError(f"{path}: tensor {name}: got {got}, wanted {dtype} of shape {shape}")
    return value


def _put(handle: BinaryIO, value: Tensor) -> None:
    flat = value.detach().contiguous().flatten()
    handle.write(flat.view(torch.uint8).numpy().data)
