"""Following objects: the same masks as transformers' SAM-2 session, and what a pass must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.predict.conftest import mixing_model, tiny_model
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from samed2.cli.segment import FAST
from samed2.errors import InputError
from samed2.io import Scan, resolve_window
from samed2.nn.streaming import read
from samed2.predict.engine import Engine
from samed2.predict.propagation import propagate
from samed2.predict.settings import Settings
from samed2.predict.tracking import Tracker, Tracking
from samed2.prompts import Prompts

FRAMES = 12
BOXES = {1: (0, 10, 12, 40, 44), 2: (0, 30, 5, 60, 30), 3: (3, 4, 30, 26, 60)}  # object: frame, y0, x0, y1, x1


@pytest.fixture(scope="module")
def engine() -> Engine:
    # the session gives boxes as two labelled points, and hides a prompted mask where the object score is negative
    model = tiny_model(hidden=128, adapter_dim=0, box_tokens="points", box_prior="none")
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data += 10
    return Engine(model, "cpu", "fp32")


@pytest.fixture(scope="module")
def film(engine) -> Scan:
    rng = np.random.default_rng(0)
    side = engine.size
    y, x = np.mgrid[:side, :side]
    frames = [
        60 * ((y - 25 - t) ** 2 + (x - 28 - t) ** 2 < 150) + rng.integers(0, 120, (side, side)) for t in range(FRAMES)
    ]
    return Scan.from_array(np.stack(frames).astype(np.uint8), kind="video")


def prompts(*ids: int) -> Prompts:
    out = Prompts()
    for number in ids:
        out.add_box(number, *BOXES[number])
    return out


def track(engine, film, ids, tracking=None, reverse=False, **settings):
    tracking = tracking or Tracking(follow=False, carry="memory", patience=0)
    chosen = Settings(zoom=False, neighbours=1, **settings)
    return Tracker(engine, film, prompts(*ids), resolve_window(film, None), chosen, tracking, reverse=reverse)


def theirs(engine: Engine, film: Scan, ids: list[int], reverse: bool) -> dict[tuple[int, int], torch.Tensor]:
    """Logits (S/4, S/4) by (frame, object) of transformers' own session with the same weights."""
    model = Sam2VideoModel(engine.model.config).eval()
    model.load_state_dict(engine.model.state_dict())
    pixels = torch.from_numpy(film.frames()).float()[:, None].expand(-1, 3, -1, -1) / 255
    session = Sam2VideoInferenceSession(
        video=(pixels - engine._mean) / engine._std,
        video_height=engine.size,
        video_width=engine.size,
        dtype=torch.float32,
    )
    found = {}
    with torch.inference_mode():
        for number in ids:
            frame, y0, x0, y1, x1 = BOXES[number]
            points = {
                "point_coords": torch.tensor([[[[x0, y0], [x1, y1]]]], dtype=torch.float32),
                "point_labels": torch.tensor([[[2, 3]]]),
            }
            index = session.obj_id_to_idx(number)
            session.add_point_inputs(index, frame, points)
            session.obj_with_new_inputs.append(number)
        model(session, frame_idx=frame)
        for output in model.propagate_in_video_iterator(session, start_frame_idx=frame, reverse=reverse):
            for number, logits in zip(output.object_ids, output.pred_masks, strict=True):
                found[output.frame_idx, number] = logits[0]
    return found


@pytest.mark.parametrize("ids", [[1], [2, 1]])
@pytest.mark.parametrize("reverse", [False, True])
def test_masks_are_those_of_the_transformers_session(engine, film, ids, reverse):
    if reverse:
        ids = [3]
    wanted = theirs(engine, film, ids, reverse)
    compared = 0
    for frame, found in track(engine, film, ids, reverse=reverse):
        for prediction in found:
            logits = torch.nn.functional.interpolate(
                wanted[frame, prediction.id][None, None].float(), size=engine.size, mode="bilinear"
            )[0, 0]
            there, here = (logits > 0).numpy(), prediction.mask
            total = there.sum() + here.sum()
            assert total == 0 or 2 * (there & here).sum() / total > 0.995, (frame, prediction.id)
            compared += 1
    assert compared == (4 if reverse else FRAMES) * len(ids)


CARRIES = [
    Tracking(carry=carry, follow=follow, patience=0) for carry in ("memory", "box", "mask") for follow in (True, False)
]


def run(engine, film, asked, tracking, direction="both", **settings):
    window, chosen = resolve_window(film, None), Settings(neighbours=1, **settings)
    return {
        (frame, prediction.id): prediction
        for frame, found in propagate(engine, film, asked, window, chosen, tracking, None, direction)
        for prediction in found
    }


@pytest.mark.parametrize("tracking", CARRIES)
def test_objects_do_not_disturb_each_other(engine, film, tracking):
    together = run(engine, film, prompts(1, 2, 3), tracking)
    for number in BOXES:
        alone = run(engine, film, prompts(number), tracking)
        assert set(alone) == {key for key in together if key[1] == number} == {(f, number) for f in range(FRAMES)}
        for key, prediction in alone.items():
            np.testing.assert_array_equal(prediction.mask, together[key].mask)
            assert abs(prediction.confidence - together[key].confidence) < 1e-5


def test_directions_stop_where_they_should(engine, film):
    tracking = Tracking(patience=0)
    assert {f for f, _ in run(engine, film, prompts(3), tracking, "forward")} == set(range(3, FRAMES))
    assert {f for f, _ in run(engine, film, prompts(3), tracking, "backward")} == set(range(4))
    assert {f for f, _ in run(engine, film, prompts(3), tracking, "both")} == set(range(FRAMES))
    with pytest.raises(InputError, match="sideways"):
        run(engine, film, prompts(3), tracking, "sideways")


