"""The recipe of a continual-learning experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from samed2.train.continual.methods import METHODS
from samed2.train.recipe import Strict

PROMPTS = ("point", "box", "none")


class DataPart(Strict):
    """Where frames come from, and how many."""

    root: Path
    split: str = "train"
    test_split: str = "test"
    cases: int = Field(60, gt=0)  # of each task to train on, evenly spread over those there are
    test_cases: int = Field(30, gt=0)
    frames: int = Field(4, gt=0)  # of each case that has several


class ModelPart(Strict):
    """The network every method starts from."""

    preset: Literal["micro", "nano"] = "micro"
    image_size: int = Field(128, gt=0, multiple_of=32)


class BasePart(Strict):
    """What the network learns before the first task: other tasks, and a share of made-up ones."""

    tasks: list[str] = []
    steps: int = Field(600, ge=0)
    synthetic: float = Field(0.3, ge=0, le=1)


class FitPart(Strict):
    """How one stage is trained; the learning rate falls from `lr` to a tenth along a half cosine."""

    steps: int = Field(300, gt=0)
    rows: int = Field(16, ge=4, multiple_of=2)
    lr: float = Field(5e-4, gt=0)
    warmup: int = Field(20, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip: float = Field(1.0, gt=0)


class MemoryPart(Strict):
    """The selective memory of the methods that have one."""

    per_task: int = Field(16, gt=0)  # confirmed training frames that enter the bank after a stage
    capacity: int = Field(640, gt=0)
    policy: str = "paper"
    retrieved: int = Field(4, gt=0)  # K, in training at most
    task_known: bool = True  # retrieval only among entries of the asked task
    answer: Literal["memory", "both"] = "both"  # with the bank, or the mean of the logits with and without it


class ContinualRecipe(Strict):
    """Everything the experiment depends on, apart from the data.

    `tasks` names each stage and what is learned in it: "DATASET/OBJECT", or a modality for all its tasks.
    """

    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    device: str = "cpu"
    prompt: Literal["point", "box", "none"] = "point"
    data: DataPart
    model: ModelPart = ModelPart()
    base: BasePart = BasePart()
    fit: FitPart = FitPart()
    memory: MemoryPart = MemoryPart()
    tasks: dict[str, list[str]]
    methods: list[str] = list(METHODS)
    orders: int = Field(3, gt=0)  # as listed, reversed, then drawn at random
    # share of steps that rehearse, where a method does; "added": every step has as many rows more, of kept frames
    replay: Annotated[float, Field(ge=0, le=1)] | Literal["added"] = "added"
    kept: int = Field(32, gt=0)  # training frames of each earlier task that are kept for it
    ewc: float = Field(0.01, ge=0)  # weight of its penalty
    fisher: int = Field(64, gt=0)  # episodes of two rows that the Fisher information is taken from
    lwf: float = Field(1.0, ge=0)  # weight of its penalty
    out: Path = Path("runs/continual")

    @field_validator("tasks")
    @classmethod
    def _several(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        if len(value) < 2 or not all(value.values()):
            raise ValueError("wanted at least two stages with at least one task each")
        return value

    @field_validator("methods")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        unknown = [name for name in value if name not in METHODS]
        if unknown or not value:
            raise ValueError(f"wanted some of {', '.join(METHODS)}")
        return value
