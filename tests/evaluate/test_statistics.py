"""Means, intervals and corrections against values worked out by hand and plain loops."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pandas as pd
import pytest

from samed2.errors import InputError
from samed2.evaluate.resampling import MIN_PATIENTS, bootstrap
from samed2.evaluate.statistics import holm, summarise, tidy


def table(tasks: dict[str, list[tuple[str, float]]]) -> pd.DataFrame:
    """Rows from task -> [(patient, dice)]."""
    rows = [
        {
            "dataset": task.split("/")[0],
            "object": task.split("/")[1],
            "task": task,
            "case": f"c{number}",
            "patient": patient,
        }
        | {"dice": value}
        for task, cases in tasks.items()
        for number, (patient, value) in enumerate(cases)
    ]
    return pd.DataFrame(rows)


def people(values: list[float] | np.ndarray) -> list[tuple[str, float]]:
    return [(f"p{number:04d}", float(value)) for number, value in enumerate(values)]


def random_rows(seed: int, sizes: dict[str, int]) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return table({task: people(rng.beta(5, 2, size)) for task, size in sizes.items()})


def test_macro_and_case_means_are_told_apart() -> None:
    got = summarise(table({"a/x": people([1.0, 0.8]), "b/y": people([0.0] * 6)}), "dice")
    assert got.macro == pytest.approx(0.45) and got.case == pytest.approx(1.8 / 8)
    assert got.tasks["a/x"].mean == pytest.approx(0.9) and list(got.tasks) == ["a/x", "b/y"]
    assert (got.cases, got.patients, got.undefined) == (8, 8, 0)


def test_undefined_values_are_left_out_and_counted() -> None:
    rows = table({"a/x": people([0.5, math.nan, 0.7]), "b/y": people([math.nan] * 2)})
    got = summarise(rows, "dice")
    assert got.macro == got.case == pytest.approx(0.6)
    assert got.undefined == 3 and got.empty == ["b/y"] and got.tasks["a/x"].undefined == 1
    assert math.isnan(got.tasks["b/y"].mean) and got.tasks["b/y"].cases == 0
    nothing = summarise(table({"b/y": people([math.nan] * 9)}), "dice")
    assert math.isnan(nothing.macro) and math.isnan(nothing.case_ci.low) and nothing.flat()["macro_dice"] is None


def test_few_patients_get_no_interval() -> None:
    rng = np.random.default_rng(0)
    got = summarise(
        table({"a/x": people(rng.random(MIN_PATIENTS)), "b/y": people(rng.random(MIN_PATIENTS - 1))}), "dice"
    )
    assert math.isfinite(got.tasks["a/x"].ci.low) and math.isnan(got.tasks["b/y"].ci.low) and got.small == ["b/y"]
    assert math.isfinite(got.macro_ci.low)
    # many cases of few patients are few; and tasks of one patient each show no spread at all
    one = summarise(table({"a/x": [("p", v) for v in rng.random(50)]}), "dice")
    assert math.isnan(one.tasks["a/x"].ci.low) and math.isnan(one.macro_ci.low) and one.fixed == ["a/x"]
    singles = summarise(table({f"d{i}/x": people([v]) for i, v in enumerate(rng.random(9))}), "dice")
    assert math.isnan(singles.macro_ci.low) and math.isfinite(singles.macro)


def test_spread_of_a_task_mean_is_the_standard_error() -> None:
    for size in (6, 25):
        values = np.random.default_rng(size).random(size)
        draws = bootstrap(tidy(table({"a/x": people(values)}), "dice"), "dice", 0, 20_000).draws
        assert draws.std() == pytest.approx(values.std(ddof=1) / math.sqrt(size), rel=0.02)
        assert draws.mean() == pytest.approx(values.mean(), abs=0.005)


def test_patients_are_drawn_whole() -> None:
    # two patients of ten cases each: every resample (of one draw) is one or the other
    rows = table({"a/x": [("p", 0.0)] * 10 + [("q", 1.0)] * 10})
    draws = bootstrap(tidy(rows, "dice"), "dice", 0).draws
    assert set(np.unique(draws)) == {0.0, 1.0}


def test_tasks_that_share_patients_vary_together() -> None:
    values = np.random.default_rng(1).random(30)
    both = tidy(table({"a/x": people(values), "a/y": people(values)}), "dice")
    draws = bootstrap(both, "dice", 0).draws
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    part = bootstrap(tidy(table({"a/x": people(values), "a/y": people(values)[:20]}), "dice"), "dice", 0).draws
    assert np.corrcoef(part.T)[0, 1] > 0.5
    apart = bootstrap(tidy(table({"a/x": people(values), "b/y": people(values)}), "dice"), "dice", 0).draws
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.1


@pytest.mark.parametrize("present", [2, 4, 11])
def test_a_task_that_lacks_patients_is_resampled_as_if_alone(present: int) -> None:
    values = np.random.default_rng(2).random(40)
    rows = table({"a/all": people(values), "a/some": people(values)[:present]})
    draws = bootstrap(tidy(rows, "dice"), "dice", 0, 20_000).draws[:, 1]
    assert draws.std() == pytest.approx(values[:present].std(ddof=1) / math.sqrt(present), rel=0.03)
    assert draws.mean() == pytest.approx(values[:present].mean(), abs=0.01)


def test_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for trial in range(200):
        got = summarise(
            table({"a/x": people(rng.normal(0.5, 0.1, 15)), "b/y": people(rng.normal(0.7, 0.1, 15))}),
            "dice",
            trial,
            400,
        )
        hits += got.macro_ci.low <= 0.6 <= got.macro_ci.high
    assert 0.88 <= hits / 200 <= 0.99


def test_case_interval_keeps_the_tasks_weights() -> None:
    rows = random_rows(5, {"a/x": 40, "b/y": 10})
    got = summarise(rows, "dice", resamples=20_000)
    errors = [group["dice"].std(ddof=1) / math.sqrt(len(group)) for _, group in rows.groupby("task")]
    wanted = math.hypot(0.8 * errors[0], 0.2 * errors[1])
    assert (got.case_ci.high - got.case_ci.low) / (2 * 1.96) == pytest.approx(wanted, rel=0.05)
    macro = math.hypot(0.5 * errors[0], 0.5 * errors[1])
    assert (got.macro_ci.high - got.macro_ci.low) / (2 * 1.96) == pytest.approx(macro, rel=0.05)


def test_the_same_for_any_order_of_rows_and_the_same_seed_only() -> None:
    rows = random_rows(6, {"a/x": 12, "a/y": 9, "b/z": 8})
    got = summarise(rows, "dice", seed=3)
    assert summarise(rows.sample(frac=1, random_state=1), "dice", seed=3) == got
    assert summarise(rows, "dice", seed=4).macro_ci != got.macro_ci
    assert summarise(rows[rows["dataset"] == "a"], "dice", seed=3).tasks["a/x"] == got.tasks["a/x"]
    kept = rows.copy()
    summarise(rows, "dice")
    pd.testing.assert_frame_equal(rows, kept)


def test_a_missing_patient_is_the_case_itself() -> None:
    rows = random_rows(7, {"a/x": 10})
    for nameless in ("", None, math.nan):
        got = summarise(rows.assign(patient=nameless), "dice")
        assert got.patients == 10 and math.isfinite(got.macro_ci.low)
    partly = rows.assign(patient=pd.Categorical(["p", "p", "", *rows["patient"][3:]]))  # as some Parquet files come
    assert summarise(partly, "dice").patients == 9


def test_json_form() -> None:
    got = summarise(random_rows(8, {"a/x": 10, "b/y": 3}), "dice")
    flat = json.loads(json.dumps({**got.flat(), "tasks": got.flat_tasks()}, allow_nan=False))
    assert set(flat) == {"macro_dice", "macro_dice_ci", "case_dice", "case_dice_ci", "undefined_dice", "tasks"}
    low, high = flat["macro_dice_ci"]
    assert low < flat["macro_dice"] < high and flat["tasks"]["b/y"]["dice_ci"] is None
    assert flat["tasks"]["a/x"]["dice"] == pytest.approx(got.tasks["a/x"].mean) and flat["tasks"]["b/y"]["cases"] == 3


def test_two_thousand_rows_are_quick() -> None:
    one = random_rows(9, {"a/x": 2000})
    many = random_rows(9, {f"a/{n}": 180 + n for n in range(11)})
    for rows in (one, many):
        start = time.perf_counter()
        summarise(rows, "dice")
        assert time.perf_counter() - start < 2


def test_blocks_do_not_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from samed2.evaluate import resampling

    rows = tidy(random_rows(10, {"a/x": 20, "b/z": 8}), "dice")
    whole = bootstrap(rows, "dice", 0, 100).draws
    monkeypatch.setattr(resampling, "BLOCK", 200)
    np.testing.assert_allclose(bootstrap(rows, "dice", 0, 100).draws, whole, rtol=1e-12)


@pytest.mark.parametrize(
    "p, wanted",
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # .005*4, .01*3, .03*2, then .04*1 raised to .06
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([0.02, math.nan, 0.03], [0.04, math.nan, 0.04]),
        ([math.nan], [math.nan]),
        ([], []),
    ],
)
def test_holm(p: list[float], wanted: list[float]) -> None:
    np.testing.assert_allclose(holm(p), wanted)


GOOD = random_rows(11, {"a/x": 3})


@pytest.mark.parametrize(
    "rows, message",
    [
        (GOOD.drop(columns="patient"), "no column patient"),
        (GOOD[:0], "got none"),
        (pd.concat([GOOD, GOOD]), "a/x, case c0 is there twice"),
        (GOOD.assign(dice=np.inf), "infinite"),
        (GOOD.assign(dice="good"), "no number"),
        (pd.concat([GOOD, GOOD.assign(dataset="b", case="other")]), "two data sets"),
    ],
)
def test_bad_rows_are_named(rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        summarise(rows, "dice")


def test_bad_resamples_and_metric() -> None:
    with pytest.raises(InputError, match="resamples"):
        summarise(GOOD, "dice", resamples=0)
    with pytest.raises(InputError, match="no column nsd"):
        summarise(GOOD, "nsd")
