"""What a model without memory and propagation says when asked for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from samed2.errors import InputError
from samed2.evaluate.models.base import Proposals, Support
from samed2.io import Scan
from samed2.prompts import Prompts


class FrameByFrame:
    """The part of a `Segmenter` that a model of single frames refuses."""

    name: str

    def remember(self, support: Sequence[Support]) -> None:
        """Refused, but for emptying a memory that is empty anyway."""
        if support:
            raise InputError(f"{self.name}: has no memory; choose a protocol with prompts")

    def recall(self, scan: Scan, frame: int, task: str) -> Proposals:
        """Refused."""
        raise InputError(f"{self.name}: has no memory; choose a protocol with prompts")

    def propagate(self, scan: Scan, prompts: Prompts) -> Iterator[tuple[int, dict[int, Proposals]]]:
        """Refused."""
        raise InputError(f"{self.name}: cannot propagate; choose a protocol with prompts on every frame")
