"""The trainer on a generated folder: it learns, resumes exactly, and says what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.generated import make_folder, make_recipe

from samed2.errors import InputError
from samed2.nn.weights import load, save
from samed2.train.recipe import CHECKPOINT, load_recipe
from samed2.train.trainer import Trainer, run

TEXT = """
precision: fp32
data: {{root: {root}, workers: 0, val_splits: [val]}}
model: {{preset: micro, settings: {{image_size: 64}}}}
stages:
  - {{steps: 4, image_size: 64, rows: 4, lr: 0.001, warmup: 2, clips: 0.5, memory: 0.3, stream: 0.4, stream_rows: 2}}
  - {{steps: 2, image_size: 96, rows: 2, lr: 0.001, lr_end: 0.0001}}
log_every: 1
checkpoint_every: 3
validate_every: 6
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return make_recipe(tmp_path_factory.mktemp("train-data"), TEXT, items=2)


def rows(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "waited")} for line in lines]


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    run(recipe, out=out)
    return out


def test_a_run_leaves_model_log_and_recipe(finished):
    assert {p.name for p in finished.iterdir()} == {"model", "log.jsonl", "recipe.json", CHECKPOINT}
    assert [row["step"] for row in rows(finished)] == [1, 2, 3, 4, 5, 6, 6]
    last = rows(finished)[-1]
    assert last["val_dice"] == pytest.approx((last["val/box"] + last["val/point"] + last["val/stream"]) / 3, abs=1e-4)
    model = load(finished / "model")
    assert model.config.image_size == 64 and next(model.parameters()).dtype == torch.float32


def test_a_stopped_run_goes_on_exactly(recipe, finished, tmp_path, monkeypatch):
    out = tmp_path / "run"

    class Killed(Exception):
        pass

    step = Trainer._step

    def killed(self, batch):
        if self.state.step == 4:
            raise Killed  # after the checkpoint of step 3
        return step(self, batch)

    monkeypatch.setattr(Trainer, "_step", killed)
    with pytest.raises(Killed):
        run(recipe, out=out)
    monkeypatch.setattr(Trainer, "_step", step)
    run(recipe, out=out, resume=True)
    whole, resumed = rows(finished), rows(out)
    assert resumed[4:] == whole[3:]  # step 4 was logged twice, before and after
    for name, value in load(finished / "model").state_dict().items():
        assert torch.equal(value, load(out / "model").state_dict()[name]), name


@pytest.mark.parametrize("episode", ["image", "stream", "memory"])
def test_the_loss_falls(recipe, tmp_path, episode):
    shares = [f"stages.0.{name}={float(name == episode)}" for name in ("stream", "memory")]
    plain = ["stages.0.clips=0", "stages.0.correction=0", "stages.0.steps=60", "stages.0.entries=2"]
    trainer = Trainer(load_recipe(recipe, [*shares, *plain, f"out={tmp_path}"]))
    fixed = next(iter(trainer._batches(0)))
    assert fixed.episode == episode
    losses = []
    for _ in range(40):
        losses.append(trainer._step(fixed)["loss"])
        trainer.state.step += 1
    assert sum(losses[-5:]) < 0.85 * sum(losses[2:7])


def test_every_optimizer_moves_the_weights(recipe, tmp_path):
    for name in ("adamw", "muon"):
        trainer = Trainer(load_recipe(recipe, [f"optimizer.name={name}", f"out={tmp_path / name}"]))
        before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
        trainer._step(next(iter(trainer._batches(0))))
        moved = [n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])]
        assert any("attn.qkv.weight" in n for n in moved) and any("mask_decoder" in n for n in moved)


def test_a_folder_with_a_run_is_not_overwritten(recipe, finished):
    with pytest.raises(InputError, match="--resume"):
        run(recipe, out=finished)


def test_a_broken_checkpoint_is_named(recipe, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=CHECKPOINT):
        run(recipe, out=tmp_path / "run", resume=True)


