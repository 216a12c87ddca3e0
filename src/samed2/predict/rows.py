"""From prompts to rows: what the decoder is asked, and through which view. A row is one part of one object."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.nn import PromptTensors
from samed2.predict.zoom import View, box_view, sample, whole_view
from samed2.prompts import ObjectPrompts

MASK_LOGIT = 6.0
STEPS_PER_OCTAVE = 4  # view sides come in steps of 2^(1/4), so that similar prompts share a cached view
MIN_SIDE = 16.0  # pixels; a smaller view holds too little to tell an object by
LESSER_PART = 0.1  # of the largest; what is smaller is no part of an object found without a prompt (tuned on `val`)
CENTRE_STEPS = 16  # view centres come in steps of a sixteenth of the side
FRINGE = 0.03  # share of a mask that may lie beyond each side of its core
WHOLE_TO_CORE = 1 / 0.86  # how much wider a disc is than its core

FrameBox = tuple[float, float, float, float]  # (y0, x0, y1, x1)


@dataclass
class Row:
    """One question to the decoder.

    Attributes:
        object_id: whose part this is.
        view: where to look.
        points: (y, x, positive) in frame pixels.
        box: in frame pixels, or None.
        mask: (H, W) logits on the frame as a mask prompt, or None.
        refine: clicks say nothing about size: look at several sizes, then again around the best answer.
    """

    object_id: int
    view: View
    points: list[tuple[float, float, bool]] = field(default_factory=list)
    box: FrameBox | None = None
    mask: NDArray[np.float32] | None = None
    refine: bool = False

    @property
    def corrects(self) -> bool:
        """Whether clicks say what is wrong with a mask, and no box what the object is."""
        return bool(self.points) and self.mask is not None and self.box is None

    @property
    def structure(self) -> tuple[int, bool, bool]:
        """Rows of equal structure go through the decoder together; others would need padding tokens."""
        return len(self.points), self.box is not None, self.mask is not None


def snapped_view(box: FrameBox, margin: float, size: int, height: int, width: int, fit: tuple[float, float]) -> View:
    """A view around a box on a coarse grid of sizes and places, so that nearby boxes share one.

    The view is between `margin` and about 1.3 `margin` times as wide as the box, `fit` limits it: never
    smaller than the first value (pixels), and the whole frame once it would be as large as that.
    """
    view = box_view(box, margin, size, min_side=fit[0])
    steps = math.ceil(round(STEPS_PER_OCTAVE * math.log2(view.side), 6))
    side = 2 ** (steps / STEPS_PER_OCTAVE)
    if side >= fit[1] * max(height, width):
        return whole_view(height, width, size)
    unit = side / CENTRE_STEPS
    return View(round(view.cy / unit) * unit, round(view.cx / unit) * unit, side, size)


def plan_rows(
    object_id: int, prompts: ObjectPrompts, height: int, width: int, size: int, margin: float, zoom: bool
) -> list[Row]:
    """The rows of one object on one frame.

    Each box is a row of its own; points go to the box that holds them, or to the nearest. Points or a mask
    without a box make one row.
    """
    whole = whole_view(height, width, size)

    def view_of(box: FrameBox) -> View:
        return snapped_view(box, margin, size, height, width, (MIN_SIDE, 1.5)) if zoom else whole

    points = [(p.y + 0.0, p.x + 0.0, bool(p.positive)) for p in prompts.points]
    masks = list(prompts.masks.values())
    mask = seen_logits(masks[0]) if masks else None
    if not prompts.boxes:
        if mask is not None and masks[0].any():
            extent = _around(box_of(masks[0]), points)
            return [Row(object_id, view_of(extent), points, None, mask)]
        return [Row(object_id, whole, points, None, mask, refine=zoom and mask is None)]
    boxes = [(float(b.y0), float(b.x0), float(b.y1), float(b.x1)) for b in prompts.boxes]
    owned: list[list[tuple[float, float, bool]]] = [[] for _ in boxes]
    for point in points:
        owned[int(np.argmin([_distance(point, box) for box in boxes]))].append(point)
    return [Row(object_id, view_of(_around(box, own)), own, box, mask) for box, own in zip(boxes, owned, strict=True)]


def looks(row: Row, sides: tuple[float, ...], height: int, width: int) -> list[Row]:
    """The same question through views of several sizes around the clicks, those that hold all of them.

    Args:
        sides: of the views, as shares of the frame's longer side; 1 and more is the whole frame.
    """
    ys, xs = [p[0] for p in row.points], [p[1] for p in row.points]
    inside = [p for p in row.points if p[2]] or row.points
    cy, cx = (sum(p[i] for p in inside) / len(inside) + 0.5 for i in (0, 1))
    rows = []
    for share in sides:
        side = share * max(height, width)
        unit = side / CENTRE_STEPS
        view = View(round(cy / unit) * unit, round(cx / unit) * unit, side, row.view.size)
        if share >= 1:
            rows.append(row)
        elif side >= MIN_SIDE and view.contains((min(ys), min(xs), max(ys) + 1, max(xs) + 1), 0.05):
            rows.append(replace(row, view=view))
    return rows or [row]


def wider(row: Row, count: int, height: int, width: int) -> list[Row]:
    """The same question through `count` - 1 larger views, each a step larger; the first that is too large for the frame
    is the whole frame, and the last."""
    whole = whole_view(height, width, row.view.size)
    if row.view.side >= whole.side:
        return []
    sides = [row.view.side * 2 ** (step / STEPS_PER_OCTAVE) for step in range(1, count)]
    rows = [replace(row, view=replace(row.view, side=side)) for side in sides if side < whole.side]
    return rows if len(rows) == len(sides) else [*rows, replace(row, view=whole)]


def refined(row: Row, logits: NDArray[np.float32], size: int, margin: float) -> Row | None:
    """The row asked again through a view around its first answer, or None when that is empty.

    Args:
        logits: (H, W) first answer on the frame.
    """
    from scipy import ndimage

    found, count = ndimage.label(logits > 0, structure=np.ones((3, 3), dtype=int))
    if count == 0:
        return None
    height, width = logits.shape
    wanted = _clicked(found, row.points) or {1 + int(np.argmax(np.bincount(found.ravel())[1:]))}
    part = np.isin(found, list(wanted))
    return _nearer(row, part, logits, size, margin) or Row(
        row.object_id, whole_view(height, width, size), row.points, None, logits
    )


def clicked_parts(logits: NDArray[np.float32], points: list[tuple[float, float, bool]]) -> NDArray[np.float32]:
    """(H, W) logits with nothing left of the parts that hold no positive click."""
    from scipy import ndimage

    found, _ = ndimage.label(logits > 0, structure=np.ones((3, 3), dtype=int))
    return np.where(np.isin(found, list(_clicked(found, points))), logits, -np.abs(logits))


def refined_parts(
    row: Row, logits: NDArray[np.float32], size: int, margin: float
) -> tuple[list[Row], NDArray[np.float32]]:
    """The row asked again for each larger part of its first answer, and the answer without those parts.

    Parts that fill the frame are not asked for again: they stay in the (H, W) logits that are returned. Parts below a
    tenth of the largest are dropped.

    Args:
        logits: (H, W) first answer on the frame.
    """
    from scipy import ndimage

    found, count = ndimage.label(logits > 0, structure=np.ones((3, 3), dtype=int))
    sizes = np.bincount(found.ravel(), minlength=count + 1)[1:]
    rows, rest = [], -np.abs(logits)
    for number in np.flatnonzero(sizes >= LESSER_PART * max(sizes, default=0)) + 1:
        part = found == number
        near = _nearer(row, part, np.where(part, logits, -np.abs(logits)), size, margin)
        if near is None:
            rest[part] = logits[part]
        else:
            rows.append(near)
    return rows, rest


def _clicked(parts: NDArray[np.integer], points: list[tuple[float, float, bool]]) -> set[int]:
    """The numbers of the parts of a (H, W) map that hold a positive click; 0 is none."""
    height, width = parts.shape
    held = {int(parts[min(int(y), height - 1), min(int(x), width - 1)]) for y, x, positive in points if positive}
    return held - {0}


def _nearer(row: Row, part: NDArray[np.bool_], logits: NDArray[np.float32], size: int, margin: float) -> Row | None:
    """The row asked again through a view around a part, with `logits` as its mask; None where that is the frame."""
    height, width = logits.shape
    view = snapped_view(_around(box_of(part), row.points), margin, size, height, width, (MIN_SIDE, 0.85))
    if view.side >= max(height, width):
        return None
    return Row(row.object_id, view, row.points, None, logits)


def box_of(mask: NDArray[np.bool_]) -> FrameBox:
    """The tight frame box (y0, x0, y1, x1) of a (H, W) mask that is not empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(ys[0]), float(xs[0]), float(ys[-1] + 1), float(xs[-1] + 1)


