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

from samed2.errors import InputError
from samed2.train.checkpoint import read_state
from samed2.train.recipe import CHECKPOINT, load_recipe
from samed2.train.trainer import Trainer

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
from samed2.train.sharding import local, whole
trainer = Trainer(load_recipe(Path(sys.argv[1]), sys.argv[2:]), resume=True)
trainer.train()
state = trainer.model.state_dict()
held = sum(local(value).numel() for value in state.values())
torch.save({**whole(state), "held": torch.tensor(held)}, trainer.recipe.out / f"rank{trainer.processes.rank}.pt")
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
    assert all(torch.equal(second[name], value) for name, value in kept[1].items())  # the other never saved
    assert set(first) == set(second)
    logs = [[json.loads(x) for x in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("one", "two")]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]] == [1, 2, 3, 3]
    assert logs[1][-1]["val_dice"] == pytest.approx(logs[0][-1]["val_dice"], abs=0.02)


@pytest.fixture(scope="module")
def every_episode(recipe, tmp_path_factory) -> tuple[Path, list[str]]:
    """The out folder of four steps of all kinds in two processes, and what they change in the recipe."""
    changes = ["stages.0.stream=0.4", "stages.0.memory=0.4", "stages.0.clips=0.3", "stages.0.correction=0.5"]
    changes += ["optimizer.accumulate=2", "data.val_splits=[]", "checkpoint_every=2"]
    out = tmp_path_factory.mktemp("whole")
    together(recipe, *changes, "stages.0.steps=4", f"out={out}")
    return out, changes


def test_two_processes_take_every_episode(every_episode):
    out, _ = every_episode
    second = torch.load(out / "rank1.pt", weights_only=True)
    state = read_state(out / CHECKPOINT, torch.device("cpu"))
    assert state["step"] == 4 and all(torch.equal(second[n], v) for n, v in state["model"].items())


def test_sharded_processes_train_and_go_on_like_whole_ones(recipe, every_episode, tmp_path):
    out, changes = every_episode
    changes = [*changes, "optimizer.recompute=True", "sharded=True", f"out={tmp_path}"]
    together(recipe, *changes, "stages.0.steps=2")
    together(recipe, *changes, "stages.0.steps=4", "validate_every=4", "data.val_splits=['val']")
    states = [read_state(folder / CHECKPOINT, torch.device("cpu")) for folder in (out, tmp_path)]
    assert states[0]["step"] == states[1]["step"] == 4
    for part in ("model", "average"):
        for name, value in states[0][part].items():
            torch.testing.assert_close(states[1][part][name], value, atol=2e-4, rtol=2e-3, msg=f"{part} {name}")
    held = [int(torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)["held"]) for rank in (0, 1)]
    count = sum(value.numel() for value in states[0]["model"].values())
    assert sum(held) < 1.1 * count and max(held) < 0.7 * count
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["val_dice"] >= 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_fp16_is_not_sharded(recipe):
    with pytest.raises(InputError, match="sharded: fp16"):
        load_recipe(recipe, ["sharded=True", "precision=fp16"])
