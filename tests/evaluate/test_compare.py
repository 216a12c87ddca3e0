"""Paired comparisons: hand-worked tests, scipy's, and the honest handling of what is missing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.evaluate.test_statistics import people, random_rows, table

from samed2.errors import InputError
from samed2.evaluate.compare import bootstrap_p, compare, compare_many, config_differences, signed_rank_p
from samed2.evaluate.statistics import summarise


def shifted(rows: pd.DataFrame, by: float, noise: float = 0.01, seed: int = 0) -> pd.DataFrame:
    return rows.assign(dice=rows["dice"] + by + np.random.default_rng(seed).normal(0, noise, len(rows)))


@pytest.mark.parametrize(
    "values, wanted",
    [
        ([1, 2, 3, 4, 5, 6], 2 / 64),  # all one way: two of the 2^6 sign patterns
        ([-1, 2, 3, 4, 5, 6], 4 / 64),  # W- = 1: patterns {} and {1}, on both sides
        ([0, 0, 1, -2, 0], 1.0),  # two pairs left, W+ = 1 of 0, 1, 2, 3: the lower half and 2 * 1/2
        ([0.0, 0.0], 1.0),
        ([], 1.0),
        ([1, 1, 1, 1, 1, -1], 2 * 7 / 64),  # all tied: at most one minus, 7 patterns
    ],
)
def test_signed_rank_by_hand(values: list[float], wanted: float) -> None:
    assert signed_rank_p(values) == pytest.approx(wanted)


@pytest.mark.parametrize("size", [6, 13, 30, 50, 51, 120])
def test_signed_rank_agrees_with_scipy_without_ties(size: int) -> None:
    values = np.random.default_rng(size).normal(0.3, 1, size)
    method = "exact" if size <= 50 else "approx"
    assert signed_rank_p(values) == pytest.approx(stats.wilcoxon(values, method=method).pvalue, rel=1e-9)


def test_signed_rank_with_ties_counts_all_sign_flips() -> None:
    values = np.array([0.1, 0.1, -0.2, 0.3, 0.3, 0.3, -0.1, 0.5])
    ranks = stats.rankdata(np.abs(values))
    reached = ranks[values > 0].sum()
    sums = np.array([ranks[list(signs)].sum() for signs in itertools.product((False, True), repeat=8)])
    assert signed_rank_p(values) == pytest.approx(2 * min((sums <= reached).mean(), (sums >= reached).mean()))
    noise = values + np.random.default_rng(0).uniform(-1e-15, 1e-15, 8)
    assert signed_rank_p(noise) == signed_rank_p(values)  # rounding breaks no ties


def test_a_clear_difference_is_found_and_signs_are_a_minus_b() -> None:
    b = random_rows(0, {"a/x": 20, "b/y": 15})
    a = shifted(b, 0.05)
    got = compare(a, b)
    assert got.macro == pytest.approx(0.05, abs=0.01) and got.macro_ci.low > 0.04 and got.macro_p < 0.01
    assert got.macro == pytest.approx(got.macro_a - got.macro_b) and got.case == pytest.approx(got.case_a - got.case_b)
    assert got.macro_a == pytest.approx(summarise(a, "dice").macro)
    assert got.verdict() == got.verdict("a/x") == "a"
    assert got.tasks["a/x"].a_better + got.tasks["a/x"].b_better == 20
    back = compare(b, a)
    assert back.macro == pytest.approx(-got.macro) and back.tasks["a/x"].p == got.tasks["a/x"].p
    assert back.verdict() == back.verdict("b/y") == "b"
    assert back.macro_ci.low == pytest.approx(-got.macro_ci.high) and back.macro_p == got.macro_p


def test_lower_may_be_better() -> None:
    b = random_rows(1, {"a/x": 20}).rename(columns={"dice": "hd95"})
    a = b.assign(hd95=b["hd95"] + 1)
    got = compare(a, b, "hd95")
    assert got.macro > 0 and got.verdict() == got.verdict("a/x") == "b" and got.tasks["a/x"].b_better == 20
    seconds = compare(
        a.rename(columns={"hd95": "seconds"}), b.rename(columns={"hd95": "seconds"}), "seconds", higher_is_better=False
    )
    assert seconds.verdict() == "b"


def test_a_result_against_itself_is_open() -> None:
    rows = random_rows(2, {"a/x": 20, "b/y": 3})
    got = compare(rows, rows)
    assert got.macro == 0 and got.macro_p == 1 and got.verdict() == "open" and got.tasks["a/x"].equal == 20
    assert got.tasks["a/x"].p == 1 and math.isnan(got.tasks["b/y"].p) and got.verdict("b/y") == "untested"


def test_cases_of_one_side_and_undefined_ones_are_counted() -> None:
    a, b = random_rows(3, {"a/x": 12, "b/y": 8}), random_rows(4, {"a/x": 10, "b/y": 8, "c/z": 2})
    b.loc[b["task"] == "b/y", "dice"] = math.nan
    b.loc[0, "dice"] = math.nan
    got = compare(a, b)
    assert got.only_a == (("a/x", "c10"), ("a/x", "c11")) and got.only_b == (("c/z", "c0"), ("c/z", "c1"))
    assert got.undefined == 9 and got.tasks["b/y"].cases == 0 and got.tasks["b/y"].undefined == 8
    assert got.tasks["a/x"].cases == got.cases == 9 and got.macro == pytest.approx(got.tasks["a/x"].difference)
    used = a[(a["task"] == "a/x") & a["case"].isin([f"c{n}" for n in range(1, 10)])]
    assert got.macro_a == pytest.approx(used["dice"].mean())


def test_eyes_of_one_patient_are_one_observation() -> None:
    pairs = [(f"p{n // 2}", 0.5) for n in range(12)]
    b = table({"a/x": pairs})
    a = b.assign(dice=b["dice"] + np.linspace(0.01, 0.02, 12))
    got = compare(a, b).tasks["a/x"]
    assert got.patients == 6 and got.cases == 12 and got.p == pytest.approx(2 / 64)
    fewer = compare(a[:10], b[:10])
    assert math.isnan(fewer.tasks["a/x"].p) and fewer.verdict("a/x") == "untested" and math.isnan(fewer.macro_p)


def test_holm_runs_over_the_tested_tasks() -> None:
    b = random_rows(5, {f"d{n}/x": 10 for n in range(4)} | {"small/x": 3})
    got = compare(shifted(b, 0.01, noise=0.02), b)
    ps = sorted((part.p, part.p_holm) for part in got.tasks.values() if not math.isnan(part.p))
    assert len(ps) == 4 and ps[0][1] == pytest.approx(min(1, 4 * ps[0][0]))
    assert all(holm >= p for p, holm in ps) and math.isnan(got.tasks["small/x"].p_holm)


def test_false_alarms_are_as_rare_as_promised() -> None:
    alarms = 0
    for trial in range(60):
        b = random_rows(trial, {"a/x": 12, "b/y": 12, "c/z": 12})
        got = compare(shifted(b, 0, 0.05, seed=trial), b, resamples=500)
        alarms += any(got.verdict(task) in "ab" for task in got.tasks)
    assert alarms <= 8  # 3 of 60 expected at 5 %


def test_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    b = random_rows(6, {"a/x": 12, "b/y": 9})
    a = shifted(b, 0.01, 0.05)
    got = compare(a, b, seed=1)
    assert compare(a.sample(frac=1, random_state=1), b.sample(frac=1, random_state=2), seed=1) == got
    assert compare(a, b, seed=2).macro_ci != got.macro_ci


def test_many_runs_share_one_correction() -> None:
    b = random_rows(7, {"a/x": 12, "b/y": 12})
    runs = {"ours": shifted(b, 0.03), "box": b, "other": shifted(b, 0.002, 0.02, seed=1)}
    got = compare_many(runs, "box", resamples=500)
    assert list(got) == ["ours", "other"]
    ps = [part.p for result in got.values() for part in result.tasks.values()]
    assert got["ours"].tasks["a/x"].p_holm >= compare(runs["ours"], b).tasks["a/x"].p_holm
    assert min(p.p_holm for r in got.values() for p in r.tasks.values()) == pytest.approx(min(1, 4 * min(ps)))
    assert got["ours"].macro_p == pytest.approx(min(1, 2 * compare(runs["ours"], b, resamples=500).macro_p))
    with pytest.raises(InputError, match="wanted one of ours"):
        compare_many(runs, "nobody")


def test_table_has_a_row_per_task() -> None:
    b = random_rows(8, {"a/x": 12, "b/y": 2})
    frame = compare(shifted(b, 0.1), b).table()
    assert frame["task"].tolist() == ["a/x", "b/y"] and frame["verdict"].tolist() == ["a", "untested"]
    assert frame.loc[0, "low"] < frame.loc[0, "difference"] < frame.loc[0, "high"] and math.isnan(frame.loc[1, "low"])


def test_bootstrap_p() -> None:
    assert bootstrap_p(np.ones(1999)) == pytest.approx(2 / 2000)
    assert bootstrap_p(np.zeros(1999)) == 1 and bootstrap_p(np.linspace(-1, 1, 1999)) == 1


def test_config_differences() -> None:
    a = {"protocol": "box", "seed": 0, "model": {"name": "nano", "size": 256}, "versions": {"torch": "1"}}
    b = {"protocol": "point", "seed": 0, "model": {"name": "nano", "zoom": True}, "versions": {"torch": "2"}}
    assert config_differences(a, b, ignore=["versions"]) == {
        "protocol": ("box", "point"),
        "model.size": (256, None),
        "model.zoom": (None, True),
    }
    assert config_differences(a, a) == {} and config_differences(a, b, ignore=["model", "versions", "protocol"]) == {}


def test_bad_input_is_named() -> None:
    rows = random_rows(9, {"a/x": 3})
    with pytest.raises(InputError, match="no \\(task, case\\) in common"):
        compare(rows, table({"b/x": people([0.5])}))
    with pytest.raises(InputError, match="higher_is_better"):
        compare(rows.assign(seconds=1.0), rows.assign(seconds=1.0), "seconds")
    with pytest.raises(InputError, match="twice"):
        compare(pd.concat([rows, rows]), rows)
