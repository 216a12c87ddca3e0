"""Whether a model knows how good it is: calibration of its predicted IoU and of its pixels.

Definitions: `docs/metrics.md`. Everything is per image; the caller averages over images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError

BINS = 15
BAND = 5.0  # px on either side of the border
CERTAIN = 1e-7  # probabilities are kept this far from 0 and 1 for the logarithm: float32 cannot come closer to 1

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Confidence against what came true, in equal bins of confidence over [0, 1].

    Attributes:
        count: (bins,) how many fell into each.
        confidence, outcome: (bins,) their means, NaN in empty bins.
    """

    count: NDArray[np.int64]
    confidence: Values
    outcome: Values

    @property
    def gaps(self) -> Values:
        """(used bins,) |mean outcome - mean confidence| of each bin that holds something."""
        return np.abs(self.outcome - self.confidence)[self.count > 0]

    @property
    def ece(self) -> float:
        """Expected calibration error: the gaps weighted by count; NaN without values."""
        used = self.count[self.count > 0]
        return float((self.gaps * used).sum() / used.sum()) if used.size else math.nan

    @property
    def ace(self) -> float:
        """Average calibration error: the unweighted mean of the gaps; NaN without values."""
        return float(self.gaps.mean()) if self.gaps.size else math.nan


@dataclass(frozen=True)
class ConfidenceCalibration:
    """How the predicted IoU compares with the true one over many answers.

    Attributes:
        count, undefined: answers used, and left out because one of the two values is missing.
        bias: mean of predicted - true; above 0 is overconfident.
        mae: mean of |predicted - true|.
        spearman: rank correlation; NaN below 3 answers or where one side is constant.
        ece: expected calibration error over 15 bins of the predicted IoU.
        aurc: area under the risk-coverage curve: mean risk (1 - true IoU) of the k most confident answers, averaged
            over k = 1..count. Lower is better.
        aurc_best, aurc_random: what perfect ranking and no ranking at all would give.
    """

    count: int
    undefined: int
    bias: float
    mae: float
    spearman: float
    ece: float
    aurc: float
    aurc_best: float
    aurc_random: float

    def to_dict(self) -> dict[str, float | int]:
        """By name, for a row of a table."""
        return asdict(self)


@dataclass(frozen=True)
class Region:
    """Calibration of the foreground probability over some pixels of one image; NaN where there are none."""

    pixels: int
    ece: float
    ace: float
    brier: float
    nll: float


@dataclass(frozen=True)
class PixelCalibration:
    """Calibration over all pixels of an image and over those near the object's border, inside the box."""

    everywhere: Region
    border: Region

    def to_dict(self) -> dict[str, float | int]:
        """By name (`pixel_ece`, ..., `border_ece`, ...), for a row of a table."""
        named = {"pixel": self.everywhere, "border": self.border}
        return {f"{where}_{name}": value for where, part in named.items() for name, value in asdict(part).items()}


def reliability(confidence: ArrayLike, outcome: ArrayLike, bins: int = BINS) -> Reliability:
    """Means of both by bin of confidence: [0, 1/bins), ..., the last one with its upper end.

    Args:
        confidence: (n,), values beyond [0, 1] go into the outermost bins.
        outcome: (n,) in [0, 1]: an IoU, or whether a pixel is set.

    Raises:
        InputError: the two differ in length or hold NaN, or there is no bin.
    """
    predicted, true = np.ravel(np.asarray(confidence, np.float64)), np.ravel(np.asarray(outcome, np.float64))
    if predicted.shape != true.shape or np.isnan(predicted).any() or np.isnan(true).any() or bins < 1:
        raise InputError(
            f"reliability: got {predicted.size} confidences, {true.size} outcomes and {bins} bins, wanted as many"
            " outcomes as confidences, none missing, and at least one bin"
        )
    edges = np.arange(1, bins) / bins
    place = np.searchsorted(edges, predicted, side="right")
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        sums = (np.bincount(place, weights=values, minlength=bins) / count for values in (predicted, true))
        return Reliability(count.astype(np.int64), *sums)


