"""What fine-tuning gained: Dice with a box before and after, and a picture of both."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samed2.data.cases import Case, LoadedCase, Mask
from samed2.data.sampling import MIN_PIXELS
from samed2.io import Scan, Segmentation, SegmentedObject, Window, resolve_window
from samed2.io.atomic import atomic_path
from samed2.io.write_overlay import draw_frame
from samed2.predict import Predictor
from samed2.prompts import Prompts, components, jitter_box, tight_box

CASES, FRAMES, EXAMPLES = 24, 2, 8
JITTER = 0.05  # outward shift of a box's sides, as a share of the box
TILE, GAP, CAPTION = 256, 6, 18


@dataclass(frozen=True)
class Asked:
    """A frame with an object, boxed: `boxes` are (y0, x0, y1, x1), one per connected part; `truth` is these parts."""

    case: Case
    object: str
    frame: int
    boxes: tuple[tuple[float, float, float, float], ...]
    picture: Scan
    window: Window
    truth: Mask
    scores: dict[str, float] = field(default_factory=dict)
    masks: dict[str, Mask] = field(default_factory=dict)


def questions(cases: Sequence[Case]) -> list[Asked]:
    """What is asked: up to 24 cases, of each its objects on up to two frames, boxes moved outward by up to 5 %."""
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(len(cases), CASES)).round().astype(int))
    return [asked for index in chosen for asked in _of_case(cases[index].load())]


def _of_case(loaded: LoadedCase) -> Iterable[Asked]:
    scan = loaded.scan
    window = resolve_window(scan)
    for name in loaded.masks.names:
        sizes = [int(np.count_nonzero(loaded.masks.on_frame(name, n))) for n in range(scan.num_frames)]
        large = [n for n, size in enumerate(sizes) if size >= max(MIN_PIXELS, max(sizes) / 4)]
        places = np.linspace(0, len(large) - 1, min(len(large), FRAMES) + 2).round().astype(int)
        for frame in dict.fromkeys(large[i] for i in (places[1:-1] if len(large) > 1 else places[:1])):
            truth = np.asarray(loaded.masks.on_frame(name, frame))
            rng = np.random.default_rng(zlib.crc32(f"{loaded.case.label}/{name}/{frame}".encode()))
            height, width = truth.shape
            parts = components(truth) or [truth]
            truth = np.logical_or.reduce(parts)  # of a crowd only those that are asked for
            boxes = tuple(jitter_box(tight_box(part), JITTER, rng, (height, width)) for part in parts)
            picture = Scan.from_array(scan.frame(frame)[None], kind="image", channels_last=scan.channels == 3)
            picture.name, picture.modality = scan.name, scan.modality
            yield Asked(loaded.case, name, frame, boxes, picture, window, truth)


def answer(asked: Sequence[Asked], predictor: Predictor, when: str, step: Callable[[], None] = lambda: None) -> None:
    """Let a model answer; masks and Dice are kept in each question under `when`."""
    for one in asked:
        prompts = Prompts()
        for number, box in enumerate(one.boxes, start=1):
            prompts.add_box(number, 0, *box)
        found = predictor.predict(one.picture, prompts, 0, window=one.window)
        mask = np.zeros_like(one.truth)
        for entry in found:
            mask |= entry.mask
        one.masks[when] = mask
        one.scores[when] = _dice(mask, one.truth)
        step()


def gains(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """By object: number of cases, mean Dice over cases before and after."""
    rows = []
    for task in dict.fromkeys(one.case.task(one.object) for one in asked):
        own = [one for one in asked if one.case.task(one.object) == task]
        by_case = {case: [one for one in own if one.case.label == case] for case in {one.case.label for one in own}}
        means = {
            when: float(np.mean([np.mean([one.scores[when] for one in several]) for several in by_case.values()]))
            for when in ("before", "after")
        }
        rows.append({"object": task, "cases": len(by_case), **{when: round(value, 4) for when, value in means.items()}})
    return rows


def draw_examples(asked: Sequence[Asked], path: Path) -> None:
    """A PNG with a line for each of up to eight frames: the labels, the answer before, the answer after."""
    from PIL import Image, ImageDraw, ImageFont

    chosen = [
        asked[i] for i in np.unique(np.linspace(0, len(asked) - 1, min(len(asked), EXAMPLES)).round().astype(int))
    ]
    step_x, step_y = TILE + GAP, TILE + CAPTION + GAP
    sheet = Image.new("RGB", (3 * step_x + GAP, len(chosen) * step_y + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for line, one in enumerate(chosen):
        where = f" #{one.frame}" if one.case.kind != "image" else ""
        name = f"{one.case.name}{where}"
        captions = (
            f"{one.object}: {name[-28:]}",
            f"before {one.scores['before']:.3f}",
            f"after {one.scores['after']:.3f}",
        )
        for column, mask in enumerate((one.truth, one.masks["before"], one.masks["after"])):
            x, y = GAP + column * step_x, GAP + line * step_y
            tile = _tile(one, mask)
            sheet.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
            pen.text((x, y + TILE + 2), captions[column], fill=(40, 40, 40), font=font)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _tile(one: Asked, mask: Mask) -> Any:
    """The part of the frame around the object with one mask drawn into it."""
    y0, x0, y1, x1 = tight_box(one.truth)
    side = max(32, 2 * max(y1 - y0, x1 - x0))
    top, left = (max(0, (a + b) // 2 - side // 2) for a, b in ((y0, y1), (x0, x1)))
    part = (slice(top, top + side), slice(left, left + side))
    pixels = one.picture.frame(0)[part]
    picture = Scan.from_array(pixels[None], kind="image", channels_last=one.picture.channels == 3)
    drawn = Segmentation(
        mask[part].astype(np.uint8)[None], [SegmentedObject(1, one.object)], picture.geometry, {}, "", {}
    )
    scale = TILE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return draw_frame(drawn, picture, one.window, 0, size)


def _dice(a: Mask, b: Mask) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
