"""Converters by name: each knows one family of layouts and gives the cases it finds, unread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samed2.data.cases import Case, Dropped
from samed2.errors import InputError


@dataclass(frozen=True)
class Source:
    """A data set somewhere on disk, to be converted.

    Attributes:
        root: the folder (or the one file) that holds it.
        name: the data set's name in the store.
        converter: a name of `CONVERTERS`.
        objects: name -> label value(s) or rule, as the converter reads it; see its module.
        layout: the converter's own options.
        modality, kind, licence: what the cases get; "" where each case says it itself.
    """

    root: Path
    name: str
    converter: str
    modality: str = ""
    kind: str = ""
    licence: str = ""
    objects: Mapping[str, Any] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)


Converter = Callable[[Source], Iterator["Case | Dropped"]]
CONVERTERS: dict[str, Converter] = {}


def register_converter(name: str) -> Callable[[Converter], Converter]:
    """Make a function known as a converter: it yields every case, and a `Dropped` for all that it cannot use.

    It reads names and headers at most. Problems found later, when a case is loaded, are raised there.
    """

    def register(function: Converter) -> Converter:
        CONVERTERS[name] = function
        return function

    return register


def get_converter(name: str) -> Converter:
    """Return a converter by name.

    Raises:
        InputError: no converter of that name.
    """
    if name not in CONVERTERS:
        raise InputError(f"converter: got {name!r}, wanted one of {', '.join(sorted(CONVERTERS))}")
    return CONVERTERS[name]
