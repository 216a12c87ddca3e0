"""A tiny random model, small images, and a way to run the command as a user would, inside this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from samed2.cli.main import main


class Ran(NamedTuple):
    """Exit code, standard output and standard error of one call."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `samed2 ARGUMENTS...`."""

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def fails(run: Run) -> Callable[..., str]:
    """Return a function that runs a command that must fail with one line, code 2 and nothing on stdout."""

    def call(*arguments: object) -> str:
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), (code, out, err)
        assert err.startswith("samed2: error: ")
        assert len(err.splitlines()) == 1, err
        return err

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with random weights, small enough to run in milliseconds."""
    import torch

    from samed2.nn import SAMed2Model
    from samed2.nn.builders import small_config

    torch.manual_seed(0)
    config = small_config(width=16, blocks=(1, 1, 1, 1), hidden=32, image_size=64, adapter_dim=4)
    folder = tmp_path_factory.mktemp("model")
    SAMed2Model(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a grey PNG of 60 x 80 (rows x columns) with a bright disc at (y, x) = (30, 40) of radius 12."""
    path = tmp_path / "disc.png"
    y, x = np.mgrid[:60, :80]
    inside = (y - 30) ** 2 + (x - 40) ** 2 < 12**2
    Image.fromarray(np.where(inside, 200, 40).astype(np.uint8)).save(path)
    return path
