"""The temporal adapter of SAMed-2 (arXiv 2507.03698, section 2.1)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class TemporalAdapter(nn.Module):
    """Residual bottleneck that mixes neighbouring frames: u + up(GELU(conv3d(down(norm(u))))).

    Args:
        dim: channels of the tokens.
        hidden: channels of the bottleneck.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, hidden)
        self.conv = nn.Conv3d(hidden, hidden, kernel_size=3, padding=1)
        self.up = nn.Linear(hidden, dim)
        for role in ("down", "conv", "up"):
            getattr(self, role).adapter_role = role  # for the first weights, see AdaptedTrunk

    def forward(self, tokens: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Mix along time and space.

        Args:
            tokens: (B*T, H, W, C) maps, the T frames of a clip one after another.
            num_frames: T, at least 1.

        Returns:
            (B*T, H, W, C).

        Raises:
            ValueError: if the first axis is no multiple of T.
        """
        if num_frames < 1 or tokens.shape[0] % num_frames:
            raise ValueError(f"{tokens.shape[0]} maps cannot be split into clips of {num_frames} frames")
        return tokens + self._raise(self._convolve(self._lower(tokens), num_frames))

    def inner(self, tokens: torch.Tensor, num_frames: int) -> torch.Tensor:
        """The same for all but the first and last frames of clips, (B*T, H, W, C) -> (B*(T-2), H, W, C)."""
        clips = self._lower(tokens).unflatten(0, (-1, num_frames))
        return inner_frames(tokens, num_frames) + self._raise(self._convolve_threes(clips))

    def still(self, tokens: torch.Tensor) -> torch.Tensor:
        """The same for frames (B, H, W, C) whose neighbours look just like them, all of them to infinity."""
        return tokens + self._raise(F.conv2d(self._lower(tokens), self.conv.weight.sum(2), self.conv.bias, padding=1))

    def _lower(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.down(self.norm(tokens)).permute(0, 3, 1, 2)  # [b*t, c, h, w]

    def _raise(self, maps: torch.Tensor) -> torch.Tensor:
        return self.up(F.gelu(maps.permute(0, 2, 3, 1)))  # [b*t, h, w, c]

    def _convolve(self, maps: torch.Tensor, num_frames: int) -> torch.Tensor:
        if num_frames == 1:  # the outer time slices of the kernel would only see zero padding
            return F.conv2d(maps, self.conv.weight[:, :, 1], self.conv.bias, padding=1)
        clips = maps.unflatten(0, (-1, num_frames))  # [b, t, c, h, w]
        lone = len(clips) == 1 and maps.dtype == torch.float32 and maps.device.type == "cpu"
        if lone and not torch.is_grad_enabled():  # conv3d would be up to five times slower
            return self._convolve_threes(F.pad(clips, (0, 0, 0, 0, 0, 0, 1, 1)))
        clips = clips.transpose(1, 2)  # [b, c, t, h, w]
        if num_frames == 2 and torch.is_grad_enabled():
            clips = F.pad(clips, (0, 0, 0, 0, 0, 1))  # oneDNN: of two slices bf16 gradients are noise
        return self.conv(clips)[:, :, :num_frames].transpose(1, 2).flatten(0, 1)

    def _convolve_threes(self, clips: torch.Tensor) -> torch.Tensor:
        """The convolution of clips' inner frames as one over space alone, (B, T, c, H, W) -> (B*(T-2), c, H, W)."""
        threes = torch.cat([clips[:, :-2], clips[:, 1:-1], clips[:, 2:]], dim=2).flatten(0, 1)  # [b*(t-2), 3*c, h, w]
        weight = self.conv.weight.transpose(1, 2).flatten(1, 2)
        return F.conv2d(threes, weight, self.conv.bias, padding=1)


def inner_frames(maps: torch.Tensor, num_frames: int) -> torch.Tensor:
    """All but the first and last maps of clips of T, (B*T, ...) -> (B*(T-2), ...)."""
    return maps.unflatten(0, (-1, num_frames))[:, 1:-1].flatten(0, 1)
