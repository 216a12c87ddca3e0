"""Examples of tasks out of labelled cases: which cases, which of their frames, and memories filled with them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from samed2.data.cases import Case, Masks
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.memory import SelectiveMemory
    from samed2.predict import Predictor

Job = tuple[Case, list[str]]  # a case and the tasks that it is an example of
MIN_PIXELS = 16  # smaller objects are no example


def drawn_by_task(cases: Iterable[Case], count: int | None, seed: int) -> dict[str, list[str]]:
    """Labels of at most `count` cases of each task, drawn by seed and names alone, in the order of the names."""
    having: dict[str, list[str]] = {}
    for case in cases:
        for name in case.objects:
            having.setdefault(case.task(name), []).append(case.label)
    drawn = {}
    for task, labels in sorted(having.items()):
        labels = sorted(labels)
        order = np.random.default_rng([seed, zlib.crc32(task.encode())]).permutation(len(labels))
        drawn[task] = sorted(labels[i] for i in order[:count])
    return drawn


def largest_frame(masks: Masks, name: str, least: int = 1) -> int | None:
    """The frame that shows most of an object, the first of equals; None where no frame shows `least` pixels of it."""
    areas = [np.count_nonzero(masks.on_frame(name, frame)) for frame in range(masks.shape[0])]
    best = int(np.argmax(areas))
    return best if areas[best] >= least else None


def remember_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    count: int,
    seed: int = 0,
    *,
    neighbours: int = 1,
    track: Callable[[list[Job]], Iterable[Job]] = lambda jobs: jobs,
) -> SelectiveMemory:
    """Give a predictor a new memory of up to `count` confirmed cases of every task, each of another patient.

    Of volumes and videos the frame with most of the object is taken. Every case leaves two entries: as a prompt
    would see it, and as a whole frame, which is what `Predictor.recall` compares with.

    Args:
        seed: draws the cases, by seed and names alone.
        neighbours: frames of the clip around a frame, as in `Settings`.
        track: shows progress over the cases.

    Raises:
        InputError: no case shows an object, or one cannot be read.
    """
    by_label = {case.label: case for case in cases}
    asked: dict[str, list[str]] = {}
    for task, labels in drawn_by_task(one_per_patient(cases, seed), count, seed).items():
        for label in labels:
            asked.setdefault(label, []).append(task)
    jobs = [(by_label[label], tasks) for label, tasks in asked.items()]
    memory = predictor.memory = predictor.new_memory(capacity=max(1, 2 * sum(len(tasks) for _, tasks in jobs)))
    for case, tasks in track(jobs):
        loaded = case.load()
        for task in tasks:
            name = task.split("/", 1)[1]
            frame = largest_frame(loaded.masks, name, MIN_PIXELS) if name in loaded.masks.names else None
            if frame is None:
                continue
            mask = np.asarray(loaded.masks.on_frame(name, frame))
            predictor.remember(loaded.scan, mask, frame, task=task, origin=case.label, neighbours=neighbours)
    if not len(memory):
        raise InputError(f"memory: none of the {len(cases)} cases shows an object of {MIN_PIXELS} pixels or more")
    return memory


def one_per_patient(cases: Sequence[Case], seed: int) -> list[Case]:
    """One case of every patient of a data set, drawn by seed and names; cases without a patient are their own."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in sorted(cases, key=lambda c: c.label):
        groups.setdefault((case.dataset, case.patient or case.name), []).append(case)
    rng = np.random.default_rng([seed, len(groups)])
    return [group[int(rng.integers(len(group)))] for group in groups.values()]
