"""Runs an experiment: trains what is missing, scores what is missing, and writes the table after every variant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from samed2.data import open_cases
from samed2.data.cases import Case
from samed2.data.examples import drawn_by_task
from samed2.errors import InputError
from samed2.evaluate.results import JSON, Results
from samed2.evaluate.runner import Progress as Tell
from samed2.evaluate.runner import evaluate
from samed2.evaluate.settings import EvalSettings
from samed2.io.atomic import atomic_write, make_folder
from samed2.io.lock import locked
from samed2.memory import SelectiveMemory
from samed2.predict import Predictor
from samed2.train.experiments.banks import Look, Offer, bank_figures, collect_offers, filled_bank
from samed2.train.experiments.recall import BankedSegmenter
from samed2.train.experiments.recipe import ExperimentRecipe, Variant, digest_of, protocol_of, variants_of
from samed2.train.experiments.show import Scores, results_of, write_results
from samed2.train.recipe import Recipe
from samed2.train.trainer import Trainer

MODELS, SCORES, VARIANT, BANK, NOTHING = "models", "scores", "variant.json", "bank.json", "nothing"
MODEL_DONE = "model/recipe.json"  # the last file that training writes
Item = TypeVar("Item")


class Experiment:
    """Variants times seeds. Trained models lie under a hash of their recipe, so variants share them.

    Args:
        only: names of variants to run; the others count as far as they are there. Empty: all.
        quiet: no progress.

    Raises:
        InputError: an unknown variant, or the out folder is in use by another process or cannot be written.
    """

    def __init__(self, form: ExperimentRecipe, only: Sequence[str] = (), quiet: bool = False) -> None:
        self.form, self.out = form, form.out
        self.console = Console(stderr=True, quiet=quiet)
        self.variants = variants_of(form)
        known = [variant.name for variant in self.variants]
        if lost := [name for name in only if name not in known]:
            raise InputError(f"only: got {lost[0]!r}, wanted some of {', '.join(known)}")
        self.chosen = [variant for variant in self.variants if not only or variant.name in only]
        self._cases: dict[str, list[Case]] = {}
        self._support: list[Case] | None = None
        self._offers: tuple[str, list[Offer]] = ("", [])

    @property
    def jobs(self) -> list[tuple[int, Variant]]:
        """(seed, variant) in the order in which they are done: every variant once, then again with the next seed."""
        return [(seed, variant) for seed in self.form.seeds for variant in self.chosen]

    def recipe(self, variant: Variant, seed: int) -> Recipe:
        """The training recipe with its place in the out folder."""
        recipe = variant.recipe(self.form.base, seed)
        return recipe.model_copy(update={"out": self.out / MODELS / digest_of(recipe)})

    def trained(self, variant: Variant, seed: int) -> bool:
        """Whether the model is there."""
        return (self.recipe(variant, seed).out / MODEL_DONE).is_file()

    def scored(self, variant: Variant, seed: int) -> bool:
        """Whether every score is there."""
        places = [
            self.folder(variant, seed) / s / _folder(t) for s in self.form.score.splits for t in variant.protocols
        ]
        return all((place / JSON).is_file() or (place / NOTHING).is_file() for place in places)

    def folder(self, variant: Variant, seed: int) -> Path:
        """Where the scores of one variant and seed lie."""
        return self.out / SCORES / variant.name / f"seed-{seed}"

    def run(self) -> dict[str, Any]:
        """Do what is left and return the results; killed at any moment, another call goes on.

        Raises:
            InputError: data or models cannot be used, or the folder holds a variant of this name with other settings.
        """
        make_folder(self.out)
        with locked(self.out / "running.lock"):
            for number, (seed, variant) in enumerate(self.jobs):
                self.console.print(f"[{number + 1}/{len(self.jobs)}] {variant.name}, seed {seed}", markup=False)
                recipe = self.recipe(variant, seed)
                self._claim(variant, seed, recipe)
                if not (recipe.out / MODEL_DONE).is_file():
                    Trainer(recipe, resume=True).train()
                if not self.scored(variant, seed):
                    self._score(variant, seed, recipe)
                    write_results(self.results(), self.out)
            results = self.results()
            write_results(results, self.out)
            return results

    def results(self) -> dict[str, Any]:
        """What is there so far, of all variants and seeds of the recipe."""
        found: list[Scores] = []
        banks: dict[str, list[dict[str, Any]]] = {}
        for variant in self.variants:
            for seed in self.form.seeds:
                folder = self.folder(variant, seed)
                if (folder / BANK).is_file():
                    banks.setdefault(variant.name, []).append(json.loads((folder / BANK).read_text()))
                for split in self.form.score.splits:
                    for text in variant.protocols:
                        place = folder / split / _folder(text)
                        if (place / JSON).is_file():
                            found.append(Scores(variant.name, seed, split, text, Results.load(place).frame()))
        left = sum(not self.scored(variant, seed) for seed, variant in self.jobs)
        against = {variant.name: variant.against for variant in self.variants}
        return results_of(found, against, banks, self.form.score.resamples) | {"left": left}

    def _claim(self, variant: Variant, seed: int, recipe: Recipe) -> None:
        """Note what the scores of a variant and seed stand on, or find that it is the same."""
        path = self.folder(variant, seed) / VARIANT
        said = {"model": digest_of(recipe), "score": self.form.score.model_dump(mode="json", exclude={"resamples"})}
        text = json.dumps(said | {"variant": variant.model_dump(mode="json", exclude={"against"})}, indent=1)
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise InputError(
                f"{path.parent}: holds scores of other settings; choose another out, or remove this folder"
            )
        make_folder(path.parent)
        atomic_write(path, text)

    def _score(self, variant: Variant, seed: int, recipe: Recipe) -> None:
        """Every protocol on every split that is not there yet."""
        folder, settings = self.folder(variant, seed), variant.predict_settings()
        predictor = Predictor.from_pretrained(str(recipe.out / "model"), recipe.device)
        banks = self._banks(variant, predictor, recipe)
        if variant.bank and banks:
            figures = bank_figures(banks["near"], self._offers[1], variant.bank)
            atomic_write(folder / BANK, json.dumps(figures))
        how = EvalSettings(
            slices=self.form.score.slices,
            seed=self.form.score.seed,
            baselines=(),
            support_splits=tuple(recipe.data.splits),
            support_cases=self._supporting(recipe),
        )
        by_task = bool(variant.bank and variant.bank.by_task)
        for split in self.form.score.splits:
            for text in variant.protocols:
                place, protocol = folder / split / _folder(text), protocol_of(text)
                if (place / JSON).is_file():
                    continue
                bank = banks.get("whole" if text == "recall" else "near")
                cases = self._asked(split, text, recipe, bank)
                if not cases:
                    make_folder(place)
                    atomic_write(place / NOTHING, "no case of this split can be asked so\n")
                    continue
                model = BankedSegmenter(predictor, settings, bank, by_task, variant.name)
                with self._bar(f"{split} {text}") as tell:
                    evaluate(model, cases, protocol, out=place, settings=how, progress=tell)

    def _banks(self, variant: Variant, predictor: Predictor, recipe: Recipe) -> dict[Look, SelectiveMemory]:
        """The variant's bank as prompts would see it, and as whole frames."""
        how = variant.bank
        if how is None or not how.capacity:
            return {}
        settings = replace(variant.predict_settings(), memories=0)  # offers are made without reading
        key = f"{digest_of(recipe)} {how.offers} {settings}"
        if self._offers[0] != key:

            def shown(jobs: list[Item]) -> Iterable[Item]:
                return track(jobs, "bank", console=self.console, disable=not self.console.is_terminal, transient=True)

            offers = collect_offers(predictor, recipe.data, how.offers, recipe.seed, settings, shown)
            self._offers = key, offers
        looks: tuple[Look, ...] = ("near", "whole")
        return {look: filled_bank(predictor, self._offers[1], how, look, recipe.seed) for look in looks}

    def _asked(self, split: str, text: str, recipe: Recipe, bank: SelectiveMemory | None) -> list[Case]:
        """The cases that a protocol is asked about: only moving ones to follow, only known tasks to recall."""
        if split not in self._cases:
            cases, score = open_cases(recipe.data.root, [split]), self.form.score
            if score.cases is not None:
                cases = limited(cases, score.cases, score.seed)
            self._cases[split] = cases
        cases = self._cases[split]
        if text.startswith("propagate"):
            return [case for case in cases if case.kind != "image"]
        if text != "recall":
            return cases
        known = {entry.task for entry in bank.entries} if bank is not None else set()
        kept = [replace(c, objects=tuple(name for name in c.objects if c.task(name) in known)) for c in cases]
        return [case for case in kept if case.objects]

    def _supporting(self, recipe: Recipe) -> list[Case]:
        """Cases to remember: of the training splits, and for tasks that they lack all those of the asked splits."""
        if self._support is None:
            splits = dict.fromkeys([*recipe.data.splits, *self.form.score.splits])
            self._support = open_cases(recipe.data.root, list(splits))
        return self._support

    @contextmanager
    def _bar(self, title: str) -> Iterator[Tell | None]:
        if not self.console.is_terminal:
            yield None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            shown = bar.add_task(title, total=None)
            yield lambda done, total, label: bar.update(shown, completed=done, total=total)


def limited(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """The cases with at most `count` of each task, each with the tasks that it was drawn for."""
    drawn = {task: set(labels) for task, labels in drawn_by_task(cases, count, seed).items()}
    kept = [replace(c, objects=tuple(name for name in c.objects if c.label in drawn[c.task(name)])) for c in cases]
    return [case for case in kept if case.objects]


def _folder(protocol: str) -> str:
    return protocol.replace(":", "-")
