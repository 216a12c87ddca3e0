"""Banks of training cases with the masks that training was given: what is offered, what enters, how much is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.data import open_cases
from samed2.data.cases import Case
from samed2.data.examples import MIN_PIXELS, drawn_by_task, largest_frame
from samed2.data.noise import mask_dice
from samed2.data.outline import outline_contrast, task_ranks
from samed2.evaluate.metrics import iou
from samed2.io import Scan, Window, resolve_window
from samed2.memory import SelectiveMemory
from samed2.predict import Predictor, Settings
from samed2.predict.rows import plan_rows, to_tensors
from samed2.prompts import Prompts, components, tight_box
from samed2.train.experiments.recipe import BankRecipe
from samed2.train.recipe import DataRecipe
from samed2.train.start import given_cases, wrong_cases

Look = Literal["near", "whole"]  # as a prompt would be seen, or as a whole frame for questions without one
LOOKS: tuple[Look, ...] = ("near", "whole")
Mask = NDArray[np.bool_]
Track = Callable[[list[tuple[str, Case]]], Iterable[tuple[str, Case]]]


@dataclass
class Offer:
    """One frame of a training case with its given mask.

    Attributes:
        seen: by look, raw embedding (1, d, h, w) and memory feature (1, M, h, w).
        sure: confidence by its kind, see `BankRecipe`.
        strength: Dice of the given and the true mask; wrong: whether noise was added.
        contrast: across the outline of the given mask, see `samed2.data.outline`.
    """

    task: str
    modality: str
    origin: str
    seen: dict[Look, tuple[torch.Tensor, torch.Tensor]]
    sure: dict[str, float]
    wrong: bool
    strength: float
    contrast: float


@torch.inference_mode()
def collect_offers(
    predictor: Predictor, data: DataRecipe, count: int, seed: int, settings: Settings, track: Track = lambda jobs: jobs
) -> list[Offer]:
    """Up to `count` cases of each task of the training data, drawn by seed and names, in random order.

    Of volumes and videos the frame with most of the object is taken; given masks below 16 pixels are left out.

    Raises:
        InputError: a case cannot be read.
    """
    clean = open_cases(data.root, data.splits)
    given = {case.label: case for case in given_cases(data.root, data.splits, data.noise)}
    wrong = wrong_cases(clean, data.noise)
    truth = {case.label: case for case in clean}
    drawn = drawn_by_task(clean, count, seed)
    jobs = [(task, given[label]) for task, labels in drawn.items() for label in labels]
    order = np.random.default_rng([seed, len(jobs)]).permutation(len(jobs))
    offers = []
    for task, case in track([jobs[i] for i in order]):
        name = task.split("/", 1)[1]
        loaded, right = case.load(), truth[case.label].load()
        if name not in loaded.masks.names:
            continue
        frame = largest_frame(loaded.masks, name, MIN_PIXELS)
        if frame is None:
            continue
        mask, scan = np.asarray(loaded.masks.on_frame(name, frame)), loaded.scan
        window = resolve_window(scan, None)
        offers.append(
            Offer(
                task=task,
                modality=scan.modality,
                origin=case.label,
                seen={look: _seen(predictor, scan, mask, frame, window, settings, look) for look in LOOKS},
                sure={"one": 1.0, **confidences(predictor, scan, mask, frame, window, settings)},
                contrast=outline_contrast(window.apply(scan.frame(frame)), mask),
                wrong=case.label in wrong,
                strength=mask_dice(np.asarray(right.masks.on_frame(name, frame)), mask),
            )
        )
    for offer, rank in zip(offers, task_ranks([o.task for o in offers], [o.contrast for o in offers]), strict=True):
        offer.sure["outline"] = rank
    return offers


def confidences(
    predictor: Predictor, scan: Scan, mask: Mask, frame: int, window: Window, settings: Settings
) -> dict[str, float]:
    """Predicted IoU of the answer to the boxes of a mask's parts, and the answer's IoU with the mask."""
    prompts = Prompts()
    for part in components(mask) or [mask]:
        prompts.add_box(1, frame, *tight_box(part))
    asked = {"window": window, "memory": False, "neighbours": settings.neighbours}
    found = predictor.predict(scan, prompts, frame, **asked)[0]  # type: ignore[arg-type]
    return {"predicted": float(np.clip(found.confidence, 0, 1)), "agreement": float(iou(found.mask, mask))}


def filled_bank(predictor: Predictor, offers: list[Offer], how: BankRecipe, look: Look, seed: int) -> SelectiveMemory:
    """A bank after all offers that are sure enough, one after the other."""
    bank = predictor.new_memory(how.capacity, policy=how.policy, key=how.key, seed=seed)
    for offer in offers:
        sure = offer.sure[how.confidence]
        if sure >= how.least:
            low, feature = offer.seen[look]
            bank.add(low, feature, [sure], task=offer.task, modality=offer.modality, origin=offer.origin)
    return bank


def bank_figures(bank: SelectiveMemory, offers: list[Offer], how: BankRecipe) -> dict[str, Any]:
    """How many were offered, sure enough and kept, and how many of them are wrong; Dice of wrong masks with true."""
    wrong = {(offer.origin, offer.task) for offer in offers if offer.wrong}
    strengths = [offer.strength for offer in offers if offer.wrong]
    return {
        "offered": len(offers),
        "offered_wrong": len(wrong),
        "sure_enough": sum(offer.sure[how.confidence] >= how.least for offer in offers),
        "entries": len(bank),
        "wrong": sum((entry.origin, entry.task) in wrong for entry in bank.entries),
        "wrong_dice": float(np.mean(strengths)) if strengths else None,
    }


def _seen(
    predictor: Predictor, scan: Scan, mask: Mask, frame: int, window: Window, settings: Settings, look: Look
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding and memory feature of a frame, as `Predictor.remember` makes them."""
    entry = Prompts().add_mask(1, frame, mask).validate(scan).on_frame(frame).objects[1]
    near = look == "near" and settings.zoom
    row = plan_rows(1, entry, scan.height, scan.width, predictor.size, settings.margin, near)[0]
    features = predictor.engine.features(scan, frame, [row.view], window, settings)
    logits = to_tensors([row]).masks
    assert logits is not None
    with predictor.engine.autocast():
        feature = predictor.model.encode_memory(features.low, logits.to(predictor.device), binary=True)
    return features.low.float().cpu(), feature.float().cpu()
