"""The trainer: a plain loop over steps that can be killed at any moment and goes on exactly where it was."""

from __future__ import annotations

import ctypes
import inspect
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, track

from samed2.data import open_cases
from samed2.data.cases import LoadedCase
from samed2.data.samples import PROMPTS, Batch, BatchPlan, TaskIndex, draw_batch
from samed2.errors import InputError
from samed2.io.atomic import atomic_path
from samed2.nn import PromptTensors, SAMed2Config, SAMed2Model, weights
from samed2.nn.builders import micro_config, nano_config, small_config
from samed2.nn.init import init_from_scratch
from samed2.train.losses import mask_iou
from samed2.train.optim import MovingAverage, build_optimizers, learning_rate
from samed2.train.recipe import Recipe, load_recipe
from samed2.train.steps import normalise, step_loss

CHECKPOINT = "checkpoint.pt"
PRESETS = {"nano": nano_config, "micro": micro_config}


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
        self._prepare_folder(resume)
        data = recipe.data
        items = load_cases(data.root, data.splits, self.console)
        self.index = TaskIndex(items, data.balance, data.weights)
        self.val = TaskIndex(load_cases(data.root, data.val_splits, self.console)) if data.val_splits else None

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
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss, figures = step_loss(self.model, batch, recipe.loss, rng)
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
        kind = ("memory+" if batch.memory else "") + batch.prompt
        return {"loss": float(loss.detach()), "norm": float(norm), f"iou/{kind}": figures["iou"], "lr": rate}

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
        if self.val is not None and (step % recipe.validate_every == 0 or last):
            self.log({"step": step, **self.validate()})
        if step % recipe.checkpoint_every == 0 or last:
            self.save_checkpoint()

    def _batches(self, start: int) -> Iterator[Batch]:
        source = BatchSource(self.index, self.recipe, start)
        loader = torch.utils.data.DataLoader(
            source,
            batch_size=None,
            num_workers=self.recipe.data.workers,
            prefetch_factor=4 if self.recipe.data.workers else None,
        )
        yield from loader

    @torch.inference_mode()
    def validate(self, limit: int = 6) -> dict[str, float]:
        """Dice of the averaged weights inside fixed views of `val`, one jittered box each, mean over tasks."""
        assert self.val is not None
        current = {n: v.clone() for n, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.values)
        self.model.eval()
        stage, _ = self.recipe.stage_at(self.state.step - 1)
        scores = validate_boxes(self.model, self.val, stage.image_size, limit, self.recipe.precision)
        self.model.load_state_dict(current)
        return {"val_dice": round(float(np.mean(list(scores.values()))), 5)} | {
            f"val/{name}": round(value, 4) for name, value in scores.items()
        }

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        with open(self.recipe.out / "log.jsonl", "a") as handle:
            handle.write(json.dumps(row) + "\n")

    def save_checkpoint(self) -> None:
        """Everything needed to go on, written atomically."""
        state = {
            "step": self.state.step,
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


class BatchSource(torch.utils.data.IterableDataset):
    """Batches from a step to the recipe's end; worker w of n takes every n-th, so the order never changes."""

    def __init__(self, index: TaskIndex, recipe: Recipe, start: int) -> None:
        self.index, self.recipe, self.start = index, recipe, start

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        first, every = (info.id, info.num_workers) if info else (0, 1)
        for step in range(self.start + first, self.recipe.steps, every):
            stage, _ = self.recipe.stage_at(step)
            total = sum(stage.prompts.values())
            plan = BatchPlan(
                image_size=stage.image_size,
                rows=stage.rows,
                frames=stage.frames,
                clips=stage.clips,
                memory=stage.memory,
                prompts=tuple(stage.prompts.get(p, 0.0) / total for p in PROMPTS),
                margin=stage.margin,
            )
            yield draw_batch(self.index, plan, self.recipe.seed, step)


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: giving every activation back to the system costs most of a CPU step."""
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # names in glibc's malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(top_pad, 2**27)
        libc.mallopt(arena_max, 1)
    except (OSError, AttributeError):
        pass  # another C library; only speed is lost


def build_model(recipe: Recipe) -> SAMed2Model:
    """The model a recipe starts from."""
    if recipe.model.init is not None:
        return weights.load(recipe.model.init)
    if recipe.model.preset is None:
        raise InputError("model: wanted a preset or init, got neither")
    known = {*inspect.signature(small_config).parameters, *SAMed2Config.__dataclass_fields__} - {"settings"}
    if unknown := sorted(set(recipe.model.settings) - known):
        raise InputError(f"model.settings.{unknown[0]}: is unknown; wanted fields such as adapter_dim, image_size")
    try:
        config = PRESETS[recipe.model.preset](**recipe.model.settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"model.settings: {error}") from error
    # plain matrix products: the fused CPU attention is several times slower in the backward pass
    model = SAMed2Model._from_config(config, attn_implementation="eager")
    init_from_scratch(model, recipe.seed)
    return model


def load_cases(root: Path, splits: list[str], console: Console) -> list[LoadedCase]:
    """Read all cases of some splits, with a progress bar."""
    cases = open_cases(root, splits)
    label = f"read {', '.join(splits)}"
    return [case.load().in_memory() for case in track(cases, label, console=console, disable=not console.is_terminal)]


def validate_boxes(model: SAMed2Model, index: TaskIndex, size: int, limit: int, precision: str) -> dict[str, float]:
    """Mean Dice by task of one jittered box per part, inside fixed views, `limit` parts of each task."""
    plan = BatchPlan(image_size=size, rows=limit, clips=0.0, prompts=(1, 0, 0, 0, 0), margin=(1.5, 1.5), augment=False)
    scores = {}
    chance = index.chance
    for number, name in enumerate(index.names):
        index.chance = np.eye(len(index.names))[number]
        batch = draw_batch(index, plan, 0, number)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            features = model.encode(normalise(model, batch.pixels))
            features = features._replace(low=model.condition(features.low))
            logits = model.candidates(features, PromptTensors(boxes=batch.boxes)).logits[:, :1].float()
        logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        iou = mask_iou(logits, batch.target)
        scores[name] = float((2 * iou / (1 + iou)).mean())
    index.chance = chance
    return scores
