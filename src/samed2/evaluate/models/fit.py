"""How a frame lies in the square input of a model that sees whole frames, and the way back.

SAM and SAM 2 resize as torchvision does on tensors (bilinear, antialiased) and take pixel coordinates scaled by the
ratio of the sizes; the processors of transformers show both, but need torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

MASK_SCALE, MASK_BIAS = 20.0, -10.0  # SAM 2 turns masks that it is given into logits of -10 and 10


@dataclass(frozen=True)
class Fit:
    """A (H, W) frame resized to `inner` (h, w) in the top left corner of a square of `size` pixels."""

    frame: tuple[int, int]
    inner: tuple[int, int]
    size: int

    @classmethod
    def stretched(cls, height: int, width: int, size: int) -> Fit:
        """Both sides to `size`, as SAM 2 and MedSAM do."""
        return cls((height, width), (size, size), size)

    @classmethod
    def longest(cls, height: int, width: int, size: int) -> Fit:
        """The longer side to `size`, the rest padded, as SAM does."""
        scale = size / max(height, width)
        inner = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        return cls((height, width), inner, size)

    def resize(self, values: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
        """(C, H, W) to (C, h, w), antialiased."""
        return F.interpolate(values[None], self.inner, mode=mode, align_corners=False, antialias=True)[0]

    def pad(self, values: torch.Tensor) -> torch.Tensor:
        """(C, h, w) to (C, size, size), zeros to the right and below."""
        return F.pad(values, (0, self.size - self.inner[1], 0, self.size - self.inner[0]))

    def points(self, points: Sequence[tuple[float, float]]) -> torch.Tensor:
        """Pixels (y, x) of the frame as (P, 2) model coordinates (x, y), in which whole numbers are pixel centres."""
        places = np.array([[x + 0.5, y + 0.5] for y, x in points]) * self._scale - 0.5
        return torch.tensor(places, dtype=torch.float32)

    def box(self, box: tuple[float, float, float, float]) -> torch.Tensor:
        """(y0, x0, y1, x1) of the frame as (4,) model coordinates (x0, y0, x1, y1)."""
        y0, x0, y1, x1 = box
        return torch.tensor((np.array([[x0, y0], [x1, y1]]) * self._scale).ravel(), dtype=torch.float32)

    def mask(self, mask: NDArray[np.bool_], side: int) -> torch.Tensor:
        """A (H, W) mask as (1, side, side) logits for the prompt encoder; padding is background."""
        share = self.pad(self.resize(torch.from_numpy(mask.astype(np.float32))[None]))
        small = F.interpolate(share[None], (side, side), mode="bilinear", align_corners=False, antialias=True)[0]
        return small * MASK_SCALE + MASK_BIAS

    def back(self, maps: torch.Tensor) -> torch.Tensor:
        """(M, s, s) maps over the square to (M, H, W) on the frame, bilinear."""
        if self.inner != (self.size, self.size):
            maps = F.interpolate(maps[None], (self.size, self.size), mode="bilinear", align_corners=False)[0]
            maps = maps[:, : self.inner[0], : self.inner[1]]
        return F.interpolate(maps[None], self.frame, mode="bilinear", align_corners=False)[0]

    @property
    def _scale(self) -> NDArray[np.float64]:
        """Model pixels per frame pixel along (x, y)."""
        return np.array([self.inner[1] / self.frame[1], self.inner[0] / self.frame[0]])
