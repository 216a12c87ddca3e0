"""Comparing the tensors of a file with those of a model: nothing missing, nothing left over, right shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from samed2.errors import InputError

_SHOWN = 6

Shape = tuple[int, ...]


def check_shapes(got: Mapping[str, Shape], wanted: Mapping[str, Shape], source: str) -> None:
    """Raise unless both hold the same names with the same shapes.

    Args:
        got: names and shapes in the file.
        wanted: names and shapes of the model.
        source: file or folder for the message.

    Raises:
        InputError: one line with what is missing, unexpected and of another shape.
    """
    missing = [name for name in wanted if name not in got]
    unexpected = [name for name in got if name not in wanted]
    wrong = [
        f"{name} (got {_text(got[name])}, wanted {_text(wanted[name])})"
        for name in wanted
        if name in got and tuple(got[name]) != tuple(wanted[name])
    ]
    parts = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if names
    ]
    if parts:
        raise InputError(f"{source}: the weights do not fit the model: " + "; ".join(parts))


def _text(shape: Iterable[int]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
