"""Opening a store and reading rows and cases of it, lazily."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from samed2.data.cases import Case, LoadedCase, Mask, Masks
from samed2.data.store.codec import decode_frame, decode_mask
from samed2.data.store.manifest import Manifest, load_manifest
from samed2.data.store.shard_file import ShardFile, index_schema, open_shard
from samed2.errors import InputError
from samed2.io import Geometry, Scan

Names = Iterable[str] | str | None


class Store:
    """A finished store. Opening maps its files and decodes nothing; it may be sent to other processes.

    Attributes:
        path: its folder.
        manifest: what it holds.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._starts = [0]
        for shard in manifest.shards:
            self._starts.append(self._starts[-1] + shard.rows)

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open a store.

        Raises:
            InputError: no store there, one that is being written or was left unfinished, damage, or another schema.
        """
        root = Path(path)
        store = cls(root, load_manifest(root))
        for number, shard in enumerate(store.manifest.shards):
            file = root / shard.file
            size = file.stat().st_size if file.is_file() else -1
            if size != shard.bytes:
                got = f"has {size} bytes" if size >= 0 else "is missing"
                raise InputError(f"{file}: {got}, wanted {shard.bytes}; build the store again to repair shard {number}")
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)

    def __len__(self) -> int:
        """Rows: frames of all cases."""
        return self._starts[-1]

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {self.manifest.cases} cases, {len(self)} frames)"

    @cached_property
    def index(self) -> pa.Table:
        """Every column but the pixels, one row per frame in the order of (data set, case, frame).

        `masks` is a list of {"object", "pixels"} of the objects that are on the frame.
        """
        tables = [self._shard(number).index() for number in range(len(self.manifest.shards))]
        return pa.concat_tables(tables) if tables else index_schema().empty_table()

    @cached_property
    def dataset(self) -> Any:
        """The whole store as one `datasets.Dataset`, mapped into memory; images and masks are encoded bytes."""
        from datasets import Dataset, concatenate_datasets

        files = [self.path / shard.file for shard in self.manifest.shards if shard.rows]
        return concatenate_datasets([Dataset.from_file(str(file)) for file in files])

    def image(self, row: int) -> NDArray[Any]:
        """The frame of one row, (H, W) or (H, W, 3) in native intensities."""
        shard, offset = self._at(row)
        return decode_frame(shard.image_row(offset))

    def mask(self, row: int, name: str) -> Mask:
        """The (H, W) mask of one object on one row's frame, all False where it is absent.

        Raises:
            InputError: the object was not looked for in that case.
        """
        shard, offset = self._at(row)
        objects = shard.get(offset, "objects")
        if name not in objects:
            raise InputError(f"{self.path}: row {row} has no object {name!r}, wanted one of {', '.join(objects)}")
        return _mask(shard, offset, name)

    def row(self, row: int) -> dict[str, Any]:
        """The fields of one row that need no decoding."""
        if not 0 <= row < len(self):
            raise InputError(f"{self.path}: has no row {row}, wanted 0 to {len(self) - 1}")
        found: dict[str, Any] = self.index.slice(row, 1).to_pylist()[0]
        return found

    def rows(
        self,
        *,
        task: str | None = None,
        case: str | None = None,
        split: str | None = None,
        dataset: str | None = None,
        present: bool = False,
    ) -> NDArray[np.int64]:
        """Numbers of the rows that fit, in order.

        Args:
            task: "DATASET/OBJECT": cases in which the object was looked for.
            case: "DATASET/NAME", or NAME for that name in all data sets.
            present: with `task`, only frames on which the object has pixels.
        """
        keep = np.ones(len(self), bool)
        wanted, object_name = task.split("/", 1) if task and "/" in task else (dataset, task)
        if task and "/" not in task:
            raise InputError(f"task: got {task!r}, wanted DATASET/OBJECT")
        for column, value in (("dataset", dataset), ("dataset", wanted), ("split", split)):
            if value is not None:
                keep &= self._equal(column, value)
        if case is not None:
            full = pc.binary_join_element_wise(self.index["dataset"], self.index["case"], "/")
            keep &= self._equal("case", case) | np.asarray(pc.equal(full, case))
        if object_name is not None:
            column = pc.list_flatten(self.index["masks"]) if present else pc.list_flatten(self.index["objects"])
            parents = pc.list_parent_indices(self.index["masks" if present else "objects"])
            names = pc.struct_field(column, "object") if present else column
            has = np.zeros(len(self), bool)
            has[np.asarray(parents)[np.asarray(pc.equal(names, object_name))]] = True
            keep &= has
        return np.flatnonzero(keep)

    def cases(self, splits: Names = None, datasets: Names = None, tasks: Names = None) -> list[Case]:
        """The cases of some splits, data sets and tasks (None: all), in order; loading one decodes only what is asked.

        With `tasks` ("DATASET/OBJECT") a case has only those objects.

        Raises:
            InputError: a split, data set or task that the store does not have.
        """
        chosen = {"split": _names(splits), "dataset": _names(datasets), "task": _names(tasks)}
        heads = self._heads
        have: dict[str, set[str]] = {"split": set(), "dataset": set(), "task": set()}
        found = []
        for head in heads:
            own = {"split": {head["split"]}, "dataset": {head["dataset"]}}
            own["task"] = {f"{head['dataset']}/{name}" for name in head["objects"]}
            for key, values in own.items():
                have[key] |= values
            if all(wanted is None or own[key] & wanted for key, wanted in chosen.items()):
                found.append(self._case(head, chosen["task"]))
        for key, wanted in chosen.items():
            unknown = sorted((wanted or set()) - have[key])
            if unknown:
                raise InputError(f"{self.path}: has no {key} {unknown[0]!r}; it has {', '.join(sorted(have[key]))}")
        return found

    @cached_property
    def _heads(self) -> list[dict[str, Any]]:
        """Fields of the first row of every case, with its row number."""
        first = np.flatnonzero(np.asarray(pc.equal(self.index["frame"], 0)))
        columns = ("dataset", "case", "patient", "modality", "kind", "split", "licence", "frames", "objects")
        heads: list[dict[str, Any]] = self.index.select(columns).take(pa.array(first)).to_pylist()
        return [{**head, "row": int(row)} for head, row in zip(heads, first, strict=True)]

    def _case(self, head: dict[str, Any], tasks: set[str] | None) -> Case:
        number = bisect_right(self._starts, head["row"]) - 1
        file = self.path / self.manifest.shards[number].file
        dataset = head["dataset"]
        objects = tuple(name for name in head["objects"] if tasks is None or f"{dataset}/{name}" in tasks)
        return Case(
            dataset=dataset,
            modality=head["modality"],
            name=head["case"],
            kind=head["kind"],
            objects=objects,
            patient=head["patient"],
            split=head["split"],
            licence=head["licence"],
            files=(file,),
            reader=partial(read_case, str(file), head["row"] - self._starts[number]),
        )

    def _shard(self, number: int) -> ShardFile:
        return open_shard(self.path / self.manifest.shards[number].file)

    def _at(self, row: int) -> tuple[ShardFile, int]:
        if not 0 <= row < len(self):
            raise InputError(f"{self.path}: has no row {row}, wanted 0 to {len(self) - 1}")
        number = bisect_right(self._starts, row) - 1
        return self._shard(number), int(row) - self._starts[number]

    def _equal(self, column: str, value: str) -> NDArray[np.bool_]:
        return np.asarray(pc.equal(self.index[column], value))


class StoreFrames:
    """Frames of a case, decoded one at a time: a `FrameSource`."""

    def __init__(self, file: str, first: int) -> None:
        self._file, self._first = file, first
        row = open_shard(file).row(first)
        self.shape = (row["frames"], row["height"], row["width"], row["channels"])
        self.dtype = np.dtype(row["dtype"])

    def read(self, index: int) -> NDArray[Any]:
        return decode_frame(open_shard(self._file).image_row(self._first + index))


class StoreMasks(Masks):
    """Masks of a case, decoded one at a time."""

    def __init__(self, file: str, first: int, shape: tuple[int, int, int], names: tuple[str, ...]) -> None:
        self._file, self._first, self._shape, self._names = file, first, shape, names

    def on_frame(self, name: str, frame: int) -> Mask:
        if name not in self._names:
            raise KeyError(name)
        return _mask(open_shard(self._file), self._first + range(self._shape[0])[frame], name)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    def names(self) -> tuple[str, ...]:
        return self._names


def read_case(file: str, first: int, case: Case) -> LoadedCase:
    """Open a case whose rows start at `first` of a shard."""
    row = open_shard(file).row(first)
    if row["case"] != case.name or row["frame"] != 0:
        raise InputError(
            f"{file}: row {first} is {row['case']}, wanted {case.name}; the store was built again: open it anew"
        )
    known = not np.isnan(row["spacing"]).any()
    frames = StoreFrames(file, first)
    scan = Scan(
        frames,
        name=case.name,
        path=None,
        modality=case.modality,
        kind=case.kind,
        geometry=Geometry(np.array(row["affine"]).reshape(4, 4), known=known),
        file_window=(row["file_window"][0], row["file_window"][1]) if row["file_window"] else None,
        properties={"reader": "MedBank"},
    )
    return LoadedCase(case, scan, StoreMasks(file, first, scan.shape, case.objects))


def _mask(shard: ShardFile, row: int, name: str) -> Mask:
    png = shard.mask_png(row, name)
    shape = (shard.get(row, "height"), shard.get(row, "width"))
    return np.zeros(shape, bool) if png is None else decode_mask(png, shape)


def _names(given: Names) -> set[str] | None:
    return None if given is None else {given} if isinstance(given, str) else set(given)
