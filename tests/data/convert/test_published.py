"""Every published layout of the catalogue, as a tiny tree of the same names, through the catalogue's own entry."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from tests.data.convert.trees_published import TREES

from samed2.data.cases import Case, Dropped
from samed2.data.catalog import datasets, resolve_source
from samed2.data.convert import find_cases


def test_every_entry_has_a_tree():
    assert sorted(TREES) == sorted(name for name, entry in datasets().items() if entry.converter == "pairs")


@pytest.mark.parametrize("name", TREES)
def test_the_published_layout_is_read(name, tmp_path):
    tree = TREES[name](tmp_path)
    entry = datasets()[name]
    found = list(find_cases(resolve_source(f"{name}:{tmp_path}")))
    cases = [one for one in found if isinstance(one, Case)]
    assert sorted(case.name for case in cases) == sorted(one.name for one in tree.cases)
    dropped = {one.name: one.reason for one in found if isinstance(one, Dropped)}
    assert set(dropped) == set(tree.dropped)
    assert all(words in dropped[one] for one, words in tree.dropped.items())
    for expected in tree.cases:
        case = next(case for case in cases if case.name == expected.name)
        assert (case.dataset, case.modality, case.kind, case.licence) == (
            name, entry.modality, entry.kind, entry.licence,
        )  # fmt: skip
        assert (case.patient, case.split) == (expected.patient, expected.split)
        assert set(case.objects) == set(expected.masks) == set(entry.objects)
        assert all(path.is_file() for path in case.files)
        _compare(case, expected)


def _compare(case, expected):
    loaded = pickle.loads(pickle.dumps(case)).load()  # as worker processes get it
    assert loaded.scan.kind == case.kind and loaded.scan.name == case.name
    for one, mask in expected.masks.items():
        np.testing.assert_array_equal(loaded.masks[one], mask, err_msg=f"{case.name} {one}")
    if expected.spacing is not None:
        np.testing.assert_allclose(loaded.scan.geometry.spacing, expected.spacing, rtol=1e-5)
    if expected.frame is not None:
        np.testing.assert_allclose(loaded.scan.frame(0), expected.frame, atol=2)
