"""A nearer look at large objects: what a first answer says of them is asked again, piece by piece, as a rough mask.

A view of a large object shows fewer pixels than the frame has, and the decoder answers on a grid four times as coarse:
thin walls and narrow gaps are lost. Each piece is seen through a view of its own; where pieces overlap, and at their
rims, answers go over into each other.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samed2.predict.results import Answer
from samed2.predict.rows import Row
from samed2.predict.scene import Scene
from samed2.predict.zoom import View

LARGE = 1.0  # side of a view in frame pixels, over that in model pixels, from which there is more to see
SIDE = 1.4  # side of a piece's view over the piece
RIM = 0.15  # share of half a view in which an answer fades out
TRUST = 0.7  # weight of the pieces against the first answer (tuned on `val`)
CERTAIN = 8.0  # logits are cut there before their mean is taken
TOGETHER = 16  # pieces that are asked for at a time: each answer is a map of the whole frame


def ask_pieces(scene: Scene, rows: list[Row], answers: list[Answer]) -> list[Answer]:
    """The answers, those about large objects in boxes with their logits looked at piece by piece.

    Models that were not trained so (`SAMed2Config.details`) are not asked, nor where proposals are wanted.
    """
    settings = scene.settings
    if not scene.engine.model.config.details or settings.details < 2 or settings.multimask:
        return answers
    found = list(answers)
    for i, row in enumerate(rows):
        if row.box is not None and row.view.side > LARGE * row.view.size:
            found[i] = _detailed(scene, row, answers[i])
    return found


def pieces(row: Row, count: int) -> list[View]:
    """Overlapping views that cover the box of a row, `count` along its longer side."""
    assert row.box is not None
    y0, x0, y1, x1 = row.box
    height, width = y1 - y0, x1 - x0
    piece = max(height, width) / count
    down, across = (max(1, math.ceil(length / piece - 0.2)) for length in (height, width))
    return [
        View(y0 + (i + 0.5) * height / down, x0 + (j + 0.5) * width / across, SIDE * piece, row.view.size)
        for i in range(down)
        for j in range(across)
    ]


def _detailed(scene: Scene, row: Row, answer: Answer) -> Answer:
    """The answer with the logits of its pieces where they are not empty; predicted IoU and the rest as they were."""
    first = answer.logits[0].clip(-CERTAIN, CERTAIN)
    shown = [view for view in pieces(row, scene.settings.details) if _any_within(first > 0, view)]
    asked = [Row(row.object_id, view, mask=first) for view in shown]
    total, weight = np.zeros_like(first), np.zeros_like(first)
    for start in range(0, len(asked), TOGETHER):
        some = asked[start : start + TOGETHER]
        for piece, near in zip(some, scene.ask(some), strict=True):
            share = _share(piece.view, *first.shape)
            total += share * near.logits[0].clip(-CERTAIN, CERTAIN)
            weight += share
    seen = TRUST * np.minimum(weight, 1)
    logits = seen * total / np.maximum(weight, 1e-6) + (1 - seen) * first
    return replace(answer, logits=logits[None])


def _share(view: View, height: int, width: int) -> NDArray[np.float32]:
    """(H, W): 1 in the middle of a view, 0 from its border on."""
    along = [
        np.clip((1 - np.abs(np.arange(length) + 0.5 - centre) / (view.side / 2)) / RIM, 0, 1).astype(np.float32)
        for length, centre in ((height, view.cy), (width, view.cx))
    ]
    return along[0][:, None] * along[1][None]


def _any_within(mask: NDArray[np.bool_], view: View) -> bool:
    """Whether a view shows some of a (H, W) mask."""
    rows, columns = (
        slice(max(0, math.floor(centre - view.side / 2)), max(0, math.ceil(centre + view.side / 2)))
        for centre in (view.cy, view.cx)
    )
    return bool(mask[rows, columns].any())
