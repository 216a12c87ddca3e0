"""The bank's file: nothing lost on the way, and every kind of damage is one clear error."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from samed2.errors import InputError
from samed2.memory import KEYS, POLICIES, SelectiveMemory, Storage

FEATURE = (4, 6, 5)


def _bank(count: int = 7, capacity: int = 9, **options) -> SelectiveMemory:
    draw = torch.Generator().manual_seed(0)
    bank = SelectiveMemory(capacity, FEATURE, fingerprint="abc", **options)
    embedding, feature = (torch.randn(count, c, 6, 5, generator=draw) for c in (8, 4))
    bank.add(embedding, feature, torch.rand(count, generator=draw), task="liver", modality="ct", origin="é.nii")
    return bank


def _query() -> torch.Tensor:
    return torch.randn(3, 8, 6, 5, generator=torch.Generator().manual_seed(1))


def _saved(folder: Path) -> bytes:
    path = folder / "once"
    if not path.exists():
        _bank().save(path)
    return path.read_bytes()


def _same(a: SelectiveMemory, b: SelectiveMemory) -> None:
    assert a.entries == b.entries
    assert {**a.info()} == {**b.info()}
    one, two = a.retrieve(_query(), 4), b.retrieve(_query(), 4)
    assert torch.equal(one.indices, two.indices)
    assert torch.equal(one.features, two.features)
    assert torch.equal(one.confidence, two.confidence)
    assert torch.allclose(one.scores, two.scores, atol=1e-6)  # rows may lie in another order


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("in_memory", [False, True])
def test_round_trip_and_life_after_it(tmp_path: Path, key: str, policy: str, in_memory: bool) -> None:
    bank = _bank(12, 9, key=key, policy=policy, seed=3, storage=Storage("bfloat16", "float16"))
    bank.save(tmp_path / "bank.safetensors")
    before = (tmp_path / "bank.safetensors").read_bytes()
    loaded = SelectiveMemory.load(tmp_path / "bank.safetensors", in_memory=in_memory)
    _same(bank, loaded)
    more = torch.randn(6, 8, 6, 5), torch.randn(6, *FEATURE), [0.95] * 6
    assert bank.add(*more) == loaded.add(*more)
    _same(bank, loaded)
    assert (tmp_path / "bank.safetensors").read_bytes() == before
    loaded.save(tmp_path / "bank.safetensors")  # over the file it is mapped from
    _same(bank, SelectiveMemory.load(tmp_path / "bank.safetensors"))
    _same(bank, loaded)


@pytest.mark.parametrize("count, capacity", [(0, 0), (0, 5), (1, 1), (40, 100)])
def test_sizes(tmp_path: Path, count: int, capacity: int) -> None:
    bank = _bank(count, capacity)
    bank.save(tmp_path / "b.safetensors")
    loaded = SelectiveMemory.load(tmp_path / "b.safetensors")
    _same(bank, loaded)
    more = torch.randn(80, 8, 6, 5), torch.randn(80, *FEATURE), [0.9] * 80
    assert bank.add(*more) == loaded.add(*more)
    _same(bank, loaded)


def test_pruned_to_nothing_round_trips(tmp_path: Path) -> None:
    bank = _bank()
    bank.prune(capacity=0)
    bank.save(tmp_path / "b.safetensors")
    assert len(SelectiveMemory.load(tmp_path / "b.safetensors")) == 0


def test_other_tools_can_read_it(tmp_path: Path) -> None:
    bank = _bank()
    bank.save(tmp_path / "b.safetensors")
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        assert file.metadata()["format"] == "samed2-memory"
        assert torch.equal(file.get_tensor("feature")[2], bank.feature(2))
        assert file.get_tensor("confidence").tolist() == [entry.confidence for entry in bank.entries]


def test_another_model_or_shape(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    _bank().save(path)
    SelectiveMemory.load(path, fingerprint="abc", feature_shape=FEATURE)
    with pytest.raises(InputError, match=r"b\.safetensors: was made by another model.*abc.*xyz"):
        SelectiveMemory.load(path, fingerprint="xyz")
    with pytest.raises(InputError, match=r"feature_shape: got \(4, 6, 5\), wanted \(64, 8, 8\)"):
        SelectiveMemory.load(path, feature_shape=(64, 8, 8))


def _rewrite(path: Path, change) -> None:
    """Change the safetensors table (a dict) or the memory's own header of a file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8 : 8 + length])
    header = json.loads(table["__metadata__"]["header"])
    change(table, header)
    if isinstance(table.get("__metadata__"), dict) and "header" in table["__metadata__"]:
        table["__metadata__"]["header"] = json.dumps(header)
    text = json.dumps(table).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


