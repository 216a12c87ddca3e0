"""The training recipe: a typed YAML file; unknown or wrong fields are an error that names them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from samed2.data.samples import BatchPlan
from samed2.errors import InputError

CHECKPOINT = "checkpoint.pt"  # in `Recipe.out`


class Strict(BaseModel):
    """Unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Form = TypeVar("Form", bound=BaseModel)


class NoiseRecipe(Strict):
    """Worse masks in a share of the cases of every data set, see `samed2.data.noise`; `kinds` follow each other."""

    fraction: float = Field(gt=0, le=1)
    kinds: list[str] = Field(["dilate-or-erode:15%,30%", "shift:10%,25%"], min_length=1)
    seed: int = Field(0, ge=0)


class DataRecipe(Strict):
    """Where samples come from; `noise` is in the masks of `splits`.

    outline: power of the contrast across the outline of a mask (`samed2.data.outline`), by which cases of a task are
    drawn, so that wrong masks are drawn less; 0 draws them equally often.
    """

    root: Path
    splits: list[str] = ["train"]
    val_splits: list[str] = ["val"]
    noise: NoiseRecipe | None = None
    outline: float = Field(0.0, ge=0, le=8)
    balance: float = Field(0.25, ge=0, le=1)  # 0: every task equally often; 1: every item
    weights: dict[str, float] = {}  # by task name, DATASET/OBJECT
    workers: int = Field(1, ge=0)


class ModelRecipe(Strict):
    """What is trained: a built-in configuration with settings, or the weights of a folder, a name or the hub.

    `average`: more weights, with the configuration of `init` or without its adapters; training starts from the mean.
    `settings` are fields of the configuration; with `init` only such as leave the shapes of the weights alone.
    `train`: which parts, see `samed2.train.parts.choose_parts`.
    """

    preset: Literal["nano", "micro"] | None = "nano"
    init: str | None = None  # start from these weights instead of at random
    average: list[str] = []
    settings: dict[str, Any] = {}
    train: Literal["all", "adapters+decoder", "adapters", "lora"] = "all"

    @model_validator(mode="after")
    def _started(self) -> ModelRecipe:
        if self.average and self.init is None:
            raise ValueError("average: wanted init too, which it is averaged with")
        return self


class StageRecipe(BatchPlan):
    """Some steps with batches of one plan; the learning rate moves from `lr` to `lr_end` along a half cosine."""

    steps: int = Field(gt=0)
    lr: float = Field(1e-3, gt=0)
    lr_end: float | None = Field(None, gt=0)
    warmup: int = Field(0, ge=0)


class OptimizerRecipe(Strict):
    """AdamW, or Muon for the inner matrices and AdamW for the rest.

    clip bounds the gradient's norm; layer_decay: factor of the learning rate for every block of the image encoder
    away from its end; accumulate: batches of one step; recompute: save memory, spend time; ema: of the weights.
    """

    name: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = Field(1.0, gt=0)
    layer_decay: float = Field(1.0, gt=0, le=1)
    accumulate: int = Field(1, ge=1)
    recompute: bool = False
    ema: float = Field(0.999, ge=0, lt=1)


class GateRecipe(Strict):
    """Rows count less where the model is sure and the given mask is far from its answer; see docs/ablations.md.

    sure: predicted IoU from which the model is believed; margin: by how much the IoU may fall short of it before a
    row's weight falls, over as much again, to `least`; warmup: steps before it begins, and over which it grows.
    """

    sure: float = Field(0.6, ge=0, le=1)
    margin: float = Field(0.15, gt=0, le=1)
    least: float = Field(0.1, ge=0, lt=1)
    warmup: int = Field(500, ge=0)
    strength: float = Field(1.0, ge=0, le=1)


