"""Pictures of single cases: the image around an object, and the same with the outlines of truth and answers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.evaluate.report.figures import image_uri

Mask = NDArray[np.bool_]
Lines = list[NDArray[np.float64]]
Box = tuple[float, float, float, float]
Point = tuple[float, float, bool]
# Blue and orange of Okabe and Ito's palette (https://jfly.uni-koeln.de/color), lightened for dark images; truth is
# dashed and lies on top, so that both lines are seen where they coincide and without colour.
TRUTH, ANSWER = (92, 196, 255), (255, 168, 0)
PROMPT = (255, 255, 255)
TILE = 232  # longer side of one panel in pixels
_FINE = 2  # lines are drawn this much larger and shrunk, which smooths them
_MARGIN, _SMALLEST = 0.35, 24  # around the object: share of its longer side; least side of a crop in pixels
_DASH, _GAP = 7.0, 5.0  # of the truth's line, in pixels of the finished panel
_INSET = 0.3  # side of the small picture of the whole frame, as a share of the panel


def crop_around(masks: Sequence[Mask], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square (y0, x0, y1, x1), half-open, around all masks with a margin, cut at the frame; all if they are empty."""
    height, width = shape
    united = np.any(np.stack(masks), axis=0) if masks else np.zeros(shape, bool)
    if not united.any():
        return 0, 0, height, width
    rows, columns = np.nonzero(united.any(axis=1))[0], np.nonzero(united.any(axis=0))[0]
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(int(np.ceil(max(y1 - y0, x1 - x0) * (1 + 2 * _MARGIN))), _SMALLEST)
    top, bottom = _placed((y0 + y1) / 2, side, height)
    left, right = _placed((x0 + x1) / 2, side, width)
    return top, left, bottom, right


def draw_case(
    image: NDArray[np.uint8],
    truth: Mask,
    answers: Sequence[Mask],
    boxes: Sequence[Box] = (),
    points: Sequence[Point] = (),
) -> Any:
    """A Pillow picture: the crop as it is, then one panel per answer with both outlines and the prompts.

    Args:
        image: (H, W) or (H, W, 3) uint8, the whole frame.
        truth: (H, W) bool.
        answers: (H, W) bool, one, or two whose panels get the letters A and B.
        boxes: (y0, x0, y1, x1) half-open in pixels of the image.
        points: (y, x, positive); whole numbers are centres of pixels.
    """
    from PIL import Image

    height, width = truth.shape
    box = crop_around([truth, *answers], (height, width))
    plain = _panel(image, box)
    panels = [_with_inset(plain, image, box)]
    dashed = (_outline(truth, box, plain.size), TRUTH, True)
    for number, answer in enumerate(answers):
        panel = _outlined(plain, [(_outline(answer, box, plain.size), ANSWER, False), dashed])
        _draw_prompts(panel, box, boxes, points)
        panels.append(_lettered(panel, "AB"[number]) if len(answers) > 1 else panel)
    gap = 3
    canvas = Image.new("RGB", (sum(p.width + gap for p in panels) - gap, plain.height), (128, 128, 128))
    for number, panel in enumerate(panels):
        canvas.paste(panel, (number * (plain.width + gap), 0))
    return canvas


def to_uri(picture: Any) -> str:
    """A Pillow picture as a `data:` address (JPEG without colour subsampling, so that thin lines stay sharp)."""
    handle = io.BytesIO()
    picture.save(handle, format="JPEG", quality=84, subsampling=0)
    return image_uri(handle.getvalue(), "jpeg")


def _placed(centre: float, side: int, limit: int) -> tuple[int, int]:
    """Start and end of `side` pixels around a centre, moved and cut to lie within 0 and `limit`."""
    side = min(side, limit)
    start = min(max(round(centre - side / 2), 0), limit - side)
    return start, start + side


def _panel(image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Any:
    from PIL import Image

    y0, x0, y1, x1 = box
    height, width = y1 - y0, x1 - x0
    factor = TILE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    crop = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1])).convert("RGB")
    kind = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    return crop.resize(size, kind)


