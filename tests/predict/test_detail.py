"""Large objects piece by piece: what the pieces cover, how their answers are put together, and who is not asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.predict.conftest import tiny_model

import samed2.predict.detail as detail
from samed2.io import Scan
from samed2.predict import Predictor
from samed2.predict.detail import CERTAIN, ask_pieces, pieces
from samed2.predict.results import Answer
from samed2.predict.rows import Row
from samed2.predict.settings import Settings
from samed2.predict.zoom import View, box_view
from samed2.prompts import Prompts

SIZE = 64
HEIGHT, WIDTH = 300, 400
BOXES = [(20.0, 30.0, 250.0, 380.0), (0.0, 0.0, 300.0, 90.0), (100.5, 3.0, 131.0, 399.0), (60.0, 60.0, 260.0, 260.0)]


def boxed(box, number: int = 1) -> Row:
    return Row(number, box_view(box, 1.3, SIZE), [], box)


def truth() -> np.ndarray:
    """Thin walls, two pixels wide."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return ((x // 2 + y // 3) % 5 == 0) & (np.hypot(y - 150, (x - 200) / 1.4) < 140)


class Oracle:
    """A scene whose pieces are answered with the truth in their own views, and nonsense outside of these."""

    def __init__(self, details: int = 2, trained: bool = True, multimask: bool = False) -> None:
        self.settings = Settings(details=details, multimask=multimask)
        self.engine = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(details=trained)))
        self.asked: list[Row] = []

    def ask(self, rows: list[Row]) -> list[Answer]:
        self.asked += rows
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        answers = []
        for row in rows:
            seen = np.maximum(np.abs(y - row.view.cy), np.abs(x - row.view.cx)) <= row.view.side / 2
            answers.append(coarse(np.where(seen, np.where(truth(), 20.0, -20.0), 20.0)))
        return answers


def coarse(logits) -> Answer:
    return Answer(np.asarray(logits, np.float32)[None], [0.7], 1.0, torch.zeros(1, 16, 16), torch.ones(4))


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_pieces_cover_the_box_and_show_it_nearer(box, count):
    row = boxed(box)
    views = pieces(row, count)
    assert all(view.side < 1.08 * row.view.side * 1.4 / 1.3 / count for view in views)
    assert len(views) <= count * count
    covered = sum(detail._share(view, HEIGHT, WIDTH) for view in views)
    y0, x0, y1, x1 = (round(v) for v in box)
    assert (covered[y0:y1, x0:x1] > 0.3).all()


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("together", [1, 3, 16])
def test_pieces_that_know_better_are_believed_inside_the_box(box, together, monkeypatch):
    monkeypatch.setattr(detail, "TOGETHER", together)
    y0, x0, y1, x1 = (round(v) for v in box)
    guess = np.full((HEIGHT, WIDTH), -1.0)
    guess[y0:y1, x0:x1] = 1.0
    scene, first = Oracle(), coarse(guess)
    (found,) = ask_pieces(scene, [boxed(box)], [first])
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[y0:y1, x0:x1] = True
    np.testing.assert_array_equal((found.logits[0] > 0)[inside], truth()[inside])
    far = sum(detail._share(view, HEIGHT, WIDTH) for view in pieces(boxed(box), 2)) == 0
    np.testing.assert_array_equal(found.logits[0][far], guess.astype(np.float32)[far])
    assert np.abs(found.logits).max() <= CERTAIN
    assert (found.iou, found.object_score, found.seen is first.seen) == ([0.7], 1.0, True)
    assert all(row.box is None and not row.points and row.mask is not None for row in scene.asked)


def test_pieces_without_any_of_the_object_are_not_asked_for():
    guess = np.full((HEIGHT, WIDTH), -1.0)
    guess[70:90, 70:90] = 1.0  # in the first quarter
    scene = Oracle()
    (found,) = ask_pieces(scene, [boxed(BOXES[3])], [coarse(guess)])
    assert len(scene.asked) == 1
    np.testing.assert_array_equal(found.logits[0][200:], guess[200:])
    nothing, scene = coarse(np.full((HEIGHT, WIDTH), -1.0)), Oracle()
    assert (ask_pieces(scene, [boxed(BOXES[3])], [nothing])[0].logits < 0).all() and not scene.asked


@pytest.mark.parametrize(
    "scene, row",
    [
        (Oracle(details=1), boxed(BOXES[0])),
        (Oracle(trained=False), boxed(BOXES[0])),
        (Oracle(multimask=True), boxed(BOXES[0])),
        (Oracle(), boxed((20.0, 20.0, 60.0, 55.0))),  # the view shows every pixel
        (Oracle(), Row(1, View(150, 200, 400, SIZE), [(150.0, 200.0, True)])),
    ],
    ids=["switched off", "not trained for it", "proposals", "small", "clicks"],
)
def test_others_are_left_as_they_are(scene, row):
    first = coarse(np.where(truth(), 1.0, -1.0))
    assert ask_pieces(scene, [row], [first])[0] is first and not scene.asked


def test_the_predictor_looks_at_large_objects_so(monkeypatch):
    """Objects answer together as alone, small ones as without."""
    predictor = Predictor(tiny_model(details=True), device="cpu", precision="fp32")
    scan = Scan.from_array(np.random.default_rng(0).integers(0, 255, (260, 300), dtype=np.uint8), kind="image")
    prompts = Prompts().add_box(1, 0, 5, 5, 250, 290).add_box(2, 0, 30, 30, 60, 50)
    large, small = predictor.predict(scan, prompts)
    plain = predictor.predict(scan, prompts, details=1)
    assert not np.array_equal(large.logits, plain[0].logits) and large.confidence == plain[0].confidence
    np.testing.assert_array_equal(small.logits, plain[1].logits)
    (alone,) = predictor.predict(scan, Prompts().add_box(1, 0, 5, 5, 250, 290))
    np.testing.assert_allclose(large.logits, alone.logits, atol=1e-4)