class LossRecipe(Strict):
    """Weights of the parts of the loss. In a recipe also the name of one of `LOSSES`.

    dice (`squared`: with squares in its denominator), bce and focal of masks; multimask: of the best of three masks
    where the prompt tells which; iou: error of the predicted IoUs of all masks (`iou_kind`); presence: of the object
    score, on all rows; gate: rows whose masks are doubted.
    """

    dice: float = Field(1.0, ge=0)
    squared: bool = False
    bce: float = Field(1.0, ge=0)
    focal: float = Field(0.0, ge=0)
    multimask: float = Field(0.3, ge=0)
    iou: float = Field(0.5, ge=0)
    iou_kind: Literal["bce", "l1", "mse"] = "bce"
    presence: float = Field(0.2, ge=0)
    gate: GateRecipe | None = None

    def at(self, step: int) -> LossRecipe:
        """The loss at a step: before and during its warm-up the gate is weaker."""
        if self.gate is None:
            return self
        grown = min(1.0, max(0, step + 1 - self.gate.warmup) / max(1, self.gate.warmup))
        gate = self.gate.model_copy(update={"strength": grown * self.gate.strength})
        return self.model_copy(update={"gate": gate})


LOSSES = {
    "released": LossRecipe(squared=True, focal=0.5, iou_kind="l1", presence=0.0, multimask=0.0),  # SAMed-2's code
    "sam2": LossRecipe(bce=0.0, focal=20.0, iou=1.0, iou_kind="l1", presence=1.0),
}


class Recipe(Strict):
    """Everything a training run depends on, apart from the data.

    patience: stop after so many validations without a better one and keep the best weights; 0 runs to the end and
    keeps the last.
    sharded: spread weights, gradients and optimizer state over the processes, where there are several.
    """

    seed: int = 0
    device: str = "auto"
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    sharded: bool = False
    data: DataRecipe
    model: ModelRecipe = ModelRecipe()
    stages: list[StageRecipe]
    optimizer: OptimizerRecipe = OptimizerRecipe()
    loss: LossRecipe = LossRecipe()

    @field_validator("loss", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in LOSSES:
            raise ValueError(f"wanted one of {', '.join(LOSSES)}, or weights by name")
        return LOSSES[value] if isinstance(value, str) else value

    out: Path = Path("runs/nano")
    log_every: int = Field(50, gt=0)
    checkpoint_every: int = Field(500, gt=0)
    validate_every: int = Field(1000, gt=0)
    patience: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _scaled(self) -> Recipe:
        if self.sharded and self.precision == "fp16":
            raise ValueError("sharded: fp16 needs a loss scaled alike in all processes; wanted bf16 or fp32")
        return self

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[StageRecipe, int]:
        """The stage of a step and the step's number within it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], self.stages[-1].steps - 1


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """The recipe of a training run; see `load_form`."""
    return load_form(path, overrides, Recipe)


def load_form(path: Path, overrides: list[str] | None, form: type[Form]) -> Form:
    """Read a YAML recipe of some form; `overrides` are FIELD=VALUE with dots for nesting, such as `stages.0.steps=100`.

    Relative paths in the file are relative to the working directory.

    Raises:
        InputError: the file is missing, is no YAML, or a field is unknown or has a wrong value.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: got {type(values).__name__}, wanted fields such as {', '.join(list(form.model_fields)[:4])}"
        )
    for text in overrides or []:
        _override(values, text)
    try:
        return form.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{path}: {field}: {first['msg']}, got {first.get('input')!r}{more}") from error


def _override(values: dict[str, Any], text: str) -> None:
    name, found, raw = text.partition("=")
    if not found:
        raise InputError(f"override {text!r}: wanted FIELD=VALUE")
    node: Any = values
    keys = name.split(".")
    try:
        for key in keys[:-1]:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        last: Any = int(keys[-1]) if isinstance(node, list) else keys[-1]
        node[last] = _literal(raw)
    except (IndexError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"override {text!r}: there is no field {name!r}") from error


def _literal(raw: str) -> Any:
    """A value as Python writes it, or else as the recipe's YAML does: ["a", "b"], [a, b], None, null, 1e-3, text."""
    try:
        return ast.literal_eval(raw)
    except (ValueError, SyntaxError):
        if raw not in ("null", "true", "false") and not raw.startswith(("[", "{")):
            return raw
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError:
        return raw
