"""The prompted objects of one frame, each by itself: planned, looked at, refined where that pays, put together."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.predict.agreement import most_agreed
from samed2.predict.engine import Engine
from samed2.predict.results import Answer, ObjectPrediction, unite
from samed2.predict.rows import Row, looks, plan_rows, refined
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
    """Ask rows of one frame: each row as last asked, and its answer.

    Clicks without a box are asked through views of several sizes, then once more around what most answers agree on.
    That last answer takes the object for granted: its predicted IoU is averaged (geometrically) with the agreement.
    """
    tried = [looks(r, settings.looks, scan.height, scan.width) if r.refine else [r] for r in rows]
    flat = iter(engine.ask(scan, frame, [row for some in tried for row in some], window, settings, memory))
    asked, found, sure = [], [], {}
    for index, some in enumerate(tried):
        answers = [next(flat) for _ in some]
        number = 0
        if rows[index].refine:
            number, answers[number], sure[index] = most_agreed(answers, rows[index].points)
        asked.append(some[number])
        found.append(answers[number])
    again = {i: better for i in sure if (better := refined(asked[i], found[i].logits[0], engine.size, settings.margin))}
    for (i, row), answer in zip(
        again.items(), engine.ask(scan, frame, list(again.values()), window, settings, memory), strict=True
    ):
        asked[i], found[i] = row, replace(answer, iou=[math.sqrt(sure[i] * max(0.0, iou)) for iou in answer.iou])
    return asked, found
