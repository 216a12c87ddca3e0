"""From one case to its rows: one per object, with everything that is known about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samed2.data.cases import Case, LoadedCase
from samed2.evaluate import baselines
from samed2.evaluate.keep import keep_answer
from samed2.evaluate.models.base import Proposals, Segmenter, Support
from samed2.evaluate.protocols.base import PromptProtocol, Subject, Trial
from samed2.evaluate.provenance import peak_memory
from samed2.evaluate.scoring import BASELINE, STEPS, confidence_columns, is_solid, pixel_columns, score
from samed2.evaluate.settings import EvalSettings, scored_frames, slice_count
from samed2.evaluate.support import SupportPool, UsualSize
from samed2.io import Scan
from samed2.prompts import Prompts, components

Row = dict[str, Any]
OK, SKIPPED, FAILED = "ok", "skipped", "failed"


class Meter:
    """A model with a clock: how often it was asked to predict, and the seconds it took, memory included."""

    def __init__(self, model: Segmenter) -> None:
        self._model = model
        self.name, self.fingerprint, self.abilities = model.name, model.fingerprint, model.abilities
        self.reset()

    def reset(self) -> None:
        self.calls, self.seconds = 0, 0.0

    def predict(self, scan: Scan, prompts: Prompts) -> dict[tuple[int, int], Proposals]:
        start = time.perf_counter()
        found = self._model.predict(scan, prompts)
        self._add(start, len(prompts.frames()))
        return found

    def remember(self, support: Sequence[Support]) -> None:
        start = time.perf_counter()
        self._model.remember(support)
        self._add(start, 0)

    def recall(self, scan: Scan, frame: int, task: str) -> Proposals:
        start = time.perf_counter()
        found = self._model.recall(scan, frame, task)
        self._add(start, 1)
        return found

    def propagate(self, scan: Scan, prompts: Prompts) -> Iterator[tuple[int, dict[int, Proposals]]]:
        start = time.perf_counter()
        for found in self._model.propagate(scan, prompts):
            self._add(start, 1)
            yield found
            start = time.perf_counter()

    def _add(self, start: float, calls: int) -> None:
        self.seconds += time.perf_counter() - start
        self.calls += calls


@dataclass
class Bench:
    """Everything that turns cases into rows, the same for every case.

    Attributes:
        model: None while it travels to another process.
        sizes: the usual size by task, for the disc.
        answers: folder for the answers that pictures may be made of, None keeps none.
    """

    model: Segmenter | None
    protocol: PromptProtocol
    settings: EvalSettings
    pool: SupportPool | None = None
    sizes: Mapping[str, UsualSize] = field(default_factory=dict)
    answers: Path | None = None

    def __post_init__(self) -> None:
        self._meter = Meter(self.model) if self.model is not None else None

    def rows(self, case: Case, objects: Sequence[str]) -> list[Row]:
        """A row for every object; what goes wrong with one is its row's reason."""
        try:
            loaded = case.load()
        except Exception as error:  # whatever one case does, the others go on
            return [failed(case, name, error) for name in objects]
        found = []
        for name in objects:
            try:
                found.append(self._row(loaded, name))
            except Exception as error:
                found.append(failed(case, name, error))
        return found

    def _row(self, loaded: LoadedCase, name: str) -> Row:
        case, protocol = loaded.case, self.protocol
        truth = np.asarray(loaded.masks[name])
        frames = scored_frames(truth, None if protocol.whole else slice_count(self.settings.slices))
        if not frames:
            why = "no component of 16 pixels on the frames to score" if truth.any() else "the object is absent"
            return {**head(case, name), "status": SKIPPED, "reason": why}
        subject = Subject(loaded, name, truth, frames, self.settings.seed, self.settings.select, self.pool)
        meter = self._meter
        assert meter is not None, "a bench without a model makes no rows"
        meter.reset()
        trial = protocol.run(meter, subject)
        trial.outcome.seconds = meter.seconds
        row = {**head(case, name), "status": OK, "reason": "", **self._scores(subject, trial)}
        row |= {"notes": "; ".join(trial.outcome.notes), "predictions": meter.calls}
        row |= {"seconds": meter.seconds, **peak_memory()}
        if self.answers is not None:
            keep_answer(self.answers, row_id(row), subject, trial)
        return row

    def _scores(self, subject: Subject, trial: Trial) -> Row:
        outcome, scan = trial.outcome, subject.scan
        truth, solid = subject.truth[outcome.frames], is_solid(self.protocol.whole, scan)
        row: Row = dict(_size(truth, solid), frames=len(outcome.frames))
        row |= {kind: outcome.prompts.get(kind, 0) for kind in ("points", "boxes", "masks")}
        row["prompts"] = sum(outcome.prompts.values())
        row["unit"] = "mm" if scan.geometry.known else "px"
        row |= score(outcome.masks, truth, scan, self.settings, solid)
        row |= confidence_columns(trial, truth) | pixel_columns(trial, truth) | trial.columns
        if outcome.steps:
            steps = [score(step, truth, scan, self.settings, solid, STEPS) for step in outcome.steps]
            row |= self.protocol.step_columns(steps)
        size = self.sizes.get(subject.loaded.case.task(subject.name), UsualSize(0.01, 0.01))
        share = size.component if self.protocol.per_part else size.whole
        for name, masks in baselines.answers(trial, self.settings.baselines, scan, share).items():
            found = score(masks, truth, scan, self.settings, solid, BASELINE)
            row |= {f"baseline_{name}_{metric}": value for metric, value in found.items()}
        return row


def _size(truth: np.ndarray, solid: bool) -> Row:
    """Pixels of the object per frame that shows it (in 3-D: voxels), its share of the frame, and its parts."""
    areas = np.count_nonzero(truth, axis=(1, 2))
    shown = areas[areas > 0]
    middle = truth[int(areas.argmax())]
    return {
        "size": float(shown.sum() if solid else shown.mean()),
        "share": float(shown.mean() / truth[0].size),
        "components": len(components(middle)),
    }


def head(case: Case, name: str) -> Row:
    """What every row begins with."""
    return {
        "dataset": case.dataset,
        "object": name,
        "task": case.task(name),
        "case": case.name,
        "patient": case.patient or case.name,
        "modality": case.modality,
        "kind": case.kind,
        "split": case.split,
    }


def failed(case: Case, name: str, error: Exception) -> Row:
    """The row of an object that could not be evaluated."""
    said = " ".join(str(error).split()) or "no message"
    return {**head(case, name), "status": FAILED, "reason": f"{type(error).__name__}: {said}"}


def row_id(row: Mapping[str, Any]) -> str:
    """A short name for files about a row."""
    return hashlib.sha256(f"{row['dataset']}/{row['case']}/{row['object']}".encode()).hexdigest()[:16]
