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

from numpy.typing import ArrayLike

from samed2.errors import InputError
from samed2.io import Scan, Window, resolve_window
from samed2.predict import session_file
from samed2.predict.held import Held
from samed2.predict.propagation import Direction, propagate
from samed2.predict.results import ObjectPrediction
from samed2.predict.session_state import History, Key, State, clear_frame, copied
from samed2.predict.session_view import SessionView
from samed2.predict.settings import fields_of, settings_from
from samed2.predict.spans import Allowed, Span, allowed_frames, checked_spans, limits_of, only
from samed2.predict.tracking import Tracking
from samed2.prompts import Prompts

if TYPE_CHECKING:
    from samed2.predict.predictor import Predictor

AUTOSAVE_SECONDS = 10.0


class Session(SessionView):
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
        super().__init__(predictor, scan, resolve_window(scan, window), tracking or Tracking(), settings_from(settings))
        self.autosave = Path(autosave) if autosave is not None else None
        self._saved = 0.0

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
        clear_frame(prompts.objects[object_id], frame)
        prompts.add_mask(object_id, frame, mask)
        prompts = prompts.validate(self.scan)
        given = prompts.objects[object_id].masks[frame]
        exact = ObjectPrediction(object_id, given, given * 2.0 - 1.0, 1.0, 1.0)
        self._push(self._now.with_answer(frame, exact, prompts))
        return exact

    def remove(self, object_id: int, frame: int | None = None) -> None:
        """Take back an object, or what was said and found about it on one frame.

        Raises:
            InputError: there is no such object.
        """
        self._known(object_id)
        prompts, spans = copied(self._now.prompts), dict(self._now.spans)
        if frame is None:
            del prompts.objects[object_id]
            spans.pop(object_id, None)
        else:
            clear_frame(prompts.objects[object_id], frame)
        left = self._now.only(lambda key: key[1] != object_id or (frame is not None and key[0] != frame))
        self._push(replace(left, prompts=prompts, spans=spans))

    def limit(self, object_id: int, frames: Span | None) -> None:
        """Say that an object lies on no frame before the first or after the last of `frames`; None takes that back.

        What was found beyond goes. A prompt beyond, said before or later, widens the range.

        Raises:
            InputError: there is no such object, or it is no range of frames.
        """
        self._known(object_id)
        state = self._now
        spans = {i: span for i, span in state.spans.items() if i != object_id}
        if frames is not None:
            spans |= checked_spans({object_id: frames}, state.prompts, self.scan)
            first, last = spans[object_id]
            state = state.only(lambda key: key[1] != object_id or first <= key[0] <= last)
        self._push(replace(state, spans=spans))

    def propagate(
        self,
        direction: Direction = "both",
        *,
        objects: Iterable[int] | None = None,
        frames: tuple[int, int] | None = None,
    ) -> Iterator[tuple[int, list[ObjectPrediction]]]:
        """Follow objects from their prompts; gives (frame, predictions) as they come and keeps them.

        All of it is one step for undo. What came before an interruption stays; at the end, what an earlier call had
        found on frames that an object no longer reaches goes.

        Args:
            objects: ids; None takes all. frames: first and last frame to answer for; None takes all.
        """
        chosen = list(self.objects) if objects is None else list(objects)
        for object_id in chosen:
            self._known(object_id)
        prompts = Prompts({i: e for i, e in self._now.prompts.objects.items() if i in chosen and e.frames()})
        prompts = prompts.validate(self.scan)
        allowed, limits = self._where(prompts, frames)
        start, answers = self._now, dict(self._now.answers)
        self._push(replace(start, answers=answers))
        if limits is None:
            return
        engine, memory = self.predictor.engine, self.predictor.memory
        given = {(f, i) for i, entry in prompts.objects.items() for f in entry.masks if not entry.on_frame(f).points}
        old = _reached(prompts, direction, limits) & answers.keys() - start.confirmed
        try:
            where = (direction, limits, allowed)
            followed = propagate(engine, self.scan, prompts, self.window, self.settings, self.tracking, memory, *where)
            for frame, found in only(followed, allowed):
                kept = [p for p in found if (frame, p.id) not in given and (frame, p.id) not in start.confirmed]
                answers.update({(frame, p.id): Held.of(p) for p in kept})
                old.difference_update((frame, p.id) for p in found)
                yield frame, found
                if time.monotonic() - self._saved > AUTOSAVE_SECONDS:
                    self._save_by_itself()
            for key in old:
                del answers[key]
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
                name = task or self.objects[object_id]
                self.predictor.remember(self.scan, mask, frame, window=self.window, task=name, origin=self.scan.name)
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
        session._history = History(found.state)
        session.autosave = Path(autosave) if autosave is not None else None
        return session

    # inside

    def _say(self, prompts: Prompts, object_id: int, frame: int) -> ObjectPrediction:
        """Ask about one object on one frame and make that the new state."""
        asked = Prompts({object_id: prompts.objects[object_id].on_frame(frame)})
        found = self.predictor.predict(self.scan, asked, frame, window=self.window, **fields_of(self.settings))[0]
        self._push(self._now.with_answer(frame, found, prompts))
        return found

    def _named(self, object_id: int, name: str) -> Prompts:
        prompts = copied(self._now.prompts)
        prompts.add_object(object_id, name)
        return prompts

    def _where(self, prompts: Prompts, frames: Span | None) -> tuple[Allowed, Span | None]:
        """The frames on which each of some objects may lie, and the range to answer for; None where it is empty."""
        count = self.scan.num_frames
        if frames is not None and not 0 <= frames[0] <= frames[1] < count:
            raise InputError(f"frames: got {frames[0]} to {frames[1]}, wanted a range within 0 to {count - 1}")
        spans = {i: span for i, span in self._now.spans.items() if i in prompts.objects}
        allowed = allowed_frames(prompts, checked_spans(spans, prompts, self.scan), count, follow=True)
        return allowed, limits_of(allowed, frames)

    def _push(self, state: State) -> None:
        self._history.push(state)
        self._save_by_itself()

    def _move(self, step: int) -> bool:
        moved = self._history.move(step)
        if moved:
            self._save_by_itself()
        return moved

    def _save_by_itself(self) -> None:
        if self.autosave is not None:
            self.save(self.autosave)


def _reached(prompts: Prompts, direction: Direction, limits: Span) -> set[Key]:
    """The frames without a prompt that following the objects may come to, with the objects."""
    reached = set()
    for object_id, entry in prompts.objects.items():
        prompted = entry.frames()
        first = prompted[0] if direction == "forward" else 0
        last = prompted[-1] if direction == "backward" else limits[1]
        between = range(max(first, limits[0]), min(last, limits[1]) + 1)
        reached |= {(frame, object_id) for frame in between if frame not in prompted}
    return reached
