from __future__ import annotations

import zlib

import numpy as np
import pytest
from tests.evaluate.fakes import Threshold
from tests.generated import disc

from samed2.data.cases import Case, LoadedCase, MaskArrays
from samed2.errors import InputError
from samed2.evaluate.metrics import dice
from samed2.evaluate.models.base import MEMORY, PREVIOUS, PROPAGATE, Proposals
from samed2.evaluate.protocols import PROTOCOLS, Subject, parse_protocol
from samed2.evaluate.protocols.challenge import volume_click
from samed2.evaluate.protocols.memory import degrade
from samed2.evaluate.protocols.propagate import spread
from samed2.evaluate.selection import Pick, answer, check_select, pick
from samed2.evaluate.settings import middle_frames, scored_frames
from samed2.evaluate.support import SupportPool, usual_sizes
from samed2.io import Scan
from samed2.prompts import center_point, components, jitter_box, tight_box

SHAPE = (64, 80)
BIG, SMALL, SPECK = disc(SHAPE, 20, 20, 10), disc(SHAPE, 45, 60, 5), disc(SHAPE, 5, 70, 2)
ALL = ["box", "box-union", "box-jitter:0.05", "box-union-jitter:0.1", "box-shift:20", "box-union-shift:20"]
ALL += ["point", "point-random", "mode1", "mode2", "mode3", "mode4", "mode5", "clicks:3", "challenge3d"]
ALL += ["propagate", "propagate:point", "propagate:first", "propagate:point-first", "memory-only:2"]
ALL += [
    "memory-noisy:2:0.5",
    "propagate:memory-2",
    "propagate:point-first:memory-2",
    "point:memory-2",
    "clicks:2:memory-2",
]


def subject(truth=None, seed=0, select="chosen", frames=None, kind=None, name="c0", support=None):
    """A case whose bright pixels are the truth."""
    truth = (BIG | SMALL | SPECK if truth is None else truth).reshape(-1, *SHAPE)
    image = np.where(truth, 200, 20).astype(np.uint8)
    kind = kind or ("image" if len(truth) == 1 else "volume")
    case = Case("set", "mr", name, kind, ("thing",), patient=name, split="test")
    loaded = LoadedCase(case, Scan.from_array(image, kind=kind), MaskArrays({"thing": truth}))
    frames = scored_frames(truth, 2) if frames is None else frames
    return Subject(loaded, "thing", truth, frames, seed, select, support)


def volume():
    truth = np.zeros((9, *SHAPE), bool)
    for frame in range(2, 7):
        truth[frame] = disc(SHAPE, 30, 30 + frame, 8)
    return truth


def example_case(number, split="train", empty=False):
    def load(case):
        truth = disc(SHAPE, 20 + number, 30, 8)[None] & (not empty)
        return LoadedCase(
            case, Scan.from_array(np.where(truth, 200, 20).astype(np.uint8)), MaskArrays({"thing": truth})
        )

    return Case("set", "mr", f"s{number}", "image", ("thing",), patient=f"p{number}", split=split, reader=load)


def pool(numbers=range(5), **options):
    return SupportPool([example_case(n, **options) for n in numbers], ("train",), seed=0)


@pytest.mark.parametrize("text", ALL)
def test_every_protocol_answers_on_an_image_and_a_volume_and_repeats_itself(text):
    protocol = parse_protocol(text)
    assert protocol.text == text and protocol.words
    assert parse_protocol(protocol.text) == protocol
    for truth in (None, volume()):
        model = Threshold(MEMORY, PROPAGATE, PREVIOUS)
        first = protocol.run(model, subject(truth, support=pool()))
        again = protocol.run(Threshold(MEMORY, PROPAGATE, PREVIOUS), subject(truth, support=pool()))
        outcome = first.outcome
        assert outcome.masks.shape == (len(outcome.frames), *SHAPE) and outcome.masks.dtype == bool
        assert outcome.confidence.shape == (len(outcome.frames),)
        np.testing.assert_array_equal(outcome.masks, again.outcome.masks)
        assert first.hints == again.hints
        if protocol.whole:
            assert outcome.frames == list(range(1 if truth is None else 9))
        given = [q for p in model.asked for q in p.objects.values()]
        if not text.startswith(("clicks", "challenge", "memory")):
            assert outcome.prompts["boxes"] == sum(len(q.boxes) for q in given)
            assert outcome.prompts["points"] == sum(len(q.points) for q in given)


