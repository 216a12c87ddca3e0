"""What is known about every case of an annotation, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from samed2.errors import InputError
from samed2.io.atomic import atomic_write
from samed2.io.json_file import read_json

FORMAT, FORMAT_VERSION = "samed2-annotate", 1
FILE = "annotate.json"
Status = Literal["open", "proposed", "corrected", "confirmed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass
class Entry:
    """One case.

    Attributes:
        status: "open" has no mask yet.
        uncertainty: 0 to 1, see `steps.uncertainty`; None without a mask.
        stem: what its files are called, with the folder below OUT/cases.
        mask: the mask file, below OUT; files: all files written, the mask and thumbnail with them.
        shape: (T, H, W). box: (frame, x0, y0, x1, y1) of the mask on its largest frame.
        source: changes with the case's file. made: changes with model, memory, settings and prompts.
        prompts: digest of the prompts it was corrected with. digest: of the mask as it was written.
        remembered: entries of the memory made from it.
        error: why the last try failed, "" if it did not. notes: one line per oddity of the file.
    """

    status: Status = "open"
    uncertainty: float | None = None
    stem: str = ""
    mask: str = ""
    files: list[str] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)
    box: list[int] = field(default_factory=list)
    area: int = 0
    source: str = ""
    made: str = ""
    prompts: str = ""
    digest: str = ""
    remembered: int = 0
    error: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class State:
    """All cases of one folder and task, in the order of their names, and the file they are kept in."""

    path: Path
    folder: str
    task: str
    cases: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, folder: str, task: str) -> State:
        """The state at `path`, or a new one.

        Raises:
            InputError: damaged, or of another folder or task.
        """
        state = cls(path, folder, task)
        if not path.exists():
            return state
        data = _load(path)
        for name, wanted in (("folder", folder), ("task", task)):
            if data.get(name) != wanted:
                raise InputError(f"{path}: belongs to {name} {data.get(name)!r}, got {wanted!r}; give another --out")
        cases = data.get("cases")
        if not isinstance(cases, dict):
            raise InputError(f"{path}: field 'cases' is damaged; restore an older copy or give another --out")
        state.cases = {name: _entry(value, f"{path}: cases[{name!r}]") for name, value in cases.items()}
        return state

    def save(self) -> None:
        """Write the file, which appears whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        data = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "folder": self.folder,
            "task": self.task,
            "cases": {name: asdict(entry) for name, entry in self.cases.items()},
        }
        atomic_write(self.path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def _entry(data: Any, where: str) -> Entry:
    """An entry from JSON; what is missing keeps its default."""
    usual = asdict(Entry())
    if not isinstance(data, dict) or data.get("status") not in STATUSES:
        raise InputError(f"{where}: is damaged, wanted a status of {', '.join(STATUSES)}; restore an older copy")
    given = {f.name: data[f.name] for f in fields(Entry) if f.name in data}
    for name, value in given.items():
        wanted = (int, float, type(None)) if name == "uncertainty" else type(usual[name])
        if not isinstance(value, wanted):
            raise InputError(f"{where}.{name}: got {str(value)[:60]!r}; restore an older copy or give another --out")
    return Entry(**given)


def _load(path: Path) -> dict[str, Any]:
    data = read_json(path, "a state of `samed2 annotate`", "restore an older copy or give another --out")
    if data.get("format") != FORMAT or data.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{path}: is no state of `samed2 annotate`, version {FORMAT_VERSION}; give another --out")
    return data