def core_box(mask: NDArray[np.bool_]) -> FrameBox:
    """About the frame box (y0, x0, y1, x1) of a (H, W) mask that is not empty, of a disc just that.

    It is reckoned from rows and columns between which nearly all of the mask lies, so that a few stray pixels move it
    little, and twice the same object gives nearly the same.
    """
    ends = []
    for axis in (1, 0):
        grown = np.concatenate([[0], np.cumsum(np.count_nonzero(mask, axis=axis))])
        low, high = np.interp([FRINGE * grown[-1], (1 - FRINGE) * grown[-1]], grown, np.arange(len(grown)))
        more = (WHOLE_TO_CORE - 1) * (high - low) / 2
        ends.append((float(low - more), float(high + more)))
    (y0, y1), (x0, x1) = ends
    return y0, x0, y1, x1


def seen_logits(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A (H, W) mask as the logits of a mask prompt."""
    return np.where(mask, MASK_LOGIT, -MASK_LOGIT).astype(np.float32)


def to_tensors(rows: list[Row]) -> PromptTensors:
    """Rows of one structure as tensors in model pixels (pixel centres are whole numbers there, as in SAM-2)."""
    points = boxes = labels = masks = None
    if rows[0].points:
        places = [r.view.to_model(np.array([[x + 0.5, y + 0.5] for y, x, _ in r.points])) - 0.5 for r in rows]
        points = torch.tensor(np.stack(places), dtype=torch.float32)
        labels = torch.tensor([[int(positive) for _, _, positive in r.points] for r in rows])
    if rows[0].box is not None:
        corners = [r.view.to_model(np.array([[r.box[1], r.box[0]], [r.box[3], r.box[2]]])) for r in rows if r.box]
        corners = [np.concatenate([c.min(axis=0), c.max(axis=0)]) for c in corners]  # a mirrored view swaps them
        boxes = torch.tensor(np.stack(corners), dtype=torch.float32)
    if rows[0].mask is not None:
        masks = torch.stack([_seen(r.mask, r.view) for r in rows if r.mask is not None])
    return PromptTensors(points, labels, boxes, masks)


def _seen(logits: NDArray[np.float32], view: View) -> torch.Tensor:
    """(H, W) logits through a view at a quarter of its resolution, (1, S/4, S/4); outside the frame background."""
    quarter = View(view.cy, view.cx, view.side, view.size // 4)
    clipped = torch.from_numpy(np.clip(logits, -MASK_LOGIT, MASK_LOGIT) + MASK_LOGIT)[None]
    return sample(clipped, quarter) - MASK_LOGIT


def _around(box: FrameBox, points: list[tuple[float, float, bool]]) -> FrameBox:
    """The box, widened to hold the points."""
    ys, xs = [p[0] for p in points], [p[1] for p in points]
    return min([box[0], *ys]), min([box[1], *xs]), max([box[2], *ys]), max([box[3], *xs])


def _distance(point: tuple[float, float, bool], box: FrameBox) -> float:
    y, x, _ = point
    return math.hypot(max(box[0] - y, 0, y - box[2]), max(box[1] - x, 0, x - box[3]))
