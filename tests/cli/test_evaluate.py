"""`samed2 evaluate` and `samed2 evaluate compare` on generated data and a tiny random model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.made_results import make_rows, save_results
from tests.generated import make_folder

from samed2.cli.evaluate import parse_settings
from samed2.cli.evaluate_run import Choice, limited, model_folders, open_chosen, print_results, result_folders
from samed2.cli.main import main
from samed2.errors import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data"), 2)


@pytest.fixture(scope="module")
def done(data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results folder of two protocols."""
    out = tmp_path_factory.mktemp("out") / "R"
    given = ["--model", tiny_model, "--data", data, "--split", "val", "--out", out]
    given += ["--protocol", "box", "--protocol", "clicks:2"]
    assert main(["evaluate", *map(str, given)]) == 0
    return out


@pytest.fixture
def line(data: Path, tiny_model: Path) -> Callable[..., list[object]]:
    """Return a function that makes a whole command line, with options changed or (None) left out."""

    def make(folder: Path, /, **changed: object) -> list[object]:
        options: dict[str, object] = {"model": tiny_model, "data": data, "split": "val", "protocol": "box"}
        options["out"] = folder
        options |= changed
        found: list[object] = ["evaluate"]
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                found += [] if one is None else [f"--{name.replace('_', '-')}", one]
        return found

    return make


def test_results_and_reports_of_several_protocols(done: Path) -> None:
    for name in ("box", "clicks-2"):
        files = {path.name for path in (done / name).iterdir()}
        assert {"results.json", "report.html", "cases.parquet", "cases.csv", "masks"} <= files
        results = json.loads((done / name / "results.json").read_text())
        assert results["summary"]["macro_dice"] is not None
        assert set(results["tasks"]) == {"spots/disc", "spots/dot", "stack/ball", "film/ball"}
        assert set(results["baselines"]) == {"ellipse", "box", "disc", "classical"}


def test_table_on_stdout_and_the_same_numbers_again(run: Any, line: Any, done: Path, tmp_path: Path) -> None:
    code, out, err = run(*line(tmp_path / "again"))
    assert (code, err) == (0, "")
    before = json.loads((done / "box" / "results.json").read_text())
    after = json.loads((tmp_path / "again" / "results.json").read_text())
    assert after["rows_hash"] == before["rows_hash"]
    assert after["summary"] == before["summary"]
    for value in (after["summary"]["macro_dice"], after["baselines"]["ellipse"]["macro_dice"]):
        assert f"{value:.3f}" in out
    assert f"report: {tmp_path / 'again' / 'report.html'}" in out
    assert "seed 0" in out and "box" in out


def test_printed_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from samed2.evaluate.results import Results

    folder = save_results(tmp_path, make_rows(8))
    results = Results.load(folder)
    print_results(results, folder, folder / "report.html")
    out = capsys.readouterr().out
    for found in (results.summary, *results.baselines.values()):
        for name in ("macro_dice", "case_dice", "macro_nsd", "case_nsd"):
            low, high = found[f"{name}_ci"]
            assert f"{found[name]:.3f} [{low:.3f} to {high:.3f}]" in out
    assert "24 objects in 3 tasks, 0 skipped, 0 failed" in out


def test_json_of_a_finished_run_is_one_line(run: Any, line: Any, done: Path) -> None:
    """The same line again finds everything done, and prints it."""
    rows = (done / "box" / "rows.jsonl").read_bytes()
    code, out, err = run(*line(done / "box"), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert len(out.splitlines()) == 1
    assert (done / "box" / "rows.jsonl").read_bytes() == rows
    saved = json.loads((done / "box" / "results.json").read_text())
    assert found["summary"] == saved["summary"]
    assert found["report"] == str(done / "box" / "report.html")


def test_tasks_limit_and_settings(run: Any, line: Any, tmp_path: Path) -> None:
    given = line(tmp_path / "R", task="spots/*", limit=1, set="mirror=true", select="first", seed=3)
    code, out, err = run(*given, "--json")
    assert (code, err) == (0, "")
    assert set(json.loads(out)["tasks"]) == {"spots/disc", "spots/dot"}
    config = json.loads((tmp_path / "R" / "results.json").read_text())["config"]
    assert (config["cases"], config["select"], config["seed"]) == (1, "first", 3)
    assert "mirror=True" in config["model_settings"].replace(": ", "=").replace("'", "").replace('"', "")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"protocol": "boxes"}, "protocol: got 'boxes'"),
        ({"protocol": "clicks:none"}, "clicks"),
        ({"protocol": ["box", "clicks:0"]}, "clicks"),
        ({"split": "tests"}, "tests"),
        ({"model": "nothing-here"}, "nothing-here"),
        ({"model": "sam9:x"}, "sam9"),
        ({"data": "/nowhere"}, "/nowhere"),
        ({"select": "best"}, "select: got 'best'"),
        ({"slices": "some"}, "slices: got 'some'"),
        ({"tolerance": "-1"}, "tolerance_mm: got -1"),
        ({"task": "spots/none"}, "fits none of"),
        ({"kind": "mesh"}, "--kind mesh: there is none, only image, video, volume"),
        ({"set": "zoom"}, "wanted NAME=VALUE"),
        ({"set": "beauty=1"}, "beauty"),
        ({"limit": "0"}, "limit"),
        ({"model": None}, "--model is missing"),
        ({"split": None}, "--split is missing"),
        ({"out": None}, "--out is missing"),
    ],
)
def test_bad_options_are_one_line(fails: Any, line: Any, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    assert said in fails(*line(tmp_path / "R", **changed))
    assert not (tmp_path / "R" / "rows.jsonl").exists()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"protocol": "point"}, {"limit": 1}])
