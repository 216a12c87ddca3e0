from __future__ import annotations

import math

import pandas as pd
import pytest

from samed2.errors import InputError
from samed2.evaluate.results import Results, finite, line, read_rows, rows_hash, summary_of


def row(task="a/x", case="c", dice=0.5, status="ok", **more):
    dataset, name = task.split("/")
    scores = dict.fromkeys(("dice", "iou", "nsd"), dice) | {"hd95": math.nan, "assd": 2.0}
    found = {"dataset": dataset, "object": name, "task": task, "case": case, "patient": case, "status": status}
    found |= {"reason": "" if status == "ok" else "why", "notes": "", "predictions": 2, "seconds": 0.5}
    found |= {"points": 0, "boxes": 3, "masks": 0, "prompts": 3, "predicted_iou": 0.9, "true_iou": dice}
    found |= {f"baseline_ellipse_{m}": 0.25 for m in ("dice", "iou", "nsd")} | {"memory_mb": 100.0}
    return {**found, **(scores if status == "ok" else {}), **more}


ROWS = [row("a/x", f"c{i}", (0.2, 0.4, 0.6, 0.8)[i % 4]) for i in range(12)]
ROWS += [row("b/y", f"d{i}", 1.0) for i in range(6)]
MORE = [row("b/y", "c1", status="skipped"), row("b/y", "c2", status="failed")]


def test_means_over_tasks_and_over_cases_stand_side_by_side():
    found = summary_of([*ROWS, *MORE], seed=0, resamples=200)
    assert found["summary"]["macro_dice"] == pytest.approx(0.75)
    assert found["summary"]["case_dice"] == pytest.approx(12 / 18)
    assert found["summary"]["macro_hd95"] is None and found["summary"]["undefined_hd95"] == 18
    low, high = found["summary"]["macro_dice_ci"]
    assert low <= 0.75 <= high
    assert found["tasks"]["a/x"]["dice"] == pytest.approx(0.5)
    assert found["tasks"]["a/x"]["baselines"] == {"ellipse": 0.25}
    assert found["baselines"]["ellipse"]["macro_dice"] == found["baselines"]["ellipse"]["case_nsd"] == 0.25
    assert found["counts"] == {"ok": 18, "skipped": 1, "failed": 1}
    assert found["failed"] == [{"dataset": "b", "case": "c2", "object": "y", "reason": "why"}]
    assert found["prompts_per_case"]["boxes"] == 3 and found["peak_memory_mb"] == {"ram": 100.0}
    assert found["seconds"]["per_prediction_median"] == 0.25
    assert found["calibration"]["bias"] == pytest.approx(0.9 - 12 / 18)


def test_the_same_draws_give_the_same_intervals_whatever_the_order():
    first, second = (summary_of(rows, 3, 100)["summary"] for rows in (ROWS, ROWS[::-1]))
    assert first["macro_dice_ci"] == pytest.approx(second["macro_dice_ci"])
    assert summary_of(ROWS, 4, 100)["summary"]["macro_dice_ci"] != first["macro_dice_ci"]


def test_save_and_load(tmp_path):
    document = {"schema": 1, "config": {"protocol": "box"}, **summary_of([*ROWS, *MORE], 0, 50)}
    Results(document, [*ROWS, *MORE]).save(tmp_path)
    found = Results.load(tmp_path)
    assert found.document == finite(document) and found.folder == tmp_path
    assert [line(r) for r in found.rows] == [line(r) for r in [*ROWS, *MORE]]
    assert len(found.frame()) == 18 and len(found.frame(None)) == 20
    for table in (pd.read_csv(tmp_path / "cases.csv"), pd.read_parquet(tmp_path / "cases.parquet")):
        assert table["dice"].sum() == pytest.approx(12.0) and len(table) == 20
    assert "NaN" not in (tmp_path / "results.json").read_text() + (tmp_path / "rows.jsonl").read_text()


def test_rows_hash_leaves_timings_out():
    slower = [{**r, "seconds": 9.0, "memory_mb": 1.0} for r in ROWS]
    assert rows_hash(ROWS) == rows_hash(slower)
    assert rows_hash(ROWS) != rows_hash([{**r, "dice": 0.0} for r in ROWS])


@pytest.mark.parametrize("tail, kept", [("", 2), ('{"dataset": "a", "ca', 2), ("\x00\x00", 2), ('{"x": 1}', 2)])
def test_a_line_that_was_cut_off_is_left_out(tmp_path, tail, kept):
    path = tmp_path / "rows.jsonl"
    path.write_text(line(ROWS[0]) + line(ROWS[1]) + tail)
    found = read_rows(path)
    assert len(found) == kept and math.isnan(found[0]["hd95"])


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("rows.jsonl", "nonsense\n" + line(ROWS[0]), "line 1"),
        ("rows.jsonl", '{"x": 1}\n', "line 1"),
        ("results.json", "{", "cannot be read"),
        ("results.json", '{"schema": 0}', "schema"),
        ("results.json", "[]", "schema"),
    ],
)
def test_damaged_results_are_refused(tmp_path, name, text, said):
    Results({"schema": 1, "config": {}, **summary_of(ROWS, 0, 50)}, ROWS).save(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        Results.load(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="finished evaluation"):
        Results.load(tmp_path)
    with pytest.raises(InputError, match="none of 2 rows"):
        summary_of(MORE, 0, 10)
