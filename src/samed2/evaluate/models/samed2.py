"""Our own models, through the same `Predictor` that a user calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from samed2.errors import InputError
from samed2.evaluate.models.base import MEMORY, PIXELS, PREVIOUS, PROMPTS, PROPAGATE, Proposals, Support
from samed2.evaluate.models.caches import Windows
from samed2.evaluate.models.options import Options, first_problem, read_options
from samed2.io import Scan
from samed2.predict import ObjectPrediction, Predictor, Settings
from samed2.prompts import Prompts

USUAL = Settings()


class Samed2Options(Options):
    """Settings of our models beside those of `samed2.predict.Settings`.

    Attributes:
        bank: a memory file to read from; `remember` replaces it.
    """

    bank: str | None = None


def load_samed2(weights: str, device: str, settings: dict[str, Any], name: str) -> Samed2Segmenter:
    """A built-in model, a folder, or a SAM 2 / 2.1 checkpoint used as one of ours.

    Raises:
        InputError: no such model, memory or setting.
    """
    own = {key: value for key, value in settings.items() if key in Samed2Options.model_fields}
    rest = {key: value for key, value in settings.items() if key not in own}
    unknown = sorted(set(rest) - set(Settings.__dataclass_fields__))
    if unknown:
        known = ", ".join([*Samed2Options.model_fields, *Settings.__dataclass_fields__])
        raise InputError(f"model {name!r}: setting {unknown[0]!r} is unknown; there are {known}")
    options = read_options(Samed2Options, own, name)
    lists = [key for key, value in rest.items() if isinstance(value, str) and isinstance(getattr(USUAL, key), tuple)]
    try:
        chosen = TypeAdapter(Settings).validate_python(rest | {key: rest[key].split(",") for key in lists})
    except ValidationError as error:
        raise InputError(f"model {name!r}: {first_problem(error)}") from error
    predictor = Predictor.from_pretrained(weights, device, options.bank, options.precision)
    return Samed2Segmenter(predictor, chosen, options.window, name)


class Samed2Segmenter:
    """A `Segmenter` around a `Predictor`.

    Args:
        settings: how to predict; with `multimask` every answer has three proposals, best first, else one.
        window: see `samed2.io.resolve_window`.
    """

    def __init__(
        self, predictor: Predictor, settings: Settings = USUAL, window: str | None = None, name: str = ""
    ) -> None:
        self.predictor = predictor
        self.settings = settings
        self.name = name or predictor.name
        self.fingerprint = predictor.fingerprint
        self.abilities = frozenset({PROMPTS, PREVIOUS, MEMORY, PROPAGATE, PIXELS})
        self._windows = Windows(window)
        self._task = settings.task

    def predict(self, scan: Scan, prompts: Prompts) -> dict[tuple[int, int], Proposals]:
        """Proposals by (object id, frame); a mask beside points is the previous answer.

        Raises:
            InputError: prompts that do not fit the scan.
        """
        prompts, how = prompts.validate(scan), self._how(scan)
        return {
            (answer.id, frame): proposals(answer)
            for frame in prompts.frames()
            for answer in self.predictor.predict(scan, prompts.on_frame(frame), frame, **how)
        }

    def remember(self, support: Sequence[Support]) -> None:
        """Replace the memory by these examples; an empty list leaves none.

        Examples of one task say what is asked for from here on. One that is `near` leaves two entries, as the product's
        memories do.

        Raises:
            InputError: an example's mask is empty or of another size than its frame.
        """
        self.predictor.memory = self.predictor.new_memory(2 * len(support)) if support else None
        tasks = {example.task for example in support}
        self._task = tasks.pop() if len(tasks) == 1 else self.settings.task
        for example in support:
            self.predictor.remember(
                example.scan,
                example.mask,
                example.frame,
                task=example.task,
                confidence=example.confidence,
                window=self._windows.of(example.scan),
                margin=self.settings.margin,
                views=("near", "whole") if example.near and self.settings.zoom else ("whole",),
                neighbours=self.settings.neighbours,
            )

    def recall(self, scan: Scan, frame: int, task: str) -> Proposals:
        """The object of a task on a frame, found by the memory alone.

        Raises:
            InputError: there is no memory, or nothing of the task in it.
        """
        return proposals(self.predictor.recall(scan, frame, **self._how(scan) | {"task": task}))

    def propagate(self, scan: Scan, prompts: Prompts) -> Iterator[tuple[int, dict[int, Proposals]]]:
        """Proposals by object id for every frame, from prompts on some; empty ones where an object was given up.

        Raises:
            InputError: prompts that do not fit the scan.
        """
        prompts = prompts.validate(scan)
        left = set(range(scan.num_frames))
        for frame, answers in self.predictor.propagate(scan, prompts, **self._how(scan)):
            left.discard(frame)
            yield frame, self._none(scan, prompts) | {answer.id: proposals(answer) for answer in answers}
        for frame in sorted(left):
            yield frame, self._none(scan, prompts)

    def _how(self, scan: Scan) -> dict[str, Any]:
        return {"window": self._windows.of(scan), **asdict(self.settings), "task": self._task}

    @staticmethod
    def _none(scan: Scan, prompts: Prompts) -> dict[int, Proposals]:
        """An empty answer without a confidence for every object."""
        shape = (scan.height, scan.width)
        return {
            number: Proposals(np.zeros((1, *shape), bool), np.array([np.nan]), 0, np.zeros(shape, np.float32))
            for number in prompts.objects
        }


def proposals(answer: ObjectPrediction) -> Proposals:
    """A prediction as proposals: its candidates, best first, or its one mask; the first is what a user gets."""
    masks = [mask for mask, _ in answer.candidates] or [answer.mask]
    sure = [confidence for _, confidence in answer.candidates] or [answer.confidence]
    probability = torch.from_numpy(answer.logits).sigmoid().numpy()
    return Proposals(np.stack(masks), np.array(sure, dtype=np.float64), 0, probability)
