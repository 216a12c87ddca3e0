"""The mean of several views of an object: which views, what the mean is of, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samed2.io import resolve_window
from samed2.predict import Predictor
from samed2.predict.closeup import AGREED, CERTAIN, ask_closely
from samed2.predict.rows import Row, seen_logits, wider
from samed2.predict.scene import Scene
from samed2.predict.settings import Settings
from samed2.predict.zoom import View, whole_view
from samed2.prompts import Prompts

HEIGHT, WIDTH, SIZE = 90, 120, 64


def boxed(side: float = 40.0, number: int = 1, at: tuple[float, float] = (40.0, 50.0)) -> Row:
    y, x = at
    return Row(number, View(y, x, side, SIZE), [], (y - 12, x - 14, y + 10, x + 9))


@torch.inference_mode()
def closely(predictor, scan, rows, **settings):
    """The answers, and a function that asks rows through their own views alone."""
    scene = Scene(predictor.engine, scan, 0, resolve_window(scan), Settings(**settings))
    return ask_closely(scene, rows), torch.inference_mode()(scene.ask)


@pytest.mark.parametrize(
    ("side", "count", "wanted"),
    [
        (40.0, 1, []),
        (40.0, 4, [47.6, 56.6, 67.3]),
        (100.0, 4, [118.9, 120.0]),  # the whole frame ends them
        (119.0, 3, [120.0]),
        (120.0, 4, []),
        (150.0, 4, []),
    ],
)
def test_views_grow_up_to_the_frame(side, count, wanted):
    rows = wider(boxed(side), count, HEIGHT, WIDTH)
    assert [round(row.view.side, 1) for row in rows] == wanted
    for row in rows:
        assert row.box == boxed().box
        assert row.view == whole_view(HEIGHT, WIDTH, SIZE) or (row.view.cy, row.view.cx) == (40.0, 50.0)


def test_one_view_is_the_plain_answer(predictor, scan):
    found, ask = closely(predictor, scan, [boxed(), boxed(120.0, 2)], closeups=1)
    for ours, plain in zip(found, ask([boxed(), boxed(120.0, 2)]), strict=True):
        np.testing.assert_array_equal(ours.logits, plain.logits)
        assert ours.iou == plain.iou and torch.equal(ours.seen, plain.seen)


@pytest.mark.parametrize("closeups", [2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_the_answer_is_the_mean_of_what_the_views_show(predictor, scan, closeups, masked):
    row = boxed()
    if masked:
        shape = np.zeros((HEIGHT, WIDTH), bool)
        shape[30:50, 35:60] = True
        row = Row(1, row.view, [], None, seen_logits(shape))
    (found,), ask = closely(predictor, scan, [row], closeups=closeups)
    each = [ask([one])[0] for one in (row, *wider(row, closeups, HEIGHT, WIDTH))]
    assert len(each) == closeups
    mean = np.mean([one.logits[:1].clip(-CERTAIN, CERTAIN) for one in each], axis=0)
    np.testing.assert_allclose(found.logits, mean, atol=1e-5)
    masks = [one.logits[0] > 0 for one in each]
    mask = found.logits[0] > 0
    agreed = np.mean([(mask & one).sum() / max((mask | one).sum(), 1) for one in masks])
    assert found.iou == pytest.approx([each[0].iou[0] ** (1 - AGREED) * agreed**AGREED], abs=1e-5)
    assert found.object_score == each[0].object_score and torch.equal(found.pointer, each[0].pointer)
    assert found.seen.shape == each[0].seen.shape and bool((found.seen > 0).any()) == bool(mask.any())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_rows_asked_together_answer_as_alone(predictor, scan, order):
    rows = [boxed(), boxed(100.0, 2, (45.0, 60.0)), boxed(130.0, 3)]  # four, three and one view
    together, _ = closely(predictor, scan, [rows[i] for i in order])
    for place, i in enumerate(order):
        (alone,), _ = closely(predictor, scan, [rows[i]])
        np.testing.assert_allclose(together[place].logits, alone.logits, atol=1e-5)
        assert together[place].iou == pytest.approx(alone.iou, abs=1e-5)


def test_proposals_are_left_as_they_are(predictor, scan):
    found, ask = closely(predictor, scan, [boxed()], multimask=True)
    np.testing.assert_array_equal(found[0].logits, ask([boxed()])[0].logits)


def test_nothing_is_asked_of_nothing(predictor, scan):
    assert closely(predictor, scan, [])[0] == []


def test_clicks_are_looked_at_closely_and_boxes_once(predictor, scan, monkeypatch):
    def encodings(prompts, closeups):
        asked = Predictor(predictor.model, device="cpu", precision="fp32")
        calls = []
        encode = asked.model.encode
        monkeypatch.setattr(asked.model, "encode", lambda *given, **how: calls.append(1) or encode(*given, **how))
        found = asked.predict(scan, prompts, closeups=closeups, looks=(1.0, 0.5))[0]
        monkeypatch.undo()
        return len(calls), found.logits

    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:50, 50:70] = True
    box, click = Prompts().add_box(1, 0, 10, 10, 40, 50), Prompts().add_point(1, 0, 40, 60)
    corrected, masked = Prompts().add_mask(1, 0, mask).add_point(1, 0, 40, 75), Prompts().add_mask(1, 0, mask)
    for alone in (box, masked):
        once, plain = encodings(alone, 1)
        again, same = encodings(alone, 4)
        assert once == again == 1
        np.testing.assert_array_equal(plain, same)
    for clicks in (click, corrected):
        few, rough = encodings(clicks, 1)
        many, smooth = encodings(clicks, 4)
        assert few < many <= few + 3
        assert not np.array_equal(rough, smooth)
