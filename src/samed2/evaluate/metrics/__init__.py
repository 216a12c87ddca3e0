"""Scores of one answer against the truth; per image or volume, never pooled over several."""

from __future__ import annotations

from samed2.evaluate.metrics.calibration import (
    ConfidenceCalibration,
    PixelCalibration,
    Reliability,
    confidence_calibration,
    pixel_calibration,
    reliability,
)
from samed2.evaluate.metrics.interactive import interactive_auc, prompts_to_reach
from samed2.evaluate.metrics.overlap import dice, iou
from samed2.evaluate.metrics.registry import METRICS, Metric, Pair, get_metric, measure
from samed2.evaluate.metrics.surface import (
    TOLERANCE,
    SurfaceDistances,
    assd,
    hd95,
    nsd,
    spacing_of,
    surface_distances,
)

__all__ = [
    "METRICS",
    "TOLERANCE",
    "ConfidenceCalibration",
    "Metric",
    "Pair",
    "PixelCalibration",
    "Reliability",
    "SurfaceDistances",
    "assd",
    "confidence_calibration",
    "dice",
    "get_metric",
    "hd95",
    "interactive_auc",
    "iou",
    "measure",
    "nsd",
    "pixel_calibration",
    "prompts_to_reach",
    "reliability",
    "spacing_of",
    "surface_distances",
]
