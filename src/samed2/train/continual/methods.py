"""The methods that are compared: each is a combination of what trains, what is kept and what is added to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """One way to learn tasks one after another.

    Attributes:
        trains: the parameters that a stage changes; "adapters" are the temporal adapters and the mask decoder.
        per_task: what trains is kept for each stage and starts from the base, instead of being changed further.
        bank: entries of confirmed training frames as memory: of all stages, of the first only, or none at all.
        rehearses: kept frames of earlier stages are trained on again; their memory entries are made anew.
        penalty: what is added to the loss.
        joint: all stages at once, the ceiling.
    """

    summary: str
    trains: Literal["all", "adapters", "nothing"] = "all"
    per_task: bool = False
    bank: Literal["none", "frozen", "growing"] = "none"
    rehearses: bool = False
    penalty: Literal["none", "ewc", "lwf"] = "none"
    joint: bool = False

    @property
    def remembers(self) -> bool:
        """Whether it trains and answers with memory."""
        return self.bank != "none"


METHODS: dict[str, Method] = {
    "fine-tuning": Method("all weights follow each task, nothing is kept"),
    "ewc": Method("weights that mattered to earlier tasks are held back", penalty="ewc"),
    "lwf": Method("the answers of the network before the stage are kept on the new task's frames", penalty="lwf"),
    "rehearsal": Method("some frames of earlier tasks are trained on again", rehearses=True),
    "adapters": Method("adapters and a decoder per task on a fixed network", trains="adapters", per_task=True),
    "memory-frozen": Method("all weights follow each task, the bank holds the first task only", bank="frozen"),
    "memory-growing": Method("all weights follow each task, the bank grows", bank="growing"),
    "memory-only": Method("no weight changes, the bank grows", trains="nothing", bank="growing"),
    "memory-adapters": Method(
        "as adapters, and the bank grows",
        trains="adapters",
        per_task=True,
        bank="growing",
    ),
    "memory-rehearsal": Method(
        "the bank grows and keeps the frames of its entries, which are trained on again", bank="growing", rehearses=True
    ),
    "joint": Method("all tasks at once, with as many steps in all: the ceiling", joint=True),
}
