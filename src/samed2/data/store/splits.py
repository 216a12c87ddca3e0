"""Splits for cases that come without one: by patient, stratified by task, from names only."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from samed2.data.cases import Case
from samed2.errors import InputError

NAMES = ("train", "val", "test")
Frozen = Mapping[str, Mapping[str, str]]  # data set -> case -> split


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """The shares of train, val and test.

    Raises:
        InputError: not three numbers >= 0 that add up to 1.
    """
    shares = tuple(float(f) for f in fractions)
    if len(shares) != 3 or not all(math.isfinite(f) and f >= 0 for f in shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"fractions: got {list(fractions)}, wanted three numbers (train, val, test) that add up to 1")
    return shares[0], shares[1], shares[2]


def assign_splits(
    cases: Sequence[Case], seed: int, fractions: Sequence[float], frozen: Frozen | None = None
) -> list[Case]:
    """The cases in their order, each with a patient and a split; splits that are given stay.

    A case without one follows its patient's other cases, then what `frozen` (an earlier build) says, and else its
    patient is drawn. Within a data set, patients who show the same objects are shuffled by SHA-256 of seed and name
    and dealt out one by one to the split that is furthest behind its share of cases.
    """
    shares = check_fractions(fractions)
    cases = [replace(case, patient=case.patient or case.name) for case in cases]
    known: dict[tuple[str, str], str] = {}
    for case in sorted(cases, key=lambda c: c.name):
        earlier = case.split or (frozen or {}).get(case.dataset, {}).get(case.name, "")
        if earlier and (case.split or (case.dataset, case.patient) not in known):
            known[case.dataset, case.patient] = earlier
    open_: dict[str, dict[str, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        if not case.split and (case.dataset, case.patient) not in known:
            open_[case.dataset][case.patient].append(case)
    for dataset, patients in open_.items():
        for patient, split in _deal(dataset, patients, seed, shares).items():
            known[dataset, patient] = split
    return [case if case.split else replace(case, split=known[case.dataset, case.patient]) for case in cases]


def torn_patients(cases: Sequence[Case]) -> list[str]:
    """One line per patient whose cases lie in several splits, which only sources that say so can cause."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for case in cases:
        seen[case.dataset, case.patient].add(case.split)
    return [
        f"{dataset}: patient {patient} is in splits {', '.join(sorted(splits))}, as the source says"
        for (dataset, patient), splits in sorted(seen.items())
        if len(splits) > 1
    ]


def _deal(dataset: str, patients: Mapping[str, Sequence[Case]], seed: int, shares: Sequence[float]) -> dict[str, str]:
    def order(patient: str) -> tuple[tuple[str, ...], str]:
        objects = sorted({name for case in patients[patient] for name in case.objects})
        return tuple(objects), hashlib.sha256(f"{seed}\n{dataset}\n{patient}".encode()).hexdigest()

    dealt = [0.0, 0.0, 0.0]
    total = 0
    found = {}
    for patient in sorted(patients, key=order):
        size = len(patients[patient])
        total += size
        behind = [share * total - have if share else -math.inf for share, have in zip(shares, dealt, strict=True)]
        best = behind.index(max(behind))
        dealt[best] += size
        found[patient] = NAMES[best]
    return found
