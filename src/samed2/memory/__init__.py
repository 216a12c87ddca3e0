"""The selective memory: entries kept across images, found by similarity and confidence. Tensors only."""

from __future__ import annotations

from samed2.memory.bank import Retrieval, SelectiveMemory, WriteResult
from samed2.memory.entries import Entry
from samed2.memory.files import FORMAT_VERSION
from samed2.memory.keys import KEYS
from samed2.memory.policies import POLICIES, Policy, register_policy
from samed2.memory.store import Storage

__all__ = [
    "FORMAT_VERSION",
    "KEYS",
    "POLICIES",
    "Entry",
    "Policy",
    "Retrieval",
    "SelectiveMemory",
    "Storage",
    "WriteResult",
    "register_policy",
]
