"""Label noise on cases: which ones get it, their masks made worse as they are read, and the record of all of it."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from samed2.data.cases import Case, LoadedCase, Mask, Masks
from samed2.data.noise import Change, Noise, apply_change, draw_change, mask_dice
from samed2.errors import InputError

RECORD_VERSION = 1


@dataclass(frozen=True)
class NoisePlan:
    """A protocol for a share of the cases of each data set; what happens to a case depends on its name and the seed.

    Attributes:
        fraction: of the cases of each data set; a larger one takes the same cases and more.
        splits: only their cases; None: all.
    """

    noise: Noise
    fraction: float = 1.0
    seed: int = 0
    splits: tuple[str, ...] | None = ("train",)

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise InputError(f"fraction: got {self.fraction:g}, wanted a share of the cases between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        splits = None if self.splits is None else list(self.splits)
        return {"protocol": str(self.noise), "fraction": self.fraction, "seed": self.seed, "splits": splits}


class NoisyMasks(Masks):
    """Another case's masks made worse, each when it is asked for."""

    def __init__(self, clean: Masks, changes: dict[str, Change]) -> None:
        self.clean, self.changes = clean, changes

    def on_frame(self, name: str, frame: int) -> Mask:
        return apply_change(self.clean.on_frame(name, frame), self.changes[name], frame)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.clean.shape

    @property
    def names(self) -> tuple[str, ...]:
        return self.clean.names


def choose_cases(cases: Sequence[Case], plan: NoisePlan) -> list[Case]:
    """The cases that get noise, in the given order: the nearest whole number to the fraction in every data set.

    Raises:
        InputError: a split of the plan has no case.
    """
    eligible: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if plan.splits is None or case.split in plan.splits:
            eligible[case.dataset].append(case)
    have = sorted({case.split for case in cases})
    for split in plan.splits or ():
        if split not in have:
            raise InputError(f"split: got {split!r}, which has no case; wanted some of {', '.join(have)}")
    chosen = set()
    for found in eligible.values():
        ranked = sorted(found, key=lambda case: (_generator(plan, case).random(), case.name))
        chosen |= {case.label for case in ranked[: math.floor(plan.fraction * len(ranked) + 0.5)]}
    return [case for case in cases if case.label in chosen]


def case_changes(case: Case, plan: NoisePlan, names: Iterable[str] | None = None) -> dict[str, Change]:
    """What happens to the objects (None: all the case names) of a case that was chosen."""
    chosen = case.objects if names is None else names
    return {name: draw_change(plan.noise, _generator(plan, case, name)) for name in chosen}


def noisy_cases(cases: Sequence[Case], plan: NoisePlan) -> list[Case]:
    """All cases in order, the chosen ones with worse masks when they are loaded."""
    chosen = {case.label for case in choose_cases(cases, plan)}
    return [replace(case, reader=partial(_load, case, plan)) if case.label in chosen else case for case in cases]


def noise_record(cases: Iterable[LoadedCase], plan: NoisePlan) -> dict[str, Any]:
    """What the noise did: the plan, Dice between clean and noisy masks of every frame that had the object, means.

    Args:
        cases: the chosen cases with clean masks.
    """
    return summed_record((entry for loaded in cases for entry in case_record(loaded, plan)), plan)


def case_record(loaded: LoadedCase, plan: NoisePlan) -> list[dict[str, Any]]:
    """One entry per object of a chosen case, loaded with its clean masks."""
    entries = []
    for name, change in case_changes(loaded.case, plan, loaded.masks.names).items():
        frames = {}
        for frame in range(loaded.masks.shape[0]):
            clean = loaded.masks.on_frame(name, frame)
            if clean.any():
                frames[str(frame)] = compared(clean, apply_change(clean, change, frame))
        entries.append(record_entry(loaded.case, name, change, frames))
    return entries


def compared(clean: Mask, noisy: Mask) -> dict[str, Any]:
    """Dice and sizes in pixels of one mask before and after."""
    sizes = [int(np.count_nonzero(clean)), int(np.count_nonzero(noisy))]
    return {"dice": round(mask_dice(clean, noisy), 6), "pixels": sizes}


def record_entry(case: Case, name: str, change: Change, frames: dict[str, Any]) -> dict[str, Any]:
    """The record of one object of one case; `frames` by number, as of `compared`."""
    return {
        "dataset": case.dataset,
        "case": case.name,
        "object": name,
        "change": change.to_dict(),
        "frames": frames,
    }


def summed_record(entries: Iterable[dict[str, Any]], plan: NoisePlan) -> dict[str, Any]:
    """A record out of entries: sorted by name, with the mean strength over all masks and of each task."""
    rows = sorted(entries, key=lambda e: (e["dataset"], e["case"], e["object"]))
    tasks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        tasks[f"{row['dataset']}/{row['object']}"] += row["frames"].values()
    masks = [mask for found in tasks.values() for mask in found]
    return {
        "version": RECORD_VERSION,
        "plan": plan.to_dict(),
        "cases": len({(row["dataset"], row["case"]) for row in rows}),
        **_strength(masks),
        "tasks": {task: _strength(found) for task, found in sorted(tasks.items())},
        "entries": rows,
    }


def _strength(masks: list[dict[str, Any]]) -> dict[str, Any]:
    mean = round(float(np.mean([mask["dice"] for mask in masks])), 6) if masks else None
    return {"masks": len(masks), "mean_dice": mean, "vanished": sum(mask["pixels"][1] == 0 for mask in masks)}


def _generator(plan: NoisePlan, case: Case, name: str = "") -> np.random.Generator:
    return np.random.default_rng([plan.seed, zlib.crc32(case.label.encode()), zlib.crc32(name.encode())])


def _load(clean: Case, plan: NoisePlan, case: Case) -> LoadedCase:
    loaded = clean.load()
    return LoadedCase(case, loaded.scan, NoisyMasks(loaded.masks, case_changes(clean, plan, loaded.masks.names)))
