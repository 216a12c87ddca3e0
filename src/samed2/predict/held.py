"""Predictions kept in few bytes: what waits for a second pass, and what a session remembers."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.predict.results import ObjectPrediction
from samed2.predict.rows import MASK_LOGIT, seen_logits


@dataclass(frozen=True)
class Held:
    """One object on one frame: its mask, packed, with its confidence and object score.

    Attributes:
        order: for each pixel of the mask in row order, packed uint16: how many objects of the frame have it too, with
            a larger logit. None where there are none.
    """

    id: int
    packed: bytes
    shape: tuple[int, int]
    confidence: float
    object_score: float
    order: bytes | None = None

    @classmethod
    def of(cls, found: ObjectPrediction) -> Held:
        """Keep a prediction; logits and candidates are let go."""
        height, width = found.mask.shape
        packed = zlib.compress(np.packbits(found.mask).tobytes(), 1)
        return cls(found.id, packed, (height, width), found.confidence, found.object_score)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The (H, W) mask."""
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).reshape(self.shape).astype(bool)

    def back(self) -> ObjectPrediction:
        """The prediction, with logits made from the mask; where objects overlap their order is what it was."""
        mask = self.mask
        logits = seen_logits(mask)
        if self.order is not None:
            logits[mask] = MASK_LOGIT / (1.0 + np.frombuffer(zlib.decompress(self.order), "<u2"))
        return ObjectPrediction(self.id, mask, logits, self.confidence, self.object_score)

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        text = base64.b64encode(self.packed).decode("ascii")
        order = {} if self.order is None else {"order": base64.b64encode(self.order).decode("ascii")}
        return {
            "id": self.id,
            "mask": text,
            "shape": list(self.shape),
            "confidence": self.confidence,
            "object_score": self.object_score,
            **order,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Held:
        """Undo `to_json`.

        Raises:
            InputError: a field is missing or does not hold a mask of its shape.
        """
        try:
            height, width = (int(v) for v in data["shape"])
            packed = base64.b64decode(data["mask"], validate=True)
            size = -(-height * width // 8)
            if min(height, width) < 1 or len(zlib.decompressobj().decompress(packed, size + 1)) != size:
                raise ValueError("the mask has another size than its shape")
            sure, score = float(data["confidence"]), float(data["object_score"])
            held = cls(int(data["id"]), packed, (height, width), sure, score)
            if "order" not in data:
                return held
            order = base64.b64decode(data["order"], validate=True)
            size = 2 * int(np.count_nonzero(held.mask))
            if len(zlib.decompressobj().decompress(order, size + 1)) != size:
                raise ValueError("the order has another size than the mask")
            return replace(held, order=order)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise InputError(f"mask: cannot be restored ({error})") from error


def held_together(found: Sequence[ObjectPrediction]) -> list[Held]:
    """All objects of one frame, so that what comes back, or some of it, gives the label map that `found` gives."""
    kept = [Held.of(one) for one in found]
    shared = np.sum([one.mask for one in found], axis=0, dtype=np.uint16) > 1 if found else np.zeros((1, 1), bool)
    if not shared.any():
        return kept
    order = sorted(range(len(found)), key=lambda i: found[i].id)  # the earlier id goes first where logits are equal
    logits = np.stack([np.where(found[i].mask[shared], found[i].logits[shared], -np.inf) for i in order])
    ranks = np.empty(logits.shape, "<u2")
    places = np.arange(len(order), dtype="<u2")[:, None]
    np.put_along_axis(ranks, np.argsort(-logits, axis=0, kind="stable"), np.broadcast_to(places, ranks.shape), axis=0)
    for i, rank in zip(order, ranks, strict=True):
        if (mask := found[i].mask)[shared].any():
            plane = np.zeros(mask.shape, "<u2")
            plane[shared] = rank
            kept[i] = replace(kept[i], order=zlib.compress(plane[mask].tobytes(), 1))
    return kept
