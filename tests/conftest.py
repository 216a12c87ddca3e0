"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Keep every worker to one thread: the tests run in parallel and their models are tiny."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real images, masks and volumes (`SAMED2_DATA`), or skip the test without it."""
    given = os.environ.get("SAMED2_DATA")
    folder = Path(given) if given else CHECKOUT.parent / "shared" / "data"
    if not (folder / "items.csv").is_file():
        pytest.skip(f"needs real images: {folder} has no items.csv (set SAMED2_DATA to their folder)")
    return folder
