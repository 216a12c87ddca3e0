"""How an annotation stands: its cases, which come first, and the page and report about them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from samed2.memory import SelectiveMemory
from samed2.predict.annotate import page
from samed2.predict.annotate.state import Entry, State

Order = Literal["unsure", "sure"]


class Overview:
    """What can be read of an annotation; `work.py` adds the steps.

    Attributes:
        paths: the cases whose files are there.
        memory: kept in the file `bank`.
    """

    folder: Path
    task: str
    out: Path
    bank: Path
    paths: dict[str, Path]
    state: State
    memory: SelectiveMemory

    @property
    def cases(self) -> dict[str, Entry]:
        """The cases whose files are there."""
        return {name: self.state.cases[name] for name in self.paths}

    @property
    def known(self) -> int:
        """Entries of the task in the memory."""
        return sum(entry.task == self.task for entry in self.memory.entries)

    def ranking(self, order: Order = "unsure") -> list[str]:
        """The cases that are not confirmed, those without a mask before the others, then by uncertainty."""
        left = [name for name, entry in self.cases.items() if entry.status != "confirmed"]
        turn = -1.0 if order == "unsure" else 1.0
        known = {name: self.cases[name].uncertainty for name in left}
        return sorted(left, key=lambda name: (known[name] is not None, turn * (known[name] or 0.0)))

    def sure(self, confidence: float) -> list[str]:
        """The cases proposed or corrected with at least this confidence, one minus their uncertainty."""
        return [
            name
            for name, entry in self.cases.items()
            if entry.status in ("proposed", "corrected")
            and entry.uncertainty is not None
            and 1 - entry.uncertainty >= confidence - 1e-9
        ]

    def write_page(self, order: Order = "unsure") -> Path:
        """Write OUT/index.html: every case with its picture, status and uncertainty, those to look at first."""
        names = self.ranking(order)
        rest = sorted(set(self.cases) - set(names))
        shown = {name: self.cases[name] for name in [*names, *rest]}
        return page.write(self.out, self.folder.resolve().name, self.task, shown, self.known)

    def report(self, order: Order = "unsure") -> dict[str, Any]:
        """Everything for programs: JSON-able."""
        names = self.ranking(order)
        rest = [name for name in self.cases if name not in names]
        return {
            "task": self.task,
            "memory": {"file": str(self.bank), "entries": len(self.memory), "of_task": self.known},
            "cases": [{"case": name, **asdict(self.cases[name])} for name in [*names, *rest]],
        }
