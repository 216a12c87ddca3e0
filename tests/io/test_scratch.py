"""Label maps larger than memory: what is written stays, wherever the pages go."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.io import Segmentation, SegmentedObject, scratch


@pytest.fixture(params=["memory", "file"])
def room(request, monkeypatch):
    if request.param == "file":
        monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    return lambda shape, dtype: scratch.empty_labels(shape, dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(1, 3, 4), (7, 5, 2), (40, 64, 64)])
def test_labels_survive_being_given_back(room, shape, dtype, monkeypatch):
    monkeypatch.setattr(scratch, "STRETCH", 1)
    wanted = np.random.default_rng(0).integers(0, 3, shape).astype(dtype)
    labels = room(shape, dtype)
    assert labels.dtype == wanted.dtype and not labels.any()
    for index, frame in enumerate(wanted):
        labels[index] = frame
        scratch.give_back(labels)
    assert np.array_equal(np.stack(list(scratch.walked(labels))), wanted)
    found = Segmentation(labels, [SegmentedObject(1), SegmentedObject(2)])
    assert np.array_equal(found.labels, wanted)
    assert np.array_equal(found.pixel_counts().sum(0), [(wanted == i).sum() for i in (1, 2)])


def test_large_maps_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    labels = scratch.empty_labels((4, 8, 8), "uint8")
    labels[2] = 1
    assert not list(tmp_path.iterdir()) and labels.sum() == 64


def test_a_full_disk_is_told_before_the_work(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match=r"no room for a label map .* TMPDIR"):
        scratch.empty_labels((4, 8, 8), "uint8")
