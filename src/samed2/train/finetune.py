"""Fine-tuning on a folder of images and labels: from what is in it to a recipe, a trained model and what it gained."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from samed2.data.cases import Case
from samed2.data.doubts import DRAWN
from samed2.data.examples import largest_frame
from samed2.data.folders import Description, Found, recognise, write_description
from samed2.data.folders.check import CaseFacts, Report, check_cases, looks_like_ct
from samed2.data.folders.splits import split_cases
from samed2.data.sampling import MIN_PIXELS
from samed2.data.stats import example_of
from samed2.data.stats_plots import draw_sheet, encode
from samed2.errors import InputError
from samed2.io.atomic import atomic_path, atomic_write, make_folder
from samed2.train.recipe import Recipe, load_recipe

DATA, RECIPE = "data.yaml", "recipe.yaml"
STEPS = (150, 3000)  # fewest and most that are chosen; --steps and --minutes may say anything
STEPS_PER_ROOT = 40  # times the root of the number of labelled frames
RATE, RATE_END = 2e-4, 1e-5  # of models up to PLAIN parameters; larger ones learn more slowly, by the root
PLAIN = 10_000_000
TRIAL = 6  # steps that --minutes is measured with; the first is not counted
Progress = Callable[[list[Case]], Iterable[Case]]


@dataclass(frozen=True)
class Start:
    """The model that is started from: its name, side of its input in pixels, size, and whether it follows in time."""

    name: str
    image_size: int
    parameters: int
    streaming: bool

    @classmethod
    def of(cls, name: str) -> Start:
        """Look at a model.

        Raises:
            InputError: there is none of that name, or it cannot be loaded.
        """
        from samed2.nn.weights import load

        model = load(name)
        size = sum(parameter.numel() for parameter in model.parameters())
        return cls(name, int(model.config.image_size), size, bool(model.config.streaming))


@dataclass
class Survey:
    """A data folder, looked at.

    Attributes:
        splits: train and val.
        left_out: (case, why) of cases that can be used but are in neither.
    """

    found: Found
    report: Report
    splits: dict[str, list[Case]]
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def stacks(self) -> bool:
        """Whether there are volumes or videos to train on."""
        return any(fact.shape[0] > 1 for fact in self.of("train"))

    @property
    def labelled_frames(self) -> int:
        """Frames of train with something to learn from, those of several objects counted once each."""
        return sum(1 for f in self.of("train") for several in f.pixels.values() for n in several if n >= MIN_PIXELS)

    def of(self, split: str) -> list[CaseFacts]:
        """The facts of a split's cases."""
        labels = {case.label for case in self.splits[split]}
        return [fact for fact in self.report.facts if fact.case.label in labels]


def survey(
    root: Path,
    modality: str = "",
    labels: Mapping[str, int] | None = None,
    progress: Progress = lambda cases: cases,
) -> Survey:
    """Recognise a folder, load and check every case, and split them.

    Raises:
        InputError: no known layout, nothing usable or nothing labelled, or a folder of data sets with broken cases.
    """
    found = recognise(root, modality, labels)
    elsewhere = [case for case in found.cases if case.split not in ("", "train", "val")]
    cases = [case for case in found.cases if case not in elsewhere] or found.cases
    report = check_cases(progress(cases))
    if report.failed and found.source is None:
        name, reason = report.failed[0]
        raise InputError(f"{root}: {len(report.failed)} cases cannot be used, the first, {name}: {reason}")
    if looks_like_ct(report.facts) and found.source is not None:
        found.source = replace(found.source, modality="ct")
        found.notes.append("values are those of CT in Hounsfield units: modality ct; --modality says otherwise")
    used = {fact.case.label for fact in report.facts}
    left_out = [(case.name, f"is in {case.split}") for case in elsewhere if case.label not in used]
    splits = split_cases(report.facts)
    train = {case.label for case in splits["train"]}
    if not any(
        max(several, default=0) >= MIN_PIXELS
        for fact in report.facts
        if fact.case.label in train
        for several in fact.pixels.values()
    ):
        raise InputError(f"{root}: no training case shows an object of {MIN_PIXELS} pixels; check labels and splits")
    return Survey(found, report, splits, left_out)