@pytest.mark.parametrize(
    "change, wanted",
    [
        (lambda t, h: t["__metadata__"].update(format_version="99"), "format_version: got 99, wanted 1"),
        (lambda t, h: t["__metadata__"].update(format="other"), "not a memory of samed2"),
        (lambda t, h: t.pop("__metadata__"), "not a memory of samed2"),
        (lambda t, h: t["feature"].update(shape=[7, 4, 5, 6]), "tensor feature: got .*wanted"),
        (lambda t, h: t["feature"].update(shape=[7, 4, 5, 7]), "tensor feature: shape"),
        (lambda t, h: t["feature"].update(shape=[-7, 4, 5, -6]), "tensor feature: shape"),
        (lambda t, h: t["feature"].update(dtype="F8"), "tensor feature"),
        (lambda t, h: t.pop("key_scale"), "tensor key_scale: is missing"),
        (lambda t, h: h.update(policy="nope"), "policy"),
        (lambda t, h: h.update(key="nope"), "key"),
        (lambda t, h: h.update(capacity=3), "capacity: got 3, wanted at least 7"),
        (lambda t, h: h.update(capacity="many"), "capacity"),
        (lambda t, h: h.update(feature_shape=[4, 6]), "feature_shape"),
        (lambda t, h: h.update(feature_shape=[4, 6, 7]), "tensor feature"),
        (lambda t, h: h.update(embedding_shape=[]), "embedding_shape"),
        (lambda t, h: h.update(entries=[["a", "b"]] * 7), "entries"),
        (lambda t, h: h["entries"].pop(), "tensor confidence"),
        (lambda t, h: h.pop("seed"), "seed"),
    ],
)
def test_damaged_headers(tmp_path: Path, change, wanted: str) -> None:
    path = tmp_path / "b.safetensors"
    _bank().save(path)
    _rewrite(path, change)
    with pytest.raises(InputError, match=wanted) as error:
        SelectiveMemory.load(path)
    assert "b.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


def test_nan_confidence_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    _bank().save(path)
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    raw[start : start + 8] = b"\xff" * 8  # confidence comes first
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"b\.safetensors: confidence: got nan"):
        SelectiveMemory.load(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\x00" * 40, b"\xff" * 40, b"\x02" + b"\x00" * 7 + b"[]"])
def test_not_a_memory_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.safetensors"):
        SelectiveMemory.load(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        SelectiveMemory.load(tmp_path / "nope.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        SelectiveMemory.load(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        _bank().save(tmp_path / "nope" / "b.safetensors")


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cut_off_anywhere(tmp_path: Path, part: float) -> None:
    path, raw = tmp_path / "b.safetensors", _saved(tmp_path)
    path.write_bytes(raw[: int(part * len(raw))])
    with pytest.raises(InputError, match=r"b\.safetensors"):
        SelectiveMemory.load(path)


@given(st.integers(0, 10**9), st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_never_crashes(tmp_path: Path, place: int, bit: int) -> None:
    path, raw = tmp_path / "b.safetensors", bytearray(_saved(tmp_path))
    head = 8 + int.from_bytes(raw[:8], "little")
    raw[place % head] ^= 1 << bit
    path.write_bytes(raw)
    with suppress(InputError):
        bank = SelectiveMemory.load(path)
        if bank.embedding_shape == (8, 6, 5):
            bank.retrieve(_query(), 2)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.safetensors"
    _bank().save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("samed2.memory.files._put", full)
    with pytest.raises(InputError, match="space"):
        _bank(3).save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["b.safetensors"]
