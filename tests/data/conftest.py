"""A generated data folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.generated import make_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data"))
