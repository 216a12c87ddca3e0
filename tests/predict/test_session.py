"""Sessions: what is said is kept, can be undone, corrected, propagated, confirmed, saved and found again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.io import Scan
from samed2.predict import Predictor
from samed2.predict.session import Session
from samed2.predict.tracking import Tracking


@pytest.fixture
def session(predictor, volume) -> Session:
    return predictor.session(volume, tracking=Tracking(patience=0))


def state(session: Session) -> list:
    return [
        (i, f, session.mask(i, f).tobytes(), session.prediction(i, f).confidence)
        for i in session.objects
        for f in session.frames(i)
    ]


def test_a_prompt_is_seen_at_once_and_is_what_the_predictor_says(predictor, volume, session):
    found = session.add_box(3, 2, 10, 12, 40, 50, name="liver")
    alone = predictor.predict(volume, session.prompts, 2, window=session.window)[0]
    np.testing.assert_array_equal(found.mask, alone.mask)
    np.testing.assert_array_equal(session.mask(3, 2), alone.mask)
    assert session.objects == {3: "liver"} and session.frames(3) == [2] and session.mask(3, 1) is None


def test_undo_and_redo_walk_along_the_changes(session):
    seen = [state(session)]
    steps = [
        lambda: session.add_box(1, 2, 10, 12, 40, 50),
        lambda: session.add_point(1, 2, 20, 20),
        lambda: session.add_point(2, 4, 30, 30),
        lambda: list(session.propagate(objects=[1])),
        lambda: session.add_point(1, 4, 5, 5, positive=False),
        lambda: session.remove(1, 2),
        lambda: session.remove(2),
    ]
    for step in steps:
        step()
        seen.append(state(session))
    assert len({str(s) for s in seen}) == len(seen)
    for wanted in reversed(seen[:-1]):
        assert session.undo() and state(session) == wanted
    assert not session.undo()
    for wanted in seen[1:]:
        assert session.redo() and state(session) == wanted
    assert not session.redo()
    session.undo()
    session.add_box(5, 0, 1, 1, 30, 30)
    assert not session.redo()  # a new change ends the old branch


def test_objects_can_be_added_after_propagation(session):
    session.add_box(1, 2, 10, 12, 40, 50)
    list(session.propagate())
    before = [session.mask(1, f).tobytes() for f in session.frames(1)]
    session.add_box(2, 0, 5, 5, 30, 30)
    list(session.propagate(objects=[2]))
    assert session.frames(1) == session.frames(2) == [0, 1, 2, 3, 4]
    assert [session.mask(1, f).tobytes() for f in session.frames(1)] == before


def test_a_correction_of_a_propagated_mask_starts_from_it_and_stays(session):
    session.add_box(1, 2, 10, 12, 40, 50)
    list(session.propagate())
    mask = session.mask(1, 4)
    assert mask.any()
    session.add_point(1, 4, 55, 65, positive=False)
    entry = session.prompts.objects[1]
    np.testing.assert_array_equal(entry.masks[4], mask)
    corrected = session.mask(1, 4)
    list(session.propagate())
    np.testing.assert_array_equal(session.mask(1, 4), corrected)


def test_a_given_mask_stays_as_it_is_given(session):
    mask = np.zeros((60, 70), bool)
    mask[10:20, 30:33] = True
    session.add_mask(1, 2, mask)
    list(session.propagate())
    np.testing.assert_array_equal(session.mask(1, 2), mask)
    assert len(session.frames(1)) == 5


def test_only_a_range_is_propagated(session):
    session.add_box(1, 0, 10, 12, 40, 50)
    assert sorted(f for f, _ in session.propagate(frames=(1, 3))) == [1, 2, 3]
    assert session.frames(1) == [0, 1, 2, 3]
    with pytest.raises(InputError, match="frames"):
        list(session.propagate(frames=(3, 9)))


@pytest.mark.parametrize(
    ("direction", "frames", "left"),
    [("both", None, [2]), ("forward", None, [0, 1, 2]), ("backward", None, [2, 3, 4]), ("both", (3, 4), [0, 1, 2])],
)
def test_what_an_object_left_behind_goes_when_it_ends_sooner(session, monkeypatch, direction, frames, left):
    session.add_box(1, 2, 10, 12, 40, 50)
    session.add_box(2, 0, 5, 5, 30, 30)
    list(session.propagate())
    monkeypatch.setattr("samed2.predict.session.propagate", lambda *args: iter([(2, [session.prediction(1, 2)])]))
    list(session.propagate(direction, objects=[1], frames=frames))
    assert session.frames(1) == left and session.frames(2) == [0, 1, 2, 3, 4]
    session.undo()
    assert session.frames(1) == [0, 1, 2, 3, 4]


def test_confirmed_masks_stay_when_an_object_ends_sooner(session, monkeypatch):
    session.add_box(1, 2, 10, 12, 40, 50)
    list(session.propagate())
    session.confirm(1, [3])
    monkeypatch.setattr("samed2.predict.session.propagate", lambda *args: iter([(2, [session.prediction(1, 2)])]))
    followed = session.propagate()
    next(followed)
    assert session.frames(1) == [0, 1, 2, 3, 4]  # interrupted here, everything would stay
    assert list(followed) == [] and session.frames(1) == [2, 3]


def test_a_limited_object_is_found_in_its_range_alone(predictor, volume, session, tmp_path):
    session.add_box(1, 2, 10, 12, 40, 50)
    session.add_box(2, 0, 5, 5, 30, 30)
    list(session.propagate())
    session.limit(1, (1, 3))
    assert session.frames(1) == [1, 2, 3] and session.frames(2) == [0, 1, 2, 3, 4]
    list(session.propagate())
    assert session.frames(1) == [1, 2, 3]
    again = Session.load(session.save(tmp_path / "work.json"), predictor, volume)
    list(again.propagate())
    assert state(again) == state(session)
    assert session.result().provenance["spans"] == {"1": [1, 3]}
    assert sorted(f for f, _ in session.propagate(objects=[1], frames=(3, 4))) == [3]
    assert list(session.propagate(objects=[1], frames=(4, 4))) == []
    session.add_point(1, 4, 20, 20)  # what is said beyond counts
    list(session.propagate(objects=[1]))
    assert session.frames(1) == [1, 2, 3, 4]
    session.limit(1, None)
    list(session.propagate(objects=[1]))
    assert session.frames(1) == [0, 1, 2, 3, 4]
    while session.undo():
        pass
    assert session.objects == {}


def test_confirmed_masks_stay_and_are_remembered(predictor, volume):
    own = Predictor(predictor.model, "cpu")
    own.memory = own.new_memory()
    session = own.session(volume, tracking=Tracking(patience=0))
    session.add_box(1, 2, 10, 12, 40, 50, name="liver")
    list(session.propagate())
    mask = session.mask(1, 4)
    assert session.confirm(1, [2, 4]) == 2
    assert len(own.memory) == 4 and {e.task for e in own.memory.entries} == {"liver"}
    assert {e.origin for e in own.memory.entries} == {volume.name}
    assert {e.confidence for e in own.memory.entries} == {1.0}
    list(session.propagate())
    np.testing.assert_array_equal(session.mask(1, 4), mask)
    with pytest.raises(InputError, match="frame 7"):
        session.confirm(1, [7])


def test_what_came_before_an_interruption_stays(session):
    session.add_box(1, 0, 10, 12, 40, 50)
    for frame, _ in session.propagate("forward"):
        if frame == 2:
            break
    assert session.frames(1) == [0, 1, 2]


def test_saved_sessions_come_back_whole(predictor, volume, session, tmp_path):
    session.add_box(1, 2, 10, 12, 40, 50, name="liver")
    session.add_mask(2, 1, np.eye(60, 70, dtype=bool))
    list(session.propagate())
    session.confirm(1, [2])
    path = session.save(tmp_path / "work.json")
    again = Session.load(path, predictor, volume)
    assert state(again) == state(session) and again.objects == session.objects
    assert again.result().provenance["confirmed"] == [(2, 1)]
    np.testing.assert_array_equal(again.result().labels, session.result().labels)
    np.testing.assert_array_equal(again.add_point(1, 0, 20, 20).mask, session.add_point(1, 0, 20, 20).mask)


def test_autosave_writes_after_every_change(predictor, volume, tmp_path):
    session = predictor.session(volume, autosave=tmp_path / "auto.json")
    session.add_box(1, 2, 10, 12, 40, 50)
    assert state(Session.load(tmp_path / "auto.json", predictor, volume)) == state(session)
    session.undo()
    assert state(Session.load(tmp_path / "auto.json", predictor, volume)) == []


def test_two_sessions_never_touch_each_other(predictor, volume):
    one, two, alone = (predictor.session(volume) for _ in range(3))
    one.add_box(1, 2, 10, 12, 40, 50)
    two.add_box(1, 2, 30, 5, 55, 60)
    one.add_point(1, 2, 20, 20)
    alone.add_box(1, 2, 10, 12, 40, 50)
    alone.add_point(1, 2, 20, 20)
    assert state(one) == state(alone) != state(two)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t[: len(t) // 2], "cut off"),
        (lambda t: json.dumps({**json.loads(t), "format": "other"}), "samed2-session"),
        (lambda t: json.dumps({**json.loads(t), "format_version": 9}), "version 9"),
        (lambda t: json.dumps({**json.loads(t), "spans": {"1": [3, 99]}}), "99"),
        (lambda t: json.dumps({**json.loads(t), "spans": {"1": 3}}), "whole session"),
        (lambda t: json.dumps({**json.loads(t), "spans": 3}), "whole session"),
        (lambda t: json.dumps({**json.loads(t), "answers": [{"frame": 0, "id": 1}]}), "restored"),
        (lambda t: json.dumps({k: v for k, v in json.loads(t).items() if k != "prompts"}), "whole session"),
    ],
)
def test_damaged_files_are_named(predictor, volume, session, tmp_path, spoil, words):
    session.add_box(1, 2, 10, 12, 40, 50)
    path = session.save(tmp_path / "work.json")
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=words):
        Session.load(path, predictor, volume)


def test_another_scan_is_refused(predictor, session, tmp_path):
    other = Scan.from_array(np.ones((5, 60, 70), np.float32), kind="volume")
    with pytest.raises(InputError, match="another scan"):
        Session.load(session.save(tmp_path / "work.json"), predictor, other)
    with pytest.raises(InputError, match="without a file"):
        Session.load(tmp_path / "work.json", predictor)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.add_box(1, 9, 1, 1, 5, 5),
        lambda s: s.add_point(1, 0, -5, 1),
        lambda s: s.add_mask(1, 0, np.ones((3, 3))),
        lambda s: s.remove(4),
        lambda s: s.confirm(4),
        lambda s: s.limit(4, (0, 1)),
        lambda s: s.limit(1, (3, 9)),
        lambda s: list(s.propagate(objects=[4])),
    ],
)
def test_wrong_calls_leave_the_session_as_it_was(session, call):
    session.add_box(1, 2, 10, 12, 40, 50)
    before = state(session)
    with pytest.raises(InputError):
        call(session)
    assert state(session) == before and session.undo() and not session.undo()
