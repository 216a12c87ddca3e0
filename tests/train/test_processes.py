"""Two processes that train together: one global batch, averaged gradients, the same weights."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.generated import make_recipe

from samed2.train.checkpoint import read_state
from samed2.train.recipe import load_recipe
from samed2.train.trainer import CHECKPOINT, Trainer

TEXT = """
precision: fp32
device: cpu
data: {{root: {root}, workers: 0, val_splits: [val]}}
model: {{preset: micro, settings: {{image_size: 64, width: 8, hidden: 32}}}}
stages:
  - {{steps: 3, image_size: 64, rows: 4, lr: 0.001, absent: 0, clips: 0, correction: 0, prompts: {{box: 1}}}}
log_every: 1
checkpoint_every: 3
validate_every: 3
"""
CALL = """
import sys
from pathlib import Path
import torch
from samed2.train.recipe import load_recipe
from samed2.train.trainer import Trainer
trainer = Trainer(load_recipe(Path(sys.argv[1]), sys.argv[2:]))
trainer.train()
torch.save(trainer.model.state_dict(), trainer.recipe.out / f"rank{trainer.processes.rank}.pt")
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return make_recipe(tmp_path_factory.mktemp("processes-data"), TEXT, items=3)


def together(recipe: Path, *changes: str) -> None:
    """Run the recipe in two processes that talk by gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CALL, str(recipe), *changes]
    both = [
        subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, **common, "RANK": r, "LOCAL_RANK": r})
        for r in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=150)[1].decode() for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said


def test_two_processes_train_as_one(recipe, tmp_path):
    together(recipe, f"out={tmp_path / 'two'}")
    first, second = (torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    trainer = Trainer(load_recipe(recipe, [f"out={tmp_path / 'one'}"]))
    trainer.train()
    kept = [read_state(tmp_path / name / CHECKPOINT, torch.device("cpu"))["model"] for name in ("one", "two")]
    for name, value in kept[0].items():
        torch.testing.assert_close(kept[1][name], value, atol=2e-4, rtol=2e-3, msg=name)
    assert all(torch.equal(kept[1][name], value) for name, value in second.items())  # the other never saved
    assert set(first) == set(second)
    logs = [[json.loads(x) for x in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("one", "two")]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]] == [1, 2, 3, 3]
    assert logs[1][-1]["val_dice"] == pytest.approx(logs[0][-1]["val_dice"], abs=0.02)


def test_two_processes_take_every_episode(recipe, tmp_path):
    changes = ["stages.0.stream=0.4", "stages.0.memory=0.4", "stages.0.clips=0.3", "stages.0.correction=0.5"]
    together(recipe, *changes, "stages.0.steps=6", "data.val_splits=[]", "optimizer.accumulate=2", f"out={tmp_path}")
    second = torch.load(tmp_path / "rank1.pt", weights_only=True)
    state = read_state(tmp_path / CHECKPOINT, torch.device("cpu"))
    assert state["step"] == 6 and all(torch.equal(state["model"][n], v) for n, v in second.items())
