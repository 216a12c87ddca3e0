"""Prediction: prompts in, masks on the scan's own grid out."""

from __future__ import annotations

from samed2.predict.predictor import Predictor
from samed2.predict.results import ObjectPrediction
from samed2.predict.settings import Settings

__all__ = ["ObjectPrediction", "Predictor", "Settings"]