def test_the_registry_is_covered_here():
    assert {text.split(":")[0] for text in ALL} == set(PROTOCOLS)


@pytest.mark.parametrize(
    "text",
    [
        *("", "boxes", "box:1", "box-jitter", "box-jitter:x", "box-jitter:2", "box-jitter:nan", "clicks", "clicks:0"),
        *(
            "clicks:2.5",
            "propagate:last",
            "propagate:memory-0",
            "propagate:point:first",
            "mode6",
            "memory-only:0",
            "memory-noisy:2",
            "memory-noisy:2:1.5",
        ),
    ],
)
def test_unknown_protocols_say_what_is_wanted(text):
    with pytest.raises(InputError, match="wanted"):
        parse_protocol(text)


def test_one_box_per_component_of_16_pixels_largest_first():
    model = Threshold()
    trial = parse_protocol("box").run(model, subject())
    (prompts,) = model.asked
    boxes = [tuple(entry.boxes[0])[1:] for entry in prompts.objects.values()]
    assert boxes == [tight_box(BIG), tight_box(SMALL)]  # the speck has 9 pixels
    assert trial.outcome.prompts == {"points": 0, "boxes": 2, "masks": 0}
    np.testing.assert_array_equal(trial.outcome.masks[0], BIG | SMALL)


def test_jittered_boxes_are_those_of_the_first_benchmark():
    model = Threshold()
    parse_protocol("box-jitter:0.05").run(model, subject(seed=3))
    rng = np.random.default_rng([3, zlib.crc32(b"set/c0/thing/0")])
    wanted = [jitter_box(tight_box(part), 0.05, rng, SHAPE) for part in components(BIG | SMALL)]
    assert [tuple(e.boxes[0])[1:] for e in model.asked[0].objects.values()] == wanted


def test_shifted_boxes_grow_by_pixels_of_the_squashed_frame():
    reach = np.zeros(4)
    for seed in range(200):
        model = Threshold()
        parse_protocol("box-union-shift:20").run(model, subject(BIG, seed=seed))
        grown = np.array(tuple(model.asked[0].objects[1].boxes[0])[1:]) - tight_box(BIG)
        assert (grown[:2] <= 0).all() and (grown[2:] >= 0).all()
        reach = np.maximum(reach, abs(grown))
    limit = np.array([SHAPE[0], SHAPE[1]] * 2) * 20 / 1024
    assert (reach <= limit + 1e-9).all() and (reach > 0.9 * limit).all()


@pytest.mark.parametrize("text", ["box-jitter:0.1", "box-shift:20", "point-random", "mode1"])
def test_draws_depend_on_seed_case_and_frame_only(text):
    def asked(**options):
        model = Threshold()
        parse_protocol(text).run(model, subject(**options))
        return model.asked[-1]

    wide = np.ones(SHAPE, bool)
    wide[:, 60:] = False
    same = {"truth": wide, "seed": 5, "frames": [0]}
    assert asked(**same) == asked(**same)
    assert asked(**same) != asked(**{**same, "seed": 6})
    assert asked(**same) != asked(**{**same, "name": "c1"})
    two = np.stack([wide, wide])
    both = asked(truth=two, seed=5, frames=[0, 1], kind="volume").objects
    alone = asked(truth=two, seed=5, frames=[1], kind="volume").objects
    assert both == alone  # the frame before changes nothing


def test_points_lie_where_they_should():
    for text, exact in {"point": True, "point-random": False}.items():
        model = Threshold()
        parse_protocol(text).run(model, subject())
        for entry, part in zip(model.asked[0].objects.values(), (BIG, SMALL), strict=True):
            (point,) = entry.points
            assert part[int(point.y), int(point.x)] and point.positive
            assert not exact or (point.y, point.x) == center_point(part)


