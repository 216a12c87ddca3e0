"""The interactive 3-D challenge: a box and five clicks (CVPR 2025, github.com/JunMa11/CVPR-MedSegFMCompetition)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samed2.evaluate.metrics import interactive_auc
from samed2.evaluate.models.base import PREVIOUS, PROPAGATE, Segmenter
from samed2.evaluate.protocols.base import (
    Box,
    Hint,
    Mask,
    PromptProtocol,
    Subject,
    Trial,
    arguments,
    ask,
    bounds,
    gather,
    register_protocol,
)
from samed2.evaluate.protocols.propagate import FALLBACK, by_frames, by_model, whole_truth
from samed2.evaluate.selection import Pick
from samed2.prompts import Prompts, shift_box

CLICKS = 5
LARGEST_SHIFT, SHIFT_SIDE = 5, 256  # pixels outward, told on a frame of 256 x 256
NSD_FROM = 0.2  # below this Dice the challenge counts NSD as 0
Click = tuple[int, int, int, bool]  # (frame, y, x, positive)


@dataclass(frozen=True)
class Challenge(PromptProtocol):
    """First and last frame and one box on the middle frame, then five clicks on the largest 3-D error."""

    @property
    def whole(self) -> bool:
        return True

    @property
    def words(self) -> str:
        return (
            f"first and last frame and one box on the middle frame, then {CLICKS} clicks on the largest 3-D error; "
            "DSC and NSD after each click, area under the curve and final"
        )

    def run(self, model: Segmenter, subject: Subject) -> Trial:
        truth, extent = whole_truth(subject)
        held = np.flatnonzero(truth.any(axis=(1, 2)))
        middle = int(held[len(held) // 2])
        rng = subject.rng("volume", self.text)
        box = enlarged(bounds(truth[middle]), rng, (truth.shape[1], truth.shape[2]))
        clicks: list[Click] = []
        picks: list[Pick] = []
        steps: list[Mask] = []
        for step in range(CLICKS + 1):
            click = volume_click(steps[-1], truth, rng) if step else None
            if step and click is None:
                steps.append(steps[-1])
                continue
            clicks += [click] if click else []
            picks = self._ask(model, subject, (middle, box), clicks, picks, extent)
            steps.append(np.stack([p.mask for p in picks]))
        outcome = gather(list(range(len(picks))), picks)
        outcome.probability, outcome.steps = None, steps
        outcome.prompts = {"points": len(clicks), "boxes": 1, "masks": 0}
        if PROPAGATE not in model.abilities and subject.scan.num_frames > 1:
            outcome.notes = [FALLBACK]
        return Trial(outcome, {middle: Hint([box], [(y, x, p) for f, y, x, p in clicks if f == middle])}, extent)

    def _ask(
        self,
        model: Segmenter,
        subject: Subject,
        start: tuple[int, Box],
        clicks: list[Click],
        before: list[Pick],
        extent: tuple[int, int],
    ) -> list[Pick]:
        """All frames from the box, all clicks so far and, where the model takes it, its previous answer."""
        prompts = Prompts().add_box(1, start[0], *start[1])
        for frame, y, x, positive in clicks:
            prompts.add_point(1, frame, y, x, positive)
        for frame in {click[0] for click in clicks}:
            if PREVIOUS in model.abilities and before[frame].mask.any():
                prompts.add_mask(1, frame, before[frame].mask)
        if PROPAGATE in model.abilities:
            picks = by_model(model, subject, prompts)
        else:
            fixed = {f: _clicked(model, subject, f, prompts.on_frame(f), before) for f in prompts.frames()}
            picks = by_frames(model, subject, fixed, extent)
        empty = Pick(np.zeros(subject.truth.shape[1:], dtype=bool))
        return [pick if extent[0] <= frame <= extent[1] else empty for frame, pick in enumerate(picks)]

    def step_columns(self, steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
        dice = [scores["dice"] for scores in steps]
        nsd = [scores["nsd"] if scores["dice"] > NSD_FROM else 0.0 for scores in steps]
        columns = {f"dice_{step}": value for step, value in enumerate(dice)}
        columns |= {f"nsd_{step}": value for step, value in enumerate(nsd)}
        for name, values in (("dice", dice[1:]), ("nsd", nsd[1:])):
            columns[f"{name}_auc"] = interactive_auc(values)
            columns[f"{name}_final"] = values[-1]
        return columns


def _clicked(model: Segmenter, subject: Subject, frame: int, prompts: Prompts, before: list[Pick]) -> Pick:
    """The answer of a model that cannot propagate on a prompted frame.

    Beside its clicks the frame gets the box of its previous answer, so that every click has something to correct;
    with negative clicks only and nothing to correct it stays empty.
    """
    entry = prompts.objects[1]
    if not entry.boxes and before and before[frame].mask.any():
        prompts.add_box(1, frame, *bounds(before[frame].mask))
    if not entry.boxes and not any(p.positive for p in entry.points):
        return Pick(np.zeros(subject.truth.shape[1:], dtype=bool))
    return ask(model, subject, frame, prompts, {1: subject.truth[frame]})


def enlarged(box: Box, rng: np.random.Generator, shape: tuple[int, int]) -> Box:
    """The box with all sides outward by one whole number of pixels, 0 to 5 on a frame of 256 x 256, clipped."""
    shift = int(rng.integers(0, LARGEST_SHIFT + 1))
    y, x = shift * shape[0] / SHIFT_SIDE, shift * shape[1] / SHIFT_SIDE
    return shift_box(box, (y, x, y, x), 1.0, shape, "pixels")


def volume_click(pred: Mask, truth: Mask, rng: np.random.Generator) -> Click | None:
    """The deepest voxel of the largest 26-connected error of two (T, H, W) masks, or None where there is none.

    Depth is the distance to the nearest voxel outside the error in voxels, not millimetres; outside the volume
    is outside. `rng` decides among equally deep voxels.
    """
    from scipy import ndimage

    labels, count = ndimage.label(pred ^ truth, structure=np.ones((3, 3, 3), dtype=int))
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    index = int(sizes.argmax()) + 1
    part = ndimage.find_objects(labels, max_label=index)[index - 1]
    depth = ndimage.distance_transform_edt(np.pad(labels[part] == index, 1))[1:-1, 1:-1, 1:-1]
    places = np.argwhere(depth == depth.max())
    place = places[rng.integers(len(places))]
    frame, y, x = (int(p) + s.start for p, s in zip(place, part, strict=True))
    return frame, y, x, bool(truth[frame, y, x])


@register_protocol("challenge3d", "challenge3d", "box and five clicks in 3-D: DSC and NSD, area and final")
def _challenge(name: str, given: list[str]) -> PromptProtocol:
    arguments(name, given, 0, 0)
    return Challenge(name)
