"""From what one writes on a command line to a protocol."""

from __future__ import annotations

from samed2.errors import InputError
from samed2.evaluate.protocols.base import PROTOCOLS, PromptProtocol, whole_number
from samed2.evaluate.protocols.memory import MOST, WithMemory

REMEMBERED = "memory-"


def parse_protocol(text: str) -> PromptProtocol:
    """The protocol written as NAME[:ARGUMENT...], with `:memory-K` at its end beside K cases in the memory.

    Raises:
        InputError: no such protocol, or arguments that it cannot use.
    """
    name, *given = str(text).strip().split(":")
    if name not in PROTOCOLS:
        usages = ", ".join(entry.usage for entry in PROTOCOLS.values())
        raise InputError(f"protocol: got {text!r}, wanted one of {usages}; all but memory-... also with :memory-K")
    if not given or not given[-1].startswith(REMEMBERED):
        return PROTOCOLS[name].make(name, given)
    inner = PROTOCOLS[name].make(name, given[:-1])
    if inner.support:
        raise InputError(f"protocol {name}: brings cases of its own, got {given[-1]!r} too")
    count = whole_number(name, given[-1].removeprefix(REMEMBERED), 1, MOST)
    return WithMemory(f"{inner.text}:{REMEMBERED}{count}", inner, count)
