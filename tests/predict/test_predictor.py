"""The predictor: what it returns, what it must not depend on, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from tests.predict.conftest import mixing_model, tiny_model

from samed2.errors import InputError
from samed2.io import Scan
from samed2.predict import Predictor
from samed2.predict import frame as frame_module
from samed2.predict.postprocess import clean
from samed2.prompts import Prompts

BOXES = {
    1: (10, 10, 40, 50),
    2: (20, 60, 80, 110),
    3: (5, 70, 25, 90),
    4: (50, 5, 85, 45),
    5: (30, 30, 60, 60),
}


def boxes(*ids: int) -> Prompts:
    prompts = Prompts()
    for number in ids:
        prompts.add_box(number, 0, *BOXES[number])
    return prompts


def fresh(predictor: Predictor) -> Predictor:
    return Predictor(predictor.model, device="cpu", precision="fp32")


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (5, 3, 1, 2, 4)])
def test_five_objects_equal_five_calls_in_any_order(predictor, scan, order):
    together = {p.id: p for p in fresh(predictor).predict(scan, boxes(*order))}
    for number in BOXES:
        alone = fresh(predictor).predict(scan, boxes(number))[0]
        np.testing.assert_allclose(alone.logits, together[number].logits, atol=1e-5)
        assert abs(alone.confidence - together[number].confidence) < 1e-5


def test_the_answer_does_not_depend_on_what_was_asked_before(predictor, scan):
    used = fresh(predictor)
    for number in (4, 2, 5):
        used.predict(scan, boxes(number))
    first = fresh(predictor).predict(scan, boxes(1))[0]
    np.testing.assert_array_equal(used.predict(scan, boxes(1))[0].logits, first.logits)
    np.testing.assert_array_equal(used.predict(scan, boxes(1))[0].logits, first.logits)


def test_a_further_prompt_does_not_encode_again(predictor, scan, monkeypatch):
    asked = fresh(predictor)
    calls = []
    encode = asked.model.encode
    monkeypatch.setattr(asked.model, "encode", lambda *given, **how: calls.append(1) or encode(*given, **how))
    asked.predict(scan, boxes(1))
    assert len(calls) == 1
    asked.predict(scan, boxes(1).add_point(1, 0, 20, 20, False))
    assert len(calls) == 1


def test_the_mask_is_the_logits_above_zero_on_the_scan_grid(predictor, scan):
    found = predictor.predict(scan, boxes(2))[0]
    assert found.mask.shape == (90, 120)
    np.testing.assert_array_equal(found.mask, found.logits > 0)
    assert 0 <= found.confidence <= 1


def test_parts_of_one_object_are_united(predictor, scan):
    both = Prompts().add_box(1, 0, *BOXES[1]).add_box(1, 0, *BOXES[2])
    parts = [predictor.predict(scan, boxes(n))[0].logits for n in (1, 2)]
    np.testing.assert_allclose(predictor.predict(scan, both)[0].logits, np.max(parts, axis=0), atol=1e-5)


def test_all_three_proposals_on_request_best_first(predictor, scan):
    found = predictor.predict(scan, boxes(1), multimask=True)[0]
    sure = [confidence for _, confidence in found.candidates]
    assert len(sure) == 3 and sure == sorted(sure, reverse=True)
    assert found.confidence == pytest.approx(sure[0])


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts().add_point(1, 0, 30, 40),
        Prompts().add_point(1, 0, 30, 40).add_point(1, 0, 5, 5, False),
        Prompts().add_mask(1, 0, np.pad(np.ones((20, 30), bool), ((10, 60), (40, 50)))),
        Prompts().add_mask(1, 0, np.pad(np.ones((20, 30), bool), ((10, 60), (40, 50)))).add_point(1, 0, 15, 45),
        Prompts().add_box(1, 0, 0, 0, 90, 120),
        Prompts().add_box(1, 0, 3, 3, 4, 4),
    ],
    ids=["point", "points", "mask", "mask+point", "whole", "one pixel"],
)
@pytest.mark.parametrize("zoom", [True, False])
def test_every_prompt_gives_a_mask(predictor, scan, prompts, zoom):
    result = predictor.segment(scan, prompts, zoom=zoom)
    assert result.labels.shape == (1, 90, 120)
    assert set(np.unique(result.labels)) <= {0, 1}
    assert list(result.objects[0].confidence) == [0]


def test_colour_and_tiny_images(predictor):
    rgb = Scan.from_array(np.zeros((40, 50, 3), np.uint8), kind="image", channels_last=True)
    assert predictor.segment(rgb, Prompts().add_box(1, 0, 5, 5, 20, 20)).labels.shape == (1, 40, 50)
    dot = Scan.from_array(np.zeros((1, 1), np.uint8), kind="image")
    assert predictor.segment(dot, Prompts().add_box(1, 0, 0, 0, 1, 1)).labels.shape == (1, 1, 1)


def test_only_prompted_frames_of_a_volume_are_segmented(predictor, volume):
    prompts = Prompts().add_box(7, 2, 10, 10, 40, 40).add_box(7, 4, 10, 10, 40, 40)
    result = predictor.segment(volume, prompts)
    assert result.labels.shape == (5, 60, 70) and not result.labels[[0, 1, 3]].any()
    assert sorted(result.object(7).confidence) == [2, 4]


def test_neighbouring_frames_reach_the_adapters(volume):
    model = mixing_model()
    prompts = Prompts().add_box(1, 2, 10, 10, 40, 40)

    def logits(**settings):
        return Predictor(model, "cpu").predict(volume, prompts, 2, **settings)[0].logits

    alone, clip, shallow = logits(), logits(neighbours=3), logits(neighbours=3, shallow=True)
    assert min(np.abs(a - b).max() for a, b in ((alone, clip), (alone, shallow), (clip, shallow))) > 1e-4
    np.testing.assert_array_equal(logits(shallow=True), alone)
    np.testing.assert_array_equal(logits(neighbours=5, shallow=True), shallow)


def test_with_mirror_the_mirrored_image_gives_the_mirrored_mask(predictor):
    pixels = np.random.default_rng(2).integers(0, 255, (64, 64), dtype=np.uint8)
    scan, turned = (Scan.from_array(np.ascontiguousarray(p), kind="image") for p in (pixels, pixels[:, ::-1]))
    logits, other = (
        predictor.predict(s, Prompts().add_box(1, 0, 4, 10, 50, 54), mirror=True, zoom=False)[0].logits
        for s in (scan, turned)
    )
    np.testing.assert_allclose(logits, other[:, ::-1], atol=1e-4)


def test_overlaps_go_to_the_larger_logit(predictor, scan):
    prompts = boxes(1, 5)
    labels = predictor.segment(scan, prompts).labels[0]
    one, five = predictor.predict(scan, prompts)
    both = one.mask & five.mask
    np.testing.assert_array_equal(labels[both] == 5, five.logits[both] > one.logits[both])


def test_provenance_tells_how_the_mask_came_about(predictor, scan):
    record = predictor.segment(scan, boxes(1), window="full").provenance
    assert record["weights"] == predictor.fingerprint and record["precision"] == "float32"
    assert record["window"]["source"] == "full" and record["settings"]["zoom"] is True
    assert Prompts.from_json(record["prompts"]).objects[1].boxes[0].y1 == 40


def test_memory_is_used_when_there_and_wanted(predictor, scan):
    other = fresh(predictor)
    other.memory = other.new_memory(8)
    plain = predictor.predict(scan, boxes(1))[0].logits
    np.testing.assert_allclose(other.predict(scan, boxes(1))[0].logits, plain, atol=1e-6)  # still empty
    other.remember(scan, np.pad(np.ones((20, 30), bool), ((10, 60), (40, 50))), views=["near"])
    assert len(other.memory) == 1 and other.memory.entries[0].confidence == 1
    assert np.abs(other.predict(scan, boxes(1))[0].logits - plain).max() > 1e-4
    np.testing.assert_allclose(other.predict(scan, boxes(1), memory=False)[0].logits, plain, atol=1e-6)
    assert len(other.memory) == 1  # reading never writes


def test_recall_finds_by_the_memory_of_its_task_alone(predictor, scan):
    known = Predictor(predictor.model, "cpu")
    with pytest.raises(InputError, match="has none"):
        known.recall(scan)
    known.memory = known.new_memory()
    mask = np.zeros((scan.height, scan.width), bool)
    mask[10:30, 12:40] = True
    known.remember(scan, mask, task="set/disc", views=["whole"])
    alone = known.recall(scan, task="set/disc")
    assert alone.mask.shape == mask.shape and 0 <= alone.confidence <= 1
    known.remember(scan, ~mask, task="set/rest", views=["whole"])
    np.testing.assert_array_equal(known.recall(scan, task="set/disc").logits, alone.logits)
    assert not np.array_equal(known.recall(scan, task="set/rest").logits, alone.logits)
    with pytest.raises(InputError, match="set/disc, set/rest"):
        known.recall(scan, task="set/other")


@pytest.mark.parametrize(
    ("kind", "settings", "times"),
    [
        ("point", {"task": "set/disc"}, 1),
        ("point", {}, 0),
        ("point", {"task": "set/other"}, 0),
        ("point", {"task": "set/disc", "memory": False}, 0),
        ("point", {"task": "set/disc", "memories": 0}, 0),
        ("point", {"task": "set/disc", "zoom": False}, 0),
        ("box", {"task": "set/disc"}, 0),
    ],
)
def test_a_memory_that_knows_what_is_clicked_on_has_a_vote(predictor, scan, monkeypatch, kind, settings, times):
    known = fresh(predictor)
    known.memory = known.new_memory()
    mask = np.zeros((scan.height, scan.width), bool)
    mask[10:30, 12:40] = True
    known.remember(scan, mask, task="set/disc")
    sought, votes = [], []
    recall, agree = frame_module.recall_frame, frame_module.most_agreed
    monkeypatch.setattr(frame_module, "recall_frame", lambda *given: sought.append(1) or recall(*given))
    monkeypatch.setattr(frame_module, "most_agreed", lambda *given: votes.append(given) or agree(*given))
    prompts = Prompts().add_point(1, 0, 20, 25).add_point(2, 0, 60, 80) if kind == "point" else boxes(2)
    together = known.predict(scan, prompts, **settings)
    assert len(sought) == times
    assert all((given[2] is not None) == bool(times) for given in votes)
    if not times:
        return
    asked, points, (logits, sure) = votes[0]
    held = known.recall(scan, task="set/disc")
    np.testing.assert_array_equal(np.abs(logits), np.abs(held.logits))
    assert sure == held.confidence and points == [(20.0, 25.0, True)]
    fewer = len(asked) // 2
    for seen, unseen in zip(asked[:fewer], asked[fewer:], strict=True):  # with the memory, and without
        assert seen.logits.shape == unseen.logits.shape and not np.array_equal(seen.logits, unseen.logits)
    alone = known.predict(scan, Prompts().add_point(1, 0, 20, 25), **settings)[0]
    np.testing.assert_allclose(alone.logits, together[0].logits, atol=1e-5)


def test_memory_file_of_another_model_is_refused(predictor, scan, tmp_path):
    bank = predictor.new_memory(4)
    bank.save(tmp_path / "bank.safetensors")
    model = tiny_model(adapter_dim=8)
    with pytest.raises(InputError, match=r"bank\.safetensors"):
        Predictor(model, "cpu", memory=tmp_path / "bank.safetensors")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, s: p.predict(s, Prompts()), "prompts"),
        (lambda p, s: p.predict(s, boxes(1), zoomed=True), "zoomed"),
        (lambda p, s: p.predict(s, boxes(1), margin=0.5), "margin"),
        (lambda p, s: p.predict(s, boxes(1), margin=float("nan")), "margin"),
        (lambda p, s: p.predict(s, boxes(1), window="lungs"), "lungs"),
        (lambda p, s: p.remember(s, np.ones((90, 120), bool)), "memory"),
        (lambda p, s: p.segment("nowhere.png", boxes(1)), "nowhere.png"),
        (lambda p, s: Predictor(p.model, device="abacus"), "abacus"),
        (lambda p, s: Predictor(p.model, device="cpu", precision="fp8"), "fp8"),
        (lambda p, s: Predictor.from_pretrained("no/such/model/folder"), "no/such/model/folder"),
    ],
)
def test_what_cannot_be_used_is_named(predictor, scan, call, words):
    with pytest.raises(InputError, match=words):
        call(predictor, scan)


def test_clean_fills_small_holes_and_drops_small_parts():
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[5, 5] = False  # a hole of one pixel
    mask[8:11, 8:11] = False  # a hole of nine
    mask[15, 15] = True  # a part of one
    filled = clean(mask, fill_holes=4)
    assert filled[5, 5] and not filled[9, 9] and filled[15, 15]
    cleaned = clean(mask, fill_holes=9, min_area=2)
    assert cleaned[9, 9] and not cleaned[15, 15]
    assert clean(mask, min_area=10_000).sum() == mask[2:12, 2:12].sum()  # the largest part stays
    np.testing.assert_array_equal(clean(mask), mask)


def test_segment_can_propagate(predictor, volume):
    asked = Prompts().add_box(1, 2, 10, 12, 40, 50)
    done = []
    whole = predictor.segment(volume, asked, propagate="both", progress=done.append)
    assert sorted(done) == sorted(whole.objects[0].confidence) and 2 in done and len(done) > 1
    np.testing.assert_array_equal(whole.labels[2], predictor.segment(volume, asked).labels[2])
    assert whole.provenance["propagate"] == "both"
    with pytest.raises(InputError, match="direction"):
        predictor.segment(volume, asked, propagate="up")


def test_what_is_remembered_knows_its_case_and_tells_whether_it_was_kept(predictor, scan):
    own = fresh(predictor)
    own.memory = own.new_memory(2)
    mask = np.zeros((90, 120), bool)
    mask[20:60, 30:80] = True
    assert own.remember(scan, mask, task="disc", origin="a.png") == 2
    assert [(e.task, e.origin) for e in own.memory.entries] == [("disc", "a.png")] * 2
    assert own.remember(scan, mask, task="disc", origin="b.png", views=["near"]) == 0
    assert own.memory.forget("b.png", "disc") == own.memory.forget("a.png", "other") == 0
    assert own.memory.forget("a.png", "disc") == 2 and len(own.memory) == 0
