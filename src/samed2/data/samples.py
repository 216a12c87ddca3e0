"""What training samples are made of: the plan of a batch, and pure pieces that make a row out of a frame."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy import ndimage
from torch.nn import functional as F

from samed2.data.cases import LoadedCase
from samed2.io.window import Window
from samed2.predict.zoom import View, as_tensor, sample, three_channels

MIN_PIXELS = 12
EIGHT = np.ones((3, 3), dtype=int)
FrameBox = tuple[float, float, float, float]  # (y0, x0, y1, x1)
PROMPTS = ("box", "point", "box+point", "mask", "mask+point")
Episode = Literal["image", "stream", "memory"]


class BatchPlan(BaseModel):
    """What the batches of a stage look like; shares are probabilities, drawn once for a batch unless said otherwise.

    Every batch is one episode: "image" (frames, or clips of neighbours, each with its prompt), "stream" (frames that
    are visited in order, with a prompt on the first only) or "memory" (cases that remember other cases of the batch).

    Attributes:
        image_size: side of a view in model pixels.
        rows: frames of an image or memory batch.
        prompts: shares of the kinds of prompts, of `PROMPTS`.
        margin: limits of the side of a view around a box or mask, over the longer side of the box.
        upright: share of views around boxes and clicks that are turned by no more than 10 degrees; the others by any
            quarter turn and up to 30 degrees, for images that come in any orientation.
        detail: share of rows with a mask alone that are seen through a view of a piece of the object.
        clips, frames: share of batches in which frames of volumes and videos are encoded with their neighbours, and
            how many frames are encoded together.
        absent: share of rows (not batches) whose frame lacks the object, in image and memory episodes.
        stream: share of stream episodes; stream_frames: how many frames are visited; stream_rows: at a time;
            follow: share of rows whose view follows the object, as in prediction; carried: share of stream episodes
            in which the last mask is handed on beside the memory.
        synthetic: share of rows of image and stream episodes about objects that nobody labelled, see `data.unseen`;
            compound: share of these with parts, in crowds or as bands, see `data.synthetic_parts`.
        memory: share of memory episodes; entries: most entries that a row reads; unprompted: share of memory episodes
            without a prompt, seen as whole frames; missing: `absent` of these, where nothing but the memory tells what
            is looked for; noisy: share of entries whose masks are made worse.
        correction: share of batches in which up to `clicks` corrective clicks follow.
        augment: change views and intensities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(128, gt=0, multiple_of=32)
    rows: int = Field(16, gt=0)
    prompts: dict[str, float] = {"box": 0.5, "point": 0.3, "box+point": 0.04, "mask": 0.08, "mask+point": 0.08}
    margin: tuple[float, float] = (1.25, 1.9)
    upright: float = Field(0.0, ge=0, le=1)
    detail: float = Field(0.0, ge=0, le=1)
    clips: float = Field(0.2, ge=0, le=1)
    frames: int = Field(3, ge=1)
    absent: float = Field(0.05, ge=0, lt=1)
    synthetic: float = Field(0.0, ge=0, le=1)
    compound: float = Field(0.0, ge=0, le=1)
    stream: float = Field(0.0, ge=0, le=1)
    stream_frames: tuple[int, int] = (3, 6)
    stream_rows: int = Field(4, gt=0)
    follow: float = Field(0.6, ge=0, le=1)
    carried: float = Field(0.3, ge=0, le=1)
    memory: float = Field(0.0, ge=0, le=1)
    entries: int = Field(6, ge=1)
    unprompted: float = Field(0.5, ge=0, le=1)
    missing: float = Field(0.05, ge=0, lt=1)
    noisy: float = Field(0.2, ge=0, le=1)
    correction: float = Field(0.25, ge=0, le=1)
    clicks: int = Field(3, ge=1)
    augment: bool = True

    @field_validator("prompts")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        if set(value) - set(PROMPTS) or not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError(f"wanted shares above 0 for some of {', '.join(PROMPTS)}")
        return value

    @field_validator("stream_frames")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 2 <= value[0] <= value[1]:
            raise ValueError("wanted two numbers, the first at least 2, the second no smaller")
        return value


@dataclass
class Batch:
    """B clips of T frames with one object each, and N rows with a target.

    Attributes:
        episode: see `BatchPlan`.
        prompt: one of `PROMPTS`, or "none".
        steps: frames visited one after another; 1 but in stream episodes. There the clips of one row follow each other
            in the order of the visit, and only its first frame is prompted.
        every: every frame of a clip is a row (N = B*T); else its middle frame (N = B).
        pixels: (B, T, 3, S, S) in [0, 1], T neighbours in true order.
        target: (N, 1, S, S) in [0, 1]. present: (N,) bool, the object is on the frame.
        hidden: (N,) model pixels of the object outside of the view.
        boxes: (N, 4) as (x0, y0, x1, y1) in model pixels.
        points: (N, P, 2) as (x, y), labels: (N, P), 1 inside and 0 outside; the first is inside.
        moves: (N, 2, 3) affine from a row's view to that of the frame visited before, for `affine_grid`.
        tasks: index of each clip's task. patients: of each clip.
        total: frames of the scan, as memory in time is told.
    """

    episode: Episode
    prompt: str
    steps: int
    every: bool
    pixels: torch.Tensor
    target: torch.Tensor
    present: torch.Tensor
    hidden: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    moves: torch.Tensor
    tasks: list[int]
    patients: list[str]
    total: int = 1

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in values.items() if torch.is_tensor(value)}
        return replace(self, **moved)


