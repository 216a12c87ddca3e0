from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from samed2.data.convert.folder import folder_cases
from samed2.data.store import Store, build
from samed2.errors import InputError


@pytest.fixture
def store(built):
    return Store.open(built)


def test_cases_come_back_as_the_source_has_them(store, folder):
    want = {case.label: case for case in folder_cases(folder)}
    got = store.cases()
    assert [case.label for case in got] == sorted(want)
    for case in got:
        original = want[case.label]
        names = ("objects", "split", "patient", "modality", "kind", "licence")
        assert [getattr(case, n) for n in names] == [getattr(original, n) for n in names]
        a, b = pickle.loads(pickle.dumps(case)).load(), original.load()
        assert a.scan.geometry == b.scan.geometry and a.scan.kind == b.scan.kind
        assert a.frames.dtype == b.frames.dtype and np.array_equal(a.frames, b.frames)
        for name in case.objects:
            assert np.array_equal(a.masks[name], b.masks[name])


def test_rows_are_random_access(store):
    rows = store.rows(task="stack/ball", split="val", present=True)
    assert len(rows) == 4 and [store.row(int(r))["frame"] for r in rows] == [1, 2, 3, 4]
    assert len(store.rows(task="stack/ball", split="val")) == 6
    assert len(store.rows(case="spots/val3")) == len(store.rows(case="val3")) == 1
    assert len(store.rows(dataset="film")) == 12 and len(store.rows(task="film/other")) == 0
    row = int(rows[0])
    fields = store.row(row)
    assert store.mask(row, "ball").sum() == fields["masks"][0]["pixels"]
    assert store.image(row).dtype == np.float32 and store.image(row).shape == (40, 48)
    assert not store.mask(row - 1, "ball").any()
    for action in (lambda: store.mask(row, "liver"), lambda: store.image(len(store)), lambda: store.row(-1)):
        with pytest.raises(InputError):
            action()
    with pytest.raises(InputError, match="DATASET/OBJECT"):
        store.rows(task="ball")


def test_the_index_has_all_but_the_pixels(store):
    index = store.index
    assert index.num_rows == len(store) == 36
    assert "image" not in index.column_names and index.nbytes < 40_000
    assert index["masks"].type.value_type.names == ["object", "pixels"]
    first = index.slice(0, 1).to_pylist()[0]
    assert first["dataset"] == "film" and first["frame"] == 0 and first["masks"] == []
    assert index["frame"].to_pylist()[:7] == [0, 1, 2, 3, 4, 5, 0]
    assert all(len(value) == 64 for value in index["digest"].to_pylist())


@pytest.mark.parametrize(
    "chosen, count",
    [
        ({}, 16),
        ({"splits": ["val"]}, 8),
        ({"splits": "val", "datasets": ["spots"]}, 6),
        ({"tasks": ["spots/dot", "film/ball"]}, 14),
    ],
)
def test_choosing_cases(store, chosen, count):
    found = store.cases(**chosen)
    assert len(found) == count
    if "tasks" in chosen:
        assert {case.task(name) for case in found for name in case.objects} == set(chosen["tasks"])
        assert all(case.load().masks.names == case.objects for case in found)


@pytest.mark.parametrize("chosen", [{"splits": ["test"]}, {"datasets": ["x"]}, {"tasks": ["spots/ball"]}])
def test_choosing_what_is_not_there(store, chosen):
    with pytest.raises(InputError, match="has no"):
        store.cases(**chosen)


def test_the_datasets_library_reads_the_same(store):
    data = store.dataset
    assert len(data) == len(store)
    assert data[5]["digest"] == store.row(5)["digest"]
    assert data.with_format("arrow")[20]["case"][0].as_py() == store.row(20)["case"]


def test_opening_decodes_nothing_and_loads_no_torch(built):
    code = f"""
import sys
from samed2.data.store import Store
s = Store.open({str(built)!r})
s.index, s.cases(), s.rows(task='spots/disc')
assert not {{'torch', 'datasets', 'PIL.Image', 'scipy.sparse'}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_store_travels_to_other_processes(store):
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again.image(7), store.image(7))


def test_a_small_copy_keeps_all_frames_objects_and_places(source, folder, tmp_path):
    build([source], tmp_path, max_side=32)
    small = Store.open(tmp_path)
    for case, original in zip(small.cases(), sorted(folder_cases(folder), key=lambda c: c.label), strict=True):
        a, b = case.load(), original.load()
        assert case.objects == original.objects and a.scan.num_frames == b.scan.num_frames
        assert max(a.scan.height, a.scan.width) == 32 and a.scan.dtype == b.scan.dtype
        for name in case.objects:
            assert np.array_equal(a.masks[name].any(axis=(1, 2)), b.masks[name].any(axis=(1, 2)))
        if b.masks[case.objects[0]].any():
            inside = a.frames[a.masks[case.objects[0]]].mean() - a.frames[~a.masks[case.objects[0]]].mean()
            before = b.frames[b.masks[case.objects[0]]].mean() - b.frames[~b.masks[case.objects[0]]].mean()
            assert inside == pytest.approx(before, rel=0.25)


def test_not_a_store(tmp_path):
    with pytest.raises(InputError, match="is not a MedBank store"):
        Store.open(tmp_path)
