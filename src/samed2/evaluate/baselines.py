"""Answers that need no model, from the same prompts: what a score has to beat.

A baseline is a function (boxes, points, frame, size) -> (H, W) mask. `boxes` are (y0, x0, y1, x1) half-open in pixels,
`points` (y, x, positive), `frame` the windowed image in [0, 1], (H, W) or (H, W, 3), and `size` the usual share of
the frame's area for an object of this task.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from samed2.evaluate.protocols.base import Box, Hint, Mask, Trial
from samed2.evaluate.protocols.propagate import spread
from samed2.evaluate.selection import Pick
from samed2.io import Scan, resolve_window
from samed2.prompts import ellipse_mask

Image = NDArray[np.float32]
Point = tuple[float, float, bool]
Baseline = Callable[[Sequence[Box], Sequence[Point], Image, float], Mask]

WALKER_SIDE = 64  # pixels: larger boxes are made smaller before the walk
WALKER_MARGIN = 0.25  # of the box, seen as background around it
WALKER_CORE = 0.4  # of the box's sides, certain to be object
WALKER_BETA = 130.0


def ellipse(boxes: Sequence[Box], points: Sequence[Point], frame: Image, size: float) -> Mask:
    """The ellipse inscribed in every box."""
    shape = (frame.shape[0], frame.shape[1])
    return _united([ellipse_mask(box, shape) for box in boxes], shape)


def box(boxes: Sequence[Box], points: Sequence[Point], frame: Image, size: float) -> Mask:
    """All pixels whose centres lie in a box."""
    shape = (frame.shape[0], frame.shape[1])
    return _united([filled(b, shape) for b in boxes], shape)


def disc(boxes: Sequence[Box], points: Sequence[Point], frame: Image, size: float) -> Mask:
    """A disc of the usual size at every positive point, or without points at the middle of every box."""
    shape = (frame.shape[0], frame.shape[1])
    middles = [(y + 0.5, x + 0.5) for y, x, positive in points if positive]
    middles = middles or [((y0 + y1) / 2, (x0 + x1) / 2) for y0, x0, y1, x1 in boxes]
    radius = math.sqrt(size * shape[0] * shape[1] / math.pi)
    return _united([ellipse_mask((y - radius, x - radius, y + radius, x + radius), shape) for y, x in middles], shape)


def classical(boxes: Sequence[Box], points: Sequence[Point], frame: Image, size: float) -> Mask:
    """A random walk inside every box from its core and its surroundings (Grady, TPAMI 28:1768, scikit-image)."""
    shape = (frame.shape[0], frame.shape[1])
    grey = frame.mean(axis=2) if frame.ndim == 3 else frame
    return _united([_walk(b, grey) for b in boxes], shape)


BASELINES: dict[str, Baseline] = {"ellipse": ellipse, "box": box, "disc": disc, "classical": classical}


def filled(box: Box, shape: tuple[int, int]) -> Mask:
    """The (H, W) pixels whose centres lie in a box, never none."""
    y0, x0, y1, x1 = box
    rows, columns = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    mask: Mask = ((y0 <= rows) & (rows < y1))[:, None] & ((x0 <= columns) & (columns < x1))[None, :]
    return mask if mask.any() else ellipse_mask(box, shape)


def prior(examples: Sequence[Mask], shape: tuple[int, int]) -> Mask:
    """Where at least half of the examples, stretched to the frame, have the object; else where most of them have it.

    The baseline of protocols without prompts.
    """
    from skimage.transform import resize

    mean = np.mean([resize(e.astype(np.float32), shape, order=1, anti_aliasing=False) for e in examples], axis=0)
    return np.asarray(mean >= min(0.5, float(mean.max())))


def answers(trial: Trial, names: Sequence[str], scan: Scan, size: float) -> dict[str, Mask]:
    """The baselines' answers on the frames that a trial scored, by name, (n, H, W) each.

    Frames that got no prompt themselves are answered by `in_volume`. Where the memory held examples there is also
    `prior`, the one that knows as little about the frame as the model did.
    """
    window, frames = resolve_window(scan), trial.outcome.frames
    looked: dict[int, Image] = {}

    def image(frame: int) -> Image:
        if frame not in looked:
            looked.clear()
            looked[frame] = window.apply(scan.frame(frame))
        return looked[frame]

    found: dict[str, Mask] = {}
    for name in names:
        if set(frames) <= set(trial.hints):
            hints = [trial.hints[f] for f in frames]
            masks = [BASELINES[name](h.boxes, h.points, image(f), size) for f, h in zip(frames, hints, strict=True)]
            found[name] = np.stack(masks)
        else:
            (frame, hint), *_ = trial.hints.items()
            found[name] = in_volume(name, hint, frame, trial.extent, scan, size, image)
    if trial.examples:
        one = prior(trial.examples, (scan.height, scan.width))
        found["prior"] = np.repeat(one[None], len(frames), axis=0)
    return found


def in_volume(
    name: str,
    hint: Hint,
    frame: int,
    extent: tuple[int, int] | None,
    scan: Scan,
    size: float,
    image: Callable[[int], Image],
) -> Mask:
    """A baseline's (T, H, W) answer from one prompted frame.

    In a video the frame's answer stays as it is. In a volume the box becomes a cuboid, ellipse and disc an ellipsoid:
    between the frames that the prompt told (`extent`), else as deep in millimetres as it is wide and high on average.
    The classical method goes from frame to frame, with the tight box of its last answer.
    """
    grid = scan.shape
    if scan.kind == "video" or scan.num_frames == 1:
        return np.repeat(BASELINES[name](hint.boxes, hint.points, image(frame), size)[None], grid[0], axis=0)
    if name == "classical":
        start = Pick(classical(hint.boxes, hint.points, image(frame), size))
        found = spread(
            lambda f, b: Pick(classical([b], [], image(f), size)), {frame: start}, extent or (0, grid[0] - 1)
        )
        return np.stack([found[f].mask if f in found else np.zeros(grid[1:], dtype=bool) for f in range(grid[0])])
    flat = _disc_box(hint, grid, size) if name == "disc" else hint.boxes[0]
    middle, half = _depth(flat, frame, extent, scan)
    masks = np.zeros(grid, dtype=bool)
    for index in range(grid[0]):
        away = abs(index + 0.5 - middle) / half
        if away < 1:
            scale = 1.0 if name == "box" else math.sqrt(1 - away * away)
            masks[index] = (filled if name == "box" else ellipse_mask)(_scaled(flat, scale), (grid[1], grid[2]))
    return masks


def _depth(flat: Box, frame: int, extent: tuple[int, int] | None, scan: Scan) -> tuple[float, float]:
    """Middle and half of the depth in frames, in the half-open sense of boxes."""
    if extent:
        return (extent[0] + extent[1] + 1) / 2, (extent[1] + 1 - extent[0]) / 2
    step, y, x = scan.geometry.spacing
    across = ((flat[2] - flat[0]) * y + (flat[3] - flat[1]) * x) / 2
    return frame + 0.5, max(across / 2 / step, 0.51)


def _disc_box(hint: Hint, grid: tuple[int, int, int], size: float) -> Box:
    """The square around the disc that `disc` would draw."""
    middles = [(y + 0.5, x + 0.5) for y, x, positive in hint.points if positive]
    y0, x0, y1, x1 = hint.boxes[0]
    y, x = middles[0] if middles else ((y0 + y1) / 2, (x0 + x1) / 2)
    radius = math.sqrt(size * grid[1] * grid[2] / math.pi)
    return y - radius, x - radius, y + radius, x + radius


def _scaled(box: Box, scale: float) -> Box:
    """The box about its middle, `scale` times as large."""
    y0, x0, y1, x1 = box
    y, x, height, width = (y0 + y1) / 2, (x0 + x1) / 2, (y1 - y0) * scale / 2, (x1 - x0) * scale / 2
    return y - height, x - width, y + height, x + width


def _united(masks: Sequence[Mask], shape: tuple[int, int]) -> Mask:
    return np.any(masks, axis=0) if masks else np.zeros(shape, dtype=bool)


def _walk(box: Box, grey: Image) -> Mask:
    """The walker's answer for one box on a (H, W) image; the ellipse where there is too little to walk on."""
    from skimage.segmentation import random_walker
    from skimage.transform import resize

    shape = (grey.shape[0], grey.shape[1])
    inside, core = filled(box, shape), ellipse_mask(_scaled(box, WALKER_CORE), shape)
    margin = max(WALKER_MARGIN * max(box[2] - box[0], box[3] - box[1]), 2.0)
    rows = slice(max(int(box[0] - margin), 0), math.ceil(box[2] + margin))
    columns = slice(max(int(box[1] - margin), 0), math.ceil(box[3] + margin))
    part = np.asarray(grey[rows, columns], dtype=np.float64)
    scale = min(1.0, WALKER_SIDE / max(part.shape))
    small = (max(round(part.shape[0] * scale), 1), max(round(part.shape[1] * scale), 1))
    image = resize(part, small, order=1, anti_aliasing=scale < 1) if scale < 1 else part
    known = np.zeros(small, dtype=np.int32)
    known[~_sampled(inside[rows, columns], small)] = 2
    known[_sampled(core[rows, columns], small)] = 1
    answer = np.zeros(shape, dtype=bool)
    if image.std() < 1e-6 or {0, 1, 2} - set(np.unique(known).tolist()):
        return ellipse_mask(box, shape)
    with warnings.catch_warnings():  # about the solver's rounding
        warnings.simplefilter("ignore")
        chance = random_walker(image, known, beta=WALKER_BETA, mode="cg_j", return_full_prob=True)[0]
    answer[rows, columns] = resize(chance, part.shape, order=1) >= 0.5
    return (answer | core) & inside


def _sampled(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Every pixel of a smaller grid from the pixel under its centre."""
    rows = ((np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]).astype(int)
    return mask[rows[:, None], columns[None, :]]