def test_folder_of_another_run(fails: Any, line: Any, done: Path, changed: dict[str, Any]) -> None:
    said = fails(*line(done / "box", **changed))
    assert "holds a run with" in said and "choose another folder" in said


def test_out_that_is_a_file(fails: Any, line: Any, tmp_path: Path) -> None:
    (tmp_path / "R").write_text("")
    assert str(tmp_path / "R") in fails(*line(tmp_path / "R"))


@pytest.mark.parametrize(
    "arguments", [["evaluate", "--help"], ["evaluate", "compare", "--help"], ["evaluate", "table", "--help"]]
)
def test_help(run: Any, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert "--json" in out and arguments[-2] in out
    assert ("--protocol" in out) == (len(arguments) == 2)


def test_compare(run: Any, tmp_path: Path) -> None:
    a = save_results(tmp_path / "a", make_rows(8, seed=1, shift=0.1))
    b = save_results(tmp_path / "b", make_rows(8, seed=2), model="other")
    code, out, err = run("evaluate", "compare", a, b)
    assert (code, err) == (0, "")
    assert "spots/disc" in out and "macro mean" in out and "A: nano" in out and "B: other" in out
    page = tmp_path / "c.html"
    found = json.loads(run("evaluate", "compare", a, b, "--json", "--out", page).out)
    assert found["macro"] > 0 and found["verdict"] == "a" and found["page"] == str(page)
    assert set(found["tasks"]["spots/disc"]) >= {"difference", "ci", "p", "p_holm"}
    assert page.is_file()
    turned = json.loads(run("evaluate", "compare", b, a, "--json").out)
    assert turned["macro"] == pytest.approx(-found["macro"]) and turned["verdict"] == "b"


def test_compare_warns_of_other_settings(run: Any, tmp_path: Path) -> None:
    a = save_results(tmp_path / "a", make_rows(3))
    b = save_results(tmp_path / "b", make_rows(3), seed=8)
    code, _, err = run("evaluate", "compare", a, b)
    assert code == 0
    assert err.splitlines() == ["samed2: warning: seed differs: A has 7, B has 8."]


def test_compare_bad_input(fails: Any, tmp_path: Path) -> None:
    a = save_results(tmp_path / "a", make_rows(3))
    assert "not found" in fails("evaluate", "compare", a, tmp_path / "none")
    assert "beauty" in fails("evaluate", "compare", a, a, "--metric", "beauty")
    assert "is a folder" in fails("evaluate", "compare", a, a, "--out", tmp_path)
    assert "does not exist" in fails("evaluate", "compare", a, a, "--out", tmp_path / "no" / "c.html")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "rows.jsonl").write_text("")
    assert "not finished" in fails("evaluate", "compare", a, tmp_path / "b")


def test_limited_draws_the_same_cases_whatever_the_order(data: Path) -> None:
    from samed2.data import open_cases

    cases = open_cases(data)
    chosen = limited(cases, 2, seed=5)
    assert {c.dataset for c in chosen} == {"spots", "stack", "film"}
    assert all(sum(c.dataset == name for c in chosen) <= 2 for name in ("spots", "stack", "film"))
    assert {c.label for c in limited(cases[::-1], 2, seed=5)} == {c.label for c in chosen}
    assert [c for c in cases if c in chosen] == chosen
    draws = {frozenset(c.label for c in limited(cases, 2, seed=s)) for s in range(8)}
    assert len(draws) > 1


