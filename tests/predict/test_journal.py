"""Propagation that is killed and goes on: bit for bit what it would have been, and never anything else."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.predict.conftest import tiny_model

from samed2.errors import InputError
from samed2.io import Scan
from samed2.predict import Predictor, journal
from samed2.predict.held import Held, held_together
from samed2.predict.results import ObjectPrediction, label_map
from samed2.predict.tracking import Tracker
from samed2.prompts import Prompts

FRAMES = 7
BOXES = {1: (2, 10, 12, 40, 44), 2: (2, 20, 15, 50, 50), 3: (4, 14, 20, 36, 60)}  # object: frame, y0, x0, y1, x1


class Killed(Exception):
    pass


def predictor_of(score: float, precision: str) -> Predictor:
    made = tiny_model(streaming=True)
    made.mask_decoder.pred_obj_score_head.proj_out.bias.data += score  # objects are there, and overlap
    return Predictor(made, device="cpu", precision=precision, name="tiny")


@pytest.fixture(scope="module")
def model() -> Predictor:
    return predictor_of(10, "fp32")


@pytest.fixture
def film() -> Scan:
    return scan_of(3)


def scan_of(seed: int) -> Scan:
    values = np.random.default_rng(seed).normal(100, 30, (FRAMES, 60, 70)).astype(np.float32)
    return Scan.from_array(values, kind="video")


def prompts(*ids: int) -> Prompts:
    out = Prompts()
    for number in ids:
        out.add_box(number, *BOXES[number])
    return out


@pytest.fixture(autouse=True)
def always_saved(monkeypatch) -> None:
    monkeypatch.setattr(journal, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(journal, "SAVE_SHARE", float("inf"))


@pytest.fixture
def steps(monkeypatch) -> list[tuple[bool, int]]:
    """(backward, frame) of all frames that a tracker looked at, as they come."""
    seen, real = [], Tracker.step

    def step(self, frame):
        seen.append((self.reverse, frame))
        return real(self, frame)

    monkeypatch.setattr(Tracker, "step", step)
    return seen


def kill_after(count: int):
    """A Tracker.step that raises instead of its next frame after some."""
    real, left = Tracker.step, [count]

    def step(self, frame):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(self, frame)

    return step


def assert_same(found, wanted) -> None:
    np.testing.assert_array_equal(found.labels, wanted.labels)
    for one, other in zip(found.objects, wanted.objects, strict=True):
        assert (one.id, one.confidence, one.present) == (other.id, other.confidence, other.present)


def killed(predictor, film, asked, folder, after, **options) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracker, "step", kill_after(after))
        with pytest.raises(Killed):
            predictor.segment(film, asked, journal=folder, **options)


OPTIONS = [{"propagate": way} for way in ("forward", "backward", "both")]
OPTIONS += [{"spans": {1: (1, 5), 3: (3, 4)}}, {"propagate": "both", "spans": {1: (2, 3)}, "fill_holes": 5}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("ids", [(1,), (1, 2, 3)])
def test_going_on_changes_nothing(model, film, tmp_path, steps, options, ids):
    options = {**options, "spans": {i: s for i, s in options.get("spans", {}).items() if i in ids}}
    wanted = model.segment(film, prompts(*ids), **options)
    whole = list(steps)
    assert (wanted.labels > 0).any()
    for after in sorted({1, 3, len(whole) // 2 + 1, len(whole) - 1} - {len(whole)}):
        folder = tmp_path / str(after)
        killed(model, film, prompts(*ids), folder, after, **options)
        steps.clear()
        done = []
        found = model.segment(film, prompts(*ids), journal=folder, progress=done.append, **options)
        assert_same(found, wanted)
        assert steps == whole[after:]
        assert len(done) == len(set(done)) > 0
        steps.clear()
        assert_same(model.segment(film, prompts(*ids), journal=folder, **options), wanted)
        assert not steps  # what is finished is only read
    assert not film.warnings


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_may_be_killed_again_and_again(film, tmp_path, precision):
    model = predictor_of(10, precision)
    wanted = model.segment(film, prompts(1, 2, 3), propagate="both")
    for _ in range(9):
        killed(model, film, prompts(1, 2, 3), tmp_path / "j", 1, propagate="both")
    assert '"order"' in (tmp_path / "j" / "answers.jsonl").read_text()
    fresh = predictor_of(10, precision)
    assert_same(fresh.segment(film, prompts(1, 2, 3), journal=tmp_path / "j", propagate="both"), wanted)


def test_a_pass_that_ends_early_goes_on_to_the_next(model, film, tmp_path, steps, monkeypatch):
    """Objects that are lost end a pass before the last frame."""
    from samed2.predict import tracking

    real = tracking.unite

    def lost(object_id, parts, settings):
        found = real(object_id, parts, settings)
        if steps[-1][1] not in (2, 3, 4):
            found.mask = np.zeros_like(found.mask)
        return found

    monkeypatch.setattr(tracking, "unite", lost)
    wanted = model.segment(film, prompts(1, 2), propagate="both")
    whole = list(steps)
    assert whole == [(False, frame) for frame in (2, 3, 4, 5, 6)] + [(True, frame) for frame in (2, 1, 0)]
    for after in range(1, len(whole)):
        killed(model, film, prompts(1, 2), tmp_path / str(after), after, propagate="both")
        steps.clear()
        assert_same(model.segment(film, prompts(1, 2), journal=tmp_path / str(after), propagate="both"), wanted)
        assert steps == whole[after:]


def spoilt(folder, what: str) -> None:
    state, answers = folder / "state.safetensors", folder / "answers.jsonl"
    for path in (state, answers):
        data = bytearray(path.read_bytes())
        if what == f"{path.stem} empty":
            path.write_bytes(b"")
        elif what == f"{path.stem} cut":
            path.write_bytes(data[: len(data) // 2])
        elif what == f"{path.stem} flipped":
            data[-20] ^= 1
            path.write_bytes(data)
        elif what == f"{path.stem} gone":
            path.unlink()
        elif what == f"{path.stem} other":
            path.write_bytes(b'{"reverse": 3}\n' * 500)


WRONG = [f"{name} {what}" for name in ("state", "answers") for what in ("empty", "cut", "flipped", "gone", "other")]


@pytest.mark.parametrize("what", [*WRONG, "torn", "another film", "another box", "another setting", "another model"])
def test_what_does_not_fit_starts_over(model, tmp_path, steps, what):
    film, asked, options = scan_of(3), prompts(1, 2), {"propagate": "both"}
    killed(model, film, asked, tmp_path / "j", 4, **options)
    if what == "torn":
        with open(tmp_path / "j" / "answers.jsonl", "ab") as handle:
            handle.write(b'{"reverse": false, "fra')
    spoilt(tmp_path / "j", what)
    if what == "another film":
        film = scan_of(4)
    elif what == "another box":
        asked.add_box(2, 3, 5, 5, 30, 30)
    elif what == "another setting":
        options["fill_holes"] = 3
    elif what == "another model":
        model = predictor_of(9, "fp32")
    wanted = model.segment(film, asked, **options)
    whole = list(steps[4:])
    steps.clear()
    assert_same(model.segment(film, asked, journal=tmp_path / "j", **options), wanted)
    assert len(steps) == len(whole) - (4 if what == "torn" else 0)
    assert len(film.warnings) == (0 if what in ("torn", "state gone") else 1)
    assert all("starting over" in text and str(tmp_path / "j") in text for text in film.warnings)
    steps.clear()
    assert_same(model.segment(film, asked, journal=tmp_path / "j", **options), wanted)
    assert not steps and len(film.warnings) < 2  # and the new journal is sound


@pytest.mark.parametrize("where", ["answers", "state", "folder"])
def test_a_full_disk_does_not_stop_the_work(model, film, tmp_path, monkeypatch, where):
    wanted = model.segment(film, prompts(1, 2), propagate="both")
    killed(model, film, prompts(1, 2), tmp_path / "j", 2, propagate="both")
    error = OSError(28, "No space left on device")

    def full(*_):
        raise error if where == "answers" else InputError("state: no space left")

    if where == "folder":
        shutil.rmtree(tmp_path / "j")
        (tmp_path / "j").write_text("in the way")
    else:
        monkeypatch.setattr(
            journal.os if where == "answers" else journal, "fsync" if where == "answers" else "_write", full
        )
    assert_same(model.segment(film, prompts(1, 2), journal=tmp_path / "j", propagate="both"), wanted)
    assert len(film.warnings) == 1 and "start over" in film.warnings[0]
    assert where == "folder" or not (tmp_path / "j").exists()  # it makes room for the results


def test_short_work_writes_nothing(model, film, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "SAVE_SECONDS", 60.0)
    model.segment(film, prompts(1), journal=tmp_path / "j", propagate="both")
    model.segment(film, prompts(1), journal=tmp_path / "j")  # nothing is followed
    assert not (tmp_path / "j").exists()


def test_discard_leaves_what_is_not_its_own(tmp_path):
    for name in ("answers.jsonl", "state.safetensors", ".0a1b.part-state.safetensors", ".tmpAb3dEf", "mine.txt"):
        (tmp_path / name).touch()
    journal.discard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    journal.discard(tmp_path / "none")


@pytest.mark.parametrize("seed", range(5))
def test_what_is_held_together_gives_the_same_labels(seed):
    rng = np.random.default_rng(seed)
    found = []
    for number in rng.permutation(9)[: 1 + 2 * seed] + 1:
        logits = rng.integers(-3, 4, (12, 15)).astype(np.float32)  # many are equal
        mask = (logits > 0) | (rng.random((12, 15)) < 0.1)  # holes were filled
        found.append(ObjectPrediction(int(number), mask & (number != 4), logits, 0.5, 1.0))
    back = [Held.from_json(held.to_json()).back() for held in held_together(found)]
    for some in (slice(None), slice(1, None), slice(None, None, 2)):
        if found[some]:
            np.testing.assert_array_equal(label_map(back[some], np.uint8), label_map(found[some], np.uint8))
    for one, other in zip(back, found, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        assert (one.logits[one.mask] > 0).all()
    assert held_together([]) == []


def test_a_damaged_order_is_refused():
    mask = np.ones((4, 4), bool)
    logits = np.ones((4, 4), np.float32)
    held = held_together([ObjectPrediction(i, mask, logits, 1.0, 1.0) for i in (1, 2)])[1].to_json()
    other = Held.of(ObjectPrediction(1, mask, logits, 1.0, 1.0)).to_json()["mask"]
    with pytest.raises(InputError, match="order has another size"):
        Held.from_json({**held, "order": other})
