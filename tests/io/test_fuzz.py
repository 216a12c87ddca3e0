"""A short run of benchmarks/fuzz_readers.py: every damaged file gives a valid scan or one clear line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_readers.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("av")
    spec = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_of_file_survives_damage(script: ModuleType, tmp_path: Path) -> None:
    goods = script.good_files()
    for index, name in enumerate(list(goods) * 12):
        rng = np.random.default_rng([5, index])
        kind, path, options = script.make_input(name, goods[name], tmp_path, rng)
        outcome = script.read_all(path, options)
        assert outcome in script.FINE, f"input {index}: {name}, {kind}, {options}: {outcome}"


def test_the_inputs_depend_on_the_seed_only(script: ModuleType) -> None:
    content = bytes(range(256)) * 4
    for seed in range(20):
        one, other = (script.damage(content, np.random.default_rng(seed)) for _ in range(2))
        assert one == other and one[1]


def test_good_files_are_read(script: ModuleType, tmp_path: Path) -> None:
    for name, content in script.good_files().items():
        if name.endswith(".folder"):
            continue
        (tmp_path / name).write_bytes(content)
        assert script.read_all(tmp_path / name, {"time": 0} if name == "times.nii" else {}) == "scan", name
