"""Prompt protocols: `parse_protocol("box-jitter:0.05")`; docs/protocols.md has every rule in writing."""

from __future__ import annotations

from samed2.evaluate.protocols import challenge, clicks, components, memory, modes, propagate
from samed2.evaluate.protocols.base import (
    PROTOCOLS,
    Hint,
    PromptProtocol,
    Subject,
    Trial,
    register_protocol,
)
from samed2.evaluate.protocols.parse import parse_protocol

__all__ = [
    "PROTOCOLS",
    "Hint",
    "PromptProtocol",
    "Subject",
    "Trial",
    "challenge",
    "clicks",
    "components",
    "memory",
    "modes",
    "parse_protocol",
    "propagate",
    "register_protocol",
]