def _with_inset(panel: Any, image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Any:
    """The panel with the whole frame small in its corner, the crop marked; none where the crop is most of the frame."""
    from PIL import Image, ImageDraw

    height, width = image.shape[:2]
    y0, x0, y1, x1 = box
    if max((y1 - y0) / height, (x1 - x0) / width) > 0.6:
        return panel
    factor = _INSET * TILE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(small)
    pen.rectangle(_corners(x0 * factor, y0 * factor, x1 * factor, y1 * factor), outline=(255, 255, 255))
    framed = Image.new("RGB", (size[0] + 2, size[1] + 2), (255, 255, 255))
    framed.paste(small, (1, 1))
    result = panel.copy()
    result.paste(framed, (0, panel.height - framed.height))
    return result


def _corners(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    """A rectangle's first and last pixel for Pillow, at least one pixel each way."""
    return x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)


def _lettered(panel: Any, letter: str) -> Any:
    """The panel with a letter in its upper left corner."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(panel)
    pen.rectangle((0, 0, 19, 19), fill=(15, 15, 15))
    pen.text((10, 10), letter, font=ImageFont.load_default(14), fill=(255, 255, 255), anchor="mm")
    return panel


def _outline(mask: Mask, box: tuple[int, int, int, int], size: tuple[int, int]) -> Lines:
    """The outlines of a mask within the crop, each (n, 2) of (x, y) in the enlarged panel."""
    from skimage.measure import find_contours

    y0, x0, y1, x1 = box
    padded = np.pad(mask[y0:y1, x0:x1], 1).astype(np.float32)
    scale = np.array([size[0] * _FINE / (x1 - x0), size[1] * _FINE / (y1 - y0)])
    # index (0, 0) of the padded mask is the centre of the pixel (-1, -1) of the crop
    return [(line[:, ::-1] - 0.5) * scale for line in find_contours(padded, 0.5)]


def _outlined(panel: Any, outlines: Sequence[tuple[Lines, tuple[int, int, int], bool]]) -> Any:
    """The panel with lines (lines, colour, dashed) over a dark rim."""
    from PIL import Image, ImageDraw

    large = panel.resize((panel.width * _FINE, panel.height * _FINE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(large)
    for lines, _, _ in outlines:
        for line in lines:
            pen.line([tuple(point) for point in line], fill=(15, 15, 15), width=4 * _FINE, joint="curve")
    for lines, colour, dashed in outlines:
        for line in lines:
            for part in _dashes(line) if dashed else [line]:
                pen.line([tuple(point) for point in part], fill=colour, width=2 * _FINE, joint="curve")
    return large.resize(panel.size, Image.Resampling.BOX)


def _draw_prompts(panel: Any, crop: tuple[int, int, int, int], boxes: Sequence[Box], points: Sequence[Point]) -> None:
    """Draw boxes as thin rectangles and points as rings with a sign onto a panel that shows the crop."""
    from PIL import ImageDraw

    top, left = crop[:2]
    fy, fx = panel.height / (crop[2] - top), panel.width / (crop[3] - left)
    pen = ImageDraw.Draw(panel)
    for y0, x0, y1, x1 in boxes:
        corners = _corners((x0 - left) * fx, (y0 - top) * fy, (x1 - left) * fx, (y1 - top) * fy)
        pen.rectangle(corners, outline=PROMPT)
    for y, x, positive in points:
        cy, cx = (y + 0.5 - top) * fy, (x + 0.5 - left) * fx
        pen.ellipse((cx - 5, cy - 5, cx + 5, cy + 5), fill=(15, 15, 15), outline=PROMPT)
        pen.line((cx - 2, cy, cx + 2, cy), fill=PROMPT)
        if positive:
            pen.line((cx, cy - 2, cx, cy + 2), fill=PROMPT)


def _dashes(line: NDArray[np.float64]) -> Lines:
    """Cut a line (n, 2) into dashes of equal length."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    period = (_DASH + _GAP) * _FINE
    count = max(1, int(along[-1] // period))
    starts = np.arange(count) * along[-1] / count
    parts = []
    for start in starts:
        end = start + _DASH * _FINE
        inner = along[(along > start) & (along < end)]
        at = np.concatenate([[start], inner, [min(end, along[-1])]])
        parts.append(np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], axis=1))
    return parts
