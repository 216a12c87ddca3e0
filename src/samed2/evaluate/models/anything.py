"""SAM and its kin, zero-shot, on whole frames: one class for all of them, a recipe for what differs.

The image is embedded once per frame; every row (one part of one object) goes through the decoder by itself, so an
answer never depends on the others. Source of the interface: transformers' `SamModel` and `Sam2Model`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.evaluate.models.base import PIXELS, PREVIOUS, PROMPTS, Proposals
from samed2.evaluate.models.caches import ScanCache, Windows
from samed2.evaluate.models.fit import Fit
from samed2.evaluate.models.options import Options
from samed2.evaluate.models.parts import Part, parts_of
from samed2.evaluate.models.plain import FrameByFrame
from samed2.io import Scan, Window
from samed2.nn.weights import fingerprint
from samed2.predict.device import autocast, resolve_device, resolve_precision
from samed2.predict.zoom import as_tensor, three_channels
from samed2.prompts import ObjectPrompts, Prompts

CACHED_FRAMES = 8


class AnythingOptions(Options):
    """Settings of SAM 2, SAM and MedSAM.

    Attributes:
        multimask: always (True) or never (False) propose several masks; None as the authors do, for a single point.
    """

    multimask: bool | None = None


def logits_back(fit: Fit, maps: torch.Tensor) -> torch.Tensor:
    """(M, s, s) logits to (M, H, W), as SAM and SAM 2 do."""
    return fit.back(maps)


@dataclass(frozen=True)
class Recipe:
    """What differs between the models.

    Attributes:
        size: side of the square input in pixels.
        fit: (H, W, size) -> how the frame lies in it.
        pixels: windowed (3, H, W) in [0, 1] and the fit -> (3, size, size) as the model wants it.
        back: the fit and (M, s, s) logits -> (M, H, W) logits.
        boxes_only: refuse other prompts.
    """

    size: int
    fit: Callable[[int, int, int], Fit]
    pixels: Callable[[torch.Tensor, Fit], torch.Tensor]
    back: Callable[[Fit, torch.Tensor], torch.Tensor] = logits_back
    boxes_only: bool = False


class SegmentAnything(FrameByFrame):
    """A `Segmenter` around transformers' `SamModel` or `Sam2Model`.

    Args:
        model: one of them.
        recipe: how to feed it.
        device: see `resolve_device`.
    """

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        device: str | torch.device | None = None,
        options: AnythingOptions | None = None,
        name: str = "",
    ) -> None:
        self.options = options or AnythingOptions()
        self.device = resolve_device(device)
        self.dtype = resolve_precision(self.options.precision, self.device)
        self.model = model.to(self.device).eval()
        self.recipe = recipe
        self.name = name or type(model).__name__
        self.fingerprint = fingerprint(model)
        self.abilities = frozenset({PROMPTS, PIXELS} if recipe.boxes_only else {PROMPTS, PREVIOUS, PIXELS})
        self._windows = Windows(self.options.window)
        self._embeddings: ScanCache[Any] = ScanCache(CACHED_FRAMES)

    @torch.inference_mode()
    def predict(self, scan: Scan, prompts: Prompts) -> dict[tuple[int, int], Proposals]:
        """Proposals by (object id, frame).

        Several boxes of one object are asked one by one and united, mask by mask in the model's own order; points
        go with the box that holds them or is nearest. A mask counts as the previous answer.

        Raises:
            InputError: prompts that do not fit the scan, or that the model does not take.
        """
        prompts = prompts.validate(scan)
        window = self._windows.of(scan)
        fit = self.recipe.fit(scan.height, scan.width, self.recipe.size)
        found = {}
        for frame in prompts.frames():
            for number, entry in prompts.on_frame(frame).objects.items():
                parts = self._parts(number, entry)
                embedding = self._embed(scan, frame, window, fit)
                found[number, frame] = unite([self._ask(embedding, part, fit) for part in parts])
        return found

    def _parts(self, number: int, entry: ObjectPrompts) -> list[Part]:
        if self.recipe.boxes_only and (entry.points or entry.masks or not entry.boxes):
            got = "points" if entry.points else "a mask"
            raise InputError(f"object {number}: {self.name} got {got}, it takes boxes only; choose a box protocol")
        return parts_of(entry)

    def _embed(self, scan: Scan, frame: int, window: Window, fit: Fit) -> Any:
        def make() -> Any:
            seen = three_channels(as_tensor(window.apply(scan.frame(frame))))
            pixels = self.recipe.pixels(seen, fit)[None]
            with autocast(self.device, self.dtype):
                return self.model.get_image_embeddings(pixels.to(self.device))

        return self._embeddings.get(scan, (frame, window), make)

    def _ask(self, embedding: Any, part: Part, fit: Fit) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Logits (M, H, W) and predicted IoU (M,) of one part, in the model's own order."""
        multimask = self.options.multimask
        if multimask is None:  # a lone click is ambiguous, all else is not (SAM, section 3; SAM 2's demo)
            multimask = len(part.points) == 1 and part.box is None and part.mask is None
        asked: dict[str, torch.Tensor] = {}
        if part.points:
            asked["input_points"] = fit.points([(y, x) for y, x, _ in part.points])[None, None]
            asked["input_labels"] = torch.tensor([[[int(positive) for _, _, positive in part.points]]])
        if part.box is not None:
            asked["input_boxes"] = fit.box(part.box)[None, None]
        if part.mask is not None:
            patch = self.model.config.prompt_encoder_config.patch_size
            asked["input_masks"] = fit.mask(part.mask, 4 * self.recipe.size // int(patch))[None]
        with autocast(self.device, self.dtype):
            answer = self.model(
                image_embeddings=embedding,
                multimask_output=multimask,
                **{key: value.to(self.device) for key, value in asked.items()},
            )
        maps, sure = answer.pred_masks[0, 0].float().cpu(), answer.iou_scores[0, 0].float().cpu()
        return self.recipe.back(fit, maps).numpy(), sure.double().clamp(0, 1).numpy()


def unite(answers: list[tuple[NDArray[np.float32], NDArray[np.float64]]]) -> Proposals:
    """The parts of an object as one: the largest logit of mask m of each part, their confidence weighted by area."""
    logits = np.max([maps for maps, _ in answers], axis=0)
    areas = np.array([np.count_nonzero(maps > 0, axis=(1, 2)) + 1.0 for maps, _ in answers])  # (parts, M)
    sure = (areas * [confidence for _, confidence in answers]).sum(axis=0) / areas.sum(axis=0)
    chosen = int(sure.argmax())
    probability = torch.from_numpy(logits[chosen]).sigmoid().numpy()
    return Proposals(logits > 0, sure, chosen, probability)
