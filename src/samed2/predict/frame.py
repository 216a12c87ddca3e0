"""The prompted objects of one frame, each by itself: planned, looked at, refined where that pays, put together."""

from __future__ import annotations

import torch

from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.predict.engine import Engine
from samed2.predict.results import Answer, ObjectPrediction, unite
from samed2.predict.rows import Row, plan_rows, refined
from samed2.predict.settings import Settings
from samed2.prompts import Prompts


@torch.inference_mode()
def predict_frame(
    engine: Engine,
    scan: Scan,
    prompts: Prompts,
    frame: int,
    window: Window,
    settings: Settings,
    memory: SelectiveMemory | None,
) -> list[ObjectPrediction]:
    """One prediction per object that is prompted on the frame, in the order of `prompts`, which fit the scan."""
    rows: list[Row] = []
    for object_id, entry in prompts.on_frame(frame).objects.items():
        if entry.frames():
            rows += plan_rows(object_id, entry, scan.height, scan.width, engine.size, settings.margin, settings.zoom)
    rows, answers = look_closely(engine, scan, frame, rows, window, settings, memory)
    grouped: dict[int, list[Answer]] = {}
    for row, answer in zip(rows, answers, strict=True):
        grouped.setdefault(row.object_id, []).append(answer)
    return [unite(object_id, parts, settings) for object_id, parts in grouped.items()]


def look_closely(
    engine: Engine,
    scan: Scan,
    frame: int,
    rows: list[Row],
    window: Window,
    settings: Settings,
    memory: SelectiveMemory | None,
) -> tuple[list[Row], list[Answer]]:
    """Ask rows of one frame, those that can be refined a second time: each row as last asked, and its answer."""
    rows, answers = engine.look(scan, frame, rows, window, settings, memory)
    again = {
        i: better
        for i, row in enumerate(rows)
        if row.refine and (better := refined(row, answers[i].logits[0], engine.size, settings.margin)) is not None
    }
    if again:
        found = engine.ask(scan, frame, list(again.values()), window, settings, memory)
        for (i, row), answer in zip(again.items(), found, strict=True):
            rows[i], answers[i] = row, answer
    return rows, answers
