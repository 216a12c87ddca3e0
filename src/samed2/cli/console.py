"""How commands talk: results to standard output, progress, warnings and errors to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
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
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=doing)


@contextmanager
def frame_progress(frames: int, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """Give what to call after each frame: a bar on standard error; None without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("frames", total=frames)
        yield lambda frame: bar.update(line, advance=1, description=f"frame {frame}")


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
