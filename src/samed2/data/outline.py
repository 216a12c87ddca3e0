"""How much an image changes across the outline of a mask: a sign of a right label that needs no model.

An outline that was moved, grown or drawn carelessly runs through even tissue where a right one follows an edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case, LoadedCase, Mask
from samed2.data.frames import FrameTable
from samed2.io import Window, resolve_window

RIM = 0.08  # thickness of the rims that are compared, over the diameter of a disc as large as the mask
MIN_RIM = 1.5  # pixels
SIDE = 96  # larger masks are looked at in so few pixels
NOISE = 0.01  # less is no contrast
LEAST = 0.02  # added to every contrast: what shows none is drawn too, if seldom
CLEAR = 0.75  # quantile of a task's cases from which they are drawn equally often
LOOKS = 3  # frames of a volume or video
DOUBT, FEW = 0.25, 10  # masks are doubted below this share of their task's median, from so many masks on

Track = Callable[[list[Case]], Iterable[Case]]


def outline_contrast(image: NDArray[np.float32], mask: Mask) -> float:
    """Difference of the means inside and outside along an outline, over the sum of the deviations there.

    Of colour images the channel or difference of channels that tells most. 0 where there is nothing to compare: an
    empty mask, one of a few pixels, or one that fills the frame.

    Args:
        image: (H, W) or (H, W, 3) in [0, 1], as it is shown.
        mask: (H, W) bool.
    """
    from scipy import ndimage

    if not mask.any():
        return 0.0
    radius = max(MIN_RIM, RIM * _diameter(mask))
    channels, mask = _near(image, mask, math.ceil(radius) + 2)
    radius = max(MIN_RIM, RIM * _diameter(mask))
    if mask.all():
        return 0.0
    inner = mask & (ndimage.distance_transform_edt(mask) <= radius)
    outer = ~mask & (ndimage.distance_transform_edt(~mask) <= radius)
    if min(np.count_nonzero(inner), np.count_nonzero(outer)) < 4:
        return 0.0
    inside, outside = channels[:, inner], channels[:, outer]
    apart = np.abs(inside.mean(axis=1) - outside.mean(axis=1))
    return float((apart / (inside.std(axis=1) + outside.std(axis=1) + NOISE)).max())


def case_contrast(loaded: LoadedCase, name: str, frames: NDArray[np.int64], window: Window) -> float:
    """Mean over at most three of the frames, evenly spread."""
    some = frames[np.unique(np.linspace(0, len(frames) - 1, min(LOOKS, len(frames)) + 2).round().astype(int)[1:-1])]
    seen = [
        outline_contrast(window.apply(loaded.scan.frame(int(f))), loaded.masks.on_frame(name, int(f))) for f in some
    ]
    return float(np.mean(seen))


def row_contrasts(table: FrameTable, track: Track = lambda cases: cases) -> NDArray[np.float64]:
    """(rows,) of a table the contrast of the row's object in its case, the same on all frames; every case is read.

    Raises:
        InputError: a case cannot be read.
    """
    found = np.zeros(len(table))
    starts = np.searchsorted(table.case, np.arange(len(table.cases) + 1))
    for number, case in enumerate(track(table.cases)):
        rows = slice(int(starts[number]), int(starts[number + 1]))
        if rows.start == rows.stop:
            continue
        loaded = case.load()
        window = resolve_window(loaded.scan, None)
        for task in np.unique(table.task[rows]):
            own = rows.start + np.flatnonzero(table.task[rows] == task)
            name = table.tasks[task].split("/", 1)[1]
            found[own] = case_contrast(loaded, name, table.frame[own], window)
    return found


def outline_chances(table: FrameTable, power: float, track: Track = lambda cases: cases) -> NDArray[np.float64]:
    """(rows,) in (0, 1] how often the case of a row is drawn among those of its task; every case is read.

    The contrast across the outline over that of the clearer cases of the task, at most 1, to a power.

    Raises:
        InputError: a case cannot be read.
    """
    contrasts = row_contrasts(table, track) + LEAST
    chances = np.ones(len(table))
    for task in np.unique(table.task):
        rows = np.flatnonzero(table.task == task)
        firsts = rows[np.unique(table.case[rows], return_index=True)[1]]
        clear = np.quantile(contrasts[firsts], CLEAR)
        chances[rows] = np.minimum(1, contrasts[rows] / clear) ** power
    return chances


def doubtful(contrasts: Sequence[float]) -> list[int]:
    """Places of the masks of a task that have far less contrast than its median, the least sure first."""
    if len(contrasts) < FEW:
        return []
    limit = DOUBT * float(np.median(contrasts))
    return [int(i) for i in np.argsort(contrasts, kind="stable") if contrasts[i] < limit]


def task_ranks(tasks: Sequence[str], contrasts: Sequence[float]) -> list[float]:
    """For each mask the share of those of its task, itself included, that have no more contrast: a confidence."""
    names, values = np.array(tasks), np.array(contrasts)
    return [float((values[names == task] <= contrast).mean()) for task, contrast in zip(tasks, contrasts, strict=True)]


def _diameter(mask: Mask) -> float:
    return 2 * math.sqrt(np.count_nonzero(mask) / math.pi)


def _near(image: NDArray[np.float32], mask: Mask, room: int) -> tuple[NDArray[np.float32], Mask]:
    """Channels (C, h, w) and mask around a mask, at most about `SIDE` pixels wide."""
    ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    part = tuple(slice(max(int(v[0]) - room, 0), int(v[-1]) + 1 + room) for v in (ys, xs))
    pixels, mask = image[part], mask[part]
    if pixels.ndim == 3:
        red, green, blue = np.moveaxis(pixels, -1, 0)
        channels = np.stack([(red + green + blue) / 3, (red - green) / 2, (blue - green) / 2])
    else:
        channels = pixels[None]
    every = max(1, max(mask.shape) // SIDE)
    if every > 1:
        height, width = (n // every * every for n in mask.shape)
        blocks = (height // every, every, width // every, every)
        channels = channels[:, :height, :width].reshape(-1, *blocks).mean(axis=(2, 4))
        mask = mask[:height, :width].reshape(blocks).mean(axis=(1, 3)) >= 0.5
    return channels, mask
