"""The released bank file is read without running it; its token layout and faults are as the audit says."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samed2.errors import InputError
from samed2.memory import SelectiveMemory
from samed2.memory.foreign import read_objects
from samed2.memory.released import as_entries, assemble, convert, read_bank

CHANNELS, SIDE, DEPTH = 8, 4, 6


def entries(count: int = 3, dtype: torch.dtype = torch.bfloat16) -> list[list[Any]]:
    """A bank as the released code keeps it: [F (1, M, h, w), PE, y, E (d h w,)]."""
    draw = torch.Generator().manual_seed(0)
    shape = (1, CHANNELS, SIDE, SIDE)
    code = torch.randn(shape, generator=draw).to(dtype)
    return [
        [
            torch.randn(shape, generator=draw).to(dtype),
            code,
            torch.tensor(0.5 + 0.03 * i),
            torch.randn(DEPTH * SIDE * SIDE, generator=draw),
        ]
        for i in range(count)
    ]


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_banks_are_read_whole(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "memory_bank_list_640.pkl"
    path.write_bytes(pickle.dumps(entries(), protocol=protocol))
    assert same(read_objects(path), entries())


def test_views_keep_their_part_of_the_storage(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    content = [whole.t(), whole[1, ::2], torch.nn.Parameter(whole)]
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(content))
    read = read_objects(tmp_path / "b.pkl")
    for got, wanted in zip(read, content, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_saved_banks(zipped: bool, tmp_path: Path) -> None:
    torch.save(entries(), tmp_path / "bank.pkl", _use_new_zipfile_serialization=zipped)
    assert same(read_objects(tmp_path / "bank.pkl"), entries())


def test_plain_data_of_many_kinds(tmp_path: Path) -> None:
    content = [
        1,
        -(2**70),
        2.5,
        "ä",
        b"x" * 300,
        None,
        True,
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
        {"a": [1]},
        (),
        {},
    ]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        if protocol < 3:
            content = [item for item in content if not isinstance(item, bytes)]  # their old form is a call
        (tmp_path / "b.pkl").write_bytes(pickle.dumps([*content, content[-2]], protocol=protocol))
        assert read_objects(tmp_path / "b.pkl") == [*content, content[-2]]


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class State:
    pass


HOSTILE = {
    "system call": Call(__import__("os").mkdir, "ran"),
    "eval": Call(eval, "1 + 1"),
    "numpy scalar": np.float64(1.0),
    "object": State(),
    "set": {1, 2},
    "storage from code": Call(torch.storage._load_from_bytes, pickle.dumps(Call(__import__("os").mkdir, "ran"))),
    "tensor from text": Call(torch._utils._rebuild_tensor_v2, "storage", 0, (1,), (1,), False, OrderedDict()),
    "far view": Call(
        torch._utils._rebuild_tensor_v2, torch.zeros(4)._typed_storage(), 2, (9,), (1,), False, OrderedDict()
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_nothing_in_a_file_is_run(content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([content]))
    with pytest.raises(InputError, match=r"b\.pkl"):
        read_bank(tmp_path / "b.pkl")
    assert [p.name for p in tmp_path.iterdir()] == ["b.pkl"]


@pytest.fixture(scope="module")
def pickled() -> bytes:
    """A bank's file, made once: torch writes the addresses of storages into it, so that its length varies."""
    return pickle.dumps(entries(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_are_one_line_or_data(folder: Path, pickled: bytes, data: st.DataObject) -> None:
    good = bytearray(pickled)
    for _ in range(data.draw(st.integers(0, 3))):
        good[data.draw(st.integers(0, min(200, len(good) - 1)))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(good)))
    (folder / "b.pkl").write_bytes(bytes(good[:end]))
    message = "b.pkl"
    try:
        read_bank(folder / "b.pkl")
    except InputError as error:
        message = str(error)
    assert "b.pkl" in message
    assert "\n" not in message


def test_a_claimed_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x")
    with pytest.raises(InputError, match="cut off"):
        read_objects(tmp_path / "b.pkl")


def test_a_bank_becomes_a_memory_file(tmp_path: Path) -> None:
    released = entries(5)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(released))
    summary = convert(tmp_path / "b.pkl", tmp_path / "b.safetensors")
    assert summary["kind"] == "memory"
    assert summary["entries"] == 5
    bank = SelectiveMemory.load(tmp_path / "b.safetensors")
    assert (bank.key, bank.policy, bank.capacity) == ("released", "released", 5)
    assert [entry.origin for entry in bank.entries] == [f"b.pkl:{i}" for i in range(5)]
    for i, (feature, _, confidence, _) in enumerate(released):
        assert torch.equal(bank.feature(i), feature[0])
        assert bank.entries[i].confidence == pytest.approx(float(confidence))