def draw_part(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """One connected part of a (H, W) mask (of at least `MIN_PIXELS`), or sometimes all of it."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    if count <= 1 or rng.random() < 0.15:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    large = np.flatnonzero(sizes >= MIN_PIXELS)
    if len(large) == 0:
        return mask
    return labels == int(large[rng.integers(len(large))]) + 1


def touching(mask: NDArray[np.bool_], part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a neighbouring frame's mask that overlap `part`."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    if count == 0:
        return mask
    kept = np.unique(labels[part & mask])
    return np.isin(labels, kept[kept > 0])


def look(frame: NDArray, window: Window, view: View) -> torch.Tensor:
    """A frame through window and view, (3, S, S) in [0, 1]; only the part the view needs is windowed."""
    corners = np.array([[0, 0], [view.size, 0], [0, view.size], [view.size, view.size]], dtype=float)
    matrix = view.matrix()
    xy = corners @ matrix[:, :2].T + matrix[:, 2]
    height, width = frame.shape[:2]
    x0, y0 = (max(0, int(v)) for v in np.floor(xy.min(axis=0)) - 2)
    x1, y1 = (min(limit, int(v)) for v, limit in zip(np.ceil(xy.max(axis=0)) + 2, (width, height), strict=True))
    if x1 <= x0 or y1 <= y0:
        return torch.zeros(3, view.size, view.size)
    piece = as_tensor(window.apply(frame[y0:y1, x0:x1]))
    return three_channels(shrunk(piece, replace(view, cy=view.cy - y0, cx=view.cx - x0)))


def seen(mask: NDArray[np.bool_], view: View) -> torch.Tensor:
    """A (H, W) mask through a view, (1, S, S) in [0, 1]."""
    return shrunk(torch.from_numpy(mask.astype(np.float32))[None], view)


def shrunk(frame: torch.Tensor, view: View) -> torch.Tensor:
    """`sample`, cheaper where the view shrinks a (C, H, W) frame: whole pixels are averaged first."""
    factor = int(view.side / view.size / 1.25)
    if factor < 2:
        return sample(frame, view)
    _, height, width = frame.shape
    padded = F.pad(frame, (0, -width % factor, 0, -height % factor))
    small = replace(view, cy=view.cy / factor, cx=view.cx / factor, side=view.side / factor)
    return sample(F.avg_pool2d(padded, factor), small)


def hidden_pixels(mask: NDArray[np.bool_], target: torch.Tensor, view: View) -> float:
    """Model pixels of a (H, W) mask that its (1, S, S) target does not show; below 5 % of the object 0."""
    total = np.count_nonzero(mask) * (view.size / view.side) ** 2 / view.stretch
    lost = total - float(target.sum())
    return lost if lost > 0.05 * total else 0.0


def target_box(target: torch.Tensor, view: View, box: FrameBox) -> torch.Tensor:
    """Tight (x0, y0, x1, y1) of a soft (S, S) mask; of an empty one the frame box through the view."""
    ys, xs = (torch.nonzero((target > 0.5).any(dim=d)).flatten() for d in (1, 0))
    if len(ys) and len(xs):
        return torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]).float()
    y0, x0, y1, x1 = box
    uv = view.to_model(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]))
    return torch.tensor([*uv.min(axis=0), *uv.max(axis=0)], dtype=torch.float32).clamp(0, view.size)


def jitter(box: torch.Tensor, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Move each side: mostly outward by 0 to 6 % of the box, sometimes either way by up to 12 %."""
    shift = rng.uniform(0, 0.06, 4) if rng.random() < 0.7 else rng.uniform(-0.08, 0.12, 4)
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    moved = box + torch.tensor([-shift[0] * width, -shift[1] * height, shift[2] * width, shift[3] * height]).float()
    return moved.clamp(0, size)


def draw_points(target: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Three points on a (S, S) mask: the first inside, the rest inside or outside; (3, 2) as (x, y), (3,)."""
    small = F.avg_pool2d(target[None], 2)[0].numpy()
    inside = small > 0.5
    if not inside.any():  # an object of a pixel or two
        inside = small >= small.max()
    points, labels = [], []
    for number in range(3):
        positive = number == 0 or rng.random() < 0.6 or inside.all()
        where = inside if positive else ~inside
        if number == 0 and rng.random() < 0.5:
            depth = ndimage.distance_transform_edt(np.pad(where, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        else:
            y, x = divmod(int(rng.choice(np.flatnonzero(where))), small.shape[1])
        points.append([(x + rng.random()) * 2 - 0.5, (y + rng.random()) * 2 - 0.5])
        labels.append(int(positive))
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)


def training_windows(loaded: LoadedCase) -> list[Window]:
    """The windows an item is trained under, the usual one first."""
    frames = loaded.frames
    if frames.ndim == 4 or (frames.dtype == np.uint8 and loaded.case.kind != "volume"):
        return [Window(0, 255, "dtype")]
    values = frames[:: max(1, len(frames) // 16)].astype(np.float32)
    spans = [np.percentile(values, (lo, hi)) for lo, hi in ((0.5, 99.5), (0.0, 100.0), (2.0, 98.0), (0.5, 99.9))]
    windows = [Window(float(lo), float(max(hi, lo + 1e-3)), "percentiles") for lo, hi in spans]
    if loaded.case.modality == "ct" and frames.dtype != np.uint8:
        offset = 0.0 if values.min() < -200 else 1024.0
        for low, high in ((-160, 240), (-150, 250), (-125, 275), (-450, 1100)):
            windows.append(Window(low + offset, high + offset, "preset"))
    if frames.dtype == np.uint8:
        windows.insert(0, Window(0, 255, "dtype"))
    return windows