@pytest.mark.parametrize(
    "mode, objects, points, boxes",
    [(1, 1, 1, 0), (2, 1, 3, 0), (3, 1, 0, 1), (4, 3, 0, 3), (5, 1, 0, 1)],
)
def test_modes_of_the_study(mode, objects, points, boxes):
    model = Threshold()
    trial = parse_protocol(f"mode{mode}").run(model, subject())
    (prompts,) = model.asked
    assert len(prompts.objects) == objects
    assert trial.outcome.prompts == {"points": points, "boxes": boxes, "masks": 0}
    for entry in prompts.objects.values():
        for point, part in zip(entry.points, (BIG, SMALL, SPECK), strict=False):
            assert part[int(point.y), int(point.x)]
    wanted = {3: [BIG], 4: [BIG, SMALL, SPECK], 5: [BIG | SMALL | SPECK]}.get(mode, [])
    assert [tuple(e.boxes[0])[1:] for e in prompts.objects.values() if e.boxes] == [tight_box(w) for w in wanted]


def test_a_ring_is_clicked_on_itself():
    ring = disc(SHAPE, 30, 30, 12) & ~disc(SHAPE, 30, 30, 6)
    for text in ("mode1", "point", "clicks:1"):
        model = Threshold()
        parse_protocol(text).run(model, subject(ring))
        (point,) = model.asked[0].objects[1].points
        assert ring[int(point.y), int(point.x)]


def test_clicks_add_up_and_the_answer_comes_back():
    truth = BIG | SMALL
    for more, fed in ((), False), ((PREVIOUS,), True):
        model = Threshold(*more, radius=7)
        trial = parse_protocol("clicks:4").run(model, subject(truth))
        assert len(trial.outcome.steps) == 4
        np.testing.assert_array_equal(trial.outcome.steps[-1], trial.outcome.masks)
        assert [len(p.objects[1].points) for p in model.asked] == list(range(1, len(model.asked) + 1))
        assert trial.outcome.prompts["points"] == len(model.asked)
        assert [bool(p.objects[1].masks) for p in model.asked] == [False] + [fed] * (len(model.asked) - 1)
        scores = [dice(step[0], truth) for step in trial.outcome.steps]
        assert scores == sorted(scores) and scores[-1] > scores[0]


def test_no_click_where_nothing_is_wrong():
    model = Threshold(radius=40)
    trial = parse_protocol("clicks:5").run(model, subject(BIG))
    assert len(model.asked) == 1 and trial.outcome.prompts["points"] == 1
    assert len(trial.outcome.steps) == 5 and all(dice(s[0], BIG) == 1 for s in trial.outcome.steps)


def test_propagation_by_the_model_or_frame_by_frame():
    truth = volume()
    able = parse_protocol("propagate").run(Threshold(PROPAGATE), subject(truth))
    assert able.outcome.notes == [] and able.outcome.prompts == {"points": 0, "boxes": 1, "masks": 0}
    assert list(able.hints) == [4]
    np.testing.assert_array_equal(able.outcome.masks, truth)
    model = Threshold()
    other = parse_protocol("propagate").run(model, subject(truth))
    assert other.outcome.notes == ["per-slice boxes"] and other.outcome.prompts["boxes"] == 1
    assert [p.frames()[0] for p in model.asked] == [4, 5, 6, 7, 3, 2, 1]  # stops after an empty answer
    np.testing.assert_array_equal(other.outcome.masks.any(axis=(1, 2)), truth.any(axis=(1, 2)))
    first = parse_protocol("propagate:point-first").run(Threshold(), subject(truth, frames=scored_frames(truth, None)))
    assert list(first.hints) == [2] and first.outcome.prompts == {"points": 1, "boxes": 0, "masks": 0}


def test_spread_meets_half_way_and_stops_before_an_empty_answer():
    full, none = Pick(np.ones((4, 4), bool)), Pick(np.zeros((4, 4), bool))
    asked = []

    def on(frame, box):
        asked.append(frame)
        return full

    found = spread(on, {2: full, 7: full, 10: none}, (0, 12))
    assert sorted(asked) == [0, 1, 3, 4, 5, 6, 8, 9]
    assert asked.index(4) < asked.index(5)  # 3 and 4 come from 2, 6 and 5 from 7
    assert 11 not in found and not found[10].mask.any()
    assert set(spread(on, {2: full}, (1, 3))) == {1, 2, 3}


