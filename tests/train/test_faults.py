"""What can go wrong in the middle of a run: killed, interrupted, no room, changed data; the last checkpoint stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.generated import make_folder, make_recipe

from samed2.errors import InputError
from samed2.nn.weights import load
from samed2.train.checkpoint import read_state
from samed2.train.recipe import CHECKPOINT, load_recipe
from samed2.train.trainer import BEST, Trainer, run

TEXT = """
precision: fp32
device: cpu
data: {{root: {root}, workers: 1, val_splits: []}}
model: {{preset: micro, settings: {{image_size: 64, width: 8, hidden: 32}}}}
stages:
  - {{steps: 6, image_size: 64, rows: 4, lr: 0.001, clips: 0.3, memory: 0.3, stream: 0.3, stream_rows: 2}}
log_every: 1
checkpoint_every: 2
"""
CALL = (
    "import sys; from pathlib import Path; from samed2.train.trainer import run; run(Path(sys.argv[1]), sys.argv[2:])"
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return make_recipe(tmp_path_factory.mktemp("faults-data"), TEXT, items=2)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(recipe, out=out)
    return out


def started(recipe: Path, *changes: str) -> subprocess.Popen:
    command = [sys.executable, "-c", CALL, str(recipe), *changes]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})


def lines(out: Path) -> dict[int, dict]:
    """The last line of every step, without times."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {row["step"]: {k: v for k, v in row.items() if k not in ("seconds", "waited")} for row in rows}


def wait_for(path: Path, process: subprocess.Popen, lines: int = 1) -> None:
    deadline = time.monotonic() + 90
    while not path.exists() or len(path.read_bytes().splitlines()) < lines:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=["kill", "ctrl-c", "term"])
def test_a_process_that_ends_early_goes_on_as_if_it_had_not(recipe, finished, tmp_path, kind):
    out = tmp_path / "run"
    process = started(recipe, f"out={out}")
    wait_for(out / "log.jsonl", process, lines=3)
    process.send_signal(kind)
    process.wait(60)
    said = process.stderr.read().decode()
    done = read_state(out / CHECKPOINT, torch.device("cpu"))["step"]
    if kind != signal.SIGKILL and process.returncode:
        assert "go on with --resume" in said and done == max(lines(out))
    run(recipe, out=out, resume=True)
    assert lines(out) == lines(finished)
    one, two = (load(folder / "model").state_dict() for folder in (out, finished))
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_a_full_disk_keeps_the_last_checkpoint(recipe, tmp_path, monkeypatch):
    trainer = Trainer(load_recipe(recipe, [f"out={tmp_path}", "data.workers=0"]))
    trainer.save_checkpoint()
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"is the disk full.*--resume"):
        trainer.train()
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_data_that_changes_in_mid_training_is_named(recipe, tmp_path):
    root = make_folder(tmp_path / "data", items=2)
    trainer = Trainer(load_recipe(recipe, [f"out={tmp_path / 'run'}", f"data.root={root}", "data.workers=0"]))
    trainer.save_checkpoint()
    with open(root / "items.csv", "a") as handle:
        handle.write("\n")
    with pytest.raises(InputError, match="changed while it was trained on"):
        trainer.train()
    assert read_state(tmp_path / "run" / CHECKPOINT, torch.device("cpu"))["step"] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_is_named(recipe, tmp_path, workers):
    root = make_folder(tmp_path / "data", items=2)
    trainer = Trainer(load_recipe(recipe, [f"out={tmp_path / 'run'}", f"data.root={root}", f"data.workers={workers}"]))
    for path in root.glob("*/images/*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"train\d\.png") as caught:
        trainer.train()
    assert "Traceback" not in str(caught.value)


def test_too_little_memory_is_named(recipe, tmp_path, monkeypatch):
    trainer = Trainer(load_recipe(recipe, [f"out={tmp_path}", "data.workers=0"]))

    def greedy(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.module, "forward", greedy)
    with pytest.raises(InputError, match=r"step 0: out of memory with 4 rows of 64 px"):
        trainer.train()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_learn(recipe, tmp_path, precision):
    plain = ["data.workers=0", "stages.0.memory=0", "stages.0.stream=0", "stages.0.clips=0", "stages.0.correction=0"]
    trainer = Trainer(load_recipe(recipe, [*plain, f"precision={precision}", f"out={tmp_path}"]))
    batch, losses = next(trainer._batches(0)), []
    for _ in range(20):
        losses.append(trainer._step(batch)["loss"])
        trainer.state.step += 1
    assert losses[-1] < losses[1]


def test_accumulated_batches_are_one_step(recipe, tmp_path):
    plain = [f"stages.0.{name}=0" for name in ("stream", "memory", "clips", "correction")]
    changes = [*plain, "stages.0.prompts={'box': 1}", "data.workers=0", "optimizer.accumulate=2", f"out={tmp_path}"]
    trainer = Trainer(load_recipe(recipe, changes))
    assert len(list(trainer._batches(5))) == 2  # of the last step
    batches, kept = list(trainer._batches(5)), []
    trainer._update = lambda rate: 0.0
    for group in (batches[:1], batches[1:], batches):
        trainer._step(*group)
        kept.append({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})
        trainer.model.zero_grad()
    for name, both in kept[2].items():
        torch.testing.assert_close(both, (kept[0][name] + kept[1][name]) / 2, atol=1e-5, rtol=1e-3)


def test_stopping_early_keeps_the_best(recipe, tmp_path, monkeypatch):
    changes = ["data.val_splits=['val']", "data.workers=0", "validate_every=1", "patience=2", f"out={tmp_path}"]
    trainer = Trainer(load_recipe(recipe, changes))
    scores = iter([0.3, 0.5, 0.4, 0.5, 0.9])
    monkeypatch.setattr(trainer, "validate", lambda: {"val_dice": next(scores)})
    trainer.train()
    assert trainer.state.step == 4 and (tmp_path / BEST).is_file()
    facts = json.loads((tmp_path / "model" / "recipe.json").read_text())
    assert facts["step"] == 2 and facts["recipe"]["patience"] == 2
