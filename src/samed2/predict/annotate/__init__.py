"""Annotating a folder of cases: a memory of confirmed ones proposes, a person corrects and confirms."""

from __future__ import annotations

from samed2.predict.annotate.bank import open_memory
from samed2.predict.annotate.cases import find_cases
from samed2.predict.annotate.steps import How, correct, propose, remember, uncertainty
from samed2.predict.annotate.work import Annotation

__all__ = [
    "Annotation",
    "How",
    "correct",
    "find_cases",
    "open_memory",
    "propose",
    "remember",
    "uncertainty",
]
