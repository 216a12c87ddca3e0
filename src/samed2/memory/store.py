"""Rows of tensors in blocks that never move: in memory, in a scratch file, or mapped from a saved file."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from samed2.errors import InputError
from samed2.io.scratch import nameless

FEATURE_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_FIRST_BLOCK = 32


@dataclass(frozen=True)
class Storage:
    """How a bank keeps its tensors.

    feature_dtype: float16, bfloat16 (what the released bank holds) or float32, for the memory features.
    key_dtype: the same choice for exact keys; pooled keys are always 8-bit integers with one scale each.
    directory: where scratch files for new entries go, so that they need no main memory; None keeps them in
    memory.
    """

    feature_dtype: str = "float16"
    key_dtype: str = "float32"
    directory: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for field in ("feature_dtype", "key_dtype"):
            if getattr(self, field) not in FEATURE_DTYPES:
                names = ", ".join(FEATURE_DTYPES)
                raise InputError(f"memory {field}: got {getattr(self, field)!r}, wanted one of {names}")
        if self.directory is not None and not Path(self.directory).is_dir():
            raise InputError(f"memory directory: {self.directory} is not a folder; create it first")


class Column(NamedTuple):
    """Shape of one row, without the row axis, and its dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Store:
    """Growable rows of named columns; a row keeps its number for life.

    Blocks grow by doubling and are never copied, so that a file mapped at load time stays on disk.
    """

    def __init__(self, columns: Mapping[str, Column], directory: str | os.PathLike[str] | None = None) -> None:
        self.columns = dict(columns)
        self._directory = directory
        self._blocks: list[dict[str, Tensor]] = []
        self._starts: list[int] = []
        self._room = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in use."""
        return self._rows * sum(c.dtype.itemsize * int(np.prod(c.shape)) for c in self.columns.values())

    def attach(self, block: dict[str, Tensor]) -> None:
        """Take over tensors of shape (rows, *column shape) as the rows after the present ones."""
        rows = len(next(iter(block.values())))
        if self._rows != self._room:
            raise ValueError("a block can only be attached to a store without spare rows")
        if rows:
            self._add_block(block, rows)
            self._rows += rows

    def append(self, values: Mapping[str, Tensor], limit: int) -> int:
        """Write a new row and return its number; `limit` is the most rows that will ever be wanted."""
        if self._rows == self._room:
            rows = max(1, min(limit - self._rows, max(_FIRST_BLOCK, self._rows)))
            self._add_block({n: self._allocate(rows, c) for n, c in self.columns.items()}, rows)
        self._rows += 1
        self.write(self._rows - 1, values)
        return self._rows - 1

    def write(self, row: int, values: Mapping[str, Tensor]) -> None:
        """Overwrite a row; a mapped file itself is never changed, only this process's view of it."""
        for name in self.columns:
            self.row(name, row).copy_(values[name])

    def row(self, name: str, row: int) -> Tensor:
        """Return a view of one row of a column."""
        block = bisect_right(self._starts, row) - 1
        return self._blocks[block][name][row - self._starts[block]]

    def blocks(self, name: str) -> Iterator[Tensor]:
        """Go through a column in row order, in views of (rows, *shape)."""
        for start, block in zip(self._starts, self._blocks, strict=True):
            yield block[name][: self._rows - start]

    def gather(self, name: str, rows: list[int]) -> Tensor:
        """Copy the given rows of a column into one tensor (len(rows), *shape)."""
        column = self.columns[name]
        if not column.shape:  # one number per row: quicker to take them all
            return torch.cat(list(self.blocks(name)))[rows]
        out = torch.empty((len(rows), *column.shape), dtype=column.dtype)
        for target, row in zip(out, rows, strict=True):
            target.copy_(self.row(name, row))
        return out

    def select(self, rows: list[int]) -> Store:
        """Copy the given rows into a new store of exactly that size."""
        out = Store(self.columns, self._directory)
        if rows:
            out._add_block({n: out._allocate(len(rows), c) for n, c in self.columns.items()}, len(rows))
            for row in rows:
                out._rows += 1
                out.write(out._rows - 1, {name: self.row(name, row) for name in self.columns})
        return out

    def _add_block(self, block: dict[str, Tensor], rows: int) -> None:
        self._blocks.append(block)
        self._starts.append(self._room)
        self._room += rows

    def _allocate(self, rows: int, column: Column) -> Tensor:
        count = rows * int(np.prod(column.shape))
        if self._directory is None or not count:
            return torch.empty((rows, *column.shape), dtype=column.dtype)
        raw = _scratch(count * column.dtype.itemsize, self._directory)
        return raw.view(column.dtype).view(rows, *column.shape)


def _scratch(nbytes: int, directory: str | os.PathLike[str]) -> Tensor:
    try:
        return torch.from_numpy(nameless(nbytes, directory))
    except OSError as error:
        raise InputError(f"memory directory {directory}: no room for {nbytes} bytes: {error.strerror}") from error
