"""Predictions kept in few bytes: what waits for a second pass, and what a session remembers."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.predict.results import ObjectPrediction
from samed2.predict.rows import seen_logits


@dataclass(frozen=True)
class Held:
    """One object on one frame: its mask, packed, with its confidence and object score."""

    id: int
    packed: bytes
    shape: tuple[int, int]
    confidence: float
    object_score: float

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
        """The prediction, with logits made from the mask."""
        mask = self.mask
        return ObjectPrediction(self.id, mask, seen_logits(mask), self.confidence, self.object_score)

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        text = base64.b64encode(self.packed).decode("ascii")
        return {
            "id": self.id,
            "mask": text,
            "shape": list(self.shape),
            "confidence": self.confidence,
            "object_score": self.object_score,
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
            return cls(int(data["id"]), packed, (height, width), float(data["confidence"]), float(data["object_score"]))
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise InputError(f"mask: cannot be restored ({error})") from error