def choose_recipe(survey: Survey, start: Start, out: Path, steps: int | None = None) -> dict[str, Any]:
    """The fields of the recipe that fit the data and the model; everything else is the recipe's default.

    Args:
        steps: None chooses by the number of labelled frames.
    """
    low, high = STEPS
    count = steps or min(max(round(STEPS_PER_ROOT * survey.labelled_frames**0.5 / 10) * 10, low), high)
    rows = next(rows for most, rows in ((160, 16), (320, 8), (640, 4), (10**6, 2)) if start.image_size <= most)
    slower = min(1.0, (PLAIN / start.parameters) ** 0.5)
    found, val = survey.found, bool(survey.splits["val"])
    root = out / DATA if found.source is not None else found.root
    return {
        "seed": 0,
        "data": {"root": str(root), "splits": ["train"], "val_splits": ["val"] if val else [], "workers": 1},
        "model": {"init": start.name},
        "stages": [
            {
                "steps": count,
                "image_size": start.image_size,
                "rows": rows,
                "lr": round(RATE * slower, 6),
                "lr_end": round(RATE_END * slower, 7),
                "warmup": max(1, count // 20),
                "clips": 0.25 if survey.stacks else 0.0,
                **({"stream": 0.2} if survey.stacks and start.streaming else {}),
                "memory": 0.1 if len(survey.splits["train"]) > 1 else 0.0,
            }
        ],
        "optimizer": {"ema": round(min(0.999, 1 - 10 / max(count, 20)), 4)},
        "log_every": max(1, min(50, count // 10)),
        "checkpoint_every": max(1, min(200, count // 3)),
        "validate_every": max(1, count // 3),
        "out": str(out),
    }


def write_run(survey: Survey, fields: Mapping[str, Any], out: Path) -> Path:
    """Write data.yaml and recipe.yaml into the out folder and return the recipe's path.

    Raises:
        InputError: the folder cannot be written.
    """
    make_folder(out, "--out")
    if survey.found.source is not None:
        names = {split: tuple(case.name for case in cases) for split, cases in survey.splits.items() if cases}
        write_description(Description(survey.found.source, names), out / DATA)
    head = (
        f"# Fine-tuning on {survey.found.root.resolve().name}, chosen by `samed2 train --data`: edit, then run\n"
        f"# `samed2 train {out / RECIPE} --out ANOTHER_FOLDER`.\n"
    )
    path = out / RECIPE
    with atomic_path(path) as temporary:
        Path(temporary).write_text(head + yaml.safe_dump(dict(fields), sort_keys=False), encoding="utf-8")
    return path


def draw_doubtful(report: Report, path: Path) -> int:
    """A picture of up to 24 masks whose outlines hardly follow the image, each on the frame with most of it.

    Returns:
        how many there are in all; without any no file is written.

    Raises:
        InputError: the file cannot be written, or a case cannot be read.
    """
    doubts, shown = report.doubtful, []
    for case, name in doubts[:DRAWN]:
        loaded = case.load()
        frame = largest_frame(loaded.masks, name)
        assert frame is not None, "an object without pixels has no outline"
        shown.append(example_of(loaded, case.task(name), frame))
    if shown:
        make_folder(path.parent, "--out")
        atomic_write(path, encode(draw_sheet(shown)))
    return len(doubts)


def seconds_per_step(path: Path, overrides: list[str]) -> float:
    """Wall time of a training step of a recipe, data included, measured with a few steps in a temporary folder."""
    from samed2.train.trainer import Trainer

    recipe = load_recipe(path, overrides)
    folder = Path(tempfile.mkdtemp(prefix="samed2-trial-"))
    try:
        stage = recipe.stages[0].model_copy(update={"steps": TRIAL, "warmup": 1})
        data = recipe.data.model_copy(update={"val_splits": []})
        changed = {"out": folder / "run", "stages": [stage], "data": data, "log_every": TRIAL + 1}
        trainer = Trainer(recipe.model_copy(update={**changed, "checkpoint_every": 10**9}))
        started = time.perf_counter()
        trainer.train()
        return (time.perf_counter() - started) / TRIAL
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def train(recipe: Recipe, resume: bool = False) -> Path:
    """Train and return the folder of the model.

    Raises:
        InputError: as the trainer.
    """
    from samed2.train.trainer import Trainer

    return Trainer(recipe, resume).train()
