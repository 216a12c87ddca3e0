from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from samed2.data.cases import Case
from samed2.data.store.splits import assign_splits, torn_patients
from samed2.errors import InputError

SHARES = (0.8, 0.1, 0.1)


def cases(count: int, per_patient: int = 1, objects: int = 1, dataset: str = "d") -> list[Case]:
    made = []
    for number in range(count):
        patient = number // per_patient
        names = tuple(f"o{i}" for i in range(1 + patient % objects))
        made.append(Case(dataset, "ct", f"c{number:04d}", "image", names, patient=f"p{patient}"))
    return made


def split_of(given: list[Case]) -> dict[str, str]:
    return {case.name: case.split for case in given}


@pytest.mark.parametrize("count, per_patient, objects", [(100, 1, 1), (500, 5, 3), (30, 1, 2), (997, 3, 4)])
def test_shares_patients_and_tasks(count, per_patient, objects):
    done = assign_splits(cases(count, per_patient, objects), 3, SHARES)
    assert not torn_patients(done)
    for names in {case.objects for case in done}:
        own = [case.split for case in done if case.objects == names]
        for split, share in zip(("train", "val", "test"), SHARES, strict=True):
            assert abs(Counter(own)[split] - share * len(own)) <= 2 * per_patient + 1


def test_order_and_other_data_sets_do_not_matter_but_the_seed_does():
    one = cases(200, 2, 2)
    want = split_of(assign_splits(one, 0, SHARES))
    shuffled = [one[i] for i in np.random.default_rng(0).permutation(len(one))]
    both = assign_splits(shuffled + cases(50, dataset="other"), 0, SHARES)
    assert split_of([c for c in both if c.dataset == "d"]) == want
    assert split_of(assign_splits(one, 1, SHARES)) != want


def test_given_splits_stay_and_pull_their_patient_along():
    given = cases(40, 4)
    given[0] = replace(given[0], split="external")
    done = assign_splits(given, 0, SHARES)
    assert {case.split for case in done[:4]} == {"external"}
    torn = [replace(given[0], split="train"), replace(given[1], split="test")]
    assert [case.split for case in assign_splits(torn, 0, SHARES)] == ["train", "test"]
    assert "p0" in torn_patients(assign_splits(torn, 0, SHARES))[0]


def test_frozen_splits_stay_when_cases_are_added():
    first = assign_splits(cases(50), 0, SHARES)
    frozen = {"d": split_of(first)}
    grown = assign_splits(cases(120), 0, SHARES, frozen)
    assert {name: split_of(grown)[name] for name in frozen["d"]} == frozen["d"]
    assert Counter(c.split for c in grown)["train"] > 80


@pytest.mark.parametrize("bad", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)])
def test_bad_fractions(bad):
    with pytest.raises(InputError, match="fractions"):
        assign_splits(cases(3), 0, bad)


def test_zero_fractions_give_nothing():
    assert set(split_of(assign_splits(cases(60), 0, (0.5, 0, 0.5))).values()) == {"train", "test"}
