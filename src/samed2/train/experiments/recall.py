"""A model that reads a bank of its own, and the protocol that asks it without a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from samed2.evaluate.models.base import MEMORY, Proposals, Segmenter
from samed2.evaluate.models.samed2 import Samed2Segmenter, proposals
from samed2.evaluate.protocols import PromptProtocol
from samed2.evaluate.protocols.base import Hint, Subject, Trial, bounds, gather
from samed2.evaluate.selection import answer
from samed2.io import Scan
from samed2.memory import SelectiveMemory
from samed2.predict import Predictor, Settings
from samed2.prompts import Prompts, components


@dataclass(frozen=True)
class Recall(PromptProtocol):
    """No prompt: the model finds the object of a task by the bank that it has."""

    needs: ClassVar[str] = MEMORY

    @property
    def per_part(self) -> bool:
        return True

    @property
    def words(self) -> str:
        return "no prompt; the model reads its own bank of training cases"

    def run(self, model: Segmenter, subject: Subject) -> Trial:
        task, picks, hints = subject.loaded.case.task(subject.name), [], {}
        for frame in subject.frames:
            truth = subject.truth[frame]
            picks.append(answer({1: model.recall(subject.scan, frame, task)}, {1: truth}, truth, subject.select))
            hints[frame] = Hint([bounds(part) for part in components(truth)])
        return Trial(gather(subject.frames, picks), hints)


class BankedSegmenter(Samed2Segmenter):
    """A model with a bank that stays; with `by_task` only entries of the asked task are read from it."""

    def __init__(
        self, predictor: Predictor, settings: Settings, bank: SelectiveMemory | None, by_task: bool, name: str
    ) -> None:
        super().__init__(predictor, settings, None, name)
        predictor.memory = bank
        self.by_task = by_task

    def predict(self, scan: Scan, prompts: Prompts) -> dict[tuple[int, int], Proposals]:
        self._about(prompts)
        return super().predict(scan, prompts)

    def propagate(self, scan: Scan, prompts: Prompts) -> Iterator[tuple[int, dict[int, Proposals]]]:
        self._about(prompts)
        return super().propagate(scan, prompts)

    def recall(self, scan: Scan, frame: int, task: str) -> Proposals:
        """As in `Samed2Segmenter`, by the whole bank without `by_task`."""
        how = self._how(scan) | {"task": task if self.by_task else None}
        return proposals(self.predictor.recall(scan, frame, **how))

    def _about(self, prompts: Prompts) -> None:
        """Prompts of an evaluation are named after their task."""
        names = [entry.name for entry in prompts.objects.values() if entry.name]
        self.settings = replace(self.settings, task=names[0] if self.by_task and names else None)
