"""`samed2 train-unet`: one network, or one for each task, for `samed2 evaluate --model unet:FOLDER`."""

from __future__ import annotations

import json

import pytest
from tests.generated import make_folder

from samed2.cli.main import main

ALL = ["film/ball", "spots/disc", "spots/dot", "stack/ball"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), items=4)


def train(data, out, *more):
    return main(
        ["train-unet", "--data", str(data), "--out", str(out), "--steps=2", "--size=32", "--width=4", "-q", *more]
    )


def tasks(folder):
    return json.loads((folder / "config.json").read_text())["tasks"]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ([], {".": ALL}),
        (["--task", "spots/di*"], {".": ["spots/disc"]}),
        (["--task", "spots/*"], {"spots-disc": ["spots/disc"], "spots-dot": ["spots/dot"]}),
        (
            ["--task", "stack/ball", "--task", "spots/d?sc"],
            {"spots-disc": ["spots/disc"], "stack-ball": ["stack/ball"]},
        ),
    ],
)
def test_a_network_for_all_or_for_each(data, tmp_path, capsys, asked, wanted):
    out = tmp_path / "net"
    assert train(data, out, *asked) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert {str(path.parent.relative_to(out)): tasks(path.parent) for path in out.rglob("config.json")} == wanted


def test_specialists_are_evaluated_together(data, tmp_path):
    assert train(data, tmp_path / "nets", "--task", "*") == 0
    asked = ["--model", f"unet:{tmp_path / 'nets'}", "--data", str(data), "--split", "val", "--protocol", "box"]
    assert main(["evaluate", *asked, "--out", str(tmp_path / "found"), "-q"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "found" / "rows.jsonl").read_text().splitlines()]
    assert {row["task"] for row in rows} == set(ALL)


def test_resume_leaves_what_is_finished(data, tmp_path, capsys):
    out = tmp_path / "nets"
    assert train(data, out, "--task", "spots/disc") == 0
    (out / "spots-disc").mkdir()
    for path in list(out.glob("*.*")):
        path.rename(out / "spots-disc" / path.name)
    before = {path: path.stat().st_mtime_ns for path in (out / "spots-disc").iterdir()}
    assert train(data, out, "--task", "s*/*", "--resume") == 0
    assert "spots-disc: was finished before" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (out / "spots-disc").iterdir()} == before
    assert tasks(out / "stack-ball") == ["stack/ball"]
    assert train(data, out, "--task", "s*/*", "--resume", "--seed", "1") == 2
    assert "spots-disc: holds a network of other data or settings" in capsys.readouterr().err


def test_a_task_that_nothing_fits(data, tmp_path, capsys):
    assert train(data, tmp_path / "net", "--task", "brain/*") == 2
    assert f"--task brain/*: fits none of {', '.join(ALL)}" in capsys.readouterr().err
