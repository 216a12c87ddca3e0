"""Objects that may only lie on some frames: found there and nowhere else, the same whoever asks."""

from __future__ import annotations

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.predict.spans import allowed_frames, checked_spans, limits_of
from samed2.predict.tracking import Tracker, Tracking
from samed2.prompts import Prompts


def asked(*frames: int) -> Prompts:
    prompts = Prompts()
    for number, frame in enumerate(frames, start=1):
        prompts.add_box(number, frame, 10, 12, 40, 50)
    return prompts


@pytest.mark.parametrize(
    ("spans", "follow", "limits", "frames", "wanted"),
    [
        ({}, True, None, [{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}], (0, 4)),
        ({}, False, None, [{1}, {3}], (1, 3)),
        ({1: (1, 2)}, True, None, [{1, 2}, {0, 1, 2, 3, 4}], (0, 4)),
        ({1: (1, 2)}, False, None, [{1, 2}, {3}], (1, 3)),
        ({1: (2, 2), 2: (3, 4)}, False, None, [{1, 2}, {3, 4}], (1, 4)),  # widened to its prompt
        ({1: (0, 2), 2: (2, 3)}, False, (1, 2), [{0, 1, 2}, {2, 3}], (1, 2)),
        ({1: (0, 1), 2: (3, 3)}, False, (4, 4), [{0, 1}, {3}], None),
    ],
)
def test_where_objects_may_lie(volume, spans, follow, limits, frames, wanted):
    prompts = asked(1, 3)
    allowed = allowed_frames(prompts, checked_spans(spans, prompts, volume), 5, follow=follow)
    assert [set(allowed[i]) for i in (1, 2)] == frames
    assert limits_of(allowed, limits) == wanted


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, 5)])
def test_spans_that_are_none_are_refused(predictor, volume, span):
    with pytest.raises(InputError, match="range within 0 to 4"):
        predictor.segment(volume, asked(1), spans={1: span})


def test_spans_of_strangers_are_refused(predictor, volume):
    with pytest.raises(InputError, match="object 7 is unknown"):
        predictor.propagate(volume, asked(1), spans={7: (0, 1)})


def test_an_object_is_found_in_its_span_alone(predictor, volume):
    whole = dict(predictor.propagate(volume, asked(2), tracking=Tracking(patience=0)))
    done = []
    found = predictor.segment(volume, asked(2, 4), spans={1: (1, 3)}, progress=done.append)
    assert found.provenance["spans"] == {"1": [1, 3]} and found.provenance["propagate"] == "both"
    assert set(found.objects[1].confidence) == {4}  # without a span: only where it is prompted
    assert set(found.objects[0].confidence) <= {1, 2, 3} and sorted(done) == sorted(set(done))
    assert not (found.labels[[0, 4]] == 1).any()
    for frame in found.objects[0].confidence:
        np.testing.assert_array_equal(found.labels[frame] == 1, whole[frame][0].mask)


def test_with_a_direction_objects_without_a_span_go_everywhere(predictor, volume):
    tracking = Tracking(patience=0)
    found = dict(predictor.propagate(volume, asked(2, 2), spans={2: (2, 3)}, tracking=tracking))
    ids = {frame: [one.id for one in answers] for frame, answers in found.items()}
    assert ids == {0: [1], 1: [1], 2: [1, 2], 3: [1, 2], 4: [1]}


def test_no_spans_change_nothing(predictor, volume):
    alone, given = (predictor.segment(volume, asked(2), spans=spans) for spans in (None, {}))
    assert "spans" not in given.provenance and given.provenance["propagate"] is None
    np.testing.assert_array_equal(alone.labels, given.labels)


def test_an_object_is_not_followed_beyond_its_span(predictor, volume, monkeypatch):
    looked: list[tuple[int, int]] = []
    unprompted = Tracker._unprompted

    def noted(self, ids, frame):
        looked.extend((frame, i) for i in ids)
        return unprompted(self, ids, frame)

    monkeypatch.setattr(Tracker, "_unprompted", noted)
    predictor.segment(volume, asked(2, 2), spans={1: (1, 2), 2: (2, 4)}, propagate="both")
    assert {frame for frame, i in looked if i == 1} == {1} and {frame for frame, i in looked if i == 2} <= {3, 4}
