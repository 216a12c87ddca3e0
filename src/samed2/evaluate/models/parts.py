"""The prompts of one object on one frame as questions to a decoder: one part per box."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samed2.prompts import ObjectPrompts

FrameBox = tuple[float, float, float, float]  # (y0, x0, y1, x1)


@dataclass
class Part:
    """One question: points (y, x, positive), a box and the previous (H, W) mask, in frame pixels."""

    points: list[tuple[float, float, bool]] = field(default_factory=list)
    box: FrameBox | None = None
    mask: NDArray[np.bool_] | None = None


def parts_of(prompts: ObjectPrompts) -> list[Part]:
    """The parts of an object on one frame: one per box, each point with the nearest box, or one without boxes.

    The mask goes along where there is one part; of several boxes none is the whole previous answer.
    """
    points = [(float(p.y), float(p.x), bool(p.positive)) for p in prompts.points]
    mask = next(iter(prompts.masks.values()), None)
    if not prompts.boxes:
        return [Part(points, None, mask)]
    boxes = [(float(b.y0), float(b.x0), float(b.y1), float(b.x1)) for b in prompts.boxes]
    parts = [Part([], box, mask if len(boxes) == 1 else None) for box in boxes]
    for point in points:
        parts[int(np.argmin([_distance(point, box) for box in boxes]))].points.append(point)
    return parts


def _distance(point: tuple[float, float, bool], box: FrameBox) -> float:
    y, x, _ = point
    return math.hypot(max(box[0] - y, 0, y - box[2]), max(box[1] - x, 0, x - box[3]))