def confidence_calibration(predicted: ArrayLike, true_iou: ArrayLike, bins: int = BINS) -> ConfidenceCalibration:
    """How well the predicted IoU (n,) of n answers tells their true IoU (n,), in any order.

    Pairs with a NaN are left out and counted. Without any pair every value is NaN.

    Raises:
        InputError: the two differ in length, or a true IoU lies outside [0, 1].
    """
    guess, true = np.ravel(np.asarray(predicted, np.float64)), np.ravel(np.asarray(true_iou, np.float64))
    if guess.shape != true.shape:
        raise InputError(f"predicted: got {guess.size} values for {true.size} true ones, wanted as many")
    if ((true < 0) | (true > 1)).any():
        raise InputError(f"true_iou: got {np.nanmin(true)} to {np.nanmax(true)}, wanted 0 to 1")
    usable = np.isfinite(guess) & np.isfinite(true)
    undefined = int((~usable).sum())
    guess, true = guess[usable], true[usable]
    if not guess.size:
        return ConfidenceCalibration(0, undefined, *[math.nan] * 7)
    risk = 1 - true
    return ConfidenceCalibration(
        count=int(guess.size),
        undefined=undefined,
        bias=float((guess - true).mean()),
        mae=float(np.abs(guess - true).mean()),
        spearman=_spearman(guess, true),
        ece=reliability(guess, true, bins).ece,
        aurc=_aurc(guess, risk),
        aurc_best=_aurc(true, risk),
        aurc_random=float(risk.mean()),
    )


def pixel_calibration(
    probability: ArrayLike,
    truth: ArrayLike,
    box: Sequence[float] | None = None,
    band: float = BAND,
    bins: int = BINS,
) -> PixelCalibration:
    """Calibration of one image's foreground probability (H, W), everywhere and near the border of `truth` (H, W).

    Near the border: pixels of the object at most `band` px from a pixel outside it, and pixels outside at most
    `band` px from one of the object, with their centre in the box. The image's edge is no border.

    Args:
        box: (y0, x0, y1, x1), half-open, in pixels; None is the whole image.

    Raises:
        InputError: shapes differ, a probability lies outside [0, 1] or is NaN, or the box or band is unusable.
    """
    chance, label = np.asarray(probability, np.float64), np.asarray(truth)
    if chance.ndim != 2 or chance.shape != label.shape:
        raise InputError(f"probability: got shape {chance.shape} for a truth of {label.shape}, wanted one (H, W)")
    if not ((chance >= 0) & (chance <= 1)).all():
        raise InputError("probability: holds values outside 0..1 or NaN, wanted probabilities, not logits")
    label = label.astype(bool, copy=False)
    near = border_band(label, band) & _inside(box, chance.shape)
    return PixelCalibration(_region(chance.ravel(), label.ravel(), bins), _region(chance[near], label[near], bins))


def border_band(truth: NDArray[np.bool_], band: float = BAND) -> NDArray[np.bool_]:
    """The pixels of a (H, W) mask at most `band` px from the nearest pixel of the other kind."""
    from scipy import ndimage

    if not (math.isfinite(band) and band > 0):
        raise InputError(f"band: got {band}, wanted a width in pixels above 0")
    near = np.zeros(truth.shape, dtype=bool)
    if not truth.any() or truth.all():
        return near
    # farther than the band from the object's bounding box nothing can be near its border
    window = []
    for axis in (0, 1):
        used = np.flatnonzero(truth.any(axis=1 - axis))
        reach = math.ceil(band) + 1
        window.append(slice(max(int(used[0]) - reach, 0), int(used[-1]) + reach + 1))
    part = truth[tuple(window)]
    inner, outer = (ndimage.distance_transform_edt(side) for side in (part, ~part))
    near[tuple(window)] = np.where(part, inner, outer) <= band
    return near


def _inside(box: Sequence[float] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The (H, W) pixels whose centres lie in the box."""
    if box is None:
        return np.ones(shape, dtype=bool)
    if len(box) != 4 or not np.isfinite(box).all() or not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"box: got {tuple(box)}, wanted (y0, x0, y1, x1) with y0 < y1 and x0 < x1")
    y, x = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    return ((y >= box[0]) & (y < box[2]))[:, None] & ((x >= box[1]) & (x < box[3]))[None, :]


def _region(chance: Values, label: NDArray[np.bool_], bins: int) -> Region:
    """Scores of (n,) probabilities against (n,) labels."""
    if not chance.size:
        return Region(0, *[math.nan] * 4)
    table = reliability(chance, label, bins)
    kept = np.clip(chance, CERTAIN, 1 - CERTAIN)
    nll = -np.log(np.where(label, kept, 1 - kept)).mean()
    return Region(int(chance.size), table.ece, table.ace, float(((chance - label) ** 2).mean()), float(nll))


def _spearman(first: Values, second: Values) -> float:
    """Rank correlation with mid-ranks for ties; NaN below 3 values or where one side is constant."""
    from scipy import stats

    if first.size < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)


def _aurc(confidence: Values, risk: Values) -> float:
    """Mean over k of the mean risk of the k most confident; equally confident ones share their mean risk."""
    _, group = np.unique(-confidence, return_inverse=True)
    shared = np.bincount(group, weights=risk) / np.bincount(group)
    ordered = shared[np.sort(group)]
    return float((np.cumsum(ordered) / np.arange(1, risk.size + 1)).mean())
