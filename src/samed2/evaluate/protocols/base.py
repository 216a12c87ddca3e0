"""What all prompt protocols share: the subject they prompt for, what comes out, and the registry."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import LoadedCase
from samed2.errors import InputError
from samed2.evaluate.models.base import PROMPTS, Segmenter
from samed2.evaluate.selection import Pick, Select, answer
from samed2.evaluate.types import Outcome
from samed2.io import Scan
from samed2.prompts import Prompts, tight_box

if TYPE_CHECKING:
    from samed2.evaluate.support import SupportPool

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]  # (y0, x0, y1, x1), half-open in pixels


@dataclass
class Subject:
    """One object of one loaded case, to be prompted for.

    Attributes:
        truth: (T, H, W) bool, the whole object, small parts included.
        frames: the frames to score, each with a component that can be prompted.
        support: where confirmed cases of the task come from, for protocols that need them.
    """

    loaded: LoadedCase
    name: str
    truth: Mask
    frames: list[int]
    seed: int = 0
    select: Select = "chosen"
    support: SupportPool | None = None

    @property
    def scan(self) -> Scan:
        return self.loaded.scan

    @property
    def key(self) -> str:
        """DATASET/CASE/OBJECT: what random draws hang on."""
        case = self.loaded.case
        return f"{case.dataset}/{case.name}/{self.name}"

    def rng(self, frame: int | str, protocol: str = "") -> np.random.Generator:
        """Draws for one frame that depend on the seed and these names only, never on what ran before."""
        return generator(self.seed, f"{self.key}/{frame}" + (f"/{protocol}" if protocol else ""))


def generator(seed: int, text: str) -> np.random.Generator:
    """A generator of (seed, crc32 of the text)."""
    return np.random.default_rng([seed, zlib.crc32(text.encode())])


@dataclass
class Hint:
    """What a person said about one frame; the baselines answer the same and reports draw it.

    Attributes:
        boxes: the boxes given, or where points were given the tight boxes of the same components.
        points: (y, x, positive) given.
    """

    boxes: list[Box] = field(default_factory=list)
    points: list[tuple[float, float, bool]] = field(default_factory=list)


@dataclass
class Trial:
    """What a protocol did with one subject.

    Attributes:
        hints: by frame.
        extent: first and last frame of the object where the prompt told them, else None.
        examples: the support masks (H, W) that the memory was given.
        columns: further numbers for the row.
    """

    outcome: Outcome
    hints: dict[int, Hint] = field(default_factory=dict)
    extent: tuple[int, int] | None = None
    examples: list[Mask] = field(default_factory=list)
    columns: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptProtocol(ABC):
    """How an object is prompted for and what is scored.

    Attributes:
        text: the protocol as one writes it, "box-jitter:0.05".
        needs: the ability a model must have.
        whole: scored on all frames of the case together, not on the selected frames one by one.
        per_part: prompts are given per connected component, not per object.
        support: how many confirmed cases the memory gets.
    """

    text: str
    needs: ClassVar[str] = PROMPTS

    @property
    def whole(self) -> bool:
        return False

    @property
    def per_part(self) -> bool:
        return False

    @property
    def support(self) -> int:
        return 0

    @property
    @abstractmethod
    def words(self) -> str:
        """The rule in one sentence, for tables and reports."""

    @abstractmethod
    def run(self, model: Segmenter, subject: Subject) -> Trial:
        """Prompt the model and collect its answers."""

    def step_columns(self, steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Columns made of the scores ("dice", "nsd") after each step; none for protocols of one step."""
        return {}


@dataclass(frozen=True)
class Entry:
    """A protocol's row in the registry: how to write it, what it is, and what makes it of its arguments."""

    usage: str
    about: str
    make: Callable[[str, list[str]], PromptProtocol]


PROTOCOLS: dict[str, Entry] = {}
Maker = Callable[[str, list[str]], PromptProtocol]


def register_protocol(name: str, usage: str, about: str) -> Callable[[Maker], Maker]:
    """Make a function (name, arguments) -> protocol known under a name."""

    def register(make: Maker) -> Maker:
        PROTOCOLS[name] = Entry(usage, about, make)
        return make

    return register


def arguments(name: str, given: list[str], least: int, most: int) -> list[str]:
    """The arguments, when they are as many as the protocol takes."""
    if not least <= len(given) <= most or not all(given):
        raise InputError(f"protocol: got {':'.join([name, *given])!r}, wanted {PROTOCOLS[name].usage}")
    return given


def number(name: str, text: str, low: float, high: float) -> float:
    """An argument as a number from `low` to `high`."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InputError(f"protocol {name}: got {text!r}, wanted a number from {low:g} to {high:g}")
    return value


def whole_number(name: str, text: str, low: int, high: int) -> int:
    """An argument as a whole number from `low` to `high`."""
    value = number(name, text, low, high)
    if value != int(value):
        raise InputError(f"protocol {name}: got {text!r}, wanted a whole number")
    return int(value)


def count_prompts(prompts: Prompts) -> dict[str, int]:
    """How many points, boxes and masks there are."""
    entries = prompts.objects.values()
    return {
        "points": sum(len(e.points) for e in entries),
        "boxes": sum(len(e.boxes) for e in entries),
        "masks": sum(len(e.masks) for e in entries),
    }


def ask(model: Segmenter, subject: Subject, frame: int, prompts: Prompts, targets: Mapping[int, Mask]) -> Pick:
    """The model's united answer to the prompts of one frame; see `selection.answer`.

    Every object is named after its task, which is all that models without prompts go by.
    """
    for entry in prompts.objects.values():
        entry.name = subject.loaded.case.task(subject.name)
    found = model.predict(subject.scan, prompts)
    missing = [i for i in targets if (i, frame) not in found]
    if missing:
        raise InputError(f"{model.name}: gave no answer for object {missing[0]} on frame {frame}")
    return answer({i: found[i, frame] for i in targets}, targets, subject.truth[frame], subject.select)


def gather(frames: list[int], picks: Sequence[Pick]) -> Outcome:
    """The answers on some frames as an `Outcome` without prompts."""
    probabilities = [p.probability for p in picks if p.probability is not None]
    return Outcome(
        frames=list(frames),
        masks=np.stack([p.mask for p in picks]),
        confidence=np.array([p.confidence for p in picks], dtype=np.float64),
        probability=np.stack(probabilities) if len(probabilities) == len(picks) else None,
    )


def bounds(mask: Mask) -> Box:
    """The tight box as floats."""
    y0, x0, y1, x1 = tight_box(mask)
    return float(y0), float(x0), float(y1), float(x1)