def test_challenge_clicks_the_largest_error_in_3d():
    truth, rng = np.zeros((6, 20, 20), bool), np.random.default_rng(0)
    truth[1:5, 2:11, 2:11] = True
    guess = np.zeros_like(truth)
    guess[0:6, 14:17, 14:17] = True
    frame, y, x, positive = volume_click(guess, truth, rng)
    assert positive and frame in (2, 3) and 3 <= y <= 9 and 3 <= x <= 9
    frame, y, x, positive = volume_click(guess | truth, truth, rng)
    assert (y, x, positive) == (15, 15, False)
    assert volume_click(truth, truth, rng) is None


@pytest.mark.parametrize("more", [(), (PROPAGATE,)])
def test_challenge_steps_and_columns(more):
    truth = volume()
    protocol = parse_protocol("challenge3d")
    trial = protocol.run(Threshold(*more, level=0.5), subject(truth))
    assert trial.extent == (2, 6) and list(trial.hints) == [4] and len(trial.outcome.steps) == 6
    assert not trial.outcome.masks[[0, 1, 7, 8]].any()
    assert trial.outcome.prompts["boxes"] == 1 and trial.outcome.prompts["points"] <= 5
    columns = protocol.step_columns([{"dice": d, "nsd": 0.5} for d in (0.9, 0.1, 0.3, 0.5, 0.7, 0.9)])
    assert columns["dice_auc"] == pytest.approx(0.2 + 0.4 + 0.6 + 0.8) and columns["dice_final"] == 0.9
    assert columns["nsd_1"] == 0.0 and columns["nsd_auc"] == pytest.approx(0.25 + 0.5 * 3)


def test_memory_gets_k_cases_of_other_patients_the_same_every_time():
    taken = []
    for k in (1, 3):
        model = Threshold(MEMORY)
        seen = []
        remember = model.remember
        model.remember = lambda s, seen=seen, remember=remember: (seen.append(list(s)), remember(s))
        trial = parse_protocol(f"memory-only:{k}").run(model, subject(support=pool(range(6))))
        assert len(seen[0]) == k and seen[-1] == []
        assert {s.task for s in seen[0]} == {"set/thing"} and {s.confidence for s in seen[0]} == {1.0}
        assert trial.outcome.prompts == {"points": 0, "boxes": 0, "masks": 0} and len(trial.examples) == k
        taken.append([s.mask.tobytes() for s in seen[0]])
    assert taken[0] == taken[1][:1]


def test_propagation_with_a_memory_gets_the_same_cases_seen_as_prompts_are():
    model, seen = Threshold(MEMORY, PROPAGATE), []
    remember = model.remember
    model.remember = lambda support: seen.append(list(support)) or remember(support)
    trial = parse_protocol("propagate:memory-3").run(model, subject(volume(), support=pool()))
    drawn, _ = pool().draw(subject().loaded.case, "thing", 3)
    assert [s.scan.name for s in seen[0]] == [s.scan.name for s in drawn] and all(s.near for s in seen[0])
    assert seen[1] == [] and trial.columns["support"] == 3 and trial.outcome.prompts["boxes"] == 1
    np.testing.assert_array_equal(
        trial.outcome.masks, parse_protocol("propagate").run(Threshold(PROPAGATE), subject(volume())).outcome.masks
    )
    with pytest.raises(InputError, match="support"):
        parse_protocol("propagate:memory-1").run(Threshold(MEMORY), subject())


@pytest.mark.parametrize("text", ["point", "clicks:2", "box-jitter:0.05"])
def test_any_prompt_can_be_given_beside_a_memory(text):
    one, several = parse_protocol(text), parse_protocol(f"{text}:memory-2")
    assert (several.whole, several.per_part, several.support) == (one.whole, one.per_part, 2)
    assert one.words in several.words
    model, seen = Threshold(MEMORY), []
    remember = model.remember
    model.remember = lambda support: seen.append(list(support)) or remember(support)
    trial, plain = several.run(model, subject(support=pool())), one.run(Threshold(), subject())
    np.testing.assert_array_equal(trial.outcome.masks, plain.outcome.masks)
    assert trial.outcome.prompts == plain.outcome.prompts and [len(given) for given in seen] == [2, 0]


@pytest.mark.parametrize("text", ["memory-only:1:memory-2", "point:memory-0", "point:memory-x", "memory-2"])
def test_a_memory_beside_nothing_is_refused(text):
    with pytest.raises(InputError, match="protocol"):
        parse_protocol(text)


