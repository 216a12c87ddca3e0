"""Our own models as models under test: the same answers as a user gets."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluate.models.small import disc, image, prompts_of, volume

from samed2.errors import InputError
from samed2.evaluate.models import load_model
from samed2.evaluate.models.base import Support
from samed2.predict import Predictor
from samed2.prompts import Prompts

MASK = disc((60, 90), 24, 54, 15)


@pytest.fixture
def model(folders):
    return load_model(str(folders["samed2"]), device="cpu", precision="fp32")


@pytest.mark.parametrize("kind", ["box", "point", "point two", "box point", "point mask"])
@pytest.mark.parametrize("settings", [{}, {"multimask": True}, {"zoom": False, "margin": 1.5}, {"mirror": True}])
def test_the_answer_is_the_predictors(folders, kind, settings):
    scan = image()
    found = load_model(str(folders["samed2"]), device="cpu", **settings).predict(scan, prompts_of(kind))[1, 0]
    wanted = Predictor.from_pretrained(folders["samed2"], "cpu").predict(scan, prompts_of(kind), **settings)[0]
    np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(-wanted.logits.astype(float))), atol=1e-5)
    assert found.chosen == 0 and found.confidence[0] == pytest.approx(wanted.confidence, abs=1e-5)
    np.testing.assert_array_equal(found.masks[0], wanted.mask)
    assert len(found.masks) == (3 if settings.get("multimask") else 1)
    assert (np.diff(found.confidence) <= 0).all()


def test_settings_in_the_name_are_read_as_what_they_are(folders):
    named = load_model(
        f"samed2:{folders['samed2']}?multimask=true&margin=1.5&memories=2&window=abdomen&looks=1,0.5", device="cpu"
    )
    assert named.settings.multimask is True and named.settings.margin == 1.5 and named.settings.memories == 2
    assert named.settings.looks == (1.0, 0.5)
    assert named._windows.of(volume()).source == "preset:abdomen"


@pytest.mark.parametrize("neighbours", [1, 3])
def test_frames_of_a_volume_are_asked_with_their_neighbours(folders, neighbours):
    model = load_model(str(folders["samed2"]), device="cpu", precision="fp32", neighbours=neighbours)
    scan, prompts = volume(), Prompts()
    for frame in (2, 0):
        prompts.add_box(4, frame, 5, 5, 30, 35)
    found = model.predict(scan, prompts)
    for frame in (0, 2):
        alone = Prompts().add_box(1, frame, 5, 5, 30, 35)
        wanted = model.predictor.predict(scan, alone, frame, neighbours=neighbours)[0]
        np.testing.assert_array_equal(found[4, frame].masks[0], wanted.mask)


def test_the_memory_holds_exactly_the_support(model):
    before = model.predict(image(), prompts_of("box"))[1, 0].probability
    support = [Support(image(seed=s), 0, MASK, "spots/disc", confidence=0.5 + s / 10) for s in range(4)]
    model.remember(support)
    memory = model.predictor.memory
    assert [entry.task for entry in memory.entries] == ["spots/disc"] * 4
    assert sorted(entry.confidence for entry in memory.entries) == pytest.approx([0.5, 0.6, 0.7, 0.8])
    with_memory = model.predict(image(), prompts_of("box"))[1, 0].probability
    model.remember(support[:1])
    assert len(model.predictor.memory) == 1
    model.remember([])
    np.testing.assert_array_equal(model.predict(image(), prompts_of("box"))[1, 0].probability, before)
    assert np.abs(with_memory - before).max() > 0


def test_a_support_that_does_not_fit_is_refused(model):
    with pytest.raises(InputError, match="shape"):
        model.remember([Support(image(), 0, MASK[:-1], "spots/disc")])


def test_near_support_is_remembered_as_prompts_are_seen(model):
    model.remember([Support(image(), 0, MASK, "spots/disc", near=True)])
    near = model.predictor.memory.feature(0)
    other = Predictor.from_pretrained(model.name, "cpu", precision="fp32")
    other.memory = other.new_memory(2)
    for view in ("near", "whole"):
        other.remember(image(), MASK, task="spots/disc", views=[view])
    assert len(model.predictor.memory) == len(other.memory) == 2
    np.testing.assert_array_equal(near.numpy(), other.memory.feature(0).numpy())
    np.testing.assert_array_equal(model.predictor.memory.feature(1).numpy(), other.memory.feature(1).numpy())
    model.remember([Support(image(), 0, MASK, "spots/disc")])
    assert not np.array_equal(model.predictor.memory.feature(0).numpy(), near.numpy())


def test_examples_of_one_task_say_what_is_asked_for(model):
    asked = lambda: model.predict(image(), prompts_of("point"))[1, 0].probability  # noqa: E731
    support = [Support(image(seed=s), 0, MASK, "spots/disc", near=True) for s in range(3)]
    other = Support(image(seed=9), 0, disc((60, 90), 40, 20, 10), "spots/dot", near=True)
    before = asked()
    for given, task in ((support, "spots/disc"), ([*support, other], None)):
        model.remember(given)
        again = Predictor.from_pretrained(model.name, "cpu", precision="fp32")
        again.memory = model.predictor.memory
        wanted = again.predict(image(), prompts_of("point"), task=task)[0]
        np.testing.assert_allclose(asked(), 1 / (1 + np.exp(-wanted.logits)), atol=1e-5)
    model.remember([])
    np.testing.assert_array_equal(asked(), before)


def test_recall_finds_by_the_support_of_its_task_alone(model):
    support = [Support(image(seed=s), 0, MASK, "spots/disc") for s in range(3)]
    other = Support(image(seed=9), 0, disc((60, 90), 40, 20, 10), "spots/dot")
    model.remember(support)
    alone = model.recall(image(), 0, "spots/disc")
    assert alone.masks.shape == (1, 60, 90) and 0 <= alone.confidence[0] <= 1
    model.remember([*support, other])
    both = model.recall(image(), 0, "spots/disc")
    np.testing.assert_allclose(both.probability, alone.probability, atol=1e-5)
    again = Predictor.from_pretrained(model.name, "cpu", precision="fp32")
    again.memory = model.predictor.memory
    np.testing.assert_allclose(
        again.recall(image(), 0, task="spots/dot").mask, model.recall(image(), 0, "spots/dot").masks[0]
    )
    with pytest.raises(InputError, match="no entry of task 'spots/moon'"):
        model.recall(image(), 0, "spots/moon")
    model.remember([])
    with pytest.raises(InputError, match="memory"):
        model.recall(image(), 0, "spots/disc")


def test_propagation_answers_for_every_object_on_every_frame(model, monkeypatch):
    scan, prompts = volume(4), Prompts().add_box(3, 1, 5, 5, 30, 35).add_point(5, 2, 20, 20)
    wanted = dict(model.predictor.propagate(scan, prompts))
    found = dict(model.propagate(scan, prompts))
    assert sorted(found) == [0, 1, 2, 3] and all(set(answers) == {3, 5} for answers in found.values())
    for frame, answers in wanted.items():
        for answer in answers:
            np.testing.assert_array_equal(found[frame][answer.id].masks[0], answer.mask)
    short = [(1, [answer for answer in wanted[1] if answer.id == 3])]
    monkeypatch.setattr(model.predictor, "propagate", lambda *args, **how: iter(short))
    given_up = dict(model.propagate(scan, prompts))
    assert sorted(given_up) == [0, 1, 2, 3]
    assert not given_up[1][5].masks.any() and np.isnan(given_up[3][3].confidence).all()
    np.testing.assert_array_equal(given_up[1][3].masks, found[1][3].masks)
