"""Which values of a label file are an object, and masks made of such files.

A rule is a value (`3`), a list of values (`[0, 128]`), a comparison (`">=128"`, `">0"`, `"==128"`), or nothing: then
a file with a full range (8 bits reaching 128, 16 bits reaching 32768, any JPEG) is cut at half, any other above 0.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Mask, Masks
from samed2.errors import InputError

_COMPARISONS = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_RULE = re.compile(r"(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Rule:
    """Picks an object's pixels: by `values`, or by `compare` with `limit`; with neither, by the file's range."""

    values: tuple[int, ...] = ()
    compare: str = ""
    limit: float = 0.0

    @property
    def listed(self) -> bool:
        """Whether the rule names values, so that others in the file are unexpected."""
        return bool(self.values)

    def pick(self, labels: NDArray[Any]) -> Mask:
        """Boolean array of the shape of `labels`.

        Raises:
            InputError: a rule without values and comparison; see `settle`.
        """
        if self.values:
            return labels == self.values[0] if len(self.values) == 1 else np.isin(labels, self.values)
        if not self.compare:
            raise InputError("rule: has no values yet, wanted one that was settled for a file")
        return np.asarray(_COMPARISONS[self.compare](labels, self.limit))

    def settle(self, labels: NDArray[Any], lossy: bool = False) -> Rule:
        """The rule for a file with these labels: itself, unless it depends on the file's range."""
        if self.values or self.compare:
            return self
        top = {"|u1": 128, "<u2": 32768}.get(labels.dtype.newbyteorder("<").str, 0)
        if top and (lossy or (labels.size and int(labels.max()) >= top)):
            return Rule(compare=">=", limit=top)
        return Rule(compare=">", limit=0)


def parse_rule(given: Any, what: str) -> Rule:
    """A rule from what the catalogue or a YAML file says.

    Raises:
        InputError: anything else than described at the top of this module.
    """
    if given is None or given is True:
        return Rule()
    if isinstance(given, int) and not isinstance(given, bool):
        return Rule(values=(given,))
    if isinstance(given, list | tuple) and given and all(type(value) is int for value in given):
        return Rule(values=tuple(given))
    found = _RULE.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None:
        raise InputError(f"{what}: got {given!r}, wanted a label value, a list of values, or a rule such as '>=128'")
    if found[1] == "==" and float(found[2]).is_integer():
        return Rule(values=(int(float(found[2])),))
    return Rule(compare=found[1], limit=float(found[2]))


class RuledMasks(Masks):
    """Masks made from label arrays when asked for.

    Args:
        parts: object -> (labels (T, H, W), settled rule) of every file that shows it; the masks are united.
    """

    def __init__(self, parts: Mapping[str, Sequence[tuple[NDArray[Any], Rule]]]) -> None:
        self._parts = {name: tuple(some) for name, some in parts.items()}
        first = next(iter(self._parts.values()))[0][0]
        self._shape: tuple[int, int, int] = (first.shape[0], first.shape[1], first.shape[2])

    def on_frame(self, name: str, frame: int) -> Mask:
        (labels, rule), *rest = self._parts[name]
        mask = rule.pick(labels[frame])
        for labels, rule in rest:
            mask = mask | rule.pick(labels[frame])
        return mask

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parts)


def whole_numbers(labels: NDArray[Any], what: object) -> NDArray[Any]:
    """Labels as integers where they are stored as real numbers.

    Raises:
        InputError: values that are not whole.
    """
    if labels.dtype.kind != "f":
        return labels
    rounded = np.rint(labels)
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(labels - rounded) <= 1e-3)
    if off.any():
        raise InputError(f"{what}: has label {float(labels[off][0]):g}, wanted whole numbers")
    return rounded.astype(np.int32 if np.abs(rounded).max(initial=0) > 32767 else np.int16)


def values_in(labels: NDArray[Any]) -> tuple[int, ...]:
    """The values of an integer array, sorted."""
    found: set[int] = set()
    for frame in labels:
        low, high = (int(frame.min()), int(frame.max())) if frame.size else (0, 0)
        if high - low < 2**16:
            shifted = frame.astype(np.int64).ravel() - low
            found.update(int(value) + low for value in np.flatnonzero(np.bincount(shifted, minlength=1)))
        else:
            found.update(int(value) for value in np.unique(frame))
    return tuple(sorted(found))


def check_values(labels: NDArray[Any], rules: Iterable[Rule], background: Iterable[int] | None, what: object) -> None:
    """Refuse label values that neither an object nor the background has; only where all rules list values.

    Args:
        background: None takes 0, or 255 where an object already has 0.

    Raises:
        InputError: names the values found.
    """
    rules = list(rules)
    if not all(rule.listed for rule in rules):
        return
    known = {value for rule in rules for value in rule.values}
    empty = tuple(background) if background is not None else ((255,) if 0 in known else (0,))
    other = [value for value in values_in(labels) if value not in known and value not in empty]
    if other:
        shown = ", ".join(map(str, other[:8])) + (", ..." if len(other) > 8 else "")
        raise InputError(
            f"{what}: has label values outside the list: {shown}; wanted {', '.join(map(str, sorted(known)))} "
            f"and background {', '.join(map(str, empty))}; name them, or set ignore_other_labels: true"
        )


def check_extent(masks: Masks, what: object, allow_empty: bool = False) -> None:
    """Refuse a case without an object that is somewhere and not everywhere; objects that are absent are fine.

    Raises:
        InputError: see above ("all-empty", "all-foreground").
    """
    everywhere = []
    for name in masks:
        some, full = False, True
        for frame in range(masks.shape[0]):
            mask = masks.on_frame(name, frame)
            some, full = some or bool(mask.any()), full and bool(mask.all())
            if some and not full:
                return
        if some:
            everywhere.append(name)
    if everywhere:
        raise InputError(
            f"{what}: all-foreground: {', '.join(everywhere)} covers every pixel; check the rule and the file"
        )
    if not allow_empty:
        raise InputError(
            f"{what}: all-empty: no pixel of {', '.join(masks)}; check the values, or set allow_empty: true"
        )
