"""What a session shows of its present state: objects, prompts, masks, result. `session.py` adds what changes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, Window
from samed2.predict.collect import collect
from samed2.predict.results import ObjectPrediction, label_map
from samed2.predict.session_state import History, State, copied
from samed2.predict.settings import Settings
from samed2.predict.tracking import Tracking
from samed2.prompts import Prompts

if TYPE_CHECKING:
    from samed2.predict.predictor import Predictor


class SessionView:
    """A scan, the predictor that looks at it and how, and the states of what was said and found about it."""

    def __init__(
        self, predictor: Predictor, scan: Scan, window: Window, tracking: Tracking, settings: Settings
    ) -> None:
        self.predictor, self.scan = predictor, scan
        self.window, self.tracking, self.settings = window, tracking, settings
        self._history = History(State())

    @property
    def objects(self) -> dict[int, str]:
        """Object ids and names, in the order they were added."""
        return {i: entry.name for i, entry in self._now.prompts.objects.items()}

    @property
    def prompts(self) -> Prompts:
        """A copy of all prompts."""
        return copied(self._now.prompts)

    def mask(self, object_id: int, frame: int) -> NDArray[np.bool_] | None:
        """The (H, W) mask of an object on a frame, None where it has not been looked for."""
        held = self._now.answers.get((frame, object_id))
        return held.mask if held is not None else None

    def prediction(self, object_id: int, frame: int) -> ObjectPrediction | None:
        """The same with its confidence and object score."""
        held = self._now.answers.get((frame, object_id))
        return held.back() if held is not None else None

    def frames(self, object_id: int) -> list[int]:
        """The frames on which an object has an answer, in order."""
        return sorted(frame for frame, i in self._now.answers if i == object_id)

    def labels(self, frame: int) -> NDArray[Any]:
        """(H, W) label map of a frame: a pixel of several objects goes to the surest."""
        dtype = np.dtype(np.uint16 if max(self.objects, default=0) > 255 else np.uint8)
        found = self._weighed(frame)
        return label_map(found, dtype) if found else np.zeros((self.scan.height, self.scan.width), dtype)

    def result(self) -> Segmentation:
        """All frames as one label map on the scan's grid, with confidences and how it came about."""
        state = self._now
        frames = sorted({frame for frame, _ in state.answers})
        result = collect(self.scan, state.prompts, ((frame, self._weighed(frame)) for frame in frames))
        result.provenance = {
            **self.predictor.describe(self.window, self.settings),
            "prompts": state.prompts.to_json(),
            **({"spans": {str(i): list(span) for i, span in state.spans.items()}} if state.spans else {}),
            "confirmed": sorted(state.confirmed),
        }
        return result

    @property
    def _now(self) -> State:
        return self._history.now

    def _known(self, object_id: int) -> None:
        if object_id not in self._now.prompts.objects:
            known = ", ".join(map(str, self.objects)) or "none"
            raise InputError(f"object {object_id}: is unknown, the objects are {known}")

    def _found(self, object_id: int, frame: int) -> bool:
        mask = self.mask(object_id, frame)
        return mask is not None and bool(mask.any())

    def _weighed(self, frame: int) -> list[ObjectPrediction]:
        """What was found on a frame, with logits that let the surest win where objects overlap."""
        found = [held.back() for (f, _), held in self._now.answers.items() if f == frame]
        return [replace(one, logits=one.logits * np.float32(1 + one.confidence)) for one in found]
