"""The recipe of an experiment: variants of one training recipe, what they are asked, and what each is compared with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from samed2.errors import InputError
from samed2.evaluate.protocols import PromptProtocol, parse_protocol
from samed2.evaluate.settings import EvalSettings
from samed2.predict.settings import Settings, settings_from
from samed2.train.experiments.recall import Recall
from samed2.train.recipe import Recipe, Strict, load_form, load_recipe

HOW_IT_RUNS = {"out", "log_every", "checkpoint_every", "validate_every"}  # fields that leave the weights alone


class BankRecipe(Strict):
    """A bank filled with training cases, one after the other in random order.

    capacity: 0 is no bank; offers: cases of each task that are offered; policy, key: see docs/memory.md; retrieved: K;
    by_task: only entries of the asked task are read; confidence: of an offer, "one", the model's predicted IoU for the
    boxes of the given mask, "agreement": the IoU of its answer with the given mask, or "outline": the share of the
    task's offers with no more contrast across their outlines; least: less sure ones are not offered.
    """

    capacity: int = Field(640, ge=0)
    offers: int = Field(32, gt=0)
    policy: str = "paper"
    key: str = "pooled"
    retrieved: int = Field(4, gt=0)
    by_task: bool = False
    confidence: Literal["one", "predicted", "agreement", "outline"] = "predicted"
    least: float = Field(0.0, ge=0, le=1)


class VariantRecipe(Strict):
    """One row of an experiment.

    like: an earlier variant; what is said here comes on top of it. train: overrides of the training recipe; settings:
    of prediction; against: the variant it is compared with, the baseline where nothing is said.
    """

    like: str | None = None
    train: list[str] = []
    settings: dict[str, Any] = {}
    bank: BankRecipe | None = None
    protocols: list[str] | None = None
    against: str | None = None

    def on_top_of(self, other: VariantRecipe) -> VariantRecipe:
        """Both as one; lists of overrides follow each other, other fields win where they are given."""
        values = other.model_dump(exclude_unset=True) | self.model_dump(exclude_unset=True)
        values["train"] = [*other.train, *self.train]
        values["settings"] = other.settings | self.settings
        if self.bank and other.bank:
            values["bank"] = other.bank.model_dump(exclude_unset=True) | self.bank.model_dump(exclude_unset=True)
        values.pop("like", None)
        if "against" not in self.model_fields_set:
            values.pop("against", None)
        return VariantRecipe.model_validate(values)


class ScoreRecipe(Strict):
    """What every variant is asked. cases: at most so many of each task, drawn once; None: all."""

    splits: list[str] = ["test", "external"]
    protocols: list[str] = ["box-jitter:0.05", "point", "memory-only:4", "propagate"]
    cases: int | None = Field(None, gt=0)
    slices: str = "middle:2"
    seed: int = Field(0, ge=0)
    resamples: int = Field(5000, gt=0)


class ExperimentRecipe(Strict):
    """Everything an experiment depends on, apart from the data. `train`: overrides for all variants."""

    base: Path
    train: list[str] = []
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    baseline: str
    score: ScoreRecipe = ScoreRecipe()
    variants: dict[str, VariantRecipe]
    out: Path = Path("runs/ablations")

    @model_validator(mode="after")
    def _known(self) -> ExperimentRecipe:
        earlier: list[str] = []
        for name, variant in self.variants.items():
            if variant.like is not None and variant.like not in earlier:
                raise ValueError(f"variants.{name}.like: wanted an earlier variant, got {variant.like!r}")
            if variant.against is not None and variant.against not in self.variants:
                raise ValueError(f"variants.{name}.against: wanted a variant, got {variant.against!r}")
            earlier.append(name)
        if self.baseline not in self.variants:
            raise ValueError(f"baseline: wanted one of {', '.join(self.variants)}, got {self.baseline!r}")
        return self


class Variant(Strict):
    """A variant with all that it takes over from others and from the experiment."""

    name: str
    train: list[str]
    settings: dict[str, Any]
    bank: BankRecipe | None
    protocols: list[str]
    against: str

    def recipe(self, base: Path, seed: int) -> Recipe:
        """The training recipe for one seed."""
        return load_recipe(base, [*self.train, f"seed={seed}"])

    def predict_settings(self) -> Settings:
        """How the trained model is asked."""
        reading = {"memories": self.bank.retrieved} if self.bank else {}
        return settings_from(reading | self.settings)


def load_experiment(path: Path, overrides: list[str] | None = None) -> ExperimentRecipe:
    """Read an experiment's recipe and check all that can be checked without data.

    Raises:
        InputError: as `samed2.train.recipe.load_form`, or a variant's recipe, protocol or setting is wrong.
    """
    form = load_form(path, overrides, ExperimentRecipe)
    EvalSettings(slices=form.score.slices)
    for variant in variants_of(form):
        try:
            variant.recipe(form.base, 0)
            variant.predict_settings()
            for text in variant.protocols:
                protocol_of(text)
        except InputError as error:
            raise InputError(f"{path}: variants.{variant.name}: {error}") from error
    return form


def variants_of(form: ExperimentRecipe) -> list[Variant]:
    """The variants in order, each complete."""
    whole: dict[str, VariantRecipe] = {}
    for name, given in form.variants.items():
        whole[name] = given.on_top_of(whole[given.like]) if given.like else given
    return [
        Variant(
            name=name,
            train=[*form.train, *found.train],
            settings=found.settings,
            bank=found.bank,
            protocols=form.score.protocols if found.protocols is None else found.protocols,
            against=found.against or form.baseline,
        )
        for name, found in whole.items()
    ]


def protocol_of(text: str) -> PromptProtocol:
    """A protocol of the evaluation, or "recall": no prompt, from the variant's own bank."""
    return Recall("recall") if text == "recall" else parse_protocol(text)


def digest_of(recipe: Recipe) -> str:
    """Names a trained model: equal for recipes that give the same weights."""
    values = recipe.model_dump(mode="json", exclude=HOW_IT_RUNS)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
