"""Configuration of SAMed-2: transformers' SAM-2 video configuration plus the temporal adapters."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import Sam2VideoConfig

LAYOUTS = ("frames", "released")


@strict
class SAMed2Config(Sam2VideoConfig):
    """All settings of a `SAMed2Model`.

    Everything SAM-2 has is inherited under transformers' names; the fields below are SAMed-2's.

    Fields:
        adapter_dim: channels of the adapters' bottleneck (paper's code: 32); 0 builds plain SAM-2.
        adapter_blocks: indices of the Hiera blocks that get an adapter; None means every block.
        adapter_layout: "frames" mixes real neighbouring frames on whole (un-windowed) maps, as the paper says;
            "released" mixes consecutive attention windows, as the released code does, for its weights.
        adapter_zero_init: start the adapters as the identity, so that a new model equals its SAM-2 start.
        pixel_mean, pixel_std: applied to images in [0, 1], one value per RGB channel.
        box_tokens: "points" gives a box as two labelled points and a padding token (SAM-2);
            "corners" leaves the padding token out (SAM, MedSAM, SAMed-2).
        streaming: whether the memory attention was trained on neighbouring frames, as SAM-2's checkpoints were; where
            not, propagation hands masks on instead.
        carried: whether it was trained with the last mask handed on beside that memory; then propagation does both.
        details: whether it was trained on pieces of objects with a rough mask of them; then large objects in boxes are
            looked at piece by piece.
        box_prior: "ellipse" also gives a box as the soft ellipse inscribed in it, as a mask prompt.
    """

    model_type = "samed2"

    adapter_dim: int = 32
    adapter_blocks: list[int] | None = None
    adapter_layout: str = "frames"
    adapter_zero_init: bool = True
    pixel_mean: list[float] | None = None
    pixel_std: list[float] | None = None
    box_tokens: str = "points"
    box_prior: str = "none"
    streaming: bool = True
    carried: bool = False
    details: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.adapter_layout not in LAYOUTS:
            raise ValueError(f"adapter_layout: got {self.adapter_layout!r}, wanted one of {LAYOUTS}")
        if self.box_tokens not in ("points", "corners"):
            raise ValueError(f"box_tokens: got {self.box_tokens!r}, wanted 'points' or 'corners'")
        if self.box_prior not in ("none", "ellipse"):
            raise ValueError(f"box_prior: got {self.box_prior!r}, wanted 'none' or 'ellipse'")
        self.pixel_mean = [0.485, 0.456, 0.406] if self.pixel_mean is None else list(self.pixel_mean)
        self.pixel_std = [0.229, 0.224, 0.225] if self.pixel_std is None else list(self.pixel_std)
        super().__post_init__(**kwargs)

    def adapted(self, block: int) -> bool:
        """Whether the Hiera block with this index carries an adapter."""
        return self.adapter_dim > 0 and (self.adapter_blocks is None or block in self.adapter_blocks)
