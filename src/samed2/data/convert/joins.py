"""What stands beside the images: official lists of splits, and tables that say more about a case."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from samed2.data.cases import Dropped
from samed2.data.convert.templates import fill
from samed2.errors import InputError
from samed2.io.readers import stem

_FIELDS = ("file", "key", "value", "by")


def frame_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that counts: frame 2 before frame 10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", text))


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, without blanks around them.

    Raises:
        InputError: missing, or not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list, wanted text with one case a line ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


class Lists:
    """Official splits as text files: a line names a case, a patient, an image's path or its file name.

    Raises:
        InputError: a file cannot be read, or two splits list the same.
    """

    def __init__(self, root: Path, given: Mapping[str, Any]) -> None:
        self._lines: dict[str, tuple[str, Path, str]] = {}
        for split, files in given.items():
            for file in [files] if isinstance(files, str) else files:
                for line in read_lines(root / file):
                    known = self._lines.setdefault(line.removeprefix("./"), (split, root / file, line))
                    if known[0] != split:
                        raise InputError(f"{root / file}: lists {line}, which {known[1].name} lists for {known[0]}")
        self._used: set[str] = set()

    def split_of(self, name: str, patient: str, path: str) -> str:
        """The split whose list names the case; "" without one."""
        file = Path(path)
        for word in (name, path, file.name, stem(file), str(Path(path).with_name(stem(file))), patient):
            if word in self._lines:
                self._used.add(word)
                return self._lines[word][0]
        return ""

    def unused(self) -> Iterator[tuple[str, Path, str]]:
        """Lines that no case asked for, as (split, file, line)."""
        return (entry for word, entry in self._lines.items() if word not in self._used)


class Table:
    """A CSV file that gives one more value for each case."""

    def __init__(self, root: Path, given: Any, where: str) -> None:
        if not isinstance(given, Mapping) or set(given) != set(_FIELDS):
            raise InputError(f"{where}: got {given!r}, wanted {', '.join(_FIELDS)}")
        self._by, self._path, self._where = str(given["by"]), root / str(given["file"]), where
        try:
            with open(self._path, newline="", encoding="utf-8-sig") as handle:
                rows = list(csv.DictReader(handle))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self._path}: cannot be read as a CSV table ({error})") from error
        for column in (given["key"], given["value"]):
            if not rows or column not in rows[0]:
                have = ", ".join(rows[0]) if rows else "no rows"
                raise InputError(f"{self._path}: has no column {column!r}, it has {have}")
        self._values = {str(row[given["key"]]).strip(): str(row[given["value"]]).strip() for row in rows}

    def look_up(self, values: Mapping[str, str]) -> str:
        """The value for a case; "" where the table has no row for it."""
        return self._values.get(fill(self._by, values, self._where), "")


class Naming:
    """Names, patients and splits of cases, from templates, lists and tables."""

    def __init__(self, root: Path, options: Mapping[str, Any], where: str) -> None:
        self._options, self._where = options, where
        self._lists = Lists(root, options.get("lists") or {})
        self._tables = {
            name: Table(root, given, f"{self._where}: tables: {name}")
            for name, given in (options.get("tables") or {}).items()
        }

    def name(self, values: dict[str, str], path: str) -> str:
        """The case's name; joins the tables into `values` on the way."""
        for new, table in self._tables.items():
            values[new] = table.look_up(values)
        given = self._options.get("name")
        if given:
            return fill(given, values, f"{self._where}: name")
        own = [value for name, value in values.items() if name not in self._tables]
        return "_".join(own) or Path(path).name.split(".")[0]

    def patient_and_split(self, values: Mapping[str, str], name: str, path: str) -> tuple[str, str]:
        """What a split keeps together, and the split that the set itself gives."""
        options = self._options
        patient = fill(options.get("patient") or "", self._grouped(values), f"{self._where}: patient") or name
        split = fill(options.get("split") or "", values, f"{self._where}: split")
        split = str((options.get("splits") or {}).get(split, split))
        return patient, self._lists.split_of(name, patient, path) or split

    def _grouped(self, values: Mapping[str, str]) -> dict[str, str]:
        """The values, numbers of a group replaced by the group's first one."""
        changed = dict(values)
        for name, starts in (self._options.get("groups") or {}).items():
            if name not in values or not values[name].isdigit():
                raise InputError(f"{self._where}: groups: {{{name}}} is {values.get(name)!r}, wanted a number")
            changed[name] = str(max((start for start in starts if start <= int(values[name])), default=values[name]))
        return changed

    def unused(self, dataset: str) -> Iterator[Dropped]:
        """Lines of official lists that no case answers to."""
        for split, file, line in self._lists.unused():
            yield Dropped(dataset, line, f"listed but not found: {file.name} ({split})", (file,))
