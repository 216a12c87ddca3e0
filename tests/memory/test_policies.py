"""Every policy on one small table: what it returns first, and who gives way."""

from __future__ import annotations

import pytest
import torch

from samed2.errors import InputError
from samed2.memory import POLICIES, Policy, SelectiveMemory, register_policy
from samed2.memory.policies import Reading

EYE = torch.eye(4).view(4, 4, 1, 1)
CONFIDENCE = [0.2, 0.9, 0.4, 0.6]

# policy: best two positions for a query near entry 0; then entry positions after one sure (0.5) and one
# unsure (0.1) sample near entry 2 came in, as the list of times
CASES = {
    "paper": ([0, 1], [0, 1, 4, 3], [0, 1, 2, 3]),
    "released": ([0, 1], [0, 1, 3, 4], [0, 1, 2, 3]),
    "similarity": ([0, 2], [0, 1, 4, 3], [0, 1, 4, 3]),
    "confidence": ([1, 3], [4, 1, 2, 3], [0, 1, 2, 3]),
    "fifo": ([3, 2], [4, 1, 2, 3], [4, 1, 2, 3]),
    "random": (None, None, None),
}


def _bank(policy: str) -> SelectiveMemory:
    bank = SelectiveMemory(4, (4, 1, 1), key="flat", policy=policy)
    bank.add(EYE, EYE, CONFIDENCE)
    return bank


def test_every_policy_has_a_case() -> None:
    assert set(CASES) == set(POLICIES)


@pytest.mark.parametrize("policy", CASES)
def test_reading(policy: str) -> None:
    found = _bank(policy).retrieve(torch.tensor([1.0, 0.0, 0.1, -0.05]).view(1, 4, 1, 1), 2)
    if CASES[policy][0] is not None:
        assert found.indices[0].tolist() == CASES[policy][0]
    assert found.scores[0, 0] >= found.scores[0, 1]


@pytest.mark.parametrize("policy", CASES)
@pytest.mark.parametrize("confidence, column", [(0.5, 1), (0.1, 2)])
def test_replacing(policy: str, confidence: float, column: int) -> None:
    bank = _bank(policy)
    sample = torch.tensor([0.1, 0.0, 1.0, 0.0]).view(1, 4, 1, 1)
    result = bank.add(sample, sample, [confidence])[0]
    times = [entry.time for entry in bank.entries]
    if CASES[policy][column] is None:
        assert result.kept
        assert sorted(times)[-1] == 4
    else:
        assert times == CASES[policy][column]
        assert result.kept == (4 in times)
    if result.kept:
        assert result.index is not None
        assert bank.entries[result.index].time == 4
        assert result.replaced is not None
        assert result.replaced.time not in times
        assert torch.allclose(bank.feature(result.index).flatten(), sample.half().flatten())


def test_equal_confidence_does_not_replace() -> None:
    for policy in ("paper", "released", "confidence"):
        bank = _bank(policy)
        assert not bank.add(EYE[:1], EYE[:1], [0.2])[0].kept


def test_paper_has_no_clamp_and_released_has() -> None:
    read = Reading(torch.tensor([-0.5]), torch.tensor([0.0]), torch.tensor([0]))
    assert float(POLICIES["paper"].score(read)) == 0.0
    assert float(POLICIES["released"].score(read)) == 0.5


def test_the_released_rule_takes_any_finite_confidence() -> None:
    bank = SelectiveMemory(2, (4, 1, 1), policy="released")
    assert bank.add(EYE[:1], EYE[:1], [-0.3])[0].kept


def test_random_seeds_differ() -> None:
    query = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for seed in (0, 1):
        bank = SelectiveMemory(8, (4, 3, 3), policy="random", seed=seed)
        bank.add(query, query, [0.5] * 8)
        found.append(bank.retrieve(query, 3).indices)
    assert not torch.equal(*found)


def test_a_new_policy_is_one_registration() -> None:
    policy = Policy("oldest", "the oldest entries; nothing gives way", lambda read: -read.time, lambda new: None, False)
    register_policy(policy)
    try:
        bank = _bank("oldest")
        assert bank.retrieve(EYE[:1], 2).indices.tolist() == [[0, 1]]
        assert not bank.add(EYE[:1], EYE[:1], [0.99])[0].kept
        with pytest.raises(ValueError, match="twice"):
            register_policy(policy)
    finally:
        del POLICIES["oldest"]


def test_the_policy_of_a_bank_can_be_changed() -> None:
    bank = _bank("paper")
    bank.policy = "fifo"
    assert bank.retrieve(EYE[:1], 1).indices.tolist() == [[3]]
    with pytest.raises(InputError, match="wanted one of paper"):
        bank.policy = "nope"
    assert bank.policy == "fifo"
