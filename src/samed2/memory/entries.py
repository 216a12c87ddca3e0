"""What the bank knows of an entry besides tensors, its answers, and a fingerprint of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from samed2.errors import InputError
from samed2.memory.keys import Query


@dataclass(frozen=True)
class Entry:
    """One entry's facts.

    confidence: predicted IoU of the mask the feature was made from, in [0, 1].
    task, modality, origin: free text, empty when unknown; origin says where the entry came from (file, case,
    user).
    time: number of the write that made it, counted over the life of the bank.
    """

    confidence: float
    task: str = ""
    modality: str = ""
    origin: str = ""
    time: int = 0


@dataclass(frozen=True)
class Retrieval:
    """The k' best entries of each of B queries, best first.

    k' is k, or the number of entries that pass the filters where that is smaller.

    features: (B, k', M, h, w). confidence, scores: (B, k'). indices: (B, k') positions in the bank.
    keys: what the B embeddings were compared by; `SelectiveMemory.add` can use it again.
    """

    features: Tensor
    confidence: Tensor
    indices: Tensor
    scores: Tensor
    keys: tuple[Query, ...] = ()


@dataclass(frozen=True)
class WriteResult:
    """What became of one sample.

    index: its position, None if it was not kept. replaced: the entry that gave way, None if there was room.
    """

    index: int | None
    replaced: Entry | None
    kept: bool


def check_confidence(value: float, *, bounded: bool, field: str = "confidence") -> float:
    """Return a confidence as a float.

    Raises:
        InputError: not a finite number, or outside [0, 1] where `bounded`.
    """
    value = float(value)
    if not math.isfinite(value) or (bounded and not 0.0 <= value <= 1.0):
        raise InputError(
            f"memory {field}: got {value:g}, wanted a predicted IoU in [0, 1]"
            + ("; apply a sigmoid to logits first" if bounded else "")
        )
    return value


def texts(value: str | Sequence[str] | None, count: int, field: str) -> list[str]:
    """Return one text per sample from one text for all, a list, or None.

    Raises:
        InputError: a list of another length, or something that is not text.
    """
    if value is None or isinstance(value, str):
        return [value or ""] * count
    values = list(value)
    if len(values) != count or not all(isinstance(item, str) for item in values):
        raise InputError(f"memory {field}: got {values!r}, wanted one text or a list of {count}")
    return values