def test_a_memory_is_emptied_where_the_model_fails():
    model = Threshold(MEMORY, PROPAGATE)
    model.propagate = lambda scan, prompts: 1 / 0
    with pytest.raises(ZeroDivisionError):
        parse_protocol("propagate:memory-2").run(model, subject(volume(), support=pool()))
    assert model.memory == []


def test_support_cases_keep_apart_from_the_patient_and_fall_back():
    case = example_case(0)
    few = SupportPool([example_case(n) for n in range(3)], ("train",), 0)
    examples, notes = few.draw(case, "thing", 9)
    assert len(examples) == 2 and notes == ["only 2 support cases"]
    other = SupportPool([example_case(n, split="test") for n in range(3)], ("train",), 0)
    assert other.draw(case, "thing", 1)[1] == ["support from outside of train"]
    hidden = SupportPool([example_case(1, empty=True), case], ("train",), 0)
    with pytest.raises(InputError, match="no other patient"):
        hidden.draw(case, "thing", 1)
    with pytest.raises(InputError, match="support"):
        parse_protocol("memory-only:1").run(Threshold(MEMORY), subject())


def test_noisy_examples_say_how_good_they_are():
    model, seen = Threshold(MEMORY), []
    model.remember = lambda s: seen.append(list(s))
    model.recall = lambda scan, frame, task: Proposals(BIG[None], np.array([0.5]))
    clean = {s.mask.tobytes() for s in pool(range(5)).draw(subject().loaded.case, "thing", 4)[0]}
    trial = parse_protocol("memory-noisy:4:0.5").run(model, subject(support=pool(range(5))))
    worse = [s for s in seen[0] if s.mask.tobytes() not in clean]
    assert len(worse) == 2 and all(0 < s.confidence < 1 for s in worse)
    assert trial.columns["support_dice"] == pytest.approx(np.mean([s.confidence for s in seen[0]]))
    (example,) = pool().draw(subject().loaded.case, "thing", 1)[0]
    noisy = degrade(example, np.random.default_rng(1))
    assert noisy.confidence == dice(noisy.mask, example.mask)


def test_usual_sizes_come_from_the_support_splits():
    cases = [example_case(n) for n in range(3)]
    sizes = usual_sizes(cases, cases, ("train",), 0)
    area = np.count_nonzero(disc(SHAPE, 20, 30, 8)) / (64 * 80)
    assert sizes["set/thing"].component == pytest.approx(area) and sizes["set/thing"].cases == 3


@pytest.mark.parametrize(
    "held, count, wanted",
    [
        ([3, 4, 5, 6, 7], 2, [5, 6]),
        ([3, 4, 5, 6], 2, [4, 5]),
        ([3], 2, [3]),
        ([1, 5, 9], 1, [5]),
        ([1, 2, 3, 4], 3, [1, 2, 3]),
        ([1, 2, 3], None, [1, 2, 3]),
        ([], 2, []),
    ],
)
def test_middle_frames(held, count, wanted):
    masks = np.zeros((10, 8, 8), bool)
    masks[held] = True
    assert middle_frames(masks, count) == wanted


def test_frames_without_a_promptable_component_are_left_out():
    masks = np.zeros((3, 8, 8), bool)
    masks[0, :4, :4], masks[1, :3, :5] = True, True
    assert scored_frames(masks, None) == [0]


def test_selection_rules_and_the_oracle_is_a_bound():
    part = Proposals(np.stack([SMALL, BIG, BIG | SMALL]), np.array([0.1, 0.2, 0.9]), chosen=2)
    assert pick(part, "first", BIG).confidence == 0.1
    assert pick(part, "chosen", BIG).confidence == 0.9
    assert pick(part, "oracle", BIG).confidence == 0.2
    rng = np.random.default_rng(0)
    for _ in range(30):
        found = {i: Proposals(rng.random((3, 8, 8)) < 0.4, rng.random(3), int(rng.integers(3))) for i in (1, 2)}
        targets = {i: rng.random((8, 8)) < 0.2 for i in (1, 2)}
        truth = targets[1] | targets[2]
        best, *others = (dice(answer(found, targets, truth, s).mask, truth) for s in ("oracle", "chosen", "first"))
        assert best >= max(others)
    with pytest.raises(InputError, match="oracle"):
        check_select("best")
