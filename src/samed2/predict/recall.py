"""An object on one frame, found by the memory of past cases alone."""

from __future__ import annotations

from dataclasses import replace

from samed2.errors import InputError
from samed2.memory import SelectiveMemory
from samed2.predict.results import ObjectPrediction, unite
from samed2.predict.rows import Row, refined_parts
from samed2.predict.scene import Scene
from samed2.predict.settings import Settings

NEAR = 0.25  # weight of the look from near in the confidence (tuned on `val`)


def check_task(memory: SelectiveMemory, task: str | None) -> None:
    """Raise an `InputError` when a memory has no entry of a task, with those it has; None is any."""
    if not any(task in (None, entry.task) for entry in memory.entries):
        known = ", ".join(sorted({entry.task or "(no task)" for entry in memory.entries})) or "nothing"
        raise InputError(f"memory: has no entry of task {task!r}; it holds {known}")


def knows(memory: SelectiveMemory, settings: Settings) -> bool:
    """Whether it is said which task to read, and the memory may be read and has entries of it."""
    if settings.task is None or not (settings.memory and settings.memories):
        return False
    return any(entry.task == settings.task for entry in memory.entries)


def recall_frame(scene: Scene) -> ObjectPrediction:
    """What the memory's entries of `Settings.task`, or all of them, find on a frame; object 1.

    The whole frame is compared with what is remembered, then each larger part of the answer is looked at again from
    near. The confidence is mostly that of the first look: whether it is the object.
    """
    engine, settings = scene.engine, scene.settings
    row = Row(1, engine.content(scene.scan, scene.frame, scene.window))
    answer = scene.ask([row])[0]
    rows, rest = refined_parts(row, answer.logits[0], engine.size, settings.margin)
    if not (rows and settings.zoom):
        return unite(1, [answer], settings)
    parts = scene.unremembered().ask(rows)
    if (rest > 0).any():
        parts.append(replace(answer, logits=rest[None], iou=answer.iou[:1]))
    near = unite(1, parts, settings)
    return replace(near, confidence=(1 - NEAR) * answer.iou[0] + NEAR * near.confidence)
