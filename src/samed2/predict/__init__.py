"""Prediction: prompts in, masks on the scan's own grid out."""

from __future__ import annotations

from samed2.predict.predictor import ObjectPrediction, Predictor, Settings

__all__ = ["ObjectPrediction", "Predictor", "Settings"]
