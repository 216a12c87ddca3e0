"""A case: one image, volume or video of a data set with what is labelled in it.

Everything that reads data sets gives cases, and everything that trains or evaluates takes them: converters of
original layouts, the MedBank store, and the `folder` layout (`open_cases`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan

Mask = NDArray[np.bool_]


class Masks(Mapping[str, Mask]):
    """The labelled objects of a case: name -> (T, H, W) bool, made when asked for.

    An object that is listed was looked for in the whole case: where its mask is empty, it is absent. Objects may
    overlap (optic cup and disc).
    """

    @abstractmethod
    def on_frame(self, name: str, frame: int) -> Mask:
        """The (H, W) mask of one object on one frame."""

    def __getitem__(self, name: str) -> Mask:
        return np.stack([self.on_frame(name, frame) for frame in range(self.shape[0])])

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """The grid (T, H, W)."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The objects, in the data set's order."""

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class MaskArrays(Masks):
    """Masks held as one (T, H, W) array per object."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = {name: np.asarray(array).astype(bool, copy=False) for name, array in arrays.items()}
        shapes = {array.shape for array in self._arrays.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise InputError(f"masks: got shapes {sorted(shapes)}, wanted one shape (T, H, W) for all objects")

    def on_frame(self, name: str, frame: int) -> Mask:
        return self._arrays[name][frame]

    def __getitem__(self, name: str) -> Mask:
        return self._arrays[name]

    @property
    def shape(self) -> tuple[int, int, int]:
        depth, height, width = next(iter(self._arrays.values())).shape
        return depth, height, width

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._arrays)


class LabelMap(Masks):
    """Masks as values of one (T, H, W) integer map; an object may be several values, and share them."""

    def __init__(self, labels: NDArray[Any], values: Mapping[str, Sequence[int]]) -> None:
        if labels.ndim != 3:
            raise InputError(f"label map: got shape {labels.shape}, wanted (T, H, W)")
        self._labels = labels
        self._values = {name: tuple(int(v) for v in chosen) for name, chosen in values.items()}

    def on_frame(self, name: str, frame: int) -> Mask:
        return self._pick(name, self._labels[frame])

    def __getitem__(self, name: str) -> Mask:
        return self._pick(name, self._labels)

    def _pick(self, name: str, labels: NDArray[Any]) -> Mask:
        values = self._values[name]
        return labels == values[0] if len(values) == 1 else np.isin(labels, values)

    @property
    def shape(self) -> tuple[int, int, int]:
        depth, height, width = self._labels.shape
        return depth, height, width

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._values)


@dataclass(frozen=True)
class Case:
    """One image, volume or video, not read yet.

    Attributes:
        name: unique within its data set.
        patient: what a split must keep together: patient, eye, sequence; the name where nothing else is known.
        split: "train", "val", "test", "external" or another word; "" where the source has none.
        objects: what was looked for in it; the load may find some of them absent.
        files: what is read, for messages and for finding changes.
        reader: reads it; a module-level function or a partial of one, so that other processes can call it.
    """

    dataset: str
    modality: str
    name: str
    kind: Literal["image", "volume", "video"]
    objects: tuple[str, ...]
    patient: str = ""
    split: str = ""
    licence: str = ""
    files: tuple[Path, ...] = ()
    reader: Callable[[Case], LoadedCase] | None = field(default=None, compare=False, repr=False)

    def task(self, name: str) -> str:
        """The task of one object: "DATASET/OBJECT"."""
        return f"{self.dataset}/{name}"

    @property
    def label(self) -> str:
        """How messages call the case."""
        return f"{self.dataset}/{self.name}"

    def load(self) -> LoadedCase:
        """Open the case; frames may still be read lazily.

        Raises:
            InputError: a file is missing or unusable, or image and labels do not fit each other.
        """
        if self.reader is None:
            raise InputError(f"{self.label}: has no reader, wanted a case made by a converter or a store")
        try:
            loaded = self.reader(self)
        except InputError as error:
            raise error if self.name in str(error) else InputError(f"{self.label}: {error}") from error
        if loaded.masks.shape != loaded.scan.shape:
            raise InputError(
                f"{self.label}: labels have shape {loaded.masks.shape}, the image {loaded.scan.shape} (frame, y, x)"
            )
        return loaded


@dataclass
class LoadedCase:
    """A case that can be looked at: `scan` in native intensities, `masks` on the scan's grid."""

    case: Case
    scan: Scan
    masks: Masks

    @cached_property
    def frames(self) -> NDArray[Any]:
        """All frames, (T, H, W) or (T, H, W, 3) in native intensities."""
        return self.scan.frames()

    def in_memory(self) -> LoadedCase:
        """The same with every frame and mask read."""
        held = Scan.from_array(self.frames, kind=self.scan.kind, channels_last=self.scan.channels == 3)
        held.name, held.modality, held.geometry = self.scan.name, self.scan.modality, self.scan.geometry
        held.file_window = self.scan.file_window
        return LoadedCase(self.case, held, MaskArrays({name: self.masks[name] for name in self.masks}))


@dataclass(frozen=True)
class Dropped:
    """Something of a data set that cannot be used, and why."""

    dataset: str
    name: str
    reason: str
    files: tuple[Path, ...] = ()


def tasks_of(cases: Iterable[Case]) -> list[str]:
    """The tasks "DATASET/OBJECT" of cases, each once, sorted."""
    return sorted({case.task(name) for case in cases for name in case.objects})


def file_name(task: str) -> str:
    """A task as the name of a file, without ending."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in task)
