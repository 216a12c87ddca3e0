"""A tiny random predictor that finds something: the released weights would do, random ones are as good here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samed2.io import Scan
from samed2.nn import SAMed2Model
from samed2.nn.builders import micro_config
from samed2.nn.init import init_from_scratch
from samed2.predict import Predictor


def tiny_model(**settings) -> SAMed2Model:
    torch.manual_seed(0)
    model = SAMed2Model(micro_config(**settings))
    init_from_scratch(model, 0)
    return model


def mixing_model(**settings) -> SAMed2Model:
    """The same with adapters that no longer are the identity, as fresh ones are."""
    model = tiny_model(**settings)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("adapter.up.weight"):
                value.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor(tiny_model(), device="cpu", precision="fp32", name="tiny")


@pytest.fixture
def scan() -> Scan:
    rng = np.random.default_rng(0)
    return Scan.from_array(rng.integers(0, 255, (90, 120), dtype=np.uint8), kind="image")


@pytest.fixture
def volume() -> Scan:
    rng = np.random.default_rng(1)
    return Scan.from_array(rng.normal(100, 30, (5, 60, 70)).astype(np.float32), kind="volume")
