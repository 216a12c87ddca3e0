"""Scores of an answer for one row: per frame and then the mean, or once for a whole volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samed2.evaluate.metrics import iou, measure, pixel_calibration, spacing_of
from samed2.evaluate.protocols.base import Hint, Mask, Trial
from samed2.evaluate.settings import EvalSettings
from samed2.io import Scan

LENGTHS = ("hd95", "assd")  # undefined where one of the two masks is empty
STEPS = ("dice", "nsd")
BASELINE = ("dice", "iou", "nsd")


def score(
    answer: Mask,
    truth: Mask,
    scan: Scan,
    settings: EvalSettings,
    solid: bool,
    names: Sequence[str] = ("dice", "iou", "nsd", "hd95", "assd"),
) -> dict[str, float]:
    """Scores by name of an answer (n, H, W) on n frames with their truth (n, H, W).

    `solid` takes them as one body in 3-D; else every frame is scored apart and the mean taken, for lengths over the
    frames where they are defined (NaN where they are on none). Lengths are in mm, or px without known spacing.
    """
    spacing = spacing_of(scan.geometry, 3 if solid else 2)
    tolerance = settings.tolerance_px if spacing is None else settings.tolerance_mm
    if solid:
        return measure(answer, truth, spacing, tolerance, names)
    found = [measure(a, t, spacing, tolerance, names) for a, t in zip(answer, truth, strict=True)]
    return {name: mean([scores[name] for scores in found]) for name in names}


def mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """The mean of the finite values, NaN without any."""
    finite = [float(v) for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")


def is_solid(whole: bool, scan: Scan) -> bool:
    """Whether a protocol that scores whole cases scores this one in 3-D: time is no axis in space."""
    return whole and scan.kind == "volume" and scan.num_frames > 1


def confidence_columns(trial: Trial, truth: Mask) -> dict[str, float]:
    """Mean predicted IoU and mean true IoU over the same frames: those with a prediction and an answer or object."""
    predicted, true = [], []
    outcome = trial.outcome
    for mask, target, confidence in zip(outcome.masks, truth, outcome.confidence, strict=True):
        if np.isfinite(confidence) and (mask.any() or target.any()):
            predicted.append(float(confidence))
            true.append(iou(mask, target))
    return {"predicted_iou": mean(predicted), "true_iou": mean(true)}


def pixel_columns(trial: Trial, truth: Mask) -> dict[str, float]:
    """Calibration of the foreground probability, everywhere and near the border inside the boxes; means of frames."""
    if trial.outcome.probability is None:
        return {}
    found = []
    for frame, chance, target in zip(trial.outcome.frames, trial.outcome.probability, truth, strict=True):
        hint = trial.hints.get(frame, Hint())
        found.append(pixel_calibration(chance, target, around(hint)).to_dict())
    return {name: mean([float(f[name]) for f in found]) for name in found[0] if not name.endswith("pixels")}


def around(hint: Hint) -> tuple[float, float, float, float] | None:
    """The box around all boxes of a hint, None without any."""
    if not hint.boxes:
        return None
    low, high = np.min(hint.boxes, axis=0), np.max(hint.boxes, axis=0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])
