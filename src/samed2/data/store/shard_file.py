"""One Arrow file of a store, mapped into memory; nothing is decoded until it is asked for."""

from __future__ import annotations

import os
from bisect import bisect_right
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from samed2.data.store.schema import arrow_schema
from samed2.errors import InputError
from samed2.io.checks import one_line

INDEX = tuple(name for name in arrow_schema().names if name != "image")


class ShardFile:
    """Rows of one shard by number, 0 to `rows` - 1.

    Raises:
        InputError: the file is missing, cut off or not a shard.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                if not stream.schema.equals(arrow_schema()):
                    raise InputError(f"{path}: has other columns than a shard of this schema; build the store again")
                self._batches = list(stream)
        except FileNotFoundError as error:
            raise InputError(f"{path}: is missing; build the store again to repair it") from error
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be opened ({one_line(error)}); run `samed2 medbank verify`") from error
        self._starts = [0]
        for batch in self._batches:
            self._starts.append(self._starts[-1] + batch.num_rows)
        self.rows = self._starts[-1]

    def get(self, row: int, column: str) -> Any:
        """One field of one row as a Python value; `image` as a buffer without a copy."""
        batch, offset = self._at(row)
        value = batch.column(column)[offset]
        return value.as_buffer() if column == "image" else value.as_py()

    def row(self, row: int) -> dict[str, Any]:
        """All fields of one row; `image` is a buffer on the mapped file."""
        batch, offset = self._at(row)
        names = batch.schema.names
        return {
            n: (c[offset].as_buffer() if n == "image" else c[offset].as_py())
            for n, c in zip(names, batch.columns, strict=True)
        }

    def mask_png(self, row: int, name: str) -> bytes | None:
        """The packed mask of one object, None where the object is absent; other masks are not copied."""
        batch, offset = self._at(row)
        masks = batch.column("masks")[offset].values  # StructArray of this row only
        names = masks.field("object").to_pylist()
        return masks.field("png")[names.index(name)].as_py() if name in names else None

    def image_row(self, row: int) -> dict[str, Any]:
        """The fields that `decode_frame` needs."""
        batch, offset = self._at(row)
        wanted = ("dataset", "case", "frame", "height", "width", "codec", "dtype", "channels", "slope", "intercept")
        found = {name: batch.column(name)[offset].as_py() for name in wanted}
        found["image"] = batch.column("image")[offset].as_buffer()
        return found

    def index(self) -> pa.Table:
        """All columns but the pixels, on the mapped file; `masks` keeps object and pixels."""
        batches = [_light(batch) for batch in self._batches]
        return pa.Table.from_batches(batches, schema=index_schema())

    def _at(self, row: int) -> tuple[pa.RecordBatch, int]:
        if not 0 <= row < self.rows:
            raise InputError(f"{self.path}: has no row {row}, wanted 0 to {self.rows - 1}")
        number = bisect_right(self._starts, row) - 1
        return self._batches[number], row - self._starts[number]


def open_shard(path: Path | str) -> ShardFile:
    """A shard, kept open by this process until the file changes."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: is missing; build the store again to repair it") from error
    return _kept(str(path), found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _kept(path: str, *_version: int) -> ShardFile:
    return ShardFile(Path(path))


@lru_cache(maxsize=1)
def index_schema() -> pa.Schema:
    """The columns of `ShardFile.index`."""
    slim = pa.list_(pa.struct([("object", pa.string()), ("pixels", pa.int64())]))
    fields = [pa.field("masks", slim) if name == "masks" else arrow_schema().field(name) for name in INDEX]
    return pa.schema(fields)


def _light(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for name in INDEX:
        column = batch.column(name)
        if name == "masks":
            inner = column.values
            slim = pa.StructArray.from_arrays(
                [inner.field("object"), inner.field("pixels")], names=["object", "pixels"]
            )
            column = pa.ListArray.from_arrays(column.offsets, slim)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=index_schema())
