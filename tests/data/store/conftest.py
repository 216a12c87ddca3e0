from __future__ import annotations

from pathlib import Path

import pytest
from tests.generated import make_folder

from samed2.data.convert.registry import Source
from samed2.data.store import build


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("source") / "data", items=6)


@pytest.fixture(scope="session")
def source(folder: Path) -> Source:
    return Source(folder, "folder", "folder")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Path:
    """A finished store of `folder`; tests do not change it."""
    out = tmp_path_factory.mktemp("store") / "bank"
    build([source], out)
    return out
