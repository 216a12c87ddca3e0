import numpy as np
import pytest
import torch

from samed2.predict.agreement import most_agreed, similarities
from samed2.predict.results import Answer


def _disc(radius, cy=20.0, cx=20.0):
    y, x = np.mgrid[:40, :60]
    return (y - cy) ** 2 + (x - cx) ** 2 < radius**2


def _answer(*proposals):
    logits = np.stack([np.where(mask, 4.0, -4.0) for mask, _ in proposals]).astype(np.float32)
    return Answer(logits, [iou for _, iou in proposals], 3.0, torch.zeros(1, 1, 1), torch.zeros(1))


CLICK = [(20.0, 20.0, True)]
SMALL, MIDDLE, WIDE = _disc(5), _disc(10), _disc(18)
ELSEWHERE = _disc(8, 20, 45)
NOTHING = np.zeros((40, 60), bool)


@pytest.mark.parametrize(
    ("answers", "points", "number", "wanted"),
    [
        pytest.param(
            [[(SMALL, 0.9), (MIDDLE, 0.7)], [(MIDDLE, 0.8)], [(_disc(10.5), 0.7)]], CLICK, 1, MIDDLE, id="many"
        ),
        pytest.param([[(SMALL, 0.9)], [(WIDE, 0.4)]], CLICK, 0, SMALL, id="two: the surer one"),
        pytest.param([[(ELSEWHERE, 0.9)], [(ELSEWHERE, 0.9)], [(MIDDLE, 0.3)]], CLICK, 2, MIDDLE, id="holds the click"),
        pytest.param(
            [[(WIDE, 0.9)], [(WIDE, 0.9)], [(SMALL, 0.4)]], [*CLICK, (20.0, 32.0, False)], 2, SMALL, id="negative click"
        ),
        pytest.param([[(ELSEWHERE, 0.5)], [(ELSEWHERE, 0.9)]], CLICK, 1, ELSEWHERE, id="none holds it"),
        pytest.param([[(NOTHING, 0.2)], [(NOTHING, 0.6)]], CLICK, 1, NOTHING, id="all empty"),
        pytest.param([[(MIDDLE, 0.0), (SMALL, 0.0)]], CLICK, 0, MIDDLE, id="none is sure"),
    ],
)
def test_most_agreed(answers, points, number, wanted):
    found, answer, agreement = most_agreed([_answer(*proposals) for proposals in answers], points)
    assert found == number
    np.testing.assert_array_equal(answer.logits[0] > 0, wanted)
    assert len(answer.logits) == len(answer.iou) == len(answers[number])
    assert 0 <= agreement <= 1


def test_the_chosen_proposal_comes_first_and_keeps_its_predicted_iou():
    middle = (MIDDLE, 0.6)
    _, answer, agreement = most_agreed([_answer((SMALL, 0.7), middle), _answer(middle), _answer(middle)], CLICK)
    assert answer.iou == [0.6, 0.7]
    small = similarities(np.stack([SMALL, MIDDLE]))[0, 1]
    assert agreement == pytest.approx((3 * 0.36 + 0.49 * small) / (3 * 0.36 + 0.49))


@pytest.mark.parametrize(
    ("recalled", "points", "number", "wanted"),
    [
        pytest.param(None, CLICK, 0, SMALL, id="nothing known"),
        pytest.param((WIDE, 0.9), CLICK, 1, _disc(16), id="decides between answers"),
        pytest.param((_disc(16), 0.9), CLICK, 2, _disc(16), id="is the same as one, and surer"),
        pytest.param((WIDE, 0.1), CLICK, 0, SMALL, id="is not sure"),
        pytest.param((ELSEWHERE, 0.9), CLICK, 0, SMALL, id="misses the click"),
        pytest.param((NOTHING, 0.9), CLICK, 0, SMALL, id="finds nothing"),
        pytest.param((WIDE, 0.9), [*CLICK, (20.0, 37.0, False)], 0, SMALL, id="holds a negative click"),
    ],
)
def test_what_the_memory_finds_has_a_vote(recalled, points, number, wanted):
    answers = [_answer((SMALL, 0.8)), _answer((_disc(16), 0.75))]
    given = recalled and (np.where(recalled[0], 4.0, -4.0).astype(np.float32), recalled[1])
    found, answer, agreement = most_agreed(answers, points, given)
    assert found == number
    np.testing.assert_array_equal(answer.logits[0] > 0, wanted)
    assert 0 <= agreement <= 1


def test_what_the_memory_finds_is_chosen_where_nothing_else_holds_the_click():
    answers = [_answer((ELSEWHERE, 0.9)), _answer((ELSEWHERE, 0.9))]
    number, answer, _ = most_agreed(answers, CLICK, (np.where(MIDDLE, 4.0, -4.0).astype(np.float32), 0.4))
    assert number == 2
    np.testing.assert_array_equal(answer.logits[0] > 0, MIDDLE)


def test_agreement_does_not_depend_on_the_order_of_views():
    answers = [_answer((_disc(r), 0.5 + r / 40), (_disc(r / 2), 0.4)) for r in (4.0, 7.0, 9.0, 15.0)]
    number, answer, agreement = most_agreed(answers, CLICK)
    other, same, again = most_agreed(answers[::-1], CLICK)
    assert (other, again) == (3 - number, pytest.approx(agreement))
    np.testing.assert_array_equal(answer.logits, same.logits)


@pytest.mark.parametrize("scale", [1, 20])
def test_similarities_are_ious_also_on_large_frames(scale):
    masks = np.stack([SMALL, MIDDLE, WIDE, ELSEWHERE, NOTHING])
    wanted = [[(a & b).sum() / max((a | b).sum(), 1) for b in masks] for a in masks]
    large = masks.repeat(scale, axis=1).repeat(scale, axis=2)
    np.testing.assert_allclose(similarities(large), wanted, atol=1e-6 if scale == 1 else 0.01)
