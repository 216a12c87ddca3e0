"""One frame as it is looked at: what all questions about it have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace

from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.predict.engine import Engine
from samed2.predict.results import Answer
from samed2.predict.rows import Row
from samed2.predict.settings import Settings


@dataclass(frozen=True)
class Scene:
    """A frame of a scan, and how it is asked about; `memory` is that of past cases, None where it is not read."""

    engine: Engine
    scan: Scan
    frame: int
    window: Window
    settings: Settings
    memory: SelectiveMemory | None = None

    def ask(self, rows: list[Row]) -> list[Answer]:
        """The answers to rows, in their order."""
        return self.engine.ask(self.scan, self.frame, rows, self.window, self.settings, self.memory)

    def ask_lists(self, lists: list[list[Row]]) -> list[list[Answer]]:
        """The answers to lists of rows, list by list, asked together."""
        flat = iter(self.ask([row for rows in lists for row in rows]))
        return [[next(flat) for _ in rows] for rows in lists]

    def unremembered(self) -> Scene:
        """The same without the memory."""
        return replace(self, memory=None)
