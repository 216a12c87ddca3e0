"""A film to look at: every frame in its window with outlines and a translucent fill, encoded as it is drawn (PyAV)."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.io.checks import one_line
from samed2.io.scan import Scan
from samed2.io.scratch import passed
from samed2.io.segmentation import Segmentation
from samed2.io.window import resolve_window
from samed2.io.write_overlay import draw_frame
from samed2.io.writers import Job, register_writer

_SMALLEST, _LARGEST = 384, 1280  # longer side in pixels: small frames are enlarged, large ones shrunk
_VOLUME_FPS = 10.0
_MOST_NAMES = 12


@register_writer("overlay-video", (".mp4", ".mov", ".mkv", ".avi"))
def write_overlay_video(job: Job) -> list[Path]:
    """All frames at the source's frame rate (10 a second for volumes), H.264 where this PyAV has it, else MPEG-4.

    Frames are read, drawn and encoded one by one; names of the objects stand in the corner.

    Raises:
        InputError: no scan, or the film cannot be encoded or written.
    """
    if job.scan is None:
        raise InputError(f"{job.path}: an overlay video needs the scan it lies over; pass scan=")
    try:
        import av
    except ImportError:
        raise InputError(f"{job.path}: is a video, which needs PyAV; pip install 'samed2[video]'") from None
    window = resolve_window(job.scan, job.window)
    with atomic_path(job.path) as temporary:
        temporary.touch()  # the system's own reason when the folder refuses
        try:
            with av.open(str(temporary), "w", format=_container(job.path)) as film:
                stream = _stream(film, job.scan)
                for index in range(job.scan.num_frames):
                    picture = _picture(job.segmentation, job.scan, window, index, (stream.width, stream.height))
                    for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                        film.mux(packet)
                    passed(job.segmentation.labels, index)
                for packet in stream.encode():
                    film.mux(packet)
        except av.error.FFmpegError as error:
            raise InputError(f"{job.path}: the video cannot be written ({one_line(error)}); check the disk") from error
    return [job.path]


def _container(path: Path) -> str:
    return {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}[path.suffix.lower()]


def _stream(film: Any, scan: Scan) -> Any:
    import av

    width, height = _size(scan)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = film.add_stream(codec, rate=_rate(scan))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.thread_count = 1
    if codec == "libx264":
        stream.options = {"crf": "18", "preset": "veryfast"}
    else:
        stream.bit_rate = 8 * width * height
    return stream


def _rate(scan: Scan) -> Fraction:
    try:
        rate = float(scan.properties.get("fps") or _VOLUME_FPS)
    except (TypeError, ValueError):
        rate = _VOLUME_FPS
    if not math.isfinite(rate) or not 0.1 <= rate <= 240:
        rate = _VOLUME_FPS
    return Fraction(rate).limit_denominator(1001)


def _size(scan: Scan) -> tuple[int, int]:
    """Even (width, height) in true proportions."""
    _, tall, wide = scan.geometry.spacing
    ratio = min(max(tall / wide, 0.2), 5.0) if scan.geometry.known else 1.0
    height, width = scan.height * ratio, float(scan.width)
    factor = min(max(1.0, _SMALLEST / max(height, width)), _LARGEST / max(height, width))
    return max(16, 2 * round(width * factor / 2)), max(16, 2 * round(height * factor / 2))


def _picture(segmentation: Segmentation, scan: Scan, window: Any, frame: int, size: tuple[int, int]) -> Any:
    from PIL import ImageDraw, ImageFont

    picture = draw_frame(segmentation, scan, window, frame, size, smooth=1)  # the encoder smooths
    pen = ImageDraw.Draw(picture)
    letter = max(11, round(max(size) / 50))
    font = ImageFont.load_default(letter)
    options: dict[str, Any] = {"font": font, "stroke_width": 2, "stroke_fill": (0, 0, 0)}
    pen.text((6, 4), f"{frame}", fill=(235, 237, 240), **options)
    here = set(np.unique(segmentation.labels[frame]).tolist())
    shown = [entry for entry in segmentation.objects if entry.id in here][:_MOST_NAMES]
    for line, entry in enumerate(shown):
        name = " ".join(entry.label.split())[:40]
        pen.text((6, 4 + round((line + 1) * letter * 1.35)), name, fill=entry.color, **options)
    return np.asarray(picture)
