"""What EWC and LwF add to the loss."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional as F

from samed2.nn import SAMed2Model
from samed2.nn.decoder import Candidates
from samed2.predict.device import autocast
from samed2.train.continual.episodes import Draw, Episode
from samed2.train.continual.fit import Way, mask_loss, propose

TEMPERATURE = 2.0


class Penalty:
    """Nothing: the loss stays as it is."""

    def before(self, model: SAMed2Model) -> None:
        """A stage begins with these weights."""

    def loss(self, model: SAMed2Model, episode: Episode, candidates: Candidates) -> torch.Tensor:
        """What is added to the loss of a step."""
        return torch.zeros((), device=episode.pixels.device)

    def after(self, model: SAMed2Model, draw: Draw) -> None:
        """A stage is over; `draw` gives its episodes."""

    def state(self) -> dict[str, Any]:
        """What is kept from stage to stage, as tensors by name."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""

    @property
    def nbytes(self) -> int:
        """Bytes kept while a stage trains."""
        return 0


class Ewc(Penalty):
    """Elastic weight consolidation: weight / 2 x sum of F (theta - theta*)^2 (arXiv 1612.00796, online form).

    F is the mean squared gradient of the loss over episodes of the finished stage, brought to a mean of 1 and added to
    that of the stages before; theta* are the weights at the end of the last stage.
    """

    def __init__(self, weight: float, episodes: int, way: Way) -> None:
        self.weight, self.episodes, self.way = weight, episodes, way
        self.fisher: dict[str, torch.Tensor] = {}
        self.anchor: dict[str, torch.Tensor] = {}

    def loss(self, model: SAMed2Model, episode: Episode, candidates: Candidates) -> torch.Tensor:
        if not self.fisher:
            return super().loss(model, episode, candidates)
        terms = [
            (self.fisher[name] * (parameter - self.anchor[name]).square()).sum()
            for name, parameter in model.named_parameters()
            if name in self.fisher
        ]
        return self.weight / 2 * torch.stack(terms).sum()

    def after(self, model: SAMed2Model, draw: Draw) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        found = {name: torch.zeros_like(p) for name, p in trained.items()}
        model.eval()
        for number in range(self.episodes):
            model.zero_grad(set_to_none=True)
            mask_loss(
                propose(model, draw(number).to(self.way.device)), draw(number).to(self.way.device).target
            ).backward()
            for name, parameter in trained.items():
                if parameter.grad is not None:
                    found[name] += parameter.grad.square()
        model.zero_grad(set_to_none=True)
        mean = torch.cat([value.flatten() for value in found.values()]).mean().clamp(min=1e-20)
        for name, value in found.items():
            self.fisher[name] = self.fisher.get(name, torch.zeros_like(value)) + value / mean
        self.anchor = {name: p.detach().clone() for name, p in trained.items()}

    def state(self) -> dict[str, Any]:
        return {"fisher": self.fisher, "anchor": self.anchor}

    def restore(self, state: dict[str, Any]) -> None:
        self.fisher, self.anchor = state["fisher"], state["anchor"]

    @property
    def nbytes(self) -> int:
        return sum(v.nbytes for part in (self.fisher, self.anchor) for v in part.values())


class Lwf(Penalty):
    """Learning without forgetting (arXiv 1606.09282): the answers of the network as it was before the stage.

    weight x the cross-entropy of the new mask logits / 2 with the old ones' probabilities, likewise softened.
    """

    def __init__(self, weight: float, way: Way) -> None:
        self.weight, self.way = weight, way
        self.teacher: SAMed2Model | None = None

    def before(self, model: SAMed2Model) -> None:
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)

    def loss(self, model: SAMed2Model, episode: Episode, candidates: Candidates) -> torch.Tensor:
        if self.teacher is None:
            return super().loss(model, episode, candidates)
        with torch.no_grad(), autocast(self.way.device, self.way.dtype):
            old = propose(self.teacher, episode).logits.float()
        soft = (old / TEMPERATURE).sigmoid()
        return self.weight * F.binary_cross_entropy_with_logits(candidates.logits.float() / TEMPERATURE, soft)

    @property
    def nbytes(self) -> int:
        return 0 if self.teacher is None else sum(p.nbytes for p in self.teacher.parameters())
