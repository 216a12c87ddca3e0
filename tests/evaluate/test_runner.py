from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from tests.evaluate.fakes import Broken, Threshold, able, dying, plain
from tests.generated import disc, make_folder

from samed2.data import open_cases
from samed2.data.cases import Case, LoadedCase, MaskArrays
from samed2.errors import InputError
from samed2.evaluate.models.base import MEMORY, PREVIOUS
from samed2.evaluate.protocols import PROTOCOLS
from samed2.evaluate.provenance import data_hash
from samed2.evaluate.results import TIMINGS, Results
from samed2.evaluate.runner import evaluate
from samed2.evaluate.settings import EvalSettings
from samed2.io import Geometry, Scan

QUICK = EvalSettings(resamples=50, baselines=("ellipse", "disc"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def cases(data):
    return open_cases(data, ["val"])


def run(cases, out, model=None, protocol="box-jitter:0.1", settings=QUICK, **options):
    return evaluate(model or plain(), cases, protocol, out=out, settings=settings, **options)


def answers(folder):
    """The lines of rows.jsonl without what may differ between equal runs."""
    rows = [json.loads(text) for text in (folder / "rows.jsonl").read_text().splitlines()]
    return [json.dumps({k: v for k, v in row.items() if k not in TIMINGS}) for row in rows]


@pytest.fixture(scope="module")
def whole(cases, data, tmp_path_factory):
    """One undisturbed run to compare with."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return run(cases, out, data=data)


def test_a_run_leaves_all_its_files(whole, cases, data):
    out = whole.folder
    document = json.loads((out / "results.json").read_text())
    assert {"macro_dice", "macro_dice_ci", "case_dice", "macro_nsd", "case_nsd"} <= set(document["summary"])
    assert {"ellipse", "disc"} == set(document["baselines"])
    assert all("macro_dice" in entry and "macro_nsd" in entry for entry in document["baselines"].values())
    assert set(document["tasks"]) == {"spots/disc", "spots/dot", "stack/ball", "film/ball"}
    assert document["data_hash"] == data_hash(data) and document["weights_hash"] == "level 0.5"
    assert document["seed"] == 0 and document["versions"]["samed2"] and document["counts"]["ok"] == len(whole.rows)
    assert document["prompts_per_case"]["boxes"] == pytest.approx(1.2)
    assert document["seconds"]["per_prediction_median"] > 0 and document["peak_memory_mb"]["ram"] > 10
    rows = whole.rows
    assert [(r["case"], r["object"]) for r in rows] == [(c.name, o) for c in cases for o in c.objects]
    for task, entry in document["tasks"].items():
        assert entry["dice"] == pytest.approx(np.mean([r["dice"] for r in rows if r["task"] == task]))
    assert document["summary"]["macro_dice"] == pytest.approx(np.mean([t["dice"] for t in document["tasks"].values()]))
    assert document["summary"]["case_dice"] == pytest.approx(np.mean([r["dice"] for r in rows]))
    assert not any(str(data) in path.read_text(errors="replace") for path in out.rglob("*") if path.is_file())


def test_per_frame_scores_are_means_of_frames_with_mm_where_known(cases, whole):
    volume = next(row for row in whole.rows if row["kind"] == "volume")
    assert volume["frames"] == 2 and volume["unit"] == "mm" and volume["predictions"] == 2
    assert next(row for row in whole.rows if row["kind"] == "image")["unit"] == "px"
    assert all(0 < row["true_iou"] <= 1 and row["predicted_iou"] == pytest.approx(0.9) for row in whole.rows)
    assert all(0 <= row["pixel_brier"] <= row["border_brier"] < 1 for row in whole.rows)


def test_running_twice_gives_the_same_rows(cases, data, whole, tmp_path):
    again = run(cases, tmp_path / "again", data=data)
    assert answers(again.folder) == answers(whole.folder)
    assert again.document["rows_hash"] == whole.document["rows_hash"]
    assert again.document["summary"] == whole.document["summary"]
    assert again.document["rows_hash"] != run(cases, tmp_path / "b", protocol="box").document["rows_hash"]


def test_the_order_of_cases_changes_no_row(cases, data, whole, tmp_path):
    turned = run(cases[::-1], tmp_path / "turned", data=data)
    assert sorted(answers(turned.folder)) == sorted(answers(whole.folder))
    assert turned.summary == pytest.approx(whole.summary)


def test_workers_give_the_same_rows(cases, data, whole, tmp_path):
    told = []
    settings = replace(QUICK, workers=2)
    found = run(cases, tmp_path / "w", plain, settings=settings, data=data, progress=lambda *said: told.append(said))
    assert answers(found.folder) == answers(whole.folder)
    assert [done for done, _, _ in told] == list(range(1, len(cases) + 1))
    with pytest.raises(InputError, match="partial"):
        run(cases, tmp_path / "x", Threshold(), settings=settings)


def test_a_worker_that_dies_is_reported_and_the_run_goes_on_later(cases, data, whole, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="fewer workers"):
        run(cases, out, dying, settings=replace(QUICK, workers=2), data=data)
    assert answers(run(cases, out, data=data).folder) == answers(whole.folder)


@pytest.mark.parametrize("stop_after, cut", [(0, 0), (1, 1), (4, 37), (9, 0), (9, 200)])
def test_a_stopped_run_goes_on_where_it_was(cases, data, whole, tmp_path, stop_after, cut):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(cases, out, Broken(stop_after=stop_after), data=data)
    path = out / "rows.jsonl"
    text = path.read_text()
    path.write_text(text[: len(text) - cut])  # as if killed while writing
    with pytest.raises(InputError, match="not finished"):
        Results.load(out)
    model = plain()
    found = run(cases, out, model, data=data)
    assert answers(out) == answers(whole.folder) and found.summary == whole.summary
    kept = text[: len(text) - cut].count("\n") if cut else text.count("\n")
    assert len(model.asked) <= whole.frame()["predictions"].sum() - kept + 2
    assert sorted(p.name for p in (out / "masks").iterdir()) == sorted(
        p.name for p in (whole.folder / "masks").iterdir()
    )


def test_a_finished_run_is_not_run_again(cases, data, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole.folder, out)
    model, told = plain(), []
    found = run(cases, out, model, data=data, progress=lambda *said: told.append(said))
    assert model.asked == [] and told == [] and found.document == whole.document
    assert (out / "masks" / "index.json").read_bytes() == (whole.folder / "masks" / "index.json").read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"protocol": "box"}, {"settings": replace(QUICK, seed=1)}, {"model": Threshold(level=0.4)}, {"data": None}],
    ids=["protocol", "seed", "model", "data"],
)
def test_another_run_does_not_write_into_the_folder(cases, data, whole, tmp_path, change):
    out = tmp_path / "run"
    shutil.copytree(whole.folder, out)
    before = (out / "results.json").read_bytes()
    with pytest.raises(InputError, match="choose another folder"):
        run(cases, out, **{"data": data, **change})
    assert (out / "results.json").read_bytes() == before


def test_a_failed_case_is_recorded_and_tried_again(cases, data, whole, tmp_path):
    out = tmp_path / "run"
    found = run(cases, out, Broken(shape=(40, 48)), data=data)
    assert found.document["counts"] == {"ok": 8, "skipped": 0, "failed": 2}
    assert {row["reason"] for row in found.rows if row["status"] == "failed"} == {"RuntimeError: out of luck"}
    assert {entry["dataset"] for entry in found.document["failed"]} == {"stack", "film"}
    assert answers(run(cases, out, data=data).folder) == answers(whole.folder)


def made(name, truth, spacing=None, kind="volume"):
    geometry = Geometry.from_spacing(spacing) if spacing else None
    image = np.where(truth, 200, 20).astype(np.uint8)
    return Case("made", "ct", name, kind, ("thing",), split="test", reader=partial(_made, image, truth, geometry, kind))


def _made(image, truth, geometry, kind, case):
    return LoadedCase(case, Scan.from_array(image, kind=kind, geometry=geometry), MaskArrays({"thing": truth}))


def unreadable(case):
    raise InputError(f"{case.label}: the file is cut off")


def test_what_cannot_be_scored_has_its_reason(tmp_path):
    ball = np.stack([disc((40, 40), 20, 20, r) for r in (0, 6, 8, 6)])
    speck = np.stack([disc((40, 40), 20, 20, 2)] * 4)
    cases = [made("good", ball), made("speck", speck), made("absent", np.zeros_like(ball))]
    cases.append(replace(made("cut", ball), reader=unreadable))
    found = run(cases, tmp_path / "run", protocol="box")
    assert [row["status"] for row in found.rows] == ["ok", "skipped", "skipped", "failed"]
    for said, row in zip(("16 pixels", "absent", "cut off"), found.rows[1:], strict=True):
        assert said in row["reason"]
    assert found.document["counts"] == {"ok": 1, "skipped": 2, "failed": 1} and found.summary["macro_dice"] == 1
    with pytest.raises(InputError, match="none of 1 rows"):
        run(cases[1:2], tmp_path / "none", protocol="box")
    with pytest.raises(InputError, match="two cases"):
        run([cases[0], cases[0]], tmp_path / "twice")


def test_whole_volumes_are_scored_in_3d_with_their_spacing(tmp_path):
    truth = np.zeros((8, 40, 40), bool)
    truth[2:6, 10:20, 10:20] = True
    worse = np.where(truth, 200, 20).astype(np.uint8)
    worse[5] = 20  # the model will miss one slice
    case = made("v", truth, (3.0, 1.0, 1.0))
    case = replace(case, reader=partial(_made, worse, truth, Geometry.from_spacing((3.0, 1.0, 1.0)), "volume"))
    (row,) = run([case], tmp_path / "v", protocol="propagate").rows
    assert row["dice"] == pytest.approx(2 * 300 / 700) and row["frames"] == 8 and row["size"] == 400
    assert row["hd95"] == pytest.approx(3.0) and row["unit"] == "mm" and row["notes"] == "per-slice boxes"
    video = replace(case, name="f", kind="video", reader=partial(_made, worse, truth, None, "video"))
    (row,) = run([video], tmp_path / "f", protocol="propagate").rows
    assert row["dice"] == pytest.approx(7 / 8)  # frame by frame: one of eight wrong


@pytest.mark.parametrize(
    "protocol, columns",
    [
        ("clicks:3", {"dice_1", "dice_2", "dice_3"}),
        ("challenge3d", {"dice_0", "nsd_5", "dice_auc", "nsd_auc", "dice_final"}),
        ("memory-noisy:2:0.5", {"support", "support_dice", "baseline_prior_dice"}),
        ("propagate:first", set()),
    ],
)
def test_protocols_bring_their_columns(cases, data, tmp_path, protocol, columns):
    model = Threshold(PREVIOUS, MEMORY)
    found = run(cases, tmp_path / "run", model, protocol, data=data)
    assert found.document["counts"]["failed"] == 0, found.document["failed"]
    assert columns <= set(found.frame().columns)
    assert {f"macro_{c}" for c in columns if c.startswith(("dice_", "nsd_"))} <= set(found.summary)
    if protocol == "clicks:3":
        assert (found.frame()["dice_3"] == found.frame()["dice"]).all()
        assert (found.frame()["dice_3"] >= found.frame()["dice_1"]).all()


@pytest.mark.parametrize("protocol", ["memory-only:1", "propagate"])
def test_a_model_that_cannot_is_refused(cases, data, tmp_path, protocol):
    model = Threshold()
    model.abilities = frozenset({MEMORY}) if protocol == "propagate" else model.abilities
    with pytest.raises(InputError, match="needs"):
        run(cases, tmp_path / "run", model, protocol, data=data)
    assert protocol.split(":")[0] in PROTOCOLS and not (tmp_path / "run").exists()


def test_memory_is_drawn_from_train_or_else_from_the_other_cases(cases, data, tmp_path):
    inside = run(cases, tmp_path / "a", able(), "memory-only:2", data=data)
    assert "support from outside of train" not in str(inside.document["notes"])
    outside = run(cases, tmp_path / "b", able(), "memory-only:2")
    spots = [row for row in outside.rows if row["dataset"] == "spots"]
    assert all(row["status"] == "ok" and "outside of train" in row["notes"] for row in spots)
    assert [row["status"] for row in outside.rows if row["dataset"] == "stack"] == ["failed"]  # its only patient


def test_pictures_are_the_best_median_and_worst_of_each_task(whole, cases):
    masks = whole.folder / "masks"
    index = json.loads((masks / "index.json").read_text())
    ranks = {(entry["task"], entry["rank"]): entry for entry in index}
    dots = sorted(row["dice"] for row in whole.rows if row["task"] == "spots/disc")
    assert ranks["spots/disc", "best"]["dice"] == dots[-1] and ranks["spots/disc", "worst"]["dice"] == dots[0]
    assert [r for t, r in ranks if t == "stack/ball"] == ["best"]  # one case is shown once
    assert {p.name for p in masks.iterdir()} == {
        "index.json", "answers", *(entry[kind] for entry in index for kind in ("truth", "answer", "image"))
    }  # fmt: skip
    entry = ranks["spots/disc", "best"]
    case = next(c for c in cases if c.name == entry["case"])
    with Image.open(masks / entry["truth"]) as truth, Image.open(masks / entry["image"]) as image:
        assert truth.mode == "1" and truth.size == image.size == (80, 64)
        np.testing.assert_array_equal(np.asarray(truth), case.load().masks["disc"][0])


def test_large_frames_get_small_pictures(tmp_path):
    truth = disc((900, 1200), 400, 600, 200)[None]
    found = run([made("big", truth, kind="image")], tmp_path / "run", protocol="box")
    (entry,) = json.loads((found.folder / "masks" / "index.json").read_text())
    with Image.open(found.folder / "masks" / entry["answer"]) as answer:
        assert answer.size == (512, 384)
        y0, x0, y1, x1 = entry["boxes"][0]
        rows = np.flatnonzero(np.asarray(answer).any(axis=1))
        assert (y0, y1) == pytest.approx((rows[0], rows[-1] + 1), abs=1)


def test_the_data_hash_sees_names_and_bytes(tmp_path):
    root = tmp_path / "d"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.txt").write_text("1")
    (root / "big").write_bytes(bytes(5 * 2**20))
    first = data_hash(root)
    shutil.copytree(root, tmp_path / "elsewhere")
    assert data_hash(tmp_path / "elsewhere") == first
    (root / "a" / "x.txt").write_text("2")
    assert data_hash(root) != first
    (root / "a" / "x.txt").write_text("1")
    (root / "a" / "x.txt").rename(root / "a" / "y.txt")
    assert data_hash(root) != first
    (root / "manifest.json").write_text('{"content_hash": "abc"}')
    assert data_hash(root) == "abc"
    with pytest.raises(InputError, match="not found"):
        data_hash(tmp_path / "none")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"select": "best"}, {"slices": "some"}, {"slices": "middle:0"}, {"baselines": ("circle",)}),
        *({"workers": 0}, {"tolerance_mm": 0.0}, {"seed": -1}),
    ],
)
def test_unusable_settings(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        EvalSettings(**wrong)


@pytest.mark.needs_data
def test_a_real_case_of_every_kind(data_dir, tmp_path):
    kinds = {case.kind: case for case in open_cases(data_dir, ["test"])}
    settings = EvalSettings(resamples=50)
    found = run(list(kinds.values()), tmp_path / "run", protocol="box", data=data_dir, settings=settings)
    assert set(kinds) == {"image", "volume", "video"} and found.document["counts"]["failed"] == 0
    assert all(found.baselines[name]["macro_dice"] > 0.3 for name in ("ellipse", "box", "disc", "classical"))
