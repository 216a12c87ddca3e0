"""What a session knows at one time, and the chain of such states that undo and redo walk along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from samed2.predict.held import Held
from samed2.predict.results import ObjectPrediction
from samed2.predict.spans import Span
from samed2.prompts import ObjectPrompts, Prompts

KEPT_STATES = 200

Key = tuple[int, int]  # (frame, object id)


@dataclass(frozen=True)
class State:
    """Everything a user has said and got so far. Its contents are never changed, only replaced.

    Attributes:
        answers: what was found.
        confirmed: which of it is right.
        spans: by object id the first and last frame that it may lie on.
    """

    prompts: Prompts = field(default_factory=Prompts)
    answers: dict[Key, Held] = field(default_factory=dict)
    confirmed: frozenset[Key] = frozenset()
    spans: dict[int, Span] = field(default_factory=dict)

    def only(self, stays: Callable[[Key], bool]) -> State:
        """The state without the answers and confirmations for which `stays` does not hold."""
        answers = {key: held for key, held in self.answers.items() if stays(key)}
        return replace(self, answers=answers, confirmed=frozenset(filter(stays, self.confirmed)))

    def with_answer(self, frame: int, found: ObjectPrediction, prompts: Prompts) -> State:
        """The state with other prompts and what they gave on a frame."""
        return replace(self, prompts=prompts, answers={**self.answers, (frame, found.id): Held.of(found)})


class History:
    """The states of a session; a new one ends what was undone. The oldest are forgotten."""

    def __init__(self, first: State) -> None:
        self._states, self._at = [first], 0

    @property
    def now(self) -> State:
        """The present state."""
        return self._states[self._at]

    def push(self, state: State) -> None:
        """Go on with a state."""
        self._states = [*self._states[: self._at + 1], state][-KEPT_STATES:]
        self._at = len(self._states) - 1

    def move(self, step: int) -> bool:
        """Go some states back or on; False, and nothing done, where the chain ends."""
        if not 0 <= self._at + step < len(self._states):
            return False
        self._at += step
        return True


def copied(prompts: Prompts) -> Prompts:
    """The same prompts; lists are new, masks are shared and never written to."""
    return Prompts(
        {
            i: replace(entry, points=list(entry.points), boxes=list(entry.boxes), masks=dict(entry.masks))
            for i, entry in prompts.objects.items()
        }
    )


def clear_frame(entry: ObjectPrompts, frame: int) -> None:
    """Take away, in place, what is said about an object on a frame."""
    entry.points = [p for p in entry.points if p[0] != frame]
    entry.boxes = [b for b in entry.boxes if b[0] != frame]
    entry.masks.pop(frame, None)