def test_between_two_prompts_the_surer_answer_stays(engine, film):
    asked = prompts(3).add_box(3, 9, 10, 34, 32, 66)
    both, there, back = (run(engine, film, asked, Tracking(patience=0), d) for d in ("both", "forward", "backward"))
    for frame in range(4, 9):
        key = (frame, 3)
        assert both[key].confidence == max(there[key].confidence, back[key].confidence)
    np.testing.assert_array_equal(both[0, 3].mask, back[0, 3].mask)
    np.testing.assert_array_equal(both[11, 3].mask, there[11, 3].mask)


def test_an_object_that_is_gone_ends_the_pass(engine, film, monkeypatch):
    bias = engine.model.mask_decoder.pred_obj_score_head.proj_out.bias
    with torch.no_grad():
        bias -= 40
    try:
        found = run(engine, film, prompts(3), Tracking(patience=2), "forward")
    finally:
        with torch.no_grad():
            bias += 40
    assert sorted(f for f, _ in found) == [3, 4, 5]
    assert found[3, 3].mask.any() and not found[4, 3].mask.any() and not found[5, 3].mask.any()


def test_an_answer_much_less_sure_than_the_prompted_one_is_none(engine, film):
    kept = run(engine, film, prompts(1), Tracking(drop=0.0, patience=0))
    least = sorted(p.confidence for p in kept.values())[FRAMES // 2] / kept[0, 1].confidence
    some = run(engine, film, prompts(1), Tracking(drop=least, patience=0, stream=False, carry="box"))
    assert some[0, 1].mask.any() and run(engine, film, prompts(1), Tracking(drop=1e9, patience=1)).keys() == {
        (0, 1),
        (1, 1),
    }
    assert all(
        p.mask.any() <= (p.confidence >= least * some[0, 1].confidence) for (frame, _), p in some.items() if frame
    )


@pytest.mark.parametrize("most", [3, 6])
def test_tracks_stay_small(engine, film, most):
    tracker = track(engine, film, [1])
    tracker._reach = most
    sizes = [len(tracker._objects[1].track.recent) for _ in tracker]
    assert sizes == [min(frame, most + 1) for frame in range(FRAMES)]


@pytest.mark.parametrize(
    ("recent", "maps", "counts"),
    [
        (None, 7, None),
        (6, 7, None),
        (9, 7, None),
        (4, 5, [1.0, *[1.5] * 4]),
        (3, 4, [1.0, 2.0, 2.0, 2.0]),
        (0, 1, None),
    ],
)
def test_as_many_recent_frames_are_read_as_asked_for_and_speak_for_all(engine, film, recent, maps, counts):
    tracker = track(engine, film, [1], recent=recent)
    for _ in range(9):
        next(iter(tracker))
    kept = tracker._objects[1].track
    tokens = read(engine.model, [kept], 9, False, FRAMES, recent=recent)
    assert tokens is not None and tokens.memory.shape[1] == maps and tokens.counts == counts
    assert tokens.pointers is not None and tokens.pointers.shape[1] == 9 * 128 // 64  # all frames'


def test_recent_frames_that_are_not_read_change_nothing(engine, film):
    full, few = (list(track(engine, film, [1, 2], recent=recent)) for recent in (None, 3))
    for (frame, exact), (_, quick) in zip(full, few, strict=True):
        same = [np.array_equal(a.logits, b.logits) for a, b in zip(exact, quick, strict=True)]
        assert all(same) if frame <= 4 else not any(same)  # both objects are prompted on frame 0, which is always read


@pytest.mark.parametrize(
    ("values", "words"), [({"carry": "hope"}, "hope"), ({"margin": 0.5}, "margin"), ({"patience": -1}, "patience")]
)
def test_bad_tracking_is_named(values, words):
    with pytest.raises(InputError, match=words):
        Tracking(**values)


def test_a_negative_number_of_recent_frames_is_named():
    with pytest.raises(InputError, match="recent: got -1, wanted at least 0"):
        Settings(recent=-1)


def test_fast_setting_follows_the_same_object(engine, film):
    """bf16 and less memory: nearly the same masks, from the model of the exact one."""
    fast = Engine(engine.model, "cpu", "bf16")
    assert fast.model is engine.model
    few = track(fast, film, [1, 2], recent=FAST["recent"])
    for (_, exact), (_, quick) in zip(track(engine, film, [1, 2]), few, strict=True):
        for a, b in zip(exact, quick, strict=True):
            assert a.mask.shape == b.mask.shape and (a.mask == b.mask).mean() > 0.9


@pytest.mark.parametrize("reverse", [False, True])
def test_frames_encoded_ahead_are_those_encoded_alone(film, reverse):
    """With neighbours that the first adapter alone sees, several frames go through the encoder as one clip."""
    model = mixing_model(hidden=128)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data += 10
    settings = Settings(zoom=False, neighbours=3, shallow=True)
    tracking, box = Tracking(follow=False, carry="memory", patience=0), Prompts().add_box(1, 6, 10, 12, 40, 44)
    ahead, alone = (
        Tracker(Engine(model, "cpu", "fp32"), film, box, resolve_window(film, None), settings, tracking, None, reverse)
        for _ in range(2)
    )
    seen = []
    for frame, (found,) in ahead:
        (wanted,) = alone.step(frame)
        np.testing.assert_allclose(found.logits, wanted.logits, atol=2e-3)
        seen.append(frame)
    assert seen == (list(range(6, -1, -1)) if reverse else list(range(6, FRAMES)))
