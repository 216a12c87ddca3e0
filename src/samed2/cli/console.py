"""How commands talk: results to standard output, progress, warnings and errors to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


def warn(message: str) -> None:
    """Print one line of warning to standard error."""
    print("samed2: warning: " + " ".join(message.split()), file=sys.stderr)


def complain(message: str) -> None:
    """Print one line of error to standard error."""
    print("samed2: error: " + " ".join(message.split()), file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as indented JSON to standard output; numbers that JSON lacks become null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def track(items: Iterable[Item], total: int, doing: str, quiet: bool = False) -> Iterator[Item]:
    """Yield the items behind a progress bar on standard error; no bar for one item or without a terminal."""
    if quiet or total < 2 or not sys.stderr.isatty():
        yield from items
        return
    with _progress() as bar:
        yield from bar.track(items, total=total, description=doing)


class Steps:
    """What a batch reports its progress to; this one shows nothing."""

    def case(self, name: str, frames: int) -> None:
        """A case with so many frames begins."""

    def frame(self, frame: int) -> None:
        """One more of its frames is done."""

    def done(self) -> None:
        """The case is over."""


class _Bars(Steps):
    """A bar over the cases, where there are several, and one over the frames of the present one."""

    def __init__(self, bars: Any, cases: int) -> None:
        self._bars = bars
        self._cases = bars.add_task("cases", total=cases, visible=cases > 1)
        self._frames = bars.add_task("frames", total=1, visible=False)

    def case(self, name: str, frames: int) -> None:
        self._bars.update(self._cases, description=name[-40:])
        self._bars.reset(self._frames, total=frames, visible=frames > 1, description="frames")

    def frame(self, frame: int) -> None:
        self._bars.update(self._frames, advance=1, description=f"frame {frame}")

    def done(self) -> None:
        self._bars.update(self._cases, advance=1)
        self._bars.update(self._frames, visible=False)


@contextmanager
def progress(cases: int, quiet: bool) -> Iterator[Steps]:
    """Give what to tell of each case and frame: bars on standard error; nothing without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield Steps()
        return
    with _progress() as bars:
        yield _Bars(bars, cases)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # results that go to a file must not be redirected to the terminal that shows the bars
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())


def table(rows: Iterable[tuple[str, Any]]) -> None:
    """Print name and value pairs in two aligned columns to standard output."""
    pairs = [(name, str(value)) for name, value in rows]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {value}".rstrip())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
