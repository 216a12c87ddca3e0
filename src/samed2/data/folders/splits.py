"""Which cases are trained on and which are kept to see whether it helped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from samed2.data.cases import Case
from samed2.data.folders.check import LEAST, CaseFacts

SHARE = 0.2


def split_cases(facts: Sequence[CaseFacts], seed: int = 0) -> dict[str, list[Case]]:
    """train and val: as the folder says, else a fifth of the cases in val, whole patients, every object where possible.

    Cases with equal pixels are one patient. The folder's test cases are in neither. With fewer than four patients val
    is empty.
    """
    pool = [fact for fact in facts if fact.case.split in ("", "train")]
    kept = [fact.case for fact in facts if fact.case.split == "val"]
    if not pool:  # only val or test there: the words meant something else
        pool, kept = list(facts), []
    if kept:
        return {"train": [fact.case for fact in pool], "val": kept}
    chosen = {fact.case.label for fact in _choose(_groups(pool, seed), len(pool))}
    train = [fact.case for fact in pool if fact.case.label not in chosen]
    return {"train": train, "val": [fact.case for fact in pool if fact.case.label in chosen]}


def _groups(facts: Sequence[CaseFacts], seed: int) -> list[list[CaseFacts]]:
    """Patients in an order that only names and seed decide; those who share a picture are one."""
    first: dict[str, int] = {}
    owner = list(range(len(facts)))

    def root(index: int) -> int:
        while owner[index] != index:
            index = owner[index]
        return index

    for index, fact in enumerate(facts):
        patient = f"patient {fact.case.dataset}/{fact.case.patient or fact.case.name}"
        for key in (patient, fact.digest):
            owner[root(index)] = root(first.setdefault(key, index))
    groups: dict[int, list[CaseFacts]] = {}
    for index, fact in enumerate(facts):
        groups.setdefault(root(index), []).append(fact)

    def order(group: list[CaseFacts]) -> str:
        return hashlib.sha256(f"{seed}\n{group[0].case.label}".encode()).hexdigest()

    return sorted(groups.values(), key=order)


def _choose(groups: list[list[CaseFacts]], total: int) -> list[CaseFacts]:
    """Groups for val: first those that show an object which val lacks and train keeps, then any, to a fifth."""
    if len(groups) < LEAST:
        return []
    wanted = max(1, round(SHARE * total))
    shown = [{fact.case.task(name) for fact in group for name, on in fact.pixels.items() if on} for group in groups]
    left = Counter(task for tasks in shown for task in tasks)  # patients of train with it
    chosen: list[int] = []
    have, size = set[str](), 0
    for demanding in (True, False):
        for index, group in enumerate(groups):
            if index in chosen or size >= wanted or (chosen and size + len(group) > 2 * wanted):
                continue
            if all(left[task] > 1 for task in shown[index]) and (not demanding or shown[index] - have):
                chosen.append(index)
                size += len(group)
                have |= shown[index]
                left.subtract(shown[index])
    return [fact for index in chosen for fact in groups[index]]
