"""The trainer: a plain loop over steps that can be killed at any moment and goes on exactly where it was."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from samed2 import __version__
from samed2.allocation import keep_freed_memory
from samed2.data.outline import outline_chances
from samed2.data.samples import Batch
from samed2.data.sampling import Sampler
from samed2.data.stream import ClipStream, clip_loader
from samed2.errors import InputError
from samed2.io.atomic import atomic_path, atomic_write, make_folder
from samed2.nn import weights
from samed2.train.checkpoint import read_state, write_state
from samed2.train.interrupt import Interrupt, ignore_interrupts
from samed2.train.optim import MovingAverage, build_optimizers, learning_rate
from samed2.train.parts import choose_parts, merge_lora, recompute
from samed2.train.processes import Processes
from samed2.train.recipe import CHECKPOINT, Recipe, StageRecipe, load_recipe
from samed2.train.sharding import spread, spread_optimizer, whole
from samed2.train.start import bar, build_model, read_table, source_stamp, table_hash
from samed2.train.validation import Validation

BEST = "best.pt"


def run(recipe_path: Path, overrides: list[str] | None = None, resume: bool = False, out: Path | None = None) -> Path:
    """Train by a recipe and save the averaged weights.

    Writes into the out folder: `recipe.json` (resolved), `log.jsonl`, `checkpoint.pt`, and at the end `model/`.

    Returns:
        the folder of the saved model.

    Raises:
        InputError: a wrong recipe or data, an out folder with another run in it, a loss that is not finite, too little
            memory or disk; the last checkpoint stays.
    """
    recipe = load_recipe(recipe_path, overrides)
    if out is not None:
        recipe = recipe.model_copy(update={"out": Path(out)})
    return Trainer(recipe, resume).train()


@dataclass
class State:
    """How far a run is: steps, seconds of stepping and of waiting for data, and how validation went."""

    step: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    best: float = -1.0
    best_step: int = 0
    worse: int = 0


class Trainer:
    """Holds the model, its optimizer and where training stands."""

    def __init__(self, recipe: Recipe, resume: bool = False) -> None:
        self.recipe = recipe
        self.console = Console(stderr=True)
        self.state = State()
        self.processes = Processes(recipe.device, recipe.precision, recipe.sharded)
        keep_freed_memory()
        torch.manual_seed(recipe.seed)
        self.model = build_model(recipe)
        choose_parts(self.model, recipe.model.train)
        self.averaged = copy.deepcopy(self.model).to(self.processes.device).eval() if self.processes.first else None
        if recipe.optimizer.recompute:
            recompute(self.model)
        self.module = self.processes.wrap(self.model, recipe.loss)
        self.optimizers = build_optimizers(self.model, recipe.optimizer)
        self.average = MovingAverage(self.model, recipe.optimizer.ema)
        data = recipe.data
        self.stamp = source_stamp(data.root)
        table = read_table(data.root, data.splits, self.console, data.noise)
        self.data_hash = table_hash(table)
        chances = outline_chances(table, data.outline, bar("look at outlines", self.console)) if data.outline else None
        self.sampler = Sampler(table, seed=recipe.seed, power=data.balance, weights=data.weights, chances=chances)
        held_out = read_table(data.root, data.val_splits, self.console) if data.val_splits else None
        self._prepare_folder(resume)
        judged = held_out is not None and self.processes.first
        self.validation = Validation(held_out, recipe.stages[-1].image_size) if judged and held_out else None

    def train(self) -> Path:
        """Run all steps that are left; a checkpoint is written on the way and on Ctrl-C."""
        recipe, state = self.recipe, self.state
        figures: list[dict[str, float]] = []
        quiet = not (self.console.is_terminal and self.processes.first)
        with Progress(console=self.console, disable=quiet) as progress, Interrupt() as interrupt:
            task = progress.add_task("train", total=recipe.steps, completed=state.step)
            batches = self._batches(state.step)
            while state.step < recipe.steps and not self._gave_up():
                started = time.perf_counter()
                group = [next(batches) for _ in range(recipe.optimizer.accumulate)]
                ready = time.perf_counter()
                figures.append(self._step(*group))
                state.waited += ready - started
                state.seconds += time.perf_counter() - started
                state.step += 1
                progress.update(task, completed=state.step, description=f"loss {figures[-1]['loss']:.3f}")
                self._routine(figures)
                if interrupt.asked:
                    self.save_checkpoint()
                    self.console.print(f"stopped at step {state.step}; go on with --resume")
                    raise KeyboardInterrupt
        return self.save_model()

    def _step(self, *batches: Batch) -> dict[str, float]:
        """One step of the optimizers from one or more batches; figures to log."""
        recipe, state, processes = self.recipe, self.state, self.processes
        stage, _ = recipe.stage_at(state.step)
        rate = learning_rate(recipe, state.step)
        self.module.train()
        found: list[dict[str, float]] = []
        try:
            for number, batch in enumerate(batches):
                # from the step alone, so that resuming is exact; the first is that of a run without accumulation
                torch.manual_seed(recipe.seed * 1_000_003 + state.step + 7_919 * (processes.rank + 101 * number))
                rng = np.random.default_rng([recipe.seed, state.step, 1 + processes.rank, number])
                with processes.apart(self.module, number + 1 == len(batches)):
                    with processes.autocast():
                        loss, figures = self.module(batch.to(processes.device), stage, rng, state.step)
                    value = float(loss.detach())
                    if not np.isfinite(value):
                        raise InputError(f"step {state.step}: the loss is {value}; lower stages.lr or check the data")
                    processes.scaler.scale(loss / len(batches)).backward()
                named = {f"{name}/{batch.episode}/{batch.prompt}": v for name, v in figures.items()}
                found.append({"loss": value, f"loss/{batch.episode}": value, **named})
            norm = self._update(rate)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if "memory" not in str(error):
                raise
            raise InputError(
                f"step {state.step}: out of memory with {stage.rows} rows of {stage.image_size} px; lower stages.rows "
                "and stages.stream_rows (optimizer.accumulate makes up for it) or set optimizer.recompute=True"
            ) from error
        names = {name for row in found for name in row}
        return {n: mean([row[n] for row in found if n in row]) for n in names} | {"norm": norm, "lr": rate}

    def _update(self, rate: float) -> float:
        """Move the weights along the gradients at hand; the gradients' norm before it is clipped."""
        scaler = self.processes.scaler
        for optimizer in self.optimizers:
            scaler.unscale_(optimizer)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
        self.processes.settle(self.module)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.clip)
        for optimizer in self.optimizers:
            scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        scaler.update()
        self.average.update(self.model, self.state.step)
        return float(whole(norm))

    def _routine(self, figures: list[dict[str, float]]) -> None:
        """Log, validate and write a checkpoint where a step calls for it."""
        recipe, state = self.recipe, self.state
        step = state.step
        if step % recipe.log_every == 0:
            names = sorted({name for row in figures for name in row})
            means = {n: round(mean([row[n] for row in figures if n in row]), 5) for n in names}
            times = {"seconds": round(state.seconds, 1), "waited": round(state.waited, 1)}
            self.log({"step": step, **times, **means})
            figures.clear()
        last = step == recipe.steps
        if recipe.data.val_splits and (step % recipe.validate_every == 0 or last):
            self._judge(self.validate())
        if step % recipe.checkpoint_every == 0 or last or self._gave_up():
            self.save_checkpoint()

    def _judge(self, scores: dict[str, float]) -> None:
        """Log a validation, and note and keep the best weights where the recipe asks for them."""
        state = self.state
        self.log({"step": state.step, **scores})
        better = scores["val_dice"] > state.best
        state.worse = 0 if better else state.worse + 1
        if better:
            state.best, state.best_step = scores["val_dice"], state.step
            if self.recipe.patience:
                self._keep(BEST, {"step": state.step, "average": self.average.values})

    def _gave_up(self) -> bool:
        return 0 < self.recipe.patience <= self.state.worse

    def _batches(self, start: int) -> Iterator[Batch]:
        """Batches from a step on, forever made from their number alone."""
        recipe, processes = self.recipe, self.processes
        each = recipe.optimizer.accumulate
        share = {"rank": processes.rank, "world": processes.world}
        stream = ClipStream(self.sampler, StagePlan(recipe), recipe.steps * each, start=start * each, **share)
        try:
            yield from clip_loader(stream, recipe.data.workers, start=ignore_interrupts)
        except InputError as error:  # with workers it comes with the worker's own report around it
            raise InputError(str(error).strip().rpartition("InputError: ")[2]) from error
        except RuntimeError as error:
            if "worker" not in str(error):
                raise
            raise InputError(f"a process that makes batches ended ({error}); lower data.workers or rows") from error

    def validate(self) -> dict[str, float]:
        """Scores of the averaged weights on `val`, in all processes."""
        average, scores = whole(self.average.values), {}
        if self.averaged is not None and self.validation is not None:
            self.averaged.load_state_dict(average)
            with self.processes.autocast():
                scores = self.validation.score(self.averaged)
        agreed: dict[str, float] = self.processes.agree(scores)
        return agreed

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to log.jsonl.

        Raises:
            InputError: it cannot be written.
        """
        if not self.processes.first:
            return
        try:
            with open(self.recipe.out / "log.jsonl", "a") as handle:
                handle.write(json.dumps(row) + "\n")
        except OSError as error:
            raise InputError(f"{self.recipe.out}: the log cannot be written ({error.strerror or error})") from error

    def save_checkpoint(self) -> None:
        """Everything needed to go on, written atomically.

        Raises:
            InputError: the data changed since the start, or there is no room; the last checkpoint stays.
        """
        if source_stamp(self.recipe.data.root) != self.stamp:
            raise InputError(
                f"{self.recipe.data.root}: was changed while it was trained on; step {self.state.step} is not kept, "
                f"{self.recipe.out / CHECKPOINT} is of before"
            )
        state = {
            **asdict(self.state),
            "data": self.data_hash,
            "model": self.model.state_dict(),
            "average": self.average.values,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.processes.scaler.state_dict(),
        }
        self._keep(CHECKPOINT, state)

    def _keep(self, name: str, state: dict[str, Any]) -> None:
        state = whole(state)
        if self.processes.first:
            write_state(state, self.recipe.out / name)

    def load_checkpoint(self, path: Path) -> None:
        """Take over the state of a checkpoint of the same recipe and data."""
        state = read_state(path, self.processes.device)
        if state["data"] != self.data_hash:
            raise InputError(
                f"{self.recipe.data.root}: was changed since {path} was written; start anew with another --out"
            )
        try:
            spread_out = self.model.state_dict()
            self.model.load_state_dict({n: spread(v, spread_out.get(n, v)) for n, v in state["model"].items()})
            for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(spread_optimizer(values, optimizer))
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"{path}: is of another recipe ({str(error).splitlines()[0]})") from error
        self.average.values = {n: spread(v, self.average.values[n]) for n, v in state["average"].items()}
        self.processes.scaler.load_state_dict(state.get("scaler", {}))
        self.state = State(**{name: state[name] for name in State.__dataclass_fields__ if name in state})

    def save_model(self) -> Path:
        """The averaged weights as fp16 safetensors with configuration and recipe, with `patience` the best ones."""
        target = self.recipe.out / "model"
        chosen = {"step": self.state.step, "average": whole(self.average.values)}
        if self.averaged is None:
            return target
        best = self.recipe.out / BEST
        if self.recipe.patience and best.is_file():
            chosen = read_state(best, self.processes.device)
        self.averaged.load_state_dict(chosen["average"])
        merge_lora(self.averaged)
        weights.save(self.averaged, target, torch.float16)
        facts = {"version": __version__, "step": chosen["step"], "data": self.data_hash}
        with atomic_path(target / "recipe.json") as path:
            Path(path).write_text(json.dumps({**facts, "recipe": self.recipe.model_dump(mode="json")}, indent=1))
        return target

    def _prepare_folder(self, resume: bool) -> None:
        out = self.recipe.out
        checkpoint = out / CHECKPOINT
        if checkpoint.exists() and not resume:
            raise InputError(f"{out}: holds another run; use --resume to go on with it, or another --out")
        if self.processes.first:
            make_folder(out)
            atomic_write(out / "recipe.json", self.recipe.model_dump_json(indent=1))
        if checkpoint.exists():
            self.load_checkpoint(checkpoint)


@dataclass(frozen=True)
class StagePlan:
    """The plan of a batch by its number; travels to other processes."""

    recipe: Recipe

    def __call__(self, batch: int) -> StageRecipe:
        return self.recipe.stage_at(batch // self.recipe.optimizer.accumulate)[0]


def mean(values: list[float]) -> float:
    """Of numbers, at least one."""
    return float(np.mean(values))
