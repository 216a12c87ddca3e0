"""Several runs in one table: the same objects for all, means as everywhere else."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluate.made_results import make_rows, save_results

from samed2.errors import InputError
from samed2.evaluate.report.side_by_side import as_markdown, by_dataset
from samed2.evaluate.results import Results


@pytest.fixture
def runs(tmp_path) -> list[Results]:
    first, second = make_rows(6, seed=1), make_rows(6, seed=2)
    first[0].update(status="failed", reason="no")
    folders = [save_results(tmp_path / "a", first), save_results(tmp_path / "b", second, model="other")]
    return [Results.load(folder) for folder in folders]


def test_means_are_over_the_objects_of_all_runs(runs):
    table = by_dataset(runs)
    assert table["columns"] == ["nano, box", "other, box", "ellipse", "box"] and table["left_out"] == 1
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["spots", "stack", "macro mean", "mean over cases"]
    assert (rows["spots"]["cases"], rows["spots"]["objects"]) == (6, 11)
    for place, run in enumerate(runs):
        frame = run.frame()
        frame = frame[~((frame["task"] == "spots/disc") & (frame["case"] == "c0"))]
        for column, metric in enumerate(("dice", "nsd")):
            means = frame.groupby("task")[metric].mean()
            assert rows["macro mean"]["values"][place][column] == pytest.approx(means.mean())
            assert rows["spots"]["values"][place][column] == pytest.approx(means[["spots/disc", "spots/dot"]].mean())
            assert rows["mean over cases"]["values"][place][column] == pytest.approx(frame[metric].mean())
    ellipse = runs[0].frame()["baseline_ellipse_dice"]
    assert rows["mean over cases"]["values"][2][0] == pytest.approx(ellipse.mean())


def test_the_order_of_rows_does_not_matter(runs):
    turned = Results(runs[1].document, runs[1].rows[::-1])
    np.testing.assert_allclose(
        [row["values"] for row in by_dataset([runs[0], turned])["rows"]],
        [row["values"] for row in by_dataset(runs)["rows"]],
    )


def test_as_markdown(runs):
    lines = as_markdown(by_dataset(runs)).splitlines()
    assert lines[0] == "| data set | cases | nano, box | other, box | ellipse | box |"
    assert len(lines) == 6 and all(line.count("|") == 7 for line in lines)


def test_runs_without_common_objects_are_refused(runs):
    none = Results(runs[0].document, [{**row, "case": f"x{row['case']}"} for row in runs[0].rows])
    with pytest.raises(InputError, match="same cases"):
        by_dataset([runs[1], none])
    with pytest.raises(InputError, match="no runs"):
        by_dataset([])
