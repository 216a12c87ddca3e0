"""The tables of docs/results.md and of a model card, out of finished evaluations of one model.

    python benchmarks/tables.py R

R/test and R/external hold the folders that `samed2 evaluate --out R/test` and `--out R/external` write for the eight
protocols of docs/results.md; what is missing is left out. Printed as Markdown: a row per protocol (for results.md and
for the card), a row per task, the predicted IoU over all answers together, and memory only against the box on the data
sets with one kind of object.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from samed2.evaluate.metrics import confidence_calibration
from samed2.evaluate.report.words import number
from samed2.evaluate.results import Results

WORDS = {
    "box-jitter-0.05": "box, 5 % jitter",
    "point": "one point per component",
    "point-memory-16": "one point per component, 16 confirmed cases",
    "clicks-5": "five clicks per object",
    "propagate": "one box on the middle frame, propagated",
    "memory-only-1": "memory only, K = 1",
    "memory-only-4": "memory only, K = 4",
    "memory-only-16": "memory only, K = 16",
}
BASELINES = ("ellipse", "box", "disc", "classical")
SPOKEN = {"box-jitter-0.05", "propagate"}  # where the card names the ellipse
TASKS = ("box-jitter-0.05", "point", "clicks-5", "propagate", "memory-only-16")
Runs = dict[str, Results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder with test/PROTOCOL and external/PROTOCOL")
    options = parser.parse_args()
    splits = {name: read(options.runs / name) for name in ("test", "external")}
    facts: dict[str, float] = {}
    for split, runs in splits.items():
        if runs:
            print(f"\n{split}, {max(len(run.tasks) for run in runs.values())} tasks\n")
            print(*(protocol_row(name, run) for name, run in runs.items()), sep="\n")
            facts |= {f"{split}_{name}": value for name, value in confidence(runs).items()}
    print("\nmodel card\n")
    print(*(card_row(split, name, run) for split, runs in splits.items() for name, run in runs.items()), sep="\n")
    print("\nby task\n")
    for split, runs in splits.items():
        print(*task_rows(split, runs), sep="\n")
    if (share := recalled_share(splits["test"])) is not None:
        facts["memory_share_of_box"] = share
    print(f"\n{json.dumps(facts)}")


def read(folder: Path) -> Runs:
    """The finished runs of a split, in the order of `WORDS`."""
    return {name: Results.load(folder / name) for name in WORDS if (folder / name / "results.json").is_file()}


def scored(run: Results) -> str:
    """Macro Dice with its interval, and the mean of the support masks where there is one."""
    found = run.summary
    prior = run.baselines.get("prior")
    beside = f" (prior {number(prior['macro_dice'], 4)})" if prior else ""
    low, high = found["macro_dice_ci"]
    return f"**{number(found['macro_dice'], 4)}** [{number(low)}, {number(high)}]{beside}"


def sure(run: Results) -> str:
    """ECE of the predicted IoU, and its rank correlation."""
    found = run.document["calibration"]
    return f"{number(found['ece'])}, {number(found['spearman'], 2)}"


def protocol_row(name: str, run: Results) -> str:
    """A row of docs/results.md."""
    others = [number(run.baselines[b]["macro_dice"], 4) for b in BASELINES]
    means = [number(run.summary["case_dice"], 4), number(run.summary["macro_nsd"])]
    return f"| {' | '.join([WORDS[name], scored(run), *means, *others, sure(run)])} |"


def card_row(split: str, name: str, run: Results) -> str:
    """A row of the model card."""
    ellipse = number(run.baselines["ellipse"]["macro_dice"], 4) if name in SPOKEN else "-"
    return f"| {' | '.join([split, WORDS[name], scored(run), ellipse, sure(run)])} |"


def task_rows(split: str, runs: Runs) -> list[str]:
    """A row per task: cases, then Dice under each of `TASKS`, the ellipse behind the box."""
    if TASKS[0] not in runs:
        return []
    rows = []
    for task, found in runs[TASKS[0]].tasks.items():
        dice = [number(runs[name].tasks.get(task, {}).get("dice")) if name in runs else "-" for name in TASKS]
        dice.insert(1, number(runs[TASKS[0]].baselines["ellipse"]["tasks"][task]["dice"]))
        rows.append(f"| {' | '.join([task, split, str(found['cases']), *dice])} |")
    return rows


def confidence(runs: Runs) -> dict[str, float]:
    """Predicted against true IoU over the answers of all protocols."""
    frames = [run.frame() for run in runs.values()]
    predicted, true = (np.concatenate([f[c].to_numpy(float) for f in frames]) for c in ("predicted_iou", "true_iou"))
    found = confidence_calibration(predicted, true)
    return {"answers": found.count, "ece": round(found.ece, 4), "spearman": round(found.spearman, 3)}


def recalled_share(runs: Runs) -> float | None:
    """Memory only, K = 16, over the box, means over the data sets with one kind of object; None where not asked."""
    if not {"box-jitter-0.05", "memory-only-16"} <= set(runs):
        return None
    box, recalled = (runs[name].tasks for name in ("box-jitter-0.05", "memory-only-16"))
    kinds = Counter(task.split("/")[0] for task in box)
    alone = [task for task in recalled if kinds[task.split("/")[0]] == 1]
    dice = [float(np.mean([tasks[task]["dice"] for task in alone])) for tasks in (recalled, box)]
    return round(dice[0] / dice[1], 3)


if __name__ == "__main__":
    main()
