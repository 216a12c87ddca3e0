"""Training of the MONAI U-Nets that the evaluation compares with: same cases, same budget, simple augmentation.

A batch is a pure function of (seed, step); the weights at the start are drawn from the seed too, so that on one machine
with one number of CPU threads the same call gives the same weights, stopped and resumed or not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samed2 import __version__
from samed2.data.cases import Case, tasks_of
from samed2.errors import InputError
from samed2.evaluate.models.unet_config import build_unet, has_unet, make_config, read_config, save_unet
from samed2.io.atomic import make_folder
from samed2.predict.device import autocast, resolve_device, resolve_precision
from samed2.train.checkpoint import read_state, write_state
from samed2.train.interrupt import Interrupt
from samed2.train.unet_slides import SlideIndex, draw_batch, read_slides

Progress = Callable[[int, float], None]  # step, training loss
DECIMALS = 5
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class UNetPlan:
    """How a U-Net is trained.

    Attributes:
        steps, batch: the budget; a row is one frame.
        size: side of the square input in pixels.
        network, width: see `UNetConfig`.
        learning_rate: of AdamW, at its highest; warmed up over 5 % of the steps, then to zero along a cosine.
        weight_decay: of AdamW.
        frames_per_case: at most so many frames of a volume or video with an object on them, evenly spread, and a
            quarter as many without.
        absent: share of rows drawn among all frames of the task's cases instead of those that show it.
        augment: turn, scale, mirror, and change of brightness and texture.
        validate_every: steps between two looks at the validation cases; the best weights are kept.
    """

    steps: int = 2000
    batch: int = 16
    size: int = 256
    network: str = "basic"
    width: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    frames_per_case: int = 16
    absent: float = 0.15
    augment: bool = True
    validate_every: int = 250

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "frames_per_case", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted at least 1")


def train_unet(
    cases_train: Sequence[Case],
    cases_val: Sequence[Case],
    out: str | Path,
    task: str | None = None,
    *,
    steps: int = 2000,
    size: int = 256,
    seed: int = 0,
    device: str | None = "auto",
    progress: Progress | None = None,
    resume: bool = False,
    **settings: float | str | bool,
) -> Path:
    """Train a U-Net and write it to a folder that `load_model("unet:FOLDER")` reads; return the folder.

    At every validation, on Ctrl-C and on SIGTERM a checkpoint is written; it goes when the training is done.

    Args:
        cases_val: where the best weights are chosen; with none the last are kept.
        task: "DATASET/OBJECT" for a specialist; None for a generalist on all tasks of the training cases.
        resume: go on from the checkpoint in `out`, where there is one; a network that is finished is left as it is.
        settings: further fields of `UNetPlan`.

    Raises:
        InputError: no case shows the task, a case cannot be loaded, an unknown setting, `out` cannot be written, or it
            holds a checkpoint (with `resume`: one, or a finished network, of something else).
        KeyboardInterrupt: it was stopped; the checkpoint is there.
    """
    unknown = sorted(set(settings) - set(UNetPlan.__dataclass_fields__))
    if unknown:
        raise InputError(f"setting {unknown[0]!r} is unknown; there are {', '.join(UNetPlan.__dataclass_fields__)}")
    plan = UNetPlan(steps=steps, size=size, **settings)  # type: ignore[arg-type]
    tasks = _tasks(cases_train, task)
    config = make_config(network=plan.network, width=plan.width, size=plan.size, tasks=tasks)
    path = Path(out) / CHECKPOINT
    if path.is_file() and not resume:
        raise InputError(f"{out}: holds a training that was stopped; go on with --resume, or choose another --out")
    about = {"plan": asdict(plan), "seed": seed, "tasks": list(tasks), "cases": _digest(cases_train, cases_val)}
    if resume and is_finished(out):
        if read_config(out).training.get("about") != about:
            raise InputError(f"{out}: holds a network of other data or settings; choose another --out")
        return Path(out)
    run = Run(build_unet(config, seed), plan, device)
    standing = run.restore(path, about) if path.is_file() else Standing()
    index = SlideIndex(read_slides(cases_train, tasks, plan.size, plan.frames_per_case), tasks)
    held_out = read_slides(cases_val, tasks, plan.size, plan.frames_per_case)
    with Interrupt() as interrupt:
        while standing.step < plan.steps:
            loss = run.step(
                standing.step, *draw_batch(index, standing.step, plan.batch, seed, plan.augment, plan.absent)
            )
            standing.step += 1
            if progress is not None:
                progress(standing.step, loss)
            pause = standing.step == plan.steps or standing.step % plan.validate_every == 0
            if held_out and pause:
                standing.judge(run, validation_dice(run, held_out, tasks), loss)
            if pause or interrupt.asked:
                run.keep(path, standing, about)
            if interrupt.asked:
                raise KeyboardInterrupt
    if standing.kept:
        run.network.load_state_dict(standing.kept)
    training = {
        "version": __version__,
        "about": about,
        "cases": {"train": len(cases_train), "val": len(cases_val)},
        "kept_step": standing.best_step or plan.steps,
        "validation": standing.history,
    }
    folder = save_unet(run.network, config.model_copy(update={"training": training}), out)
    path.unlink(missing_ok=True)
    return folder


def is_finished(out: str | Path) -> bool:
    """Whether a training that writes to this folder was carried to its end."""
    return has_unet(out) and not (Path(out) / CHECKPOINT).exists()


@dataclass
class Standing:
    """How far a training is: steps done, validations, and the best weights with their score and step."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)

    def judge(self, run: Run, scores: Mapping[str, float], loss: float) -> None:
        """Note a validation, Dice by task, and keep the weights where it is the best one."""
        macro = float(np.mean(list(scores.values()))) if scores else 0.0
        self.history.append({"step": self.step, "macro_dice": round(macro, DECIMALS), "loss": round(loss, DECIMALS)})
        if macro > self.best:
            self.best, self.best_step = macro, self.step
            self.kept = {name: value.detach().cpu().clone() for name, value in run.network.state_dict().items()}