def test_data_that_changed_is_named(recipe, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    root = make_folder(tmp_path / "data", items=3)
    with pytest.raises(InputError, match="was changed since"):
        run(recipe, [f"data.root={root}"], out=tmp_path / "run", resume=True)


def test_weights_to_start_from_may_change_what_they_were_trained_for(recipe, finished, tmp_path):
    start = [f"model.init={finished / 'model'}", f"out={tmp_path}"]
    trainer = Trainer(load_recipe(recipe, [*start, "model.settings={'streaming': False}"]))
    assert not trainer.model.config.streaming
    for name, value in load(finished / "model").state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name])
    with pytest.raises(InputError, match=r"model\.settings\.adapter_dim"):
        Trainer(load_recipe(recipe, [*start, "model.settings={'adapter_dim': 4}"]))


def test_adapters_may_be_left_out_of_weights_to_start_from(recipe, finished, tmp_path):
    start = [f"model.init={finished / 'model'}", f"out={tmp_path}"]
    plain = Trainer(load_recipe(recipe, [*start, "model.settings={'adapter_dim': 0}"])).model.state_dict()
    given = load(finished / "model").state_dict()
    assert set(given) - set(plain) == {name for name in given if "adapter" in name} != set()
    assert all(torch.equal(given[name], value) for name, value in plain.items())


def test_training_may_start_from_the_mean_of_several_weights(recipe, finished, tmp_path):
    first = load(finished / "model")
    second = load(finished / "model")
    with torch.no_grad():
        for value in second.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    start = [f"out={tmp_path}", "model.settings={}", f"model.init={save(first, tmp_path / 'a')}"]
    average = f"model.average=['{save(second, tmp_path / 'b')}']"
    mean = Trainer(load_recipe(recipe, [*start, average])).model.state_dict()
    for name, value in first.state_dict().items():
        torch.testing.assert_close(mean[name], (value + second.state_dict()[name]) / 2, msg=name)
    with pytest.raises(InputError, match="nano has not the weights of"):
        Trainer(load_recipe(recipe, [*start, "model.average=['nano']"]))


def test_weights_without_adapters_leave_them_out_of_the_mean(recipe, finished, tmp_path):
    full = load(finished / "model").state_dict()
    out, without = f"out={tmp_path}", "model.settings={'adapter_dim': 0}"
    plain = Trainer(load_recipe(recipe, [out, without, f"model.init={finished / 'model'}"])).model
    with torch.no_grad():
        for value in plain.parameters():
            value.add_(1.0)
    adapted, bare = finished / "model", save(plain, tmp_path / "plain")
    start = [out, "model.settings={}", f"model.init={adapted}", f"model.average=['{bare}']"]
    mean, state = Trainer(load_recipe(recipe, start)).model.state_dict(), plain.state_dict()
    for name, value in full.items():
        torch.testing.assert_close(mean[name], (value + state[name]) / 2 if name in state else value, msg=name)
    turned = [out, "model.settings={}", f"model.init={bare}", f"model.average=['{adapted}']"]
    with pytest.raises(InputError, match="the same adapters or none"):
        Trainer(load_recipe(recipe, turned))


def test_a_loss_that_is_not_finite_stops_the_run(recipe, tmp_path):
    trainer = Trainer(load_recipe(recipe, [f"out={tmp_path}"]))
    with torch.no_grad():
        trainer.model.mask_decoder.iou_token.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="step 0: the loss is nan"):
        trainer.train()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.root=nowhere", "nowhere"),
        ("data.splits=['tests']", "tests"),
        ("model.settings={'colour': 1}", "colour"),
        ("model.init=no/such/model", "no/such/model"),
        ("model.average=['nano']", "average: wanted init too"),
        ("model={'init': 'nano', 'average': ['no/such/model']}", "no/such/model"),
        ("out=/proc/nothing", "/proc/nothing"),
    ],
)
def test_what_cannot_be_trained_is_named(recipe, tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        Trainer(load_recipe(recipe, [f"out={tmp_path}", change]))
