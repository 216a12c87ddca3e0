"""Rows about objects that nobody labelled: found or put on real frames, or in made-up pictures and clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samed2.data.cases import LoadedCase, MaskArrays
from samed2.data.render import Opened, Rendered, Shared, draw_click_view, render, render_stream
from samed2.data.samples import BatchPlan, look, seen
from samed2.data.sampling import UNSEEN, Clip
from samed2.data.synthetic import synthetic_clip, synthetic_object
from samed2.data.synthetic_parts import copies_beside, recoloured
from samed2.io import Scan, Window

REAL = 0.5  # share of single frames that are real
RECOLOURED = 0.4  # share of compound rows on real frames in other colours
DETAIL = 1.5  # side of the picture over the view's
OBJECT = "object"


class _One:
    """A made case, for `render`."""

    def __init__(self, loaded: LoadedCase) -> None:
        self._loaded = loaded

    def get(self, case: object) -> LoadedCase:
        return self._loaded

    def windows(self, case: object) -> list[Window]:
        return [Window(0, 255, "dtype")]


def render_unseen(clip: Clip, opened: Opened, plan: BatchPlan, shared: Shared) -> Rendered | None:
    """A row as `render` and `render_stream` make it, of another object than the clip's; None where none came out."""
    rng = np.random.default_rng([UNSEEN, *clip.key])
    stream = not shared.every
    count = len(clip.frames)
    size = round(DETAIL * plan.image_size)
    compound = bool(plan.compound) and rng.random() < plan.compound
    if count == 1 and rng.random() < REAL:
        pixels, masks = _on_real_frame(clip, opened, size, compound, rng)
    else:
        pixels, masks = synthetic_clip(size, count, rng, compound)
    middle = 0 if stream else count // 2
    if np.count_nonzero(masks[middle]) < 4:
        return None
    scan = Scan.from_array((pixels * 255).round().astype(np.uint8), kind="video", channels_last=True)
    made = _One(LoadedCase(clip.case, scan, MaskArrays({OBJECT: masks})))
    own = replace(clip, object=OBJECT, frames=tuple(range(count)), middle=middle, total=count)
    return (render_stream if stream else render)(own, made, plan, shared)


def _on_real_frame(
    clip: Clip, opened: Opened, size: int, compound: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(1, S, S, 3) in [0, 1] and (1, S, S): a part of the clip's frame and something on it."""
    loaded = opened.get(clip.case)
    mask = loaded.masks.on_frame(clip.object, clip.middle)
    plain = BatchPlan(image_size=32 * max(1, size // 32), augment=False)
    height, width = mask.shape
    view = replace(draw_click_view(mask, height, width, plain, rng), size=size)
    windows = opened.windows(clip.case)
    shown = look(loaded.scan.frame(clip.middle), windows[int(rng.integers(len(windows)))], view)
    pixels = shown.permute(1, 2, 0).contiguous().numpy()
    copied = copies_beside(pixels, seen(mask, view)[0].numpy() > 0.5, rng) if compound else None
    pixels, found = synthetic_object(pixels, rng) if copied is None else copied
    if compound and rng.random() < RECOLOURED:
        pixels = recoloured(pixels, rng)
    return pixels[None], found[None]
