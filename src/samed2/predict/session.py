"""Working on one scan in dialogue: prompt, see, correct, propagate, undo, confirm, save.

A session is a chain of states; every change makes a new one, so that undo and redo only move along the chain. It holds
the scan, its prompts and masks, and no global state: sessions on one predictor never touch each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, SegmentedObject, Window, resolve_window
from samed2.predict import session_file
from samed2.predict.held import Held
from samed2.predict.propagation import Direction, propagate
from samed2.predict.results import ObjectPrediction, label_map
from samed2.predict.session_file import Key, State
from samed2.predict.settings import fields_of, settings_from
from samed2.predict.tracking import Tracking
from samed2.prompts import ObjectPrompts, Prompts

if TYPE_CHECKING:
    from samed2.predict.predictor import Predictor

KEPT_STATES = 200
AUTOSAVE_SECONDS = 10.0


class Session:
    """Interactive segmentation of one scan; made by `Predictor.session`.

    Args:
        predictor: the model; its memory of past cases is read, and written by `confirm` only.
        scan: image, volume or video.
        window: see `samed2.io.resolve_window`.
        tracking: how `propagate` follows objects.
        autosave: file to save to after every change.
        settings: fields of `samed2.predict.Settings`.
    """

    def __init__(
        self,
        predictor: Predictor,
        scan: Scan,
        *,
        window: str | Window | None = None,
        tracking: Tracking | None = None,
        autosave: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        self.predictor, self.scan = predictor, scan
        self.window = resolve_window(scan, window)
        self.tracking, self.settings = tracking or Tracking(), settings_from(settings)
        self.autosave = Path(autosave) if autosave is not None else None
        self._states, self._at = [State()], 0
        self._saved = 0.0

    # what there is

    @property
    def objects(self) -> dict[int, str]:
        """Object ids and names, in the order they were added."""
        return {i: entry.name for i, entry in self._now.prompts.objects.items()}

    @property
    def prompts(self) -> Prompts:
        """A copy of all prompts."""
        return _copied(self._now.prompts)

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
        found = [held for (f, _), held in self._now.answers.items() if f == frame]
        dtype = np.dtype(np.uint16 if max(self.objects, default=0) > 255 else np.uint8)
        if not found:
            return np.zeros((self.scan.height, self.scan.width), dtype)
        several = [held.back() for held in found]
        for prediction in several:
            prediction.logits = prediction.logits * (1 + prediction.confidence)
        return label_map(several, dtype)

    def result(self) -> Segmentation:
        """All frames as one label map on the scan's grid, with confidences and how it came about."""
        state = self._now
        objects = {i: SegmentedObject(i, entry.name) for i, entry in state.prompts.objects.items()}
        dtype = np.uint16 if max(objects, default=0) > 255 else np.uint8
        labels = np.zeros(self.scan.shape, dtype)
        for frame in sorted({frame for frame, _ in state.answers}):
            labels[frame] = self.labels(frame)
        for (frame, object_id), held in state.answers.items():
            objects[object_id].confidence[frame] = round(held.confidence, 4)
            objects[object_id].present[frame] = held.object_score > 0
        provenance = {
            **self.predictor.describe(self.window, self.settings),
            "prompts": state.prompts.to_json(),
            "confirmed": sorted(state.confirmed),
        }
        scan = self.scan
        return Segmentation(labels, list(objects.values()), scan.geometry, provenance, scan.name, scan.properties)

    # what a person says

    def add_point(
        self, object_id: int, frame: int, y: float, x: float, positive: bool = True, name: str = ""
    ) -> ObjectPrediction:
        """Add a click at pixel (y, x) and give the object's new mask on that frame.

        On a frame whose mask came from propagation the click corrects that mask.

        Raises:
            InputError: as `Prompts.validate`; the session stays as it was.
        """
        prompts = self._named(object_id, name)
        entry = prompts.objects[object_id]
        propagated = self.mask(object_id, frame)
        if not entry.on_frame(frame).frames() and propagated is not None and propagated.any():
            prompts.add_mask(object_id, frame, propagated)
        return self._say(prompts.add_point(object_id, frame, y, x, positive), object_id, frame)

    def add_box(
        self, object_id: int, frame: int, y0: float, x0: float, y1: float, x1: float, name: str = ""
    ) -> ObjectPrediction:
        """Add a box (half-open, in pixels) and give the object's new mask on that frame."""
        return self._say(self._named(object_id, name).add_box(object_id, frame, y0, x0, y1, x1), object_id, frame)

    def add_mask(self, object_id: int, frame: int, mask: ArrayLike, name: str = "") -> ObjectPrediction:
        """Put a (H, W) mask in place of what the object has on that frame; it is kept as it is given."""
        prompts = self._named(object_id, name)
        _without(prompts.objects[object_id], frame)
        prompts.add_mask(object_id, frame, mask)
        prompts = prompts.validate(self.scan)
        given = prompts.objects[object_id].masks[frame]
        exact = ObjectPrediction(object_id, given, given * 2.0 - 1.0, 1.0, 1.0)
        self._push(
            replace(self._now, prompts=prompts, answers={**self._now.answers, (frame, object_id): Held.of(exact)})
        )
        return exact

    def remove(self, object_id: int, frame: int | None = None) -> None:
        """Take back an object, or what was said and found about it on one frame.

        Raises:
            InputError: there is no such object.
        """
        self._known(object_id)
        prompts = _copied(self._now.prompts)
        if frame is None:
            del prompts.objects[object_id]
        else:
            _without(prompts.objects[object_id], frame)

        def stays(key: Key) -> bool:
            return key[1] != object_id or (frame is not None and key[0] != frame)

        answers = {key: held for key, held in self._now.answers.items() if stays(key)}
        confirmed = frozenset(filter(stays, self._now.confirmed))
        self._push(State(prompts, answers, confirmed))

    def propagate(
        self,
        direction: Direction = "both",
        *,
        objects: Iterable[int] | None = None,
        frames: tuple[int, int] | None = None,
    ) -> Iterator[tuple[int, list[ObjectPrediction]]]:
        """Follow objects from their prompts; gives (frame, predictions) as they come and keeps them.

        All of it is one step for undo. What came before an interruption stays.

        Args:
            objects: ids; None takes all. frames: first and last frame to answer for; None takes all.
        """
        chosen = list(self.objects) if objects is None else list(objects)
        for object_id in chosen:
            self._known(object_id)
        prompts = Prompts({i: e for i, e in self._now.prompts.objects.items() if i in chosen and e.frames()})
        prompts = prompts.validate(self.scan)
        start, answers = self._now, dict(self._now.answers)
        self._push(replace(start, answers=answers))
        engine, memory = self.predictor.engine, self.predictor.memory
        given = {(f, i) for i, entry in prompts.objects.items() for f in entry.masks if not entry.on_frame(f).points}
        try:
            for frame, found in propagate(
                engine, self.scan, prompts, self.window, self.settings, self.tracking, memory, direction, frames
            ):
                kept = [p for p in found if (frame, p.id) not in given and (frame, p.id) not in start.confirmed]
                answers.update({(frame, p.id): Held.of(p) for p in kept})
                yield frame, found
                if time.monotonic() - self._saved > AUTOSAVE_SECONDS:
                    self._save_by_itself()
        finally:
            self._save_by_itself()

    def confirm(self, object_id: int, frames: Iterable[int] | None = None, task: str = "") -> int:
        """Mark masks as right, and write them to the predictor's memory, if it has one, with confidence 1.

        Args:
            frames: None takes all frames on which the object was found.
            task: how the memory calls it; the object's name when empty.

        Returns:
            How many frames were confirmed.

        Raises:
            InputError: no such object, or a frame without a mask of it.
        """
        self._known(object_id)
        chosen = [f for f in self.frames(object_id) if self._found(object_id, f)] if frames is None else list(frames)
        for frame in chosen:
            if not self._found(object_id, frame):
                raise InputError(f"object {object_id}: has no mask on frame {frame} to confirm")
        if self.predictor.memory is not None:
            for frame in chosen:
                mask = self.mask(object_id, frame)
                assert mask is not None
                for whole in (False, True):  # one for prompts, one for recall without any
                    self.predictor.remember(
                        self.scan, mask, frame, window=self.window, task=task or self.objects[object_id], whole=whole
                    )
        self._push(replace(self._now, confirmed=self._now.confirmed | {(frame, object_id) for frame in chosen}))
        return len(chosen)

    def undo(self) -> bool:
        """Go one change back; False when there is none. What was written to the memory stays there."""
        return self._move(-1)

    def redo(self) -> bool:
        """Take back an undo; False when there is none."""
        return self._move(1)

    # on disk

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the session to a JSON file, which appears whole or not at all. Earlier states are not kept.

        Raises:
            InputError: the path cannot be written.
        """
        self._saved = time.monotonic()
        return session_file.write(self, self._now, path)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        predictor: Predictor,
        scan: Scan | None = None,
        autosave: str | PathLike[str] | None = None,
    ) -> Session:
        """Open a saved session.

        Args:
            scan: None reads the file the session was about.

        Raises:
            InputError: not a session, another scan, or a damaged file.
        """
        found = session_file.read(path, scan)
        session = cls(predictor, found.scan, window=found.window, tracking=found.tracking, **found.settings)
        session._states = [found.state]
        session.autosave = Path(autosave) if autosave is not None else None
        return session

    # inside

    @property
    def _now(self) -> State:
        return self._states[self._at]

    def _say(self, prompts: Prompts, object_id: int, frame: int) -> ObjectPrediction:
        """Ask about one object on one frame and make that the new state."""
        asked = Prompts({object_id: prompts.objects[object_id].on_frame(frame)})
        found = self.predictor.predict(self.scan, asked, frame, window=self.window, **fields_of(self.settings))[0]
        answers = {**self._now.answers, (frame, object_id): Held.of(found)}
        self._push(replace(self._now, prompts=prompts, answers=answers))
        return found

    def _named(self, object_id: int, name: str) -> Prompts:
        prompts = _copied(self._now.prompts)
        prompts.add_object(object_id, name)
        return prompts

    def _known(self, object_id: int) -> None:
        if object_id not in self._now.prompts.objects:
            known = ", ".join(map(str, self.objects)) or "none"
            raise InputError(f"object {object_id}: is unknown, the objects are {known}")

    def _found(self, object_id: int, frame: int) -> bool:
        mask = self.mask(object_id, frame)
        return mask is not None and bool(mask.any())

    def _push(self, state: State) -> None:
        self._states = [*self._states[: self._at + 1], state][-KEPT_STATES:]
        self._at = len(self._states) - 1
        self._save_by_itself()

    def _move(self, step: int) -> bool:
        if not 0 <= self._at + step < len(self._states):
            return False
        self._at += step
        self._save_by_itself()
        return True

    def _save_by_itself(self) -> None:
        if self.autosave is not None:
            self.save(self.autosave)


def _copied(prompts: Prompts) -> Prompts:
    """The same prompts; lists are new, masks are shared and never written to."""
    return Prompts(
        {
            i: replace(entry, points=list(entry.points), boxes=list(entry.boxes), masks=dict(entry.masks))
            for i, entry in prompts.objects.items()
        }
    )


def _without(entry: ObjectPrompts, frame: int) -> None:
    entry.points = [p for p in entry.points if p[0] != frame]
    entry.boxes = [b for b in entry.boxes if b[0] != frame]
    entry.masks.pop(frame, None)
