"""The metrics by name, measured together so that the surfaces are looked for once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from samed2.errors import InputError
from samed2.evaluate.metrics.overlap import Mask, as_masks, dice, iou
from samed2.evaluate.metrics.surface import TOLERANCE, SurfaceDistances, surface_distances


@dataclass(frozen=True)
class Pair:
    """An answer and the truth, (H, W) or (D, H, W) bool; spacing and tolerance as in `nsd`."""

    answer: Mask
    truth: Mask
    spacing: Sequence[float] | None = None
    tolerance: float = TOLERANCE

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances between the two surfaces, computed when first asked for."""
        return surface_distances(self.answer, self.truth, self.spacing)


@dataclass(frozen=True)
class Metric:
    """A score of one answer.

    Attributes:
        function: the score of a pair, NaN where it is undefined.
        unit: "" for shares; "mm" for lengths (px where the spacing is unknown).
        title: how tables and axes call it.
        best: the score of a perfect answer.
    """

    function: Callable[[Pair], float]
    higher_is_better: bool
    unit: Literal["", "mm"]
    title: str
    best: float


METRICS: dict[str, Metric] = {
    "dice": Metric(lambda pair: dice(pair.answer, pair.truth), True, "", "Dice", 1.0),
    "iou": Metric(lambda pair: iou(pair.answer, pair.truth), True, "", "IoU", 1.0),
    "nsd": Metric(lambda pair: pair.distances.within(pair.tolerance), True, "", "NSD", 1.0),
    "hd95": Metric(lambda pair: pair.distances.percentile(), False, "mm", "HD95", 0.0),
    "assd": Metric(lambda pair: pair.distances.mean(), False, "mm", "ASSD", 0.0),
}


def get_metric(name: str) -> Metric:
    """The metric of a name.

    Raises:
        InputError: there is none.
    """
    if name not in METRICS:
        raise InputError(f"metric: got {name!r}, wanted one of {', '.join(METRICS)}")
    return METRICS[name]


def measure(
    answer: Mask,
    truth: Mask,
    spacing: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
    names: Iterable[str] = ("dice", "iou", "nsd", "hd95", "assd"),
) -> dict[str, float]:
    """Scores by name of one answer, (H, W) or (D, H, W) bool; NaN where undefined.

    Args:
        spacing: millimetres along each axis of the masks; None means 1 px.
        tolerance: of the NSD, in the unit of `spacing`.

    Raises:
        InputError: unusable masks, spacing or tolerance, or an unknown name.
    """
    pair = Pair(*as_masks(answer, truth), spacing, tolerance)
    return {name: get_metric(name).function(pair) for name in names}
