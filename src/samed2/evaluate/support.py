"""What the evaluation takes from other cases of a task: confirmed examples for the memory, and the usual size."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case, LoadedCase
from samed2.data.examples import largest_frame
from samed2.errors import InputError
from samed2.evaluate.models.base import Support
from samed2.evaluate.protocols.base import generator
from samed2.evaluate.settings import middle_frames
from samed2.prompts import components

SIZED_CASES = 16  # per data set, for the median size of its tasks
HELD_BYTES = 2**29


class SupportPool:
    """Confirmed cases by task, drawn per evaluated case: the same whatever was drawn before.

    Args:
        cases: labelled cases; those of the evaluated case's own patient are never used for it.
        splits: where to look first; a task without any case there uses all of `cases`.
        seed: of the draws.
    """

    def __init__(self, cases: Sequence[Case], splits: Sequence[str] = ("train",), seed: int = 0) -> None:
        self.cases, self.splits, self.seed = list(cases), tuple(splits), seed
        self._held: OrderedDict[str, tuple[LoadedCase, int]] = OrderedDict()
        self._largest: dict[tuple[str, str], int | None] = {}

    def candidates(self, case: Case, name: str) -> tuple[list[Case], list[str]]:
        """Cases of the task from other patients, sorted by name, and what is to be noted about them."""
        fit = [c for c in self.cases if c.dataset == case.dataset and name in c.objects and not _same(c, case)]
        inside = [c for c in fit if c.split in self.splits]
        notes = [] if inside or not fit else [f"support from outside of {'/'.join(self.splits)}"]
        return sorted(inside or fit, key=lambda c: c.name), notes

    def draw(self, case: Case, name: str, count: int) -> tuple[list[Support], list[str]]:
        """Up to `count` examples for one object of a case, each the frame with the largest object, and notes.

        A smaller count gets the first of the same examples.

        Raises:
            InputError: there is none.
        """
        fit, notes = self.candidates(case, name)
        order = generator(self.seed, f"{case.dataset}/{case.name}/{name}/support").permutation(len(fit))
        examples: list[Support] = []
        for index in order:
            if len(examples) == count:
                break
            example = self._example(fit[int(index)], name)
            examples += [example] if example else []
        if not examples:
            raise InputError(f"{case.label}: no other patient's case shows {name}; there is nothing to remember")
        if len(examples) < count:
            notes = [*notes, f"only {len(examples)} support cases"]
        return examples, notes

    def _example(self, case: Case, name: str) -> Support | None:
        if self._largest.get((case.label, name), 0) is None:
            return None
        loaded = self._load(case)
        if (case.label, name) not in self._largest:
            self._largest[case.label, name] = largest_frame(loaded.masks, name)
        frame = self._largest[case.label, name]
        if frame is None:
            return None
        return Support(loaded.scan, frame, np.array(loaded.masks.on_frame(name, frame)), case.task(name))

    def _load(self, case: Case) -> LoadedCase:
        """The case, kept while there is room, so that a model may cache by scan."""
        if case.label not in self._held:
            loaded = case.load()
            self._held[case.label] = (loaded, math.prod(loaded.scan.source.shape) * loaded.scan.dtype.itemsize)
        self._held.move_to_end(case.label)
        while len(self._held) > 1 and sum(size for _, size in self._held.values()) > HELD_BYTES:
            self._held.popitem(last=False)
        return self._held[case.label][0]


def _same(a: Case, b: Case) -> bool:
    return (a.patient or a.name) == (b.patient or b.name) or a.name == b.name


@dataclass(frozen=True)
class UsualSize:
    """Median share of a frame's area that a component of a task covers, and that the whole object covers."""

    component: float
    whole: float
    cases: int = 0


def usual_sizes(cases: Iterable[Case], pool: Sequence[Case], splits: Sequence[str], seed: int) -> dict[str, UsualSize]:
    """The usual size of every task of `cases`, by task.

    It is measured on up to 16 drawn cases per data set out of `pool`'s `splits`, of volumes and videos on their frames
    next to the middle of the object; a data set with none there is measured on `cases` themselves.
    """
    evaluated: dict[str, list[Case]] = {}
    for case in cases:
        evaluated.setdefault(case.dataset, []).append(case)
    sizes: dict[str, UsualSize] = {}
    for dataset, own in sorted(evaluated.items()):
        known = [c for c in pool if c.dataset == dataset and c.split in splits] or own
        known = sorted(known, key=lambda c: c.name)
        order = generator(seed, f"{dataset}/size").permutation(len(known))[:SIZED_CASES]
        sizes |= _measured([known[int(i)] for i in sorted(order)])
    return sizes


def _measured(cases: list[Case]) -> dict[str, UsualSize]:
    parts: dict[str, list[float]] = {}
    wholes: dict[str, list[float]] = {}
    for case in cases:
        try:
            loaded = case.load()
        except InputError:
            continue  # reported where the case itself is evaluated
        for name in loaded.masks:
            for mask in _middle_frames(loaded.masks[name]):
                found = components(mask)
                parts.setdefault(case.task(name), []).extend(np.count_nonzero(p) / mask.size for p in found)
                if found:
                    wholes.setdefault(case.task(name), []).append(np.count_nonzero(mask) / mask.size)
    return {
        task: UsualSize(float(np.median(parts[task])), float(np.median(shares)), len(shares))
        for task, shares in wholes.items()
    }


def _middle_frames(masks: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    return [masks[frame] for frame in middle_frames(masks, 2)]
