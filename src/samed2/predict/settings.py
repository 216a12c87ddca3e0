"""How to predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from samed2.errors import InputError


@dataclass(frozen=True)
class Settings:
    """What a call to the predictor may choose.

    Attributes:
        multimask: choose among the three multimask proposals by predicted IoU, and return all three.
            A single click always chooses among them.
        zoom: look at a square around the prompt, `margin` times as wide as the box, instead of the whole frame.
        looks: widths of the views tried around clicks, as shares of the frame's longer side; the answer that the
            others agree with most is kept, then refined. More of them cost an encoding each.
        closeups: how many views, each a step wider than the one before, show the answer to clicks once more; their mean
            is the answer.
        details: along the longer side of a large object in a box, the pieces that are looked at once more, nearer, by
            models that were trained for it; 1 leaves the first answer as it is.
        fill_holes, min_area: clean-up in pixels, see `clean`; 0 leaves the mask alone.
        memory: use the predictor's memory, when it has one.
        memories: how many entries to read for each view.
        task: what the prompted objects are, as the memory calls it: only its entries of this task are read, and of
            clicks it is also asked what it finds on the frame by itself. None reads those of the scan's modality.
        neighbours: frames of a clip around each frame of a volume or video, for the temporal adapters; 1 encodes every
            frame alone.
        shallow: only the first adapter sees neighbours, one on each side, at little more than the price of frames
            alone; where `neighbours` is 1 it changes nothing.
        recent: earlier frames that the streaming memory of an object is read from, beside the prompted ones; None is as
            many as the model was made for (6 in SAM-2), fewer are quicker: the latest, which speak for all.
        mirror: also look at the mirror image and take the mean; twice the time for a little accuracy.
    """

    multimask: bool = False
    zoom: bool = True
    margin: float = 1.3
    looks: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17)
    closeups: int = 4
    details: int = 2
    fill_holes: int = 0
    min_area: int = 0
    memory: bool = True
    memories: int = 4
    task: str | None = None
    neighbours: int = 1
    shallow: bool = False
    recent: int | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        wanted = {
            "margin": 1.0,
            "fill_holes": 0,
            "min_area": 0,
            "memories": 0,
            "neighbours": 1,
            "closeups": 1,
            "details": 1,
        }
        for name, least in wanted.items():
            if not getattr(self, name) >= least:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted at least {least}")
        if self.recent is not None and not self.recent >= 0:
            raise InputError(f"recent: got {self.recent}, wanted at least 0, or None for all")
        if not self.looks or not all(0 < share <= 1 for share in self.looks):
            raise InputError(f"looks: got {self.looks}, wanted shares of the frame above 0 and up to 1")


def settings_from(values: dict[str, Any]) -> Settings:
    """The defaults with some fields replaced; an unknown name is an `InputError`."""
    unknown = sorted(set(values) - set(Settings.__dataclass_fields__))
    if unknown:
        raise InputError(f"setting {unknown[0]!r} is unknown; there are {', '.join(Settings.__dataclass_fields__)}")
    return replace(Settings(), **values)


def fields_of(settings: Any) -> dict[str, Any]:
    """The fields of a flat dataclass by name, as they are."""
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}
