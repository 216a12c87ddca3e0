"""Small caches keyed by scan. They hold the scan, so that its identity stays its own; no answer depends on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from samed2.io import Scan, Window, resolve_window

Value = TypeVar("Value")


class ScanCache(Generic[Value]):
    """The last few values computed for scans.

    Args:
        entries: how many to hold.
    """

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self._held: OrderedDict[tuple[int, Hashable], tuple[Scan, Value]] = OrderedDict()

    def get(self, scan: Scan, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a scan and a key, made when it is not there."""
        place = (id(scan), key)
        if place not in self._held:
            self._held[place] = (scan, make())
        self._held.move_to_end(place)
        while len(self._held) > self.entries:
            self._held.popitem(last=False)
        return self._held[place][1]


class Windows:
    """The window of each scan by one rule, worked out once per scan.

    Args:
        spec: see `samed2.io.resolve_window`.
    """

    def __init__(self, spec: str | Window | None) -> None:
        self.spec = spec
        self._cache: ScanCache[Window] = ScanCache(4)

    def of(self, scan: Scan) -> Window:
        """The window of a scan."""
        return self._cache.get(scan, None, lambda: resolve_window(scan, self.spec))
