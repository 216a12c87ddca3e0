"""A network that learns stage after stage by one method, and all that the method keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from samed2.memory import SelectiveMemory
from samed2.nn import Features, SAMed2Model
from samed2.nn.model import STRIDE
from samed2.predict.device import autocast
from samed2.train.continual.episodes import Draw, Episode, Shot, by_task, draw_episode, plain_episode, spread
from samed2.train.continual.fit import Tell, Way, encode, encode_entries, fit
from samed2.train.continual.methods import Method
from samed2.train.continual.penalties import Ewc, Lwf, Penalty
from samed2.train.continual.recipe import ContinualRecipe

TRAIN, REPLAY, FISHER = 1, 2, 3  # first word of the seed of what is drawn
ROWS = 16  # scored at once


class Learner:
    """One method at work.

    Args:
        model: as the base training left it; changed in place.
        shots: training frames by stage.
        way: its seed is that of the sequence.
    """

    def __init__(
        self,
        model: SAMed2Model,
        method: Method,
        recipe: ContinualRecipe,
        shots: Mapping[str, Sequence[Shot]],
        way: Way,
    ) -> None:
        self.model, self.method, self.recipe, self.shots, self.way = model, method, recipe, shots, way
        self.seen: list[str] = []
        self.penalty = {"none": Penalty(), "ewc": Ewc(recipe.ewc, recipe.fisher, way), "lwf": Lwf(recipe.lwf, way)}[
            method.penalty
        ]
        self.sets: dict[str, dict[str, torch.Tensor]] = {}
        for name, parameter in model.named_parameters():
            own = ".adapter." in name or name.startswith("mask_decoder.")
            parameter.requires_grad_(method.trains == "all" or (method.trains == "adapters" and own))
        self._base = self._trained()
        self.bank = self._empty_bank() if method.remembers else None

    def learn(self, stage: str, steps: int, tell: Tell) -> None:
        """Train on a stage, and keep of it what the method keeps."""
        number = len(self.seen)
        if self.method.per_task:
            self._load(self._base)
        if self.method.trains != "nothing":
            if number:
                self.penalty.before(self.model)
            way = Way(self.way.device, self.way.dtype, self.way.seed * 100 + number)
            extra = self.penalty.loss if self.method.penalty != "none" and number else None
            fit(self.model, self._draw(stage, number), steps, self.recipe.fit, way, extra, tell)
            self.penalty.after(self.model, self._plain_draw(stage, number))
        if self.method.per_task:
            self.sets[stage] = self._trained()
        self.seen.append(stage)
        self._remember(stage)

    @torch.inference_mode()
    def score(self, stage: str, shots: Sequence[Shot]) -> float:
        """Mean Dice of the frames of a stage's tasks, mean over tasks; one fixed prompt per frame."""
        if self.method.per_task:
            self._load(self.sets.get(stage, self._base))
        self.model.eval()
        means = []
        for task, found in by_task(shots).items():
            scores: list[float] = []
            for first in range(0, len(found), ROWS):
                key = (self.recipe.seed, first)
                episode = plain_episode(found[first : first + ROWS], self.recipe.prompt, key).to(self.way.device)
                scores += self._answers(episode, task)
            means.append(float(np.mean(scores)))
        return float(np.mean(means))

    def cost(self) -> dict[str, float]:
        """What is kept beyond one network: training images, and megabytes of everything."""
        kept = [shot for stage in self._kept_stages() for shot in self._kept(stage)]
        sets = sum(value.nbytes for part in self.sets.values() for value in part.values())
        bank = 0 if self.bank is None else self.bank.nbytes
        total = sets + bank + self.penalty.nbytes + sum(shot.nbytes for shot in kept)
        return {"images": float(len(kept)), "megabytes": total / 1e6}

    def save(self, folder: Path) -> dict[str, Any]:
        """Everything that later stages need, the bank in a file of the folder."""
        if self.bank is not None:
            self.bank.save(folder / f"bank-{len(self.seen)}.safetensors")
        return {
            "seen": self.seen,
            "model": self.model.state_dict(),
            "sets": self.sets,
            "penalty": self.penalty.state(),
        }

    def restore(self, state: Mapping[str, Any], folder: Path) -> None:
        """Take over what `save` gave and wrote."""
        self.model.load_state_dict(state["model"])
        self.seen, self.sets = list(state["seen"]), dict(state["sets"])
        self.penalty.restore(state["penalty"])
        if self.bank is not None:
            self.bank = SelectiveMemory.load(folder / f"bank-{len(self.seen)}.safetensors", in_memory=True)

    def _draw(self, stage: str, number: int) -> Draw:
        """Episodes of the stage, and of kept frames: some of them, or as many rows of each."""
        new = by_task(self.shots[stage])
        old = by_task([shot for earlier in self._kept_stages() for shot in self._kept(earlier)])
        recipe, seed = self.recipe, self.way.seed
        memories = recipe.memory.retrieved if self.method.remembers else 0
        share = recipe.replay

        def draw(step: int) -> Episode:
            if not old:
                sets = [new]
            elif share == "added":
                sets = [new, old]
            else:
                rehearses = np.random.default_rng([REPLAY, seed, number, step]).random() < share
                sets = [old if rehearses else new]
            return draw_episode(sets, recipe.fit.rows, recipe.prompt, memories, (TRAIN, seed, number, step))

        return draw

    def _plain_draw(self, stage: str, number: int) -> Draw:
        new = by_task(self.shots[stage])
        return lambda step: draw_episode([new], 2, self.recipe.prompt, 0, (FISHER, self.way.seed, number, step))

    def _kept_stages(self) -> list[str]:
        return self.seen if self.method.rehearses else []

    def _kept(self, stage: str) -> list[Shot]:
        """The frames of a stage that are kept to rehearse: `kept`, shared by its tasks."""
        return _spread_tasks(self.shots[stage], self.recipe.kept)

    def _remember(self, stage: str) -> None:
        """Enter a stage into the bank; where frames are kept, all entries are made anew by the present weights."""
        if self.bank is None or (self.method.bank == "frozen" and len(self.seen) > 1):
            return
        if self.method.rehearses:
            self.bank = self._empty_bank()
        for name in self.seen if self.method.rehearses else [stage]:
            self._enter(name)

    @torch.inference_mode()
    def _enter(self, stage: str) -> None:
        assert self.bank is not None
        for task, shots in by_task(_spread_tasks(self.shots[stage], self.recipe.memory.per_task)).items():
            episode = plain_episode(shots, "none", (0,)).to(self.way.device)
            with autocast(self.way.device, self.way.dtype):
                low = encode(self.model, episode.pixels).low
                features = encode_entries(self.model, low, episode.whole)
            sure = [1.0] * len(shots)  # the masks are true
            self.bank.add(low.float(), features.float(), sure, task=task, origin=stage)

    def _answers(self, episode: Episode, task: str) -> list[float]:
        """Dice of each row."""
        settings = self.recipe.memory
        with autocast(self.way.device, self.way.dtype):
            features = encode(self.model, episode.pixels)
            memory = None
            if self.bank is not None and len(self.bank):
                wanted = task if settings.task_known else None
                memory = self.bank.retrieve(features.low.float(), settings.retrieved, task=wanted).features
            given = [memory]
            if memory is not None and settings.answer == "both" and self.recipe.prompt != "none":
                given.append(None)
            logits = torch.stack([self._logits(features, one, episode) for one in given]).mean(0)
        size = episode.target.shape[-1]
        guess = F.interpolate(logits, size=size, mode="bilinear", align_corners=False) > 0
        truth = episode.target > 0.5
        both, sizes = (guess & truth).sum((1, 2, 3)), guess.sum((1, 2, 3)) + truth.sum((1, 2, 3))
        return (2 * both / sizes).tolist()

    def _logits(self, features: Features, memory: torch.Tensor | None, episode: Episode) -> torch.Tensor:
        """(N, 1, h, w) of the single mask."""
        conditioned = features._replace(low=self.model.condition(features.low, memory))
        return self.model.candidates(conditioned, episode.prompts).logits[:, :1].float()

    def _empty_bank(self) -> SelectiveMemory:
        side = int(self.model.config.image_size) // STRIDE
        settings = self.recipe.memory
        return SelectiveMemory(
            settings.capacity, (self.model.mem_dim, side, side), policy=settings.policy, seed=self.recipe.seed
        )

    def _trained(self) -> dict[str, torch.Tensor]:
        """A copy of what trains, where each task has its own."""
        if not self.method.per_task:
            return {}
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def _load(self, values: Mapping[str, torch.Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        for name, value in values.items():
            parameters[name].copy_(value)


def _spread_tasks(shots: Sequence[Shot], count: int) -> list[Shot]:
    """`count` shots (or all), the tasks sharing them, evenly spread over each task's."""
    tasks = by_task(shots)
    each = max(1, count // len(tasks))
    return [shot for found in tasks.values() for shot in spread(found, each)]
