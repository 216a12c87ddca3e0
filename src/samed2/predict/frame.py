"""The prompted objects of one frame, each by itself: planned, looked at, refined where that pays, put together."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.predict.agreement import most_agreed
from samed2.predict.closeup import ask_closely
from samed2.predict.engine import Engine
from samed2.predict.recall import knows, recall_frame
from samed2.predict.results import Answer, ObjectPrediction, unite
from samed2.predict.rows import Row, clicked_parts, looks, plan_rows, refined
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

    Clicks without a box are asked through views of several sizes, then once more, closely, around what most answers
    agree on. That last answer takes the object for granted: its predicted IoU is averaged (geometrically) with the
    agreement.
    Where it is said what is clicked on (`settings.task`) and the memory knows that, the same views are also asked
    without the memory, and what the memory alone finds on the frame has a vote.
    """
    clicked = [i for i, row in enumerate(rows) if row.refine]
    tried = [looks(rows[i], settings.looks, scan.height, scan.width) for i in clicked]
    answers = _asked(engine, scan, frame, tried, window, settings, memory)
    held = None
    if clicked and memory is not None and knows(memory, settings):
        alone = _asked(engine, scan, frame, tried, window, settings, None)
        answers = [some + more for some, more in zip(answers, alone, strict=True)]
        held = recall_frame(engine, scan, frame, window, settings, memory)
    asked, found, sure = list(rows), {}, {}
    for i, views, some in zip(clicked, tried, answers, strict=True):
        recalled = (clicked_parts(held.logits, rows[i].points), held.confidence) if held else None
        number, answer, sure[i] = most_agreed(some, rows[i].points, recalled)
        own = views[number % len(views)]
        better = refined(own, answer.logits[0], engine.size, settings.margin)
        asked[i] = better or own
        if better is None:
            found[i] = answer
    again = [i for i in clicked if i not in found]
    near = ask_closely(engine, scan, frame, [asked[i] for i in again], window, settings, memory)
    for i, answer in zip(again, near, strict=True):
        found[i] = replace(answer, iou=[math.sqrt(sure[i] * max(0.0, iou)) for iou in answer.iou])
    rest = [i for i in range(len(rows)) if i not in found]
    found.update(zip(rest, engine.ask(scan, frame, [rows[i] for i in rest], window, settings, memory), strict=True))
    return asked, [found[i] for i in range(len(rows))]


def _asked(
    engine: Engine,
    scan: Scan,
    frame: int,
    tried: list[list[Row]],
    window: Window,
    settings: Settings,
    memory: SelectiveMemory | None,
) -> list[list[Answer]]:
    """The answers to lists of rows, list by list."""
    flat = iter(engine.ask(scan, frame, [row for some in tried for row in some], window, settings, memory))
    return [[next(flat) for _ in some] for some in tried]
