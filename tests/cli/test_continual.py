"""`samed2 continual`: the table on standard output, and errors in one line."""

from __future__ import annotations

import pytest
from tests.generated import make_folder

from samed2.cli.main import main

TEXT = """
precision: fp32
data: {{root: {root}, test_split: val, cases: 2, test_cases: 2, frames: 1}}
model: {{image_size: 32}}
base: {{steps: 0}}
fit: {{steps: 1, rows: 4}}
memory: {{per_task: 2, retrieved: 2}}
tasks: {{one: [spots/disc], two: [stack/ball]}}
methods: [fine-tuning, memory-only]
orders: 1
"""


@pytest.fixture
def recipe(tmp_path):
    root = make_folder(tmp_path / "data", items=2)
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT.format(root=root))
    return path


def test_table_and_folder_are_printed(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["continual", str(recipe), "--out", str(out), "-q"]) == 0
    printed = capsys.readouterr().out
    assert "| fine-tuning | 1 |" in printed and "| memory-only | 1 |" in printed
    assert printed.splitlines()[-1] == str(out) and (out / "matrices.png").is_file()
    assert main(["continual", str(recipe), "--out", str(out), "-q"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["continual", str(recipe), "--out", str(out), "-q", "--resume"]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["orders=0"], "orders"), (["methods=['magic']"], "methods"), (["nothing"], "FIELD=VALUE")],
)
def test_wrong_values_are_named(recipe, capsys, arguments, words):
    assert main(["continual", str(recipe), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


def test_a_missing_recipe_is_named(capsys):
    assert main(["continual", "none.yaml"]) == 2
    assert "none.yaml" in capsys.readouterr().err
