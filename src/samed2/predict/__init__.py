"""Prediction: prompts in, masks on the scan's own grid out; at once, through a volume or video, or in dialogue."""

from __future__ import annotations

from samed2.predict.predictor import Predictor
from samed2.predict.results import ObjectPrediction
from samed2.predict.session import Session
from samed2.predict.settings import Settings
from samed2.predict.tracking import Tracking

__all__ = ["ObjectPrediction", "Predictor", "Session", "Settings", "Tracking"]
