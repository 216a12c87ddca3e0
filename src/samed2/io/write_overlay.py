"""A picture to look at: windowed frames with outlines, a translucent fill, and a legend."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.io.scan import Scan
from samed2.io.segmentation import Segmentation, SegmentedObject
from samed2.io.window import Window, resolve_window
from samed2.io.writers import Job, register_writer

_SINGLE, _LARGEST, _TILE = 768, 1600, 420  # longer side in pixels: enlarged to, shrunk to, one of several
_MOST_TILES, _MOST_NAMES = 6, 24
_SMOOTH = 2  # lines are drawn this much larger and shrunk, which smooths them
_FILL = 70  # opacity of the fill, of 255
_BACK, _TEXT, _FAINT = (22, 24, 28), (235, 237, 240), (150, 156, 164)


@register_writer("overlay", (".png",), endings=("overlay.png",))
def write_overlay(job: Job) -> list[Path]:
    """One PNG: the frame that holds objects, or up to six spread evenly over those that do, numbered.

    Frames keep the scan's own orientation; pixels that are not square are stretched to true proportions.
    """
    if job.scan is None:
        raise InputError(f"{job.path}: an overlay needs the scan it lies over; pass scan=")
    window = resolve_window(job.scan, job.window)
    picture = draw_overlay(job.segmentation, job.scan, window)
    with atomic_path(job.path) as temporary:
        picture.save(temporary, format="PNG")
    return [job.path]


def draw_overlay(segmentation: Segmentation, scan: Scan, window: Window) -> Any:
    """The overlay as a Pillow RGB image."""
    from PIL import Image

    frames = choose_frames(segmentation)
    side = None if len(frames) == 1 else _TILE
    tiles = [_tile(segmentation, scan, window, frame, side) for frame in frames]
    columns = min(len(tiles), 3 if len(tiles) != 4 else 2)
    rows = math.ceil(len(tiles) / columns)
    width, height = tiles[0].size
    gap = 4 if len(tiles) > 1 else 0
    grid_width, grid_height = columns * (width + gap) - gap, rows * (height + gap) - gap
    total = max(grid_width, 420)
    legend = _legend(segmentation, scan, window, frames, total)
    canvas = Image.new("RGB", (total, grid_height + legend.height), _BACK)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        canvas.paste(tile, ((total - grid_width) // 2 + column * (width + gap), row * (height + gap)))
    canvas.paste(legend, (0, grid_height))
    return canvas


def choose_frames(segmentation: Segmentation, most: int = _MOST_TILES) -> list[int]:
    """At most `most` frames, spread evenly over those that hold objects, first and last included.

    A frame gives way to one that shows an object seen on none of the others, the largest objects first; without
    labels it is the middle frame.
    """
    found = segmentation.frames_with_labels()
    if len(found) <= most:
        return found or [len(segmentation.labels) // 2]
    counts = segmentation.pixel_counts()
    chosen = [found[index] for index in np.rint(np.linspace(0, len(found) - 1, most)).astype(int)]
    for area in sorted(counts.T, key=lambda area: int(area.sum()), reverse=True):
        if not area.any() or area[chosen].any():
            continue
        best = int(area.argmax())
        seen = (counts[chosen] > 0).sum(axis=0)
        spare = [one for one in chosen if not ((counts[one] > 0) & (seen == 1)).any()]  # its objects are on others too
        if spare:
            chosen.remove(min(spare, key=lambda one: abs(one - best)))
            chosen.append(best)
    return sorted(chosen)


def _tile(segmentation: Segmentation, scan: Scan, window: Window, frame: int, side: int | None) -> Any:
    """One frame with its objects, longer side `side` pixels (None: chosen by the frame's own size)."""
    picture = draw_frame(segmentation, scan, window, frame, _size_on_screen(scan, side))
    if side is not None:
        _mark(picture, f"frame {frame}")
    return picture


def draw_frame(
    segmentation: Segmentation, scan: Scan, window: Window, frame: int, size: tuple[int, int], smooth: int = _SMOOTH
) -> Any:
    """One frame with its objects as a Pillow RGB image of `size` (width, height); lines are smoothed unless 1."""
    from PIL import Image

    grey = np.rint(window.apply(scan.frame(frame)) * 255).astype(np.uint8)
    shrinking = size[0] < scan.width
    picture = Image.fromarray(grey).convert("RGB")
    picture = picture.resize(size, Image.Resampling.LANCZOS if shrinking else Image.Resampling.BICUBIC)
    if not segmentation.labels[frame].any():
        return picture
    large = (size[0] * smooth, size[1] * smooth)
    colors = Image.new("RGB", large)
    opacity = Image.new("L", large)
    outlines: list[tuple[SegmentedObject, list[NDArray[np.float64]]]] = []
    for entry in segmentation.objects:
        mask = segmentation.labels[frame] == entry.id
        if not mask.any():
            continue
        filled, lines = _shape(mask, large)
        colors.paste(entry.color or (255, 255, 255), (0, 0), filled)
        opacity.paste(_FILL, (0, 0), filled)
        outlines.append((entry, lines))
    width = max(2.0, max(size) / 330) * smooth
    _stroke(colors, opacity, [((0, 0, 0), lines) for _, lines in outlines], width + 1.5 * smooth, 150)
    _stroke(colors, opacity, [(entry.color, lines) for entry, lines in outlines], width, 255)
    if smooth == 1:
        return Image.composite(colors, picture, opacity)
    return Image.composite(
        colors.resize(size, Image.Resampling.BOX), picture, opacity.resize(size, Image.Resampling.BOX)
    )


def _stroke(colors: Any, opacity: Any, outlines: list[Any], width: float, alpha: int) -> None:
    """Draw (colour, lines of (y, x)) pairs into the colours and their opacity."""
    from PIL import ImageDraw

    for image, fill in ((colors, None), (opacity, alpha)):
        pen = ImageDraw.Draw(image)
        for color, lines in outlines:
            for line in lines:
                points = [(float(x), float(y)) for y, x in line]
                pen.line(points, fill=color if fill is None else fill, width=round(width), joint="curve")


def _shape(mask: NDArray[np.bool_], large: tuple[int, int]) -> tuple[Any, list[NDArray[np.float64]]]:
    """The mask as a Pillow image of size `large` (w, h), and its outlines there, (n, 2) of (y, x)."""
    from PIL import Image
    from skimage.measure import find_contours

    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    if large[0] < image.width or large[1] < image.height:  # keep thin structures when shrinking
        image = image.resize(large, Image.Resampling.BOX).point(lambda value: 255 if value >= 64 else 0)
    filled = image.resize(large, Image.Resampling.BILINEAR).point(lambda value: 255 if value >= 128 else 0)
    padded = np.pad(np.asarray(image, dtype=np.float32), 1)
    scale = np.array([large[1] / image.height, large[0] / image.width])
    # index (0, 0) of the padded mask is the centre of pixel (-1, -1)
    return filled, [(line - 1 + 0.5) * scale for line in find_contours(padded, 127.5)]


def _size_on_screen(scan: Scan, side: int | None) -> tuple[int, int]:
    """(width, height) of a tile: small frames enlarged, large ones shrunk."""
    _, tall, wide = scan.geometry.spacing
    ratio = min(max(tall / wide, 0.2), 5.0) if scan.geometry.known else 1.0
    height, width = scan.height * ratio, float(scan.width)
    longer = max(height, width)
    if side is not None:
        factor = side / longer
    elif longer < _SINGLE:
        factor = _SINGLE / longer
    else:
        factor = min(1.0, _LARGEST / longer)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _legend(segmentation: Segmentation, scan: Scan, window: Window, frames: list[int], width: int) -> Any:
    """The strip under the picture: one swatch per object with its confidence, then what was drawn."""
    from PIL import Image, ImageDraw

    unit = max(1.0, width / 900)  # larger letters under larger pictures
    font, small = _font(round(17 * unit)), _font(round(14 * unit))
    margin, line, swatch = round(14 * unit), round(28 * unit), round(15 * unit)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    placed, x, y = [], margin, margin
    for entry in segmentation.objects[:_MOST_NAMES]:
        name = _cut(pen, entry.label, font, width - 2 * margin - round(130 * unit))
        note = _note(entry, segmentation, frames)
        at_note = swatch + round(9 * unit) + int(pen.textlength(name, font=font)) + round(9 * unit)
        needed = at_note + int(pen.textlength(note, font=small))
        if x > margin and x + needed > width - margin:
            x, y = margin, y + line
        placed.append((x, y, entry.color or (255, 255, 255), name, x + at_note, note))
        x += needed + round(30 * unit)
    y += line if placed else 0
    strip = Image.new("RGB", (width, y + round(18 * unit) + margin), _BACK)
    pen = ImageDraw.Draw(strip)
    for left, top, color, name, note_left, note in placed:
        middle = top + round(10 * unit)
        square = (left, middle - swatch // 2, left + swatch, middle - swatch // 2 + swatch)
        pen.rounded_rectangle(square, radius=swatch // 4, fill=color)
        pen.text((left + swatch + round(9 * unit), middle), name, font=font, fill=_TEXT, anchor="lm")
        pen.text((note_left, middle), note, font=small, fill=_FAINT, anchor="lm")
    caption = _cut(pen, _caption(segmentation, scan, window, frames), small, width - 2 * margin)
    pen.text((margin, y + round(10 * unit)), caption, font=small, fill=_FAINT, anchor="lm")
    return strip


def _note(entry: SegmentedObject, segmentation: Segmentation, frames: list[int]) -> str:
    """The confidence on the frames shown: one number, or the range."""
    values = [entry.confidence[f] for f in frames if math.isfinite(entry.confidence.get(f, math.nan))]
    if not (segmentation.labels == entry.id).any():
        return "not found"
    if not any((segmentation.labels[f] == entry.id).any() for f in frames):
        return "on other frames"
    if not values:
        return ""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _caption(segmentation: Segmentation, scan: Scan, window: Window, frames: list[int]) -> str:
    parts = [segmentation.scan_name or scan.name]
    if scan.num_frames > 1:
        parts.append(
            f"frame {frames[0]} of {scan.num_frames}"
            if len(frames) == 1
            else f"{len(frames)} of {scan.num_frames} frames"
        )
    parts.append(f"window {window.low:g} to {window.high:g} ({window.source})")
    model = segmentation.provenance.get("model")
    if isinstance(model, str):
        parts.append(model)
    if len(segmentation.objects) > _MOST_NAMES:
        parts.append(f"{len(segmentation.objects) - _MOST_NAMES} more objects")
    return " · ".join(" ".join(part.split()) for part in parts)


def _mark(picture: Any, text: str) -> None:
    """Write a caption into the upper left corner."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(picture)
    pen.text((8, 6), text, font=_font(18), fill=_TEXT, stroke_width=2, stroke_fill=(0, 0, 0))


def _cut(pen: Any, text: str, font: Any, room: float) -> str:
    """The text on one line, shortened with dots until it fits."""
    text = " ".join(text.split())
    if pen.textlength(text, font=font) <= room:
        return text
    while text and pen.textlength(text + "...", font=font) > room:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
