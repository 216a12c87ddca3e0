"""The prompted objects of one frame, each by itself: planned, looked at, refined where that pays, put together."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from samed2.predict.agreement import most_agreed
from samed2.predict.closeup import ask_closely
from samed2.predict.detail import ask_pieces
from samed2.predict.recall import knows, recall_frame
from samed2.predict.results import Answer, ObjectPrediction, unite
from samed2.predict.rows import Row, clicked_parts, looks, plan_rows, refined
from samed2.predict.scene import Scene
from samed2.prompts import Prompts


@torch.inference_mode()
def predict_frame(scene: Scene, prompts: Prompts) -> list[ObjectPrediction]:
    """One prediction per object that is prompted on the frame, in the order of `prompts`, which fit the scan."""
    scan, settings, size = scene.scan, scene.settings, scene.engine.size
    rows: list[Row] = []
    for object_id, entry in prompts.on_frame(scene.frame).objects.items():
        if entry.frames():
            rows += plan_rows(object_id, entry, scan.height, scan.width, size, settings.margin, settings.zoom)
    rows, answers = look_closely(scene, rows)
    answers = ask_pieces(scene, rows, answers)
    grouped: dict[int, list[Answer]] = {}
    for row, answer in zip(rows, answers, strict=True):
        grouped.setdefault(row.object_id, []).append(answer)
    return [unite(object_id, parts, settings) for object_id, parts in grouped.items()]


def look_closely(scene: Scene, rows: list[Row]) -> tuple[list[Row], list[Answer]]:
    """Each row as it was last asked, and its answer.

    Clicks without a box are asked through views of several sizes, then once more, closely, around what most answers
    agree on. That last answer takes the object for granted: its predicted IoU is averaged (geometrically) with the
    agreement. Clicks that correct a mask are asked closely too: mask and clicks say where the object is.
    Where it is said what is clicked on (`settings.task`) and the memory knows that, the same views are also asked
    without the memory, and what the memory alone finds on the frame has a vote.
    """
    settings = scene.settings
    clicked = [i for i, row in enumerate(rows) if row.refine]
    tried = [looks(rows[i], settings.looks, scene.scan.height, scene.scan.width) for i in clicked]
    answers = scene.ask_lists(tried)
    held = None
    if clicked and scene.memory is not None and knows(scene.memory, settings):
        alone = scene.unremembered().ask_lists(tried)
        answers = [some + more for some, more in zip(answers, alone, strict=True)]
        held = recall_frame(scene)
    asked, found, sure = list(rows), {}, {}
    for i, views, some in zip(clicked, tried, answers, strict=True):
        recalled = (clicked_parts(held.logits, rows[i].points), held.confidence) if held else None
        number, answer, sure[i] = most_agreed(some, rows[i].points, recalled)
        own = views[number % len(views)]
        better = refined(own, answer.logits[0], scene.engine.size, settings.margin)
        asked[i] = better or own
        if better is None:
            found[i] = answer
    again = [i for i in clicked if i not in found] + [i for i, row in enumerate(rows) if row.corrects]
    for i, answer in zip(again, ask_closely(scene, [asked[i] for i in again]), strict=True):
        found[i] = answer
        if i in sure:
            found[i] = replace(answer, iou=[math.sqrt(sure[i] * max(0.0, iou)) for iou in answer.iou])
    rest = [i for i in range(len(rows)) if i not in found]
    found.update(zip(rest, scene.ask([rows[i] for i in rest]), strict=True))
    return asked, [found[i] for i in range(len(rows))]
