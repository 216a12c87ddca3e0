"""Objects found by the memory alone, in images, frame by frame, and followed; which of two objects is on top."""

from __future__ import annotations

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.io import Scan, resolve_window
from samed2.predict import ObjectPrediction, Predictor
from samed2.predict.find import look_for, named, shown, spread, surest, with_lost
from samed2.predict.results import label_map

TASKS = {"disc": "set/disc", "rest": "set/rest"}


@pytest.fixture
def knowing(predictor: Predictor, volume: Scan) -> Predictor:
    """A predictor that remembers two objects."""
    own = Predictor(predictor.model, "cpu", precision="fp32")
    own.memory = own.new_memory(8)
    mask = np.zeros((volume.height, volume.width), bool)
    mask[10:30, 12:40] = True
    for task, remembered in {"set/disc": mask, "set/rest": ~mask}.items():
        own.remember(volume, remembered, 2, task=task, views=["whole"])
    return own


def prediction(number: int, mask: np.ndarray, logit: float = 1.0, score: float = 1.0, sure: float = 0.5):
    logits = np.where(mask, logit, -1).astype(np.float32)
    return ObjectPrediction(number, mask, logits, sure, score)


def square(size: int, at: int = 0) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    mask[at : at + size, at : at + size] = True
    return mask


def test_an_image_is_found_as_recalled(knowing, scan):
    found = knowing.find(scan, {"it": "set/disc"})
    alone = knowing.recall(scan, task="set/disc")
    np.testing.assert_array_equal(found.labels[0] == 1, alone.mask)
    assert [(o.id, o.name) for o in found.objects] == [(1, "it")]
    assert found.object(1).confidence == {0: round(alone.confidence, 4)}
    assert found.provenance["tasks"] == {"it": "set/disc"} and found.provenance["memory_entries"] == 2


@pytest.mark.parametrize("frame", [None, 3])
def test_frames_are_looked_at_one_by_one(knowing, volume, frame):
    told = []
    found = knowing.find(volume, TASKS, frame=frame, progress=told.append)
    looked = [frame] if frame is not None else list(range(volume.num_frames))
    assert told == looked and list(found.object(1).confidence) == looked
    for at in looked:
        answers = [knowing.recall(volume, at, task=task) for task in TASKS.values()]
        present = [a.object_score > 0 or frame is not None for a in answers]
        either = np.any([a.mask & seen for a, seen in zip(answers, present, strict=True)], axis=0)
        np.testing.assert_array_equal(found.labels[at] > 0, either)
    assert not np.delete(found.labels, looked, axis=0).any()


def test_followed_from_where_it_is_surest(knowing, volume):
    names, told = named(TASKS), []
    best = surest(look_for(knowing, volume, TASKS.values(), [1, 3], resolve_window(volume), {}))
    followed = knowing.find(volume, TASKS, propagate="both", looks=2, progress=told.append)
    prompts = shown(best, names)
    assert followed.provenance["surest"] == {name: best[i][0] for i, name in enumerate(TASKS, start=1)}
    assert told[:2] == [1, 3] and [o.name for o in followed.objects] == list(TASKS)
    if prompts.objects:
        again = knowing.segment(volume, prompts, propagate="both", memory=False)
        np.testing.assert_array_equal(followed.labels, again.labels)


def test_what_was_not_found_is_told_as_absent(knowing, volume):
    best = {1: (3, prediction(1, square(4))), 2: (1, prediction(2, square(4), score=-1.0, sure=0.25))}
    names = named(TASKS)
    assert list(shown(best, names).objects) == [1]
    empty = with_lost(knowing.find(volume, {"disc": "set/disc"}, frame=0), best, names)
    assert [o.name for o in empty.objects] == ["disc", "rest"]
    assert empty.object(2).present == {1: False} and empty.object(2).confidence == {1: 0.25}


def test_the_first_of_equals_is_surest_and_empty_never():
    answers = [(at, [prediction(1, square(4), sure=0.5), prediction(2, square(0))]) for at in range(3)]
    answers.append((3, [prediction(1, square(4), sure=0.4), prediction(2, square(2), sure=0.1)]))
    assert {number: at for number, (at, _) in surest(answers).items()} == {1: 0, 2: 3}


@pytest.mark.parametrize(
    ("total", "count", "wanted"), [(1, 9, [0]), (5, 2, [1, 3]), (4, 4, [0, 1, 2, 3]), (90, 1, [45])]
)
def test_frames_are_spread(total, count, wanted):
    assert spread(total, count) == wanted


@pytest.mark.parametrize(
    ("tasks", "options", "words"),
    [
        ({}, {}, "tasks: got none"),
        ({"a": "set/none"}, {}, "set/disc, set/rest"),
        (TASKS, {"propagate": "both", "looks": 0}, "looks: got 0"),
        (TASKS, {"condition": True}, "condition: got 2 tasks"),
        (TASKS, {"frame": 9}, "9"),
        (TASKS, {"propagate": "sideways"}, "sideways"),
    ],
)
def test_what_cannot_be_looked_for(knowing, volume, tasks, options, words):
    with pytest.raises(InputError, match=words):
        knowing.find(volume, tasks, **options)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ((square(12), 3.0), (square(5, 4), 1.0), 2),  # within: on top, however sure the other is
        ((square(5, 4), 1.0), (square(12), 3.0), 1),
        ((square(12), 3.0), (square(8, 8), 1.0), 1),  # partly: the larger logit
        ((square(12), 1.0), (square(8, 8), 3.0), 2),
        ((square(12), 2.0), (square(8, 8), 2.0), 1),  # equal: the earlier id
        ((square(12), 1.0), (square(12), 2.0), 2),  # the same mask twice
        ((square(12), 2.0), (square(12), 2.0), 1),
        ((square(12), 2.0), (square(0), 9.0), None),
    ],
)
def test_which_of_two_is_on_top(first, second, shared):
    found = [prediction(1, *first), prediction(2, *second)]
    for order in (found, found[::-1]):
        labels = label_map(order, np.dtype(np.uint8))
        both = first[0] & second[0]
        assert set(np.unique(labels[both]).tolist()) <= {shared}
        np.testing.assert_array_equal(labels[first[0] & ~both], 1)
        np.testing.assert_array_equal(labels[second[0] & ~both], 2)
