"""A last close look where clicks and a first answer say where an object is: the mean of what several views of it show.

Views of one object cut it out at different sizes, and after a click their errors differ: their mean is nearer the truth
than any of them, and where they disagree it is less sure. A box tells the size by itself; for boxes the mean gave
nothing on sets that it was not tuned on (`docs/results.md`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samed2.predict.agreement import similarities
from samed2.predict.results import Answer
from samed2.predict.rows import Row, to_tensors, wider
from samed2.predict.scene import Scene

CERTAIN = 8.0  # logits are cut there before their mean is taken
AGREED = 0.25  # weight of the agreement of views in the confidence (tuned on `val`)


def ask_closely(scene: Scene, rows: list[Row]) -> list[Answer]:
    """The answers to rows that know where their object is: the mean over `Settings.closeups` growing views.

    Their predicted IoU is that through the row's own view, lowered where the views differ.
    """
    found, closeups = scene.ask(rows), scene.settings.closeups
    if scene.settings.multimask:  # proposals are told apart by their order, which may differ from view to view
        return found
    views = [wider(row, closeups, scene.scan.height, scene.scan.width) for row in rows]
    seen = [[answer.logits[0] > 0] for answer in found]
    total = [answer.logits[:1].clip(-CERTAIN, CERTAIN) for answer in found]
    for step in range(closeups - 1):  # view by view, so that few maps are held at once
        members = [i for i, some in enumerate(views) if step < len(some)]
        for i, answer in zip(members, scene.ask([views[i][step] for i in members]), strict=True):
            total[i] += answer.logits[:1].clip(-CERTAIN, CERTAIN)
            seen[i].append(answer.logits[0] > 0)
    for i, answer in enumerate(found):
        if len(seen[i]) > 1:
            found[i] = _mean(rows[i], answer, total[i] / np.float32(len(seen[i])), seen[i])
    return found


def _mean(row: Row, answer: Answer, logits: NDArray[np.float32], seen: list[NDArray[np.bool_]]) -> Answer:
    """An answer with the mean (1, H, W) of what was seen through several views, and their agreement in its IoU."""
    mask = logits[0] > 0
    agreed = float(similarities(np.stack([mask, *seen]))[0, 1:].mean())
    sure = max(0.0, answer.iou[0]) ** (1 - AGREED) * agreed**AGREED
    near = to_tensors([replace(row, points=[], box=None, mask=logits[0])]).masks
    assert near is not None
    return replace(answer, logits=logits, iou=[sure], seen=near[0].to(answer.seen))
