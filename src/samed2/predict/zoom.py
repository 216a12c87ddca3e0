"""Views: the square part of a frame that the model looks at, and the way back to the frame's own grid.

Coordinates are continuous: pixel i covers [i, i + 1) and its centre is i + 0.5. The model's are (u, v) in
[0, size] along x and y; the frame's are (x, y).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

OUTSIDE_LOGIT = -32.0
MAX_SUPERSAMPLING = 8
DARK, SPECKS = 0.1, 0.01  # a row or column shows something where more than this share of it is brighter than that
CONTENT_MARGIN, CONTENT_SHARE = 1.05, 0.6  # of a view of it: width over the content's; up to which share of the frame


@dataclass(frozen=True)
class View:
    """A square of the frame, centred at (cy, cx), `side` pixels wide, brought to `size` model pixels.

    `angle` (radians), `flip_x` and `stretch` (height over width) are for augmentation; a view to predict
    with has none.
    """

    cy: float
    cx: float
    side: float
    size: int
    angle: float = 0.0
    flip_x: bool = False
    stretch: float = 1.0

    def matrix(self) -> np.ndarray:
        """(2, 3) affine from model coordinates (u, v, 1) to frame coordinates (x, y)."""
        scale = self.side / self.size
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if self.flip_x else 1.0, self.stretch]) * scale
        half = np.full(2, self.size / 2)
        return np.concatenate([turn, (np.array([self.cx, self.cy]) - turn @ half)[:, None]], axis=1)

    def to_model(self, points: np.ndarray) -> np.ndarray:
        """Frame coordinates (..., 2) as (x, y) to model coordinates (u, v)."""
        matrix = self.matrix()
        return (np.asarray(points, dtype=float) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T

    def contains(self, box: tuple[float, float, float, float], slack: float = 0.0) -> bool:
        """Whether a frame box (y0, x0, y1, x1) lies inside the view, `slack` (share of the side) from its rim."""
        reach = self.side * (0.5 - slack)
        y0, x0, y1, x1 = box
        return min(y0 - (self.cy - reach), x0 - (self.cx - reach), self.cy + reach - y1, self.cx + reach - x1) >= -1e-6


def whole_view(height: int, width: int, size: int) -> View:
    """The smallest square around the whole frame."""
    return View(height / 2, width / 2, float(max(height, width)), size)


def content_view(frame: torch.Tensor, size: int) -> View:
    """The smallest square around what a frame shows, without dark surroundings; mostly that is the whole frame.

    Rows and columns count from the first to the last of which a hundredth is brighter than a tenth of the scale.

    Args:
        frame: (1 or 3, H, W) in [0, 1].
    """
    bright = frame.amax(0) > DARK
    height, width = bright.shape
    rows = torch.nonzero(bright.float().mean(1) > SPECKS).flatten().tolist()
    columns = torch.nonzero(bright.float().mean(0) > SPECKS).flatten().tolist()
    if not rows or not columns:
        return whole_view(height, width, size)
    view = box_view((rows[0], columns[0], rows[-1] + 1, columns[-1] + 1), CONTENT_MARGIN, size)
    return view if view.side < CONTENT_SHARE * max(height, width) else whole_view(height, width, size)


def box_view(box: tuple[float, float, float, float], margin: float, size: int, min_side: float = 16.0) -> View:
    """A square around a frame box (y0, x0, y1, x1), `margin` times as wide as the box's longer side."""
    y0, x0, y1, x1 = box
    side = max(margin * max(y1 - y0, x1 - x0), min_side)
    return View((y0 + y1) / 2, (x0 + x1) / 2, side, size)


def sample(frame: torch.Tensor, view: View, mode: str = "bilinear") -> torch.Tensor:
    """Look at a frame through a view.

    Args:
        frame: (C, H, W) float.
        mode: "bilinear" (averaged over smaller steps where the view shrinks the frame) or "nearest".

    Returns:
        (C, size, size); 0 outside the frame.
    """
    shrink = view.side / view.size * max(1.0, view.stretch)
    steps = min(math.ceil(shrink - 0.25), MAX_SUPERSAMPLING) if shrink > 1.25 and mode == "bilinear" else 1
    _, height, width = frame.shape
    ticks = (torch.arange(view.size * steps, dtype=torch.float32) + 0.5) / steps
    matrix = torch.from_numpy(view.matrix()).float()
    to_unit = torch.tensor([[2.0 / width], [2.0 / height]])
    matrix = matrix * to_unit  # frame coordinates scaled to [0, 2]
    x = matrix[0, 0] * ticks[None, :] + matrix[0, 1] * ticks[:, None] + matrix[0, 2] - 1
    y = matrix[1, 0] * ticks[None, :] + matrix[1, 1] * ticks[:, None] + matrix[1, 2] - 1
    grid = torch.stack([x, y], dim=-1)[None].to(frame.device)
    seen = F.grid_sample(frame[None], grid, mode=mode, padding_mode="zeros", align_corners=False)
    if steps > 1:
        seen = F.avg_pool2d(seen, steps)
    return seen[0]


def as_tensor(frame: np.ndarray) -> torch.Tensor:
    """A (H, W) or (H, W, 3) frame as (C, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(frame))
    return tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor[None]


def three_channels(seen: torch.Tensor) -> torch.Tensor:
    """(1 or 3, S, S) as (3, S, S), grey repeated."""
    return seen.expand(3, -1, -1) if seen.shape[0] == 1 else seen


def paste(logits: torch.Tensor, view: View, height: int, width: int) -> torch.Tensor:
    """Bring logits seen through an upright view back to the frame.

    Args:
        logits: (C, h, w) over the view, of any resolution.

    Returns:
        (C, height, width) float32, bilinear; `OUTSIDE_LOGIT` outside the view.
    """
    left, top = view.cx - view.side / 2, view.cy - view.side / 2
    x0, x1 = max(0, math.ceil(left - 0.5)), min(width, math.floor(left + view.side - 0.5) + 1)
    y0, y1 = max(0, math.ceil(top - 0.5)), min(height, math.floor(top + view.side - 0.5) + 1)
    pasted = torch.full((logits.shape[0], height, width), OUTSIDE_LOGIT)
    if x1 <= x0 or y1 <= y0:
        return pasted
    seen = logits.float().cpu()
    rows = _shares((torch.arange(y0, y1) + 0.5 - top) / view.side, seen.shape[1])
    columns = _shares((torch.arange(x0, x1) + 0.5 - left) / view.side, seen.shape[2])
    pasted[:, y0:y1, x0:x1] = rows @ seen @ columns.T
    return pasted


def _shares(places: torch.Tensor, count: int) -> torch.Tensor:
    """How much each of `count` cells has in what lies at `places` (n,) in [0, 1] along them, bilinear: (n, count)."""
    at = (places.float() * count - 0.5).clamp(0, count - 1)
    return (1 - (at[:, None] - torch.arange(count)).abs()).clamp(min=0)
