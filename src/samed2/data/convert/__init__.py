"""Converters: one original layout of a data set in, cases out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# one line per converter: importing it registers it
from samed2.data.cases import Case, Dropped
from samed2.data.convert import dicom, folder, listed, pairs, released
from samed2.data.convert.registry import CONVERTERS, Source, get_converter, register_converter

__all__ = [
    "CONVERTERS",
    "Source",
    "dicom",
    "find_cases",
    "folder",
    "get_converter",
    "listed",
    "pairs",
    "register_converter",
    "released",
]


def find_cases(source: Source) -> Iterator[Case | Dropped]:
    """All cases of a source, unread, and what cannot be used; of two cases with one name the first is kept.

    Raises:
        InputError: no such converter or folder, or a layout that makes no sense.
    """
    seen: dict[tuple[str, str], tuple[Path, ...]] = {}
    for found in get_converter(source.converter)(source):
        if isinstance(found, Case):
            key = (found.dataset, found.name)
            if key in seen:
                first = ", ".join(map(str, seen[key][:1])) or "a case before"
                reason = f"two cases with one name: {first} is kept"
                yield Dropped(found.dataset, found.name, reason, found.files)
                continue
            seen[key] = found.files
        yield found
