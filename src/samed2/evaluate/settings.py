"""What an evaluation run may choose, and which frames it scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case
from samed2.errors import InputError
from samed2.evaluate.selection import Select, check_select
from samed2.prompts import components

ALL_BASELINES = ("ellipse", "box", "disc", "classical")


@dataclass(frozen=True)
class EvalSettings:
    """What an evaluation run may choose.

    Attributes:
        select: which of a model's proposals counts; see `samed2.evaluate.selection`.
        slices: "middle:N" or "all": the frames of volumes and videos that per-frame protocols score.
        seed: of prompts, support cases and bootstrap.
        baselines: computed in the same run, names of `samed2.evaluate.baselines.BASELINES`.
        workers: processes; 1 works in this one.
        support_splits: where support cases and usual object sizes come from.
        support_cases: the labelled cases to draw them from; None opens `support_splits` of the evaluated data.
        tolerance_mm, tolerance_px: of the NSD, where the spacing is known and where it is not.
        resamples: of the bootstrap.
    """

    select: Select = "chosen"
    slices: str = "middle:2"
    seed: int = 0
    baselines: tuple[str, ...] = ALL_BASELINES
    workers: int = 1
    support_splits: tuple[str, ...] = ("train",)
    support_cases: Sequence[Case] | None = field(default=None, repr=False)
    tolerance_mm: float = 2.0
    tolerance_px: float = 2.0
    resamples: int = 2000

    def __post_init__(self) -> None:
        check_select(self.select)
        slice_count(self.slices)
        unknown = [name for name in self.baselines if name not in ALL_BASELINES]
        if unknown:
            raise InputError(f"baselines: got {unknown[0]!r}, wanted some of {', '.join(ALL_BASELINES)}")
        for name, least in {"workers": 1, "seed": 0, "resamples": 1}.items():
            if getattr(self, name) < least:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted at least {least}")
        for name in ("tolerance_mm", "tolerance_px"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted a length above 0")

    def to_dict(self) -> dict[str, Any]:
        """All that decides the numbers: without workers and the cases themselves."""
        return {
            "select": self.select,
            "slices": self.slices,
            "seed": self.seed,
            "baselines": list(self.baselines),
            "support_splits": list(self.support_splits),
            "tolerance_mm": self.tolerance_mm,
            "tolerance_px": self.tolerance_px,
            "resamples": self.resamples,
        }


def slice_count(text: str) -> int | None:
    """N of "middle:N", None of "all".

    Raises:
        InputError: neither.
    """
    if text == "all":
        return None
    name, _, count = text.partition(":")
    if name != "middle" or not count.isdigit() or int(count) < 1:
        raise InputError(f"slices: got {text!r}, wanted middle:N or all")
    return int(count)


def middle_frames(masks: NDArray[np.bool_], count: int | None) -> list[int]:
    """Of the frames of (T, H, W) masks that hold the object, the `count` next to the middle one; None: all."""
    held = [int(f) for f in np.flatnonzero(masks.any(axis=(1, 2)))]
    if count is None or count >= len(held):
        return held
    start = min(max((len(held) - 1) // 2 - (count - 1) // 2, 0), len(held) - count)
    return held[start : start + count]


def scored_frames(masks: NDArray[np.bool_], count: int | None) -> list[int]:
    """Those of `middle_frames` with a component that can be prompted: 16 pixels or more."""
    return [frame for frame in middle_frames(masks, count) if components(masks[frame], limit=1)]
