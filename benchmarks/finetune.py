"""What a user gains by fine-tuning on a few images of a task that the model never saw.

    python benchmarks/finetune.py --data DIR [--split external] [--cases 10] [--only DATASET ...] [--limit 40] \
      [--seed 0] [--init nano] --out RUNS [FIELD=VALUE ...]

Of every data set of the split, in a folder with `items.csv`, that many cases are drawn: four of five train, the rest is
val. Everything else is chosen as by `samed2 train --data`; `FIELD=VALUE` changes its recipe. Up to `--limit` of the
other cases are asked with a box and with one point per component, before and after. Runs that are finished are not
repeated. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import zlib
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from samed2.cli.evaluate_run import limited, result_folders
from samed2.data import open_cases
from samed2.data.convert.folder import read_items
from samed2.errors import InputError
from samed2.evaluate.models import load_model
from samed2.evaluate.runner import evaluate
from samed2.evaluate.settings import EvalSettings
from samed2.train import finetune
from samed2.train.recipe import load_recipe

PROTOCOLS = ("box-jitter:0.05", "point")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with items.csv")
    parser.add_argument("--split", default="external")
    parser.add_argument("--cases", type=int, default=10, help="to fine-tune on")
    parser.add_argument("--only", nargs="+", default=None, metavar="DATASET")
    parser.add_argument("--limit", type=int, default=40, help="cases asked of each data set")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of cases")
    parser.add_argument("--init", default="nano")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="fields of the recipe")
    options = parser.parse_args()
    grouped: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in read_items(options.data):
        if row["split"] == options.split and (options.only is None or row["dataset"] in options.only):
            grouped[row["dataset"]].append(row)
    found = {}
    for dataset, rows in sorted(grouped.items()):
        if len({row["case"] for row in rows}) >= 2 * options.cases:
            folder = options.out / dataset
            few(options.data.resolve(), rows, options.cases, options.seed, folder / "data")
            models = {"before": options.init, "after": str(tuned(folder, options.init, options.overrides))}
            found[dataset] = {name: scores(folder, name, model, options.limit) for name, model in models.items()}
    if not found:
        parser.error(f"{options.data}: no such data set of {options.split} has {2 * options.cases} cases")
    show(found)


def few(root: Path, rows: list[dict[str, str]], count: int, seed: int, folder: Path) -> None:
    """A folder with `items.csv` in which `count` of a data set's cases are train and val, and the others test."""
    dataset, names = rows[0]["dataset"], sorted({row["case"] for row in rows})
    order = np.random.default_rng([seed, zlib.crc32(dataset.encode())]).permutation(len(names))
    place = {names[n]: "val" if i < count // 5 else "train" if i < count else "test" for i, n in enumerate(order)}
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / dataset).exists():
        (folder / dataset).symlink_to(root / dataset)
    with open(folder / "items.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "split": place[row["case"]]} for row in rows)


def tuned(folder: Path, init: str, changes: list[str]) -> Path:
    """The folder of the fine-tuned model; a run that was stopped goes on, one that is finished is taken as it is.

    Raises:
        InputError: the run is of another recipe.
    """
    out = folder / "run"
    survey = finetune.survey(folder / "data")
    path = finetune.write_run(survey, finetune.choose_recipe(survey, finetune.Start.of(init), out), out)
    recipe, kept = load_recipe(path, changes), out / "recipe.json"
    if kept.is_file() and kept.read_text() != recipe.model_dump_json(indent=1):
        raise InputError(f"{kept}: is another recipe than this; use another --out")
    return finetune.train(recipe, resume=True)


def scores(folder: Path, name: str, model: str, limit: int) -> dict[str, float]:
    """Macro Dice of each protocol on the cases that were not drawn."""
    data = folder / "data"
    cases, answers = limited(open_cases(data, ["test"]), limit, 0), {}
    settings = EvalSettings(baselines=())
    for protocol, out in result_folders(folder / name, PROTOCOLS).items():
        results = evaluate(partial(load_model, model), cases, protocol, out=out, settings=settings, data=data)
        answers[protocol] = float(results.summary["macro_dice"])
    return answers


def show(found: dict[str, dict[str, dict[str, float]]]) -> None:
    columns = [(protocol, when) for protocol in PROTOCOLS for when in ("before", "after")]
    table = Table("data set", *(f"{protocol}, {when}" for protocol, when in columns))
    for dataset, score in found.items():
        table.add_row(dataset, *(f"{score[when][protocol]:.3f}" for protocol, when in columns))
    means = {f"{p}, {w}": round(float(np.mean([s[w][p] for s in found.values()])), 4) for p, w in columns}
    Console(file=sys.stdout, width=100).print(table)
    print(json.dumps(means))


if __name__ == "__main__":
    main()