def test_result_folders() -> None:
    assert result_folders(Path("R"), ["box-jitter:0.05"]) == {"box-jitter:0.05": Path("R")}
    assert result_folders(Path("R"), ["box", "memory-noisy:4:0.5"]) == {
        "box": Path("R/box"),
        "memory-noisy:4:0.5": Path("R/memory-noisy-4-0.5"),
    }


def test_model_folders() -> None:
    assert model_folders(Path("R"), ["nano?neighbours=1"]) == {"nano?neighbours=1": Path("R")}
    names = [
        "nano",
        "nano?neighbours=1",
        "sam2:some/where",
        "other/where/",
        "unet:a/x?window=1,2/3",
        "unet:b/x?window=1,2/3",
    ]
    assert [path.relative_to("R").as_posix() for path in model_folders(Path("R"), names).values()] == [
        "nano", "nano-neighbours=1", "2-where", "3-where", "4-x-window=1-2-3", "5-x-window=1-2-3"
    ]  # fmt: skip


def test_several_models_end_in_one_table(run: Any, line: Any, tiny_model: Path, tmp_path: Path) -> None:
    """The ablation of docs/results.md: adapters on and off, with and without a memory of the same task."""
    models = [f"samed2:{tiny_model}", f"samed2:{tiny_model}?neighbours=1"]
    protocols = ["propagate", "propagate:memory-1"]
    given = line(tmp_path / "R", model=models, protocol=protocols, kind=["volume", "video"], limit=1)
    code, out, err = run(*given)
    assert (code, err) == (0, "")
    folders = sorted(path.parent.relative_to(tmp_path / "R").as_posix() for path in tmp_path.rglob("results.json"))
    places = [path.name for path in model_folders(tmp_path / "R", models).values()]
    assert folders == sorted(f"{place}/{name}" for place in places for name in ("propagate", "propagate-memory-1"))
    table = out[out.index("| data set") :].splitlines()
    assert [row.split("|")[1].strip() for row in table[2:]] == ["film", "stack", "macro mean", "mean over cases"]
    assert all(f"{model}, {protocol} |" in table[0] for model in models for protocol in protocols)
    for folder, column in zip(
        [f"{p}/{name}" for p in places for name in ("propagate", "propagate-memory-1")], range(3, 7), strict=True
    ):
        summary = json.loads((tmp_path / "R" / folder / "results.json").read_text())["summary"]
        assert table[-2].split("|")[column].strip() == f"{summary['macro_dice']:.3f} / {summary['macro_nsd']:.3f}"
        assert table[-1].split("|")[column].strip() == f"{summary['case_dice']:.3f} / {summary['case_nsd']:.3f}"
    again = run("evaluate", "table", *(tmp_path / "R" / folder for folder in folders))
    assert again.code == 0 and "propagate:memory-1" in again.out
    found = json.loads(run("evaluate", "table", tmp_path / "R" / folders[0], "--json").out)
    assert len(found["columns"]) == 5 and found["left_out"] == 0


def test_parse_settings() -> None:
    assert parse_settings(["fill-holes=5", "window=50,400", "a=b=c"]) == {
        "fill_holes": "5",
        "window": "50,400",
        "a": "b=c",
    }
    for wrong in (["zoom"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(InputError, match="--set"):
            parse_settings(wrong)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from samed2.cli.main import main; main(['evaluate', '--help']);"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'jinja2', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stderr


def test_of_several_kinds_those_that_are_there_are_taken(data: Path) -> None:
    every = open_chosen(data, Choice(["val"], [], [], None))
    images = [case for case in every if case.kind == "image"]
    assert images and len(images) < len(every)
    assert len(open_chosen(data, Choice(["val"], [], ["image", "volume", "video"], None))) == len(every)
    only = make_only_images(data)
    assert len(open_chosen(only, Choice(["val"], [], ["image", "video"], None))) == len(images)
    with pytest.raises(InputError, match="--kind video: there is none, only image"):
        open_chosen(only, Choice(["val"], [], ["video"], None))


def make_only_images(data: Path) -> Path:
    """A copy of the table that lists the images alone, beside the files."""
    rows = (data / "items.csv").read_text().splitlines()
    place = rows[0].split(",").index("kind")
    folder = data.with_name("images_only")
    shutil.copytree(data, folder, dirs_exist_ok=True)
    kept = [row for row in rows[1:] if row.split(",")[place] == "image"]
    (folder / "items.csv").write_text("\n".join([rows[0], *kept]) + "\n")
    return folder
