"""How many wrong masks enter the memory under each policy, and what that costs without a prompt.

    python benchmarks/noise.py --data FOLDER [--model nano] [--tasks DATASET/OBJECT ...] [--fractions 0 0.2 0.4 0.6]

A share of the training frames gets worse masks (`--noise`); then all are offered, in random order, to a bank that is
too small for them. Their confidence is 1 (the policy cannot tell), the model's predicted IoU for the box of the given
mask, the IoU of the model's answer to that box with the given mask (agreement), or the contrast across the mask's
outline as a rank in its task (outline). Shown: how often a right mask has more confidence than a wrong one of its task,
the share of wrong entries in the full bank, and Dice on clean test frames from K entries of the task, no prompt. The
last line is JSON. A model that was trained on the same frames knows their true masks, which flatters its confidences.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn import functional as F

from samed2.data import open_cases
from samed2.data.noise import apply_change, draw_change, parse_noise
from samed2.data.outline import outline_contrast, task_ranks
from samed2.memory import SelectiveMemory
from samed2.nn import Features, SAMed2Model, weights
from samed2.train.continual.episodes import Episode, Shot, by_task, plain_episode, read_shots
from samed2.train.continual.fit import encode, encode_entries

TASKS = (
    "us_hc18/fetal_head",
    "dermoscopy_isic2018/skin_lesion",
    "fundus_drishtigs/optic_disc",
    "us_busi/breast_lesion",
)
POLICIES = ("paper", "confidence", "similarity", "random", "fifo")
CONFIDENCES = ("one", "predicted", "agreement", "outline")
ROWS = 16


@dataclass
class Offer:
    """What a bank may take: raw embedding, memory feature, task, whether the mask is wrong, confidence by kind."""

    low: torch.Tensor
    feature: torch.Tensor
    task: str
    wrong: bool
    sure: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6])
    parser.add_argument("--noise", nargs="+", default=["dilate-or-erode:15%,30%", "shift:10%,25%"])
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--cases", type=int, default=60, help="training cases of each task")
    parser.add_argument("--test-cases", type=int, default=30)
    parser.add_argument("--capacity", type=int, default=64)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = weights.load(options.model).eval()
    size = int(model.config.image_size)
    train = read_shots(open_cases(options.data, ["train"]), options.tasks, size, options.cases, 1)
    test = read_shots(open_cases(options.data, ["test"]), options.tasks, size, options.test_cases, 1)
    seen = list(encoded(model, test))
    shown = Table("wrong masks", "confidence", "right above wrong", "policy", "wrong in the bank", "Dice, no prompt")
    found = []
    for fraction in track(
        options.fractions, "fractions", console=Console(stderr=True), disable=not sys.stderr.isatty()
    ):
        offers = list(offered(model, train, fraction, options.noise, options.seed))
        ranks = task_ranks([o.task for o in offers], [o.sure["outline"] for o in offers])
        for offer, rank in zip(offers, ranks, strict=True):
            offer.sure["outline"] = rank
        order = np.random.default_rng(options.seed).permutation(len(offers))
        for kind in CONFIDENCES:
            told = separation(offers, kind)
            for policy in options.policies:
                bank = filled(model, [offers[i] for i in order], kind, policy, options.capacity, options.seed)
                wrong = float(np.mean([entry.origin == "wrong" for entry in bank.entries]))
                score = recalled(model, bank, seen, options.k)
                shown.add_row(f"{fraction:.0%}", kind, f"{told:.2f}", policy, f"{wrong:.0%}", f"{score:.3f}")
                found.append(
                    {"fraction": fraction, "confidence": kind, "policy": policy, "wrong": round(wrong, 4)}
                    | {"separation": None if np.isnan(told) else round(told, 4)}
                    | {"dice": round(score, 4)}
                )
    Console(file=sys.stdout).print(shown)
    print(
        f"{len(train)} training frames offered to {options.capacity} places, {len(test)} test frames, K = {options.k}"
    )
    print(json.dumps(found))


@torch.inference_mode()
def offered(model: SAMed2Model, shots: list[Shot], fraction: float, noise: list[str], seed: int) -> Iterator[Offer]:
    """All shots, `fraction` of each task with masks made worse."""
    given, wrong = [], []
    for number, same in enumerate(by_task(shots).values()):
        rng = np.random.default_rng([seed, number])
        chosen = set(rng.permutation(len(same))[: round(fraction * len(same))].tolist())
        for place, shot in enumerate(same):
            given.append(worse(shot, noise, rng) if place in chosen else shot)
            wrong.append(place in chosen)
    for first in range(0, len(given), ROWS):
        some = given[first : first + ROWS]
        episode = plain_episode(some, "box", (seed, first))
        features = encode(model, episode.pixels)
        entries = encode_entries(model, features.low, episode.whole)
        answer = model.decode(features._replace(low=model.condition(features.low)), episode.prompts)
        agree = iou(grown(answer.logits, episode), episode.target > 0.5)
        for row, shot in enumerate(some):
            sure = {"one": 1.0, "predicted": float(answer.iou[row, 0].clamp(0, 1)), "agreement": float(agree[row])}
            sure["outline"] = outline_contrast(np.moveaxis(shot.image, 0, -1) / np.float32(255), shot.mask)
            yield Offer(features.low[row], entries[row], shot.task, wrong[first + row], sure)


def separation(offers: list[Offer], kind: str) -> float:
    """Mean over tasks: chance that a right mask has more confidence than a wrong one (the area under the ROC curve)."""
    areas = []
    for task in dict.fromkeys(offer.task for offer in offers):
        own = [offer for offer in offers if offer.task == task]
        right, wrong = (np.array([o.sure[kind] for o in own if o.wrong is state]) for state in (False, True))
        if len(right) and len(wrong):
            areas.append(float((right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2))
    return float(np.mean(areas)) if areas else float("nan")


def worse(shot: Shot, noise: list[str], rng: np.random.Generator) -> Shot:
    """The shot with each kind of noise applied that leaves something of the mask."""
    mask = shot.mask
    for text in noise:
        changed = apply_change(mask, draw_change(parse_noise(text), rng))
        mask = changed if changed.any() else mask
    return replace(shot, mask=mask)


def filled(
    model: SAMed2Model, offers: list[Offer], kind: str, policy: str, capacity: int, seed: int
) -> SelectiveMemory:
    """A bank after all offers, one after the other."""
    bank = SelectiveMemory(capacity, tuple(offers[0].feature.shape), policy=policy, seed=seed)
    for offer in offers:
        origin = "wrong" if offer.wrong else "right"
        bank.add(offer.low[None], offer.feature[None], [offer.sure[kind]], task=offer.task, origin=origin)
    return bank


@torch.inference_mode()
def encoded(model: SAMed2Model, shots: list[Shot]) -> Iterator[tuple[str, Features, Episode]]:
    """Task, features and truth of some frames at a time, all of one task."""
    for task, same in by_task(shots).items():
        for first in range(0, len(same), ROWS):
            episode = plain_episode(same[first : first + ROWS], "none", (0, first))
            yield task, encode(model, episode.pixels), episode


@torch.inference_mode()
def recalled(model: SAMed2Model, bank: SelectiveMemory, seen: list[tuple[str, Features, Episode]], k: int) -> float:
    """Mean over tasks of the mean Dice of answers from K entries of the task alone."""
    scores: dict[str, list[float]] = {}
    for task, features, episode in seen:
        memory = bank.retrieve(features.low, k, task=task).features
        conditioned = features._replace(low=model.condition(features.low, memory))
        found = iou(grown(model.decode(conditioned, episode.prompts).logits, episode), episode.target > 0.5)
        scores.setdefault(task, []).extend((2 * found / (1 + found)).tolist())
    return float(np.mean([np.mean(values) for values in scores.values()]))


def grown(logits: torch.Tensor, episode: Episode) -> torch.Tensor:
    """(N, 1, S, S) bool of (N, 1, S/4, S/4) logits."""
    return F.interpolate(logits.float(), size=episode.target.shape[-1], mode="bilinear", align_corners=False) > 0


def iou(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(N,) IoU of (N, 1, S, S) bool masks, the truth not empty."""
    return (guess & truth).sum((1, 2, 3)) / (guess | truth).sum((1, 2, 3))


if __name__ == "__main__":
    main()
