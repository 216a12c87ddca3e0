"""The model: SAM-2's modules from transformers, the temporal adapter, and weights in and out."""

from __future__ import annotations

from samed2.nn.config import SAMed2Config
from samed2.nn.model import Decoded, Features, SAMed2Model
from samed2.nn.prompts import PromptTensors

__all__ = ["Decoded", "Features", "PromptTensors", "SAMed2Config", "SAMed2Model"]
