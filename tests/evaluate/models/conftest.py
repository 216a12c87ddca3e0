"""Folders of small models, written once, as a user would have them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.evaluate.models.small import SIDE, sam2_model, sam_model, unet_model

from samed2.evaluate.models.unet_config import save_unet
from samed2.nn import SAMed2Model
from samed2.nn.builders import small_config
from samed2.nn.init import init_from_scratch


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    ours = SAMed2Model(small_config(8, (1, 2, 3, 1), hidden=64, image_size=SIDE, global_blocks=(4,), adapter_dim=8))
    init_from_scratch(ours, 0)
    ours.save_pretrained(root / "samed2")
    sam2_model().save_pretrained(root / "sam2")
    sam_model().save_pretrained(root / "sam")
    save_unet(*unet_model(), root / "unet")
    return {family: root / ("sam" if family == "medsam" else family) for family in FAMILIES}


FAMILIES = ("samed2", "sam2", "sam", "medsam", "unet")
