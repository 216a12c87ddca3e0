"""The trainer: a plain loop over steps that can be killed at any moment and goes on exactly where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from samed2.data.samples import Batch
from samed2.data.sampling import Sampler
from samed2.data.stream import ClipStream, clip_loader
from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.nn import weights
from samed2.train.optim import MovingAverage, build_optimizers, learning_rate
from samed2.train.recipe import Recipe, StageRecipe, load_recipe
from samed2.train.start import build_model, keep_freed_memory, read_table, table_hash
from samed2.train.steps import step_loss
from samed2.train.validation import Validation

CHECKPOINT = "checkpoint.pt"


def run(recipe_path: Path, overrides: list[str] | None = None, resume: bool = False, out: Path | None = None) -> Path:
    """Train by a recipe and save the averaged weights.

    Writes into the out folder: `recipe.json` (resolved), `log.jsonl`, `checkpoint.pt`, and at the end `model/`.

    Returns:
        the folder of the saved model.

    Raises:
        InputError: a wrong recipe or data, an out folder with another run in it, or a loss that is not finite.
    """
    recipe = load_recipe(recipe_path, overrides)
    if out is not None:
        recipe = recipe.model_copy(update={"out": Path(out)})
    return Trainer(recipe, resume).train()


@dataclass
class State:
    """How far a run is, in steps and in seconds of stepping."""

    step: int = 0
    seconds: float = 0.0


class Trainer:
    """Holds the model, its optimizer and where training stands."""

    def __init__(self, recipe: Recipe, resume: bool = False) -> None:
        self.recipe = recipe
        self.console = Console(stderr=True)
        self.state = State()
        keep_freed_memory()
        torch.manual_seed(recipe.seed)
        self.model = build_model(recipe)
        self.optimizers = build_optimizers(self.model, recipe.optimizer)
        self.average = MovingAverage(self.model, recipe.optimizer.ema)
        data = recipe.data
        table = read_table(data.root, data.splits, self.console)
        self.data_hash = table_hash(table)
        self.sampler = Sampler(table, seed=recipe.seed, power=data.balance, weights=data.weights)
        held_out = read_table(data.root, data.val_splits, self.console) if data.val_splits else None
        self._prepare_folder(resume)
        self.validation = None if held_out is None else Validation(held_out, recipe.stages[-1].image_size)

    def train(self) -> Path:
        """Run all steps that are left; a checkpoint is written on the way and on Ctrl-C."""
        recipe, state = self.recipe, self.state
        figures: list[dict[str, float]] = []
        with Progress(console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task("train", total=recipe.steps, completed=state.step)
            try:
                for batch in self._batches(state.step):
                    started = time.perf_counter()
                    figures.append(self._step(batch))
                    state.seconds += time.perf_counter() - started
                    state.step += 1
                    progress.update(task, completed=state.step, description=f"loss {figures[-1]['loss']:.3f}")
                    self._routine(figures)
            except KeyboardInterrupt:
                self.save_checkpoint()
                self.console.print(f"stopped at step {state.step}; go on with --resume")
                raise
        return self.save_model()

    def _step(self, batch: Batch) -> dict[str, float]:
        recipe, state = self.recipe, self.state
        rate = learning_rate(recipe, state.step)
        self.model.train()
        torch.manual_seed(recipe.seed * 1_000_003 + state.step)  # dropout, so that resuming is exact
        rng = np.random.default_rng([recipe.seed, state.step, 1])
        stage, _ = recipe.stage_at(state.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss, figures = step_loss(self.model, batch, stage, recipe.loss, rng)
        if not torch.isfinite(loss):
            raise InputError(
                f"step {state.step}: the loss is {float(loss.detach())}; lower stages.lr or check the data"
            )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.optimizer.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model, state.step)
        kind = f"{batch.episode}/{batch.prompt}"
        named = {f"{name}/{kind}": value for name, value in figures.items()}
        return {
            "loss": float(loss.detach()),
            f"loss/{batch.episode}": float(loss.detach()),
            "norm": float(norm),
            "lr": rate,
        } | named

    def _routine(self, figures: list[dict[str, float]]) -> None:
        recipe, step = self.recipe, self.state.step
        if step % recipe.log_every == 0:
            names = {name for row in figures for name in row}
            means = {n: float(np.mean([row[n] for row in figures if n in row])) for n in sorted(names)}
            self.log(
                {
                    "step": step,
                    "seconds": round(self.state.seconds, 1),
                    **{n: round(v, 5) for n, v in means.items()},
                }
            )
            figures.clear()
        last = step == recipe.steps
        if self.validation is not None and (step % recipe.validate_every == 0 or last):
            self.log({"step": step, **self.validate()})
        if step % recipe.checkpoint_every == 0 or last:
            self.save_checkpoint()

    def _batches(self, start: int) -> Iterator[Batch]:
        recipe = self.recipe
        stream = ClipStream(self.sampler, StagePlan(recipe), recipe.steps, start=start)
        yield from clip_loader(stream, recipe.data.workers)

    def validate(self) -> dict[str, float]:
        """Scores of the averaged weights on `val`."""
        assert self.validation is not None
        current = {n: v.clone() for n, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.values)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            scores = self.validation.score(self.model)
        self.model.load_state_dict(current)
        return scores

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        with open(self.recipe.out / "log.jsonl", "a") as handle:
            handle.write(json.dumps(row) + "\n")

    def save_checkpoint(self) -> None:
        """Everything needed to go on, written atomically."""
        state = {
            "step": self.state.step,
            "data": self.data_hash,
            "seconds": self.state.seconds,
            "model": self.model.state_dict(),
            "average": self.average.values,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with atomic_path(self.recipe.out / CHECKPOINT) as path:
            torch.save(state, path)

    def load_checkpoint(self, path: Path) -> None:
        """Take over the state of a checkpoint of the same recipe."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise InputError(f"{path}: is not a usable checkpoint ({error})") from error
        if state["data"] != self.data_hash:
            raise InputError(
                f"{self.recipe.data.root}: was changed since {path} was written; start anew with another --out"
            )
        self.model.load_state_dict(state["model"])
        self.average.values = state["average"]
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.state = State(state["step"], state["seconds"])

    def save_model(self) -> Path:
        """The averaged weights as fp16 safetensors with their configuration."""
        self.model.load_state_dict(self.average.values)
        return weights.save(self.model, self.recipe.out / "model", torch.float16)

    def _prepare_folder(self, resume: bool) -> None:
        out = self.recipe.out
        checkpoint = out / CHECKPOINT
        if checkpoint.exists() and not resume:
            raise InputError(f"{out}: holds another run; use --resume to go on with it, or another --out")
        try:
            out.mkdir(parents=True, exist_ok=True)
            with atomic_path(out / "recipe.json") as path:
                Path(path).write_text(self.recipe.model_dump_json(indent=1))
        except OSError as error:
            raise InputError(f"{out}: cannot be written ({error.strerror or error})") from error
        if checkpoint.exists():
            self.load_checkpoint(checkpoint)


@dataclass(frozen=True)
class StagePlan:
    """The plan of a step by its recipe; travels to other processes."""

    recipe: Recipe

    def __call__(self, step: int) -> StageRecipe:
        return self.recipe.stage_at(step)[0]