class Run:
    """A network in training, with its optimiser; loss = MONAI's Dice and cross-entropy on the labelled channels."""

    def __init__(self, network: torch.nn.Module, plan: UNetPlan, device: str | None) -> None:
        from monai.losses import DiceCELoss

        self.device = resolve_device(device)
        self.dtype = resolve_precision("auto", self.device)
        self.network = network.to(self.device)
        self.loss = DiceCELoss(sigmoid=True)
        self.optimizer = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        warm = max(1, plan.steps // 20)

        def rate(step: int) -> float:
            rest = max(0.0, (step - warm) / max(1, plan.steps - warm))
            return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * rest)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def step(self, number: int, pixels: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> float:
        """One step on pixels (B, 3, S, S), target (B, C, S, S) in {0, 1} and known (B, C) bool; the loss before it.

        Raises:
            InputError: the loss is no longer a number.
        """
        self.network.train()
        with autocast(self.device, self.dtype):
            logits = self.network(pixels.to(self.device))
        picked = known.to(self.device)
        # each labelled channel counts as an image of its own: what a data set does not label teaches nothing
        loss = self.loss(logits.float()[picked][:, None], target.to(self.device)[picked][:, None])
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(f"U-Net training: the loss is {value} at step {number + 1}; lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return value

    def keep(self, path: Path, standing: Standing, about: dict[str, Any]) -> None:
        """Write a checkpoint; `about` tells what it is of.

        Raises:
            InputError: it cannot be written; an older one stays.
        """
        make_folder(path.parent)
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        write_state({**vars(standing), **parts, "about": json.dumps(about)}, path)

    def restore(self, path: Path, about: dict[str, Any]) -> Standing:
        """Take over a checkpoint.

        Raises:
            InputError: it cannot be read, or is of something else.
        """
        state = read_state(path, self.device)
        if state.get("about") != json.dumps(about):
            raise InputError(f"{path}: is of other data or settings; choose another --out, or remove it")
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        return Standing(**{name: state[name] for name in Standing.__dataclass_fields__})

    @property
    def _parts(self) -> dict[str, Any]:
        return {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}

    @torch.inference_mode()
    def masks(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to (B, C, S, S) bool."""
        self.network.eval()
        with autocast(self.device, self.dtype):
            return self.network(pixels.to(self.device)).cpu() > 0


def validation_dice(run: Run, slides: Sequence, tasks: Sequence[str]) -> dict[str, float]:
    """Mean Dice by task over the frames that show it, at the network's resolution."""
    found: dict[str, list[float]] = {task: [] for task in tasks}
    for slide in slides:
        shown = [c for c, mask in slide.masks.items() if mask.any()]
        if not shown:
            continue
        masks = run.masks(slide.pixels()[None])[0].numpy()
        for channel in shown:
            truth, guess = slide.masks[channel], masks[channel]
            dice = 2 * np.count_nonzero(truth & guess) / (np.count_nonzero(truth) + np.count_nonzero(guess))
            found[tasks[channel]].append(dice)
    return {task: float(np.mean(values)) for task, values in found.items() if values}


def _tasks(cases: Sequence[Case], task: str | None) -> tuple[str, ...]:
    known = tasks_of(cases)
    if not known:
        raise InputError("U-Net training: got no training case with an object, wanted at least one")
    if task is not None and task not in known:
        raise InputError(f"task: got {task!r}, the training cases have {', '.join(known)}")
    return (task,) if task is not None else tuple(known)


def _digest(*splits: Sequence[Case]) -> str:
    words = [[f"{case.label}/{name}" for case in cases for name in case.objects] for cases in splits]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
