"""Importing the package, asking for help and being told of a wrong path load no torch: that keeps them quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

import samed2

HEAVY = ("torch", "transformers", "scipy", "skimage", "matplotlib", "nibabel", "pydicom")
REPORT = f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import samed2",
        "import samed2.cli.main",
        "from samed2.cli.main import main; main(['--help'])",
        "from samed2.cli.main import main; main(['segment', '--help'])",
        "from samed2.cli.main import main; main(['--version'])",
        "from samed2.cli.main import main; main(['segment', 'nothing.png', '--box', '1,1,5,5'])",  # a wrong path
    ],
)
def test_no_heavy_import(code: str) -> None:
    assert _run(f"{code}\n{REPORT}") == "[]"


@pytest.mark.parametrize("code", ["import samed2.io", "import samed2.prompts", "from samed2 import Scan, Prompts"])
def test_reading_needs_no_torch(code: str) -> None:
    assert _run(f"{code}\nimport sys; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("name", samed2.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(samed2, name) is not None
    assert name in dir(samed2)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Segmentor"):
        _ = samed2.Segmentor
