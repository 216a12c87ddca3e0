"""What is done with one case: propose a mask from memory, segment it from prompts, remember it once it is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, Window, resolve_window
from samed2.predict.find import LOOKS
from samed2.predict.predictor import Predictor
from samed2.prompts import Prompts


@dataclass(frozen=True)
class How:
    """How cases are segmented and remembered.

    Attributes:
        window: see `samed2.io.resolve_window`.
        modality: what the files show, where they do not say.
        looks: on how many frames of a volume or video, spread evenly, the object is sought before the surest is
            propagated.
        condition: let the memory also speak where there are prompts, and while propagating.
        remembered: at most this many frames of a confirmed volume or video go to the memory.
        settings: fields of `samed2.predict.Settings`.
    """

    window: str | Window | None = None
    modality: str | None = None
    looks: int = LOOKS
    condition: bool = False
    remembered: int = 5
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("looks", "remembered"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted at least 1")


def propose(predictor: Predictor, scan: Scan, task: str, how: How) -> Segmentation:
    """Segment a case from the memory's entries of a task alone, as object 1.

    In a volume or video the object is recalled on some frames; the surest answer is propagated both ways.

    Raises:
        InputError: the predictor has no memory of the task, or the scan cannot be read.
    """
    many = scan.num_frames > 1
    result = predictor.find(
        scan,
        {task: task},
        propagate="both" if many else None,
        looks=how.looks,
        condition=how.condition,
        window=how.window,
        **how.settings,
    )
    result.provenance["proposal"] = "memory"
    return result


def correct(predictor: Predictor, scan: Scan, prompts: Prompts, task: str, how: How) -> Segmentation:
    """Segment a case from prompts for its one object, propagated both ways in a volume or video.

    Raises:
        InputError: prompts that do not fit, or are about several objects of which none has the task's name.
    """
    return _follow(predictor, scan, Prompts({1: _object(prompts, task)}), task, how)


def remember(predictor: Predictor, scan: Scan, masks: NDArray[np.bool_], task: str, origin: str, how: How) -> int:
    """Offer a confirmed case to the predictor's memory, for prompts and for recall, in place of what it had of it.

    Args:
        masks: (T, H, W); at most `how.remembered` of its frames are used: the largest, the others spread.

    Returns:
        How many entries found room.

    Raises:
        InputError: the predictor has no memory, or the masks are of another size than the scan.
    """
    if predictor.memory is None:
        raise InputError("memory: this predictor has none; give it a SelectiveMemory first")
    if masks.shape != scan.shape:
        raise InputError(f"{scan.label}: the mask has shape {masks.shape}, wanted {scan.shape} (frame, y, x)")
    window = resolve_window(scan, how.window)
    predictor.memory.forget(origin, task)
    return sum(
        predictor.remember(scan, masks[frame], frame, window=window, task=task, origin=origin)
        for frame in _spread(masks, how.remembered)
    )


def uncertainty(result: Segmentation, key: int = 1) -> float:
    """One minus the predicted IoU, the mean over frames weighted by area; 1 where nothing was found."""
    areas = result.pixel_counts()[:, [entry.id for entry in result.objects].index(key)]
    sure = result.object(key).confidence
    known = [(int(areas[f]), value) for f, value in sure.items() if areas[f]]
    if not known:
        return 1.0
    return round(1.0 - sum(a * v for a, v in known) / sum(a for a, _ in known), 4)


def _follow(predictor: Predictor, scan: Scan, prompts: Prompts, task: str, how: How) -> Segmentation:
    settings = {**how.settings, "memory": how.condition, "task": task if how.condition else None}
    direction: Any = "both" if scan.num_frames > 1 else None
    return predictor.segment(scan, prompts, window=how.window, propagate=direction, **settings)


def _object(prompts: Prompts, task: str) -> Any:
    """The prompts of the task's object: the only one, or the one that bears the task's name."""
    entries = list(prompts.objects.values())
    named = [e for e in entries if e.name in (task, task.rsplit("/", 1)[-1])]
    if len(entries) != 1 and len(named) != 1:
        names = ", ".join(e.name or "(no name)" for e in entries) or "none"
        raise InputError(f"prompts: hold {len(entries)} objects ({names}), wanted one, or one named {task!r}")
    chosen = entries[0] if len(entries) == 1 else named[0]
    return type(chosen)(task, chosen.points, chosen.boxes, chosen.masks, chosen.text)


def _spread(masks: NDArray[np.bool_], most: int) -> list[int]:
    """Up to `most` frames of (T, H, W) masks that hold something: the largest one, the others spread evenly."""
    areas = masks.sum(axis=(1, 2))
    filled = [int(f) for f in np.flatnonzero(areas)]
    if len(filled) <= most:
        return filled
    chosen = [int(areas.argmax())]
    while len(chosen) < most:
        chosen.append(max(filled, key=lambda f: min(abs(f - other) for other in chosen)))
    return sorted(chosen)