def plain_read(query: torch.Tensor, released: list[list[Any]], count: int) -> torch.Tensor:
    """The released retrieval, step by step: query by position, bank by channel, sigmoid of a probability."""
    flat = query.permute(0, 2, 3, 1).flatten(1)
    stored = torch.stack([entry[3] for entry in released])
    cosine = torch.nn.functional.cosine_similarity(flat[:, None], stored[None], dim=2).clamp(min=0)
    sure = torch.sigmoid(torch.stack([entry[2] for entry in released]))
    return (cosine + sure).topk(count).indices


def test_reading_has_the_layout_fault_and_other_keys_do_not(tmp_path: Path) -> None:
    released = entries(12)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(released))
    query = torch.randn(3, DEPTH, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    found = read_bank(tmp_path / "b.pkl").retrieve(query, 3)
    assert torch.equal(found.indices, plain_read(query, released, 3))

    own = torch.stack([entry[3].view(DEPTH, SIDE, SIDE) for entry in released])
    fixed = read_bank(tmp_path / "b.pkl", key="flat", policy="similarity").retrieve(own, 1)
    assert fixed.indices.flatten().tolist() == list(range(12))
    torch.testing.assert_close(fixed.scores.flatten(), torch.ones(12), atol=1e-5, rtol=0)


def test_assembled_tokens_mix_the_samples() -> None:
    selected = torch.arange(2 * 2 * 3 * 2 * 2.0).reshape(2, 2, 3, 2, 2)  # [b, k, m, h, w]
    tokens = assemble(selected)
    assert tokens.shape == (8, 2, 3)
    for column in range(2):  # column b: at each position, the b-th ranked entry of sample 0, then of sample 1
        for position in range(4):
            for sample in range(2):
                wanted = selected[sample, column].flatten(1)[:, position]
                assert torch.equal(tokens[2 * position + sample, column], wanted)
    maps = as_entries(tokens, 2, 2)
    assert torch.equal(maps.flatten(3).transpose(2, 3).flatten(1, 2), tokens.transpose(0, 1))
    with pytest.raises(ValueError, match="3 entries for each of 2 samples"):
        assemble(torch.zeros(2, 3, 1, 2, 2))


def changed(index: int, value: object, position: int = 1) -> list[list[Any]]:
    bank = entries()
    bank[position][index] = value
    return bank


WRONG: dict[str, tuple[object, str]] = {
    "no list": ({"a": 1}, "got a dict, wanted a list"),
    "empty": ([], "got an empty list"),
    "no entry": ([1], "entry 0: got int, wanted 4 items"),
    "three items": ([entries()[0][:3]], "entry 0: got 3, wanted 4 items"),
    "feature text": (changed(0, "x"), "entry 1: feature: got a str"),
    "feature shape": (
        changed(0, torch.zeros(2, CHANNELS, SIDE, SIDE)),
        "entry 1: feature: got a float32 tensor",
    ),
    "other size": (changed(0, torch.zeros(1, CHANNELS, 2, 2)), "entry 1: feature: .*entry 0 has"),
    "integers": (changed(0, torch.zeros(1, CHANNELS, SIDE, SIDE, dtype=torch.int32)), "feature: got a int32"),
    "two confidences": (changed(2, torch.zeros(2)), "entry 1: confidence"),
    "confidence nan": (changed(2, float("nan")), "entry 1: .*confidence"),
    "confidence text": (changed(2, "high"), "entry 1: confidence: got a str"),
    "odd embedding": (changed(3, torch.zeros(17)), "entry 1: embedding: .*16 positions"),
    "other depth": (changed(3, torch.zeros(SIDE * SIDE)), "entry 1: embedding: .*entry 0 has"),
    "embedding nan": (changed(3, torch.full((DEPTH * SIDE * SIDE,), float("nan"))), "entry 1: .*NaN"),
}


@pytest.mark.parametrize("content, message", WRONG.values(), ids=WRONG.keys())
def test_entries_of_another_form_are_named(content: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "b.pkl", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04cut"], ids=["empty", "text", "zip"])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"b\.pkl"):
        read_bank(tmp_path / "b.pkl")
    with pytest.raises(InputError, match="does not exist"):
        read_bank(tmp_path / "none.pkl")
    with pytest.raises(InputError, match="is a folder"):
        read_bank(tmp_path)
