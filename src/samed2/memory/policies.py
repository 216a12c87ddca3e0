"""Named rules of retrieval and replacement: what an entry is worth to a query, and which one gives way.

To add one: write the two functions, register a `Policy`, and add a row to the table in
tests/memory/test_policies.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from samed2.errors import InputError

_NONE = torch.empty(0)


@dataclass(frozen=True)
class Reading:
    """One query against n candidate entries; every field is (n,).

    cosine: similarity of the query's key and the entry's. random: uniform numbers that depend only on the
    query.
    """

    cosine: Tensor
    confidence: Tensor
    time: Tensor
    random: Tensor = field(default_factory=lambda: _NONE)

    def __getitem__(self, index: Tensor) -> Reading:
        """Return the candidates of `index`."""
        parts = (self.cosine, self.confidence, self.time, self.random)
        return Reading(*(part[index] if len(part) else part for part in parts))


@dataclass(frozen=True)
class Writing:
    """A new entry against the n entries of a full bank.

    nearest(): position of the entry whose memory feature has the highest cosine to the new one.
    """

    new_confidence: float
    confidence: Tensor
    time: Tensor
    nearest: Callable[[], int]
    random: Tensor = field(default_factory=lambda: _NONE)


@dataclass(frozen=True)
class Policy:
    """A retrieval score (the k highest are returned) and a replacement rule (None keeps the bank as it is).

    compares: the score reads `cosine`. draws: the rules read `random`.
    appends: the replacing entry goes to the end of the list instead of its predecessor's place.
    bounded: confidences must lie in [0, 1].
    worth: which entries `prune` keeps first, "confidence" or "time".
    """

    name: str
    summary: str
    score: Callable[[Reading], Tensor]
    victim: Callable[[Writing], int | None]
    compares: bool = True
    draws: bool = False
    appends: bool = False
    bounded: bool = True
    worth: str = "confidence"


POLICIES: dict[str, Policy] = {}


def register_policy(policy: Policy) -> Policy:
    """Make a policy known by its name."""
    if policy.name in POLICIES:
        raise ValueError(f"policy {policy.name!r} is registered twice")
    POLICIES[policy.name] = policy
    return policy


def get_policy(name: str) -> Policy:
    """Return a policy by name.

    Raises:
        InputError: no policy of that name.
    """
    if name not in POLICIES:
        raise InputError(f"memory policy: got {name!r}, wanted one of {', '.join(POLICIES)}")
    return POLICIES[name]


def _nearest_if_less_sure(new: Writing) -> int | None:
    position = new.nearest()
    return position if new.new_confidence > float(new.confidence[position]) else None


def _least_sure_if_less_sure(new: Writing) -> int | None:
    position = int(new.confidence.argmin())
    return position if new.new_confidence > float(new.confidence[position]) else None


register_policy(
    Policy(
        "paper",
        "cosine + sigmoid(confidence); the most similar entry gives way to a more confident one",
        score=lambda read: read.cosine + torch.sigmoid(read.confidence),
        victim=_nearest_if_less_sure,
    )
)
register_policy(
    Policy(
        "released",
        "as the released code: negative cosines count as 0, a replacing entry moves to the end of the list",
        score=lambda read: read.cosine.clamp(min=0) + torch.sigmoid(read.confidence),
        victim=_nearest_if_less_sure,
        appends=True,
        bounded=False,
    )
)
register_policy(
    Policy(
        "similarity",
        "cosine only; the most similar entry always gives way",
        score=lambda read: read.cosine,
        victim=lambda new: new.nearest(),
    )
)
register_policy(
    Policy(
        "confidence",
        "confidence only; the least confident entry gives way to a more confident one",
        score=lambda read: read.confidence,
        victim=_least_sure_if_less_sure,
        compares=False,
    )
)
register_policy(
    Policy(
        "random",
        "random entries, drawn from a hash of the query; a random entry always gives way",
        score=lambda read: read.random,
        victim=lambda new: int(new.random.argmax()),
        compares=False,
        draws=True,
    )
)
register_policy(
    Policy(
        "fifo",
        "the newest entries; the oldest always gives way",
        score=lambda read: read.time,
        victim=lambda new: int(new.time.argmin()),
        compares=False,
        worth="time",
    )
)
