"""Where the prompts of each case come from: the options of the line, a prompts file, or a label map to refine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from samed2.cli.prompt_options import ObjectOptions, build_prompts
from samed2.cli.run_report import state_of
from samed2.cli.segment_case import Sought
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.io import Scan
    from samed2.prompts.volumes import CasePrompts


class PromptSource(Protocol):
    """Gives the prompts of a case, and what they depend on, to tell whether a result is still theirs."""

    def of(self, case: Path, scan: Scan) -> CasePrompts | Sought: ...

    def state(self, case: Path) -> Any: ...


def prompt_source(
    cases: Sequence[Path],
    objects: list[ObjectOptions],
    file: Path | None,
    frame: int | None,
    tasks: dict[str, str],
) -> PromptSource:
    """Return where prompts come from.

    Raises:
        InputError: no prompt at all, prompts of two kinds, or a prompts file that cannot be read or is for others.
    """
    if tasks:
        if objects or file is not None:
            raise InputError("--recall: finds objects without prompts; leave out --box, --point, --mask and --prompts")
        return NoPrompts(Sought(tasks, frame))
    if file is None:
        if not objects:
            raise InputError("no prompt: got no --box, --point, --mask, --prompts or --recall; give at least one")
        return LinePrompts(objects, frame)
    if objects or frame is not None:
        raise InputError(f"--prompts {file}: cannot be combined with --box, --point, --mask or --frame")
    return FilePrompts(file, cases)


class LinePrompts:
    """The same options for every case."""

    def __init__(self, objects: list[ObjectOptions], frame: int | None) -> None:
        self._objects, self._frame = objects, frame

    def of(self, case: Path, scan: Scan) -> CasePrompts:
        return build_prompts(self._objects, scan, self._frame)

    def state(self, case: Path) -> Any:
        masks = [state_of(path) for entry in self._objects for path in entry.masks]
        return [[repr(entry) for entry in self._objects], self._frame, masks]


class NoPrompts:
    """Objects that the memory knows are sought in every case."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought

    def of(self, case: Path, scan: Scan) -> Sought:
        return self._sought

    def state(self, case: Path) -> Any:
        return [self._sought.tasks, self._sought.frame]


class FilePrompts:
    """A JSON file for one case or many, or else a label map for all."""

    def __init__(self, file: Path, cases: Sequence[Path]) -> None:
        from samed2.prompts.json_form import entries_of, load_json

        self._file = file
        if file.suffix.lower() == ".json" or not file.is_file():
            self._data, self._where, self._base = load_json(file, None)
        else:
            self._data, self._where, self._base = {"labels": file.name}, f"--prompts {file}", file.parent
        self._entries = entries_of(self._data, self._where) if "images" in self._data else None
        self._keys = self._matched(cases) if self._entries is not None else {}
        if self._entries is not None and not self._keys:
            known = ", ".join(list(self._entries)[:5]) + (", ..." if len(self._entries) > 5 else "")
            meant = str(cases[0]) if len(cases) == 1 else f"any of the {len(cases)} cases"
            raise InputError(f"{file}: has no prompts for {meant}; its images are {known}")

    def _matched(self, cases: Sequence[Path]) -> dict[Path, str]:
        """The key of each case that has one: its path as given, from the prompts file, its name, or its stem.

        A name that fits several cases fits none.
        """
        from samed2.cli.outputs import stem

        keys = list(self._entries or {})
        placed = {(self._base / key).resolve(): key for key in keys if key.isprintable()}
        found = {}
        by_name: dict[str, list[Path]] = {}
        for case in cases:
            own = [key for key in (str(case), case.as_posix()) if key in keys]
            own += [placed[case.resolve()]] if case.resolve() in placed else []
            if own:
                found[case] = own[0]
            for name in {case.name, stem(case)}:
                by_name.setdefault(name, []).append(case)
        for name, several in by_name.items():
            if name in keys and len(several) == 1:
                found.setdefault(several[0], name)
        return found

    def of(self, case: Path, scan: Scan) -> CasePrompts:
        from samed2.prompts.json_form import read_entry

        entry, where = self._entry(case)
        return read_entry(entry, where, self._base, scan, self._data.get("space"))

    def state(self, case: Path) -> Any:
        entry, _ = self._entry(case)
        files = [state_of(self._base / name) for name in _files(entry)]
        return [entry, self._data.get("space"), files]

    def _entry(self, case: Path) -> tuple[Any, str]:
        if self._entries is None:
            return self._data, self._where
        if case not in self._keys:
            raise InputError(
                f"{self._file}: has no prompts for {case}; name it there by its path, or its name if no other has it"
            )
        key = self._keys[case]
        return self._entries[key], f"{self._where}: images[{key!r}]"


def _files(value: Any) -> list[str]:
    """The names of mask files and label maps in some prompts."""
    if isinstance(value, list):
        return [name for inner in value for name in _files(inner)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("mask", "labels") if isinstance(value.get(key), str)]
    return own + [name for inner in value.values() for name in _files(inner)]
