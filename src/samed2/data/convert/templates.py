"""Path templates: which files of a folder belong together, and what their names say.

    training/patient{patient}/patient{patient}_frame{frame}.nii.gz

- `{x}` stands for one or more characters of one path component, as few as fit; the same `{x}` twice is the same text;
- `{x:ED|ES}` stands for one of the given texts;
- `*` stands for the same as `{x}` but is not kept, and may be nothing;
- `**/` stands for any number of folders, `**` at the end for everything below.

Everything else is literal; upper and lower case differ. Paths are relative to the data set's root, with "/".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from samed2.errors import InputError

_TOKEN = re.compile(r"\*\*/|\*\*$|\*|\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}/]+))?\}")
_JUNK = re.compile(r"(^|/)(\._[^/]*|\.DS_Store|Thumbs\.db|desktop\.ini)$|(^|/)(__MACOSX|\.git|@eaDir)/")


@dataclass(frozen=True)
class Template:
    """A path pattern with named parts."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text:
            raise InputError(f"template: got {self.text!r}, wanted a path such as images/{{case}}.png")
        literal = _TOKEN.sub("", self.text)
        if any(sign in literal for sign in "{}"):
            raise InputError(f"template {self.text!r}: braces name a part as {{word}} or {{word:one|two}}")
        if self.text.startswith("/") or ".." in self.text.split("/") or "\\" in self.text:
            raise InputError(
                f"template {self.text!r}: wanted a path below the data set's folder, with / between folders"
            )

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names in braces, in order of first use."""
        return tuple(dict.fromkeys(found[1] for found in _TOKEN.finditer(self.text) if found[1]))

    @cached_property
    def literals(self) -> int:
        """Number of literal characters: of two templates that fit one file, the one with more is meant."""
        return len(_TOKEN.sub("", self.text))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts, seen, end = [], set[str](), 0
        for found in _TOKEN.finditer(self.text):
            parts.append(re.escape(self.text[end : found.start()]))
            end = found.end()
            name, choices = found[1], found[2]
            if name is None:
                parts.append({"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*?"}[found[0]])
            elif name in seen:
                parts.append(f"(?P={name})")
            else:
                seen.add(name)
                inner = "|".join(map(re.escape, choices.split("|"))) if choices else "[^/]+?"
                parts.append(f"(?P<{name}>{inner})")
        parts.append(re.escape(self.text[end:]))
        return re.compile("".join(parts), re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """What the named parts are in a relative path; None where the template does not fit it."""
        found = self._pattern.fullmatch(path)
        return found.groupdict() if found else None


def templates(given: Any, what: str) -> tuple[Template, ...]:
    """One template or a list of them, as a layout gives it.

    Raises:
        InputError: neither text nor a list of texts.
    """
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, list | tuple) or not several or not all(isinstance(one, str) for one in several):
        raise InputError(f"{what}: got {given!r}, wanted a path template or a list of them")
    return tuple(Template(one) for one in several)


def fill(text: str, values: Mapping[str, str], what: str) -> str:
    """Put values into the braces of a name such as "{patient}_{frame}".

    Raises:
        InputError: a name in braces that no template gives.
    """

    def one(found: re.Match[str]) -> str:
        if found[1] not in values:
            have = ", ".join(f"{{{name}}}" for name in values) or "none"
            raise InputError(f"{what}: {text!r} uses {{{found[1]}}}, the templates give {have}")
        return values[found[1]]

    return re.sub(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", one, str(text))


def walk(root: Path, exclude: Iterable[Template] = ()) -> Iterator[str]:
    """Relative paths of all files below `root`, sorted, without the excluded ones and what systems leave behind.

    Raises:
        InputError: no such folder, or one that may not be read.
    """
    if not root.is_dir():
        raise InputError(f"{root}: {'is a file' if root.exists() else 'does not exist'}, wanted a data set's folder")

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror or error})") from error

    excluded = tuple(exclude)
    found: list[str] = []
    for folder, below_it, names in os.walk(root, onerror=refuse, followlinks=True):
        below_it[:] = [name for name in below_it if not _leads_back(folder, name)]
        below = Path(folder).relative_to(root).as_posix()
        start = "" if below == "." else f"{below}/"
        found.extend(start + name for name in names)
    for path in sorted(found):
        if not _JUNK.search(path) and not any(one.match(path) is not None for one in excluded):
            yield path


def _leads_back(folder: str, name: str) -> bool:
    """Whether a link in a folder points to that folder or one above it."""
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return False
    target, here = os.path.realpath(path), os.path.realpath(folder)
    return here == target or here.startswith(target.rstrip(os.sep) + os.sep)
