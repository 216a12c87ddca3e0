"""The bank: filling, replacing, filters, and the same answer whatever the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samed2.errors import InputError
from samed2.memory import KEYS, POLICIES, SelectiveMemory, Storage

FEATURE = (4, 6, 5)
EMBEDDING = (8, 6, 5)


def _samples(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    embedding = torch.randn(count, *EMBEDDING, generator=draw)
    feature = torch.randn(count, *FEATURE, generator=draw)
    return embedding, feature, torch.rand(count, generator=draw)


def _bank(count: int = 12, capacity: int = 12, seed: int = 0, **settings) -> SelectiveMemory:
    bank = SelectiveMemory(capacity, FEATURE, **settings)
    bank.add(
        *_samples(count, seed),
        task=[("liver", "lung")[i % 2] for i in range(count)],
        modality=[("ct", "mr", "us")[i % 3] for i in range(count)],
    )
    return bank


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("policy", POLICIES)
def test_batch_and_its_order_do_not_matter_for_reading(key: str, policy: str) -> None:
    bank = _bank(key=key, policy=policy)
    queries = _samples(5, seed=1)[0]
    order = torch.tensor([3, 0, 4, 1, 2])
    together, shuffled = bank.retrieve(queries, 4), bank.retrieve(queries[order], 4)
    for row in range(5):
        alone = bank.retrieve(queries[row : row + 1], 4)
        place = int((order == row).nonzero())
        for field in ("features", "confidence", "indices", "scores"):
            assert torch.equal(getattr(alone, field)[0], getattr(together, field)[row])
            assert torch.equal(getattr(alone, field)[0], getattr(shuffled, field)[place])


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("policy", POLICIES)
def test_adding_a_batch_is_adding_one_by_one(key: str, policy: str) -> None:
    together, single = (SelectiveMemory(5, FEATURE, key=key, policy=policy) for _ in range(2))
    embedding, feature, confidence = _samples(14)
    results = together.add(embedding, feature, confidence)
    one_by_one = [single.add(embedding[i : i + 1], feature[i : i + 1], confidence[i : i + 1])[0] for i in range(14)]
    assert results == one_by_one
    assert together.entries == single.entries
    assert all(torch.equal(together.feature(i), single.feature(i)) for i in range(5))


@pytest.mark.parametrize("key", KEYS)
def test_keys_made_for_reading_serve_for_adding(key: str) -> None:
    first, second = _bank(4, 8, key=key), _bank(4, 8, key=key)
    embedding, feature, sure = _samples(3, seed=2)
    retrieved = first.retrieve(embedding, 2)
    assert first.add(embedding, feature, sure, retrieved=retrieved) == second.add(embedding, feature, sure)
    queries = _samples(5, seed=3)[0]
    assert torch.equal(first.retrieve(queries, 4).scores, second.retrieve(queries, 4).scores)
    with pytest.raises(InputError, match="answer to other embeddings"):
        first.add(embedding.flip(0), feature, sure, retrieved=retrieved)
    assert len(first) == 7


def test_random_policy_ignores_rounding_noise_of_the_query() -> None:
    bank = _bank(policy="random")
    queries = _samples(20, seed=3)[0]
    noisy = queries * (1 + 1e-6 * torch.randn_like(queries))
    assert torch.equal(bank.retrieve(queries, 4).indices, bank.retrieve(noisy, 4).indices)
    assert len(bank.retrieve(queries, 4).indices.unique(dim=0)) > 10


@pytest.mark.parametrize("key", ["pooled", "flat"])
def test_an_entry_finds_itself(key: str) -> None:
    bank = _bank(key=key, policy="similarity")
    found = bank.retrieve(_samples(12)[0], 1)
    assert found.indices[:, 0].tolist() == list(range(12))
    assert torch.allclose(found.scores, torch.ones(12, 1), atol=1e-4)
    assert torch.allclose(found.features[:, 0].float(), _samples(12)[1], atol=5e-3)  # float16
    assert torch.allclose(found.confidence[:, 0], _samples(12)[2])


def test_paper_score_is_cosine_plus_sigmoid_of_confidence() -> None:
    bank = _bank(key="flat")
    embedding, _, confidence = _samples(12)
    query = _samples(1, seed=9)[0]
    cosine = torch.nn.functional.cosine_similarity(query.flatten(1), embedding.flatten(1))
    scores, indices = (cosine + torch.sigmoid(confidence)).topk(4)
    found = bank.retrieve(query, 4)
    assert torch.allclose(found.scores[0], scores, atol=1e-6)
    assert torch.equal(found.indices[0], indices)
    assert cosine.min() < 0  # the clamp of the released code would show


def test_filters_by_task_and_modality() -> None:
    bank, query = _bank(), _samples(2, seed=1)[0]
    tasks = [entry.task for entry in bank.entries]
    modalities = [entry.modality for entry in bank.entries]
    liver = bank.retrieve(query, 4, task="liver").indices
    assert {tasks[i] for i in liver.flatten().tolist()} == {"liver"}
    both = bank.retrieve(query, 99, task="lung", modality={"ct", "mr"}).indices
    wanted = [i for i in range(12) if tasks[i] == "lung" and modalities[i] in ("ct", "mr")]
    assert sorted(both[0].tolist()) == wanted
    assert bank.retrieve(query, 4, task="brain").features.shape == (2, 0, *FEATURE)


def test_ranks_under_a_filter_equal_those_of_a_bank_of_only_those_entries() -> None:
    bank, query = _bank(), _samples(3, seed=1)[0]
    small = _bank()
    small.prune(task="lung")
    filtered, alone = bank.retrieve(query, 3, task="liver"), small.retrieve(query, 3)
    assert torch.equal(filtered.features, alone.features)
    assert torch.equal(filtered.scores, alone.scores)


@pytest.mark.parametrize("capacity, k", [(0, 4), (12, 0)])
def test_nothing_is_returned_from_capacity_0_or_for_k_0(capacity: int, k: int) -> None:
    bank = SelectiveMemory(capacity, FEATURE)
    results = bank.add(*_samples(3))
    assert [result.kept for result in results] == [capacity > 0] * 3
    assert len(bank) == min(capacity, 3)
    found = bank.retrieve(_samples(2)[0], k)
    assert found.features.shape == (2, 0, *FEATURE)
    assert found.scores.shape == found.indices.shape == found.confidence.shape == (2, 0)


def test_empty_batch() -> None:
    bank = _bank()
    assert bank.retrieve(torch.zeros(0, *EMBEDDING), 4).features.shape == (0, 4, *FEATURE)
    assert bank.add(torch.zeros(0, *EMBEDDING), torch.zeros(0, *FEATURE), []) == []


def test_shortlist_of_a_large_bank_keeps_the_best() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(20, 8, 16, 16, generator=draw)
    embedding = centres.repeat(10, 1, 1, 1) + 0.5 * torch.randn(200, 8, 16, 16, generator=draw)
    feature = torch.randn(200, *FEATURE, generator=draw)
    found = {}
    for key in ("pooled", "flat"):
        bank = SelectiveMemory(200, FEATURE, key=key, policy="similarity")
        bank.add(embedding, feature, [0.5] * 200)
        found[key] = bank.retrieve(centres, 4).indices
    same = [len(set(a) & set(b)) for a, b in zip(found["pooled"].tolist(), found["flat"].tolist(), strict=True)]
    assert sum(same) / 80 >= 0.95


def test_large_maps_are_sketched_without_bias() -> None:
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(1, 64, 64, 64, generator=draw)
    maps = base + torch.linspace(0.2, 3, 8)[:, None, None, None] * torch.randn(8, 64, 64, 64, generator=draw)
    exact = torch.nn.functional.cosine_similarity(base.flatten(1), maps.flatten(1))
    bank = SelectiveMemory(8, FEATURE, policy="similarity")
    bank.add(maps, torch.randn(8, *FEATURE, generator=draw), [0.5] * 8)
    found = bank.retrieve(base, 8)
    assert torch.allclose(found.scores[0], exact[found.indices[0]], atol=0.015)


def test_random_replacement_does_not_depend_on_history_of_calls() -> None:
    first, second = _bank(policy="random"), _bank(policy="random")
    second.retrieve(_samples(3, seed=5)[0], 2)
    new = _samples(4, seed=6)
    assert first.add(*new) == second.add(*new)


def test_disk_backed_equals_in_memory(tmp_path) -> None:
    disk = _bank(40, 50, key="flat", storage=Storage(directory=tmp_path))
    memory = _bank(40, 50, key="flat")
    query = _samples(3, seed=2)[0]
    assert torch.equal(disk.retrieve(query, 5).features, memory.retrieve(query, 5).features)
    assert list(tmp_path.iterdir()) == []  # scratch files have no name


@pytest.mark.parametrize("query", [torch.float32, torch.bfloat16])
def test_features_come_in_the_dtype_they_are_stored_in(query: torch.dtype) -> None:
    bank = _bank()
    assert bank.retrieve(_samples(1)[0].to(query), 2).features.dtype == torch.float16


@pytest.mark.parametrize(
    "settings, wanted",
    [
        ({"capacity": -1}, "capacity"),
        ({"capacity": 1.5}, "capacity"),
        ({"feature_shape": (4, 6)}, "feature_shape"),
        ({"key": "nope"}, "pooled, flat, released"),
        ({"policy": "nope"}, "paper, released, similarity"),
    ],
)
def test_bad_settings(settings: dict, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        SelectiveMemory(**{"capacity": 3, "feature_shape": FEATURE} | settings)


def test_bad_storage(tmp_path) -> None:
    with pytest.raises(InputError, match="feature_dtype"):
        Storage(feature_dtype="int4")
    with pytest.raises(InputError, match="not a folder"):
        Storage(directory=tmp_path / "missing")


NAN = torch.full((1, *EMBEDDING), float("nan"))


@pytest.mark.parametrize(
    "embedding, feature, confidence, wanted",
    [
        (torch.ones(1, 8, 6, 4), torch.ones(1, *FEATURE), [0.5], "embedding"),
        (torch.ones(8, 6, 5), torch.ones(1, *FEATURE), [0.5], "embedding"),
        (torch.ones(1, *EMBEDDING, dtype=torch.int64), torch.ones(1, *FEATURE), [0.5], "embedding"),
        (NAN, torch.ones(1, *FEATURE), [0.5], "embedding holds NaN"),
        (torch.ones(1, *EMBEDDING), torch.ones(2, *FEATURE), [0.5], "feature"),
        (torch.ones(1, *EMBEDDING), torch.full((1, *FEATURE), 1e6), [0.5], "float16"),
        (torch.ones(1, *EMBEDDING), torch.ones(1, *FEATURE), [0.5, 0.5], "confidence"),
        (torch.ones(1, *EMBEDDING), torch.ones(1, *FEATURE), [1.5], "predicted IoU"),
        (torch.ones(1, *EMBEDDING), torch.ones(1, *FEATURE), [float("nan")], "predicted IoU"),
    ],
)
@pytest.mark.parametrize("key", KEYS)
def test_bad_samples_change_nothing(key, embedding, feature, confidence, wanted) -> None:
    bank = _bank(3, 12, key=key)
    before = bank.entries
    with pytest.raises(InputError, match=wanted):
        bank.add(embedding, feature, confidence)
    assert bank.entries == before


def test_bad_texts_and_queries() -> None:
    bank = _bank()
    with pytest.raises(InputError, match="task"):
        bank.add(*_samples(2), task=["liver"])
    with pytest.raises(InputError, match="k"):
        bank.retrieve(_samples(1)[0], -1)
    with pytest.raises(InputError, match="NaN"):
        bank.retrieve(NAN, 2)
    with pytest.raises(InputError, match="index"):
        bank.feature(12)


def test_a_zero_embedding_is_not_an_error() -> None:
    found = _bank().retrieve(torch.zeros(1, *EMBEDDING), 2)
    assert bool(torch.isfinite(found.scores).all())


def test_merge_keeps_all_and_skips_copies() -> None:
    first, second = _bank(6, 6, seed=0), _bank(6, 6, seed=1)
    joined = SelectiveMemory.merge([first, second, first])
    assert len(joined) == 12
    assert [e.confidence for e in joined.entries] == [e.confidence for e in (*first.entries, *second.entries)]
    query = _samples(1, seed=1)[0]
    best = joined.retrieve(query, 1).features
    assert torch.equal(best[0, 0].half(), second.feature(int(second.retrieve(query, 1).indices))) or (
        int(joined.retrieve(query, 1).indices) < 6
    )


def test_merge_to_a_small_capacity_follows_the_policy() -> None:
    joined = SelectiveMemory.merge([_bank(6, 6, seed=0), _bank(6, 6, seed=1)], capacity=4)
    assert len(joined) == joined.capacity == 4
    assert [entry.time for entry in joined.entries] != [0, 1, 2, 3]  # more confident ones came in


@pytest.mark.parametrize(
    "settings, wanted",
    [
        ({"fingerprint": "b"}, "fingerprint"),
        ({"key": "flat"}, "key"),
        ({"storage": Storage("bfloat16")}, "dtype"),
    ],
)
def test_merge_refuses_other_kinds(settings: dict, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        SelectiveMemory.merge([_bank(), _bank(**settings)])
    with pytest.raises(InputError, match="no banks"):
        SelectiveMemory.merge([])


def test_prune() -> None:
    bank = _bank()
    best = sorted((e.confidence for e in bank.entries), reverse=True)
    assert bank.prune(capacity=8) == 4
    assert sorted((e.confidence for e in bank.entries), reverse=True) == best[:8]
    assert bank.prune(min_confidence=best[5]) == 2
    gone = sum(entry.task == "liver" for entry in bank.entries)
    assert bank.prune(task="liver") == gone
    assert {entry.task for entry in bank.entries} == {"lung"}
    assert bank.capacity == 8
    assert len(bank.retrieve(_samples(1)[0], 99).indices[0]) == 6 - gone
    bank.add(*_samples(8, seed=4))
    assert len(bank) == 8
    assert bank.prune(capacity=0) == 8
    assert not bank.add(*_samples(1))[0].kept


def test_prune_of_fifo_drops_the_oldest() -> None:
    bank = _bank(policy="fifo")
    bank.prune(capacity=3)
    assert [entry.time for entry in bank.entries] == [9, 10, 11]


def test_info_counts() -> None:
    facts = _bank().info()
    assert (facts["entries"], facts["capacity"], facts["policy"], facts["key"]) == (12, 12, "paper", "pooled")
    assert facts["tasks"] == {"liver": 6, "lung": 6}
    assert facts["modalities"] == {"ct": 4, "mr": 4, "us": 4}
