"""Embeddings on disk: the same answers without encoding again, within a limit, whatever happens to the files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samed2.errors import InputError
from samed2.io import Scan
from samed2.nn import Features
from samed2.predict import Predictor
from samed2.predict.feature_store import FeatureStore
from samed2.prompts import Prompts


def ask(model, scan, folder, monkeypatch=None, box=(10, 10, 40, 50), **options):
    predictor = Predictor(model, device="cpu", precision="fp32", embeddings=FeatureStore(folder))
    calls = []
    encode = predictor.model.encode
    monkeypatch.setattr(predictor.model, "encode", lambda *given, **how: calls.append(1) or encode(*given, **how))
    found = predictor.predict(scan, Prompts().add_box(1, 0, *box), **options)[0]
    monkeypatch.undo()
    return found.logits, len(calls)


def test_a_case_opened_again_is_not_encoded_again(predictor, volume, tmp_path, monkeypatch):
    first, calls = ask(predictor.model, volume, tmp_path, monkeypatch)
    again, none = ask(predictor.model, volume, tmp_path, monkeypatch)
    assert calls == 1 and none == 0
    np.testing.assert_array_equal(first, again)
    plain = Predictor(predictor.model, device="cpu", precision="fp32")
    np.testing.assert_array_equal(plain.predict(volume, Prompts().add_box(1, 0, 10, 10, 40, 50))[0].logits, first)


def test_anything_that_changes_the_embedding_is_another_one(predictor, volume, tmp_path, monkeypatch):
    model = predictor.model
    clip = {"window": "50,400", "neighbours": 3}
    ask(model, volume, tmp_path, monkeypatch, **clip)
    pixels = volume.frames().copy()
    pixels[1, 0, 0] += 1  # a neighbour in the clip
    other = Scan.from_array(pixels, kind="volume")
    assert ask(model, other, tmp_path, monkeypatch, **clip)[1] == 1
    assert ask(model, volume, tmp_path, monkeypatch, window="50,400")[1] == 1
    assert ask(model, other, tmp_path, monkeypatch, window="50,400")[1] == 0  # a frame alone has no neighbours
    assert ask(model, volume, tmp_path, monkeypatch, neighbours=3)[1] == 1
    assert ask(model, volume, tmp_path, monkeypatch, neighbours=3, shallow=True)[1] == 1
    assert ask(model, volume, tmp_path, monkeypatch, box=(0, 0, 60, 70), **clip)[1] == 1
    assert ask(model, volume, tmp_path, monkeypatch, **clip)[1] == 0


def test_damaged_files_are_made_again(predictor, volume, tmp_path, monkeypatch):
    first, _ = ask(predictor.model, volume, tmp_path, monkeypatch)
    for path in tmp_path.rglob("*.features"):
        path.write_bytes(path.read_bytes()[:100])
    again, calls = ask(predictor.model, volume, tmp_path, monkeypatch)
    assert calls == 1
    np.testing.assert_array_equal(first, again)


def test_the_longest_unused_give_way(tmp_path):
    import os

    store = FeatureStore(tmp_path, megabytes=0.05)
    parts = Features(torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4))  # 5.6 kB
    keys = [f"{i:02x}" + "0" * 30 for i in range(12)]
    for age, key in enumerate(keys):
        store.put(key, parts)
        if store._path(key).exists():
            os.utime(store._path(key), (age, age))
        if age == 5:
            assert store.get(keys[0]) is not None  # used just now
    kept = [key for key in keys if store.get(key) is not None]
    assert keys[0] in kept and keys[1] not in kept
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.features")) <= 50_000


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_the_limit_is_positive(tmp_path, limit):
    with pytest.raises(InputError, match="limit"):
        FeatureStore(tmp_path, limit)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "here").write_text("x")
    with pytest.raises(InputError, match="here"):
        FeatureStore(tmp_path / "here")
