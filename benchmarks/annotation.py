"""How many prompts a case needs as confirmed cases pile up, with and without the memory: a simulated annotator.

    python benchmarks/annotation.py --data STORE_OR_FOLDER [--split test] [--task GLOB] [--limit N] [--out curve.png]

For each task the cases that hold its object come in a seeded order. A case gets a proposal from the memory of those
confirmed before it, where there are any. If its Dice is below the goal (0.85), the annotator starts with the tight box
of the object, then clicks the deepest pixel of the largest error, up to 10 times, until the goal is reached. The mask
that reached it is confirmed; where none did, the truth is (drawn by hand: the case counts 11 prompts and as "by
hand"). Looking at a proposal costs nothing here. Three annotators see the same cases in the same order:

    without       no memory
    proposals     the memory proposes; where that fails, prompts are answered without it
    conditioned   the memory proposes, and also speaks when there are prompts

Of volumes and videos the frame with the largest area is annotated, or with `--volumes whole` the whole scan: the box
lies on that frame, clicks on the frame with the most wrong pixels, and every answer is propagated. Means are macro
means over tasks; fewer tasks have many cases, so compare the annotators within a row, not the rows. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from samed2.data import open_cases
from samed2.data.cases import Case, LoadedCase
from samed2.errors import InputError
from samed2.evaluate.metrics import dice
from samed2.predict import Predictor
from samed2.predict.annotate import How, correct, propose, remember, uncertainty
from samed2.prompts import Prompts, error_click, tight_box

ARMS = ("without", "proposals", "conditioned")
BUCKETS = {"0": (0, 0), "1-4": (1, 4), "5-16": (5, 16), "17-": (17, 10**9)}
FIGURES = ("prompts", "by_hand", "accepted", "proposal_dice")
SMALLEST = 16  # pixels; below that a frame is not worth a prompt


@dataclass
class Row:
    """One case under one annotator."""

    task: str
    case: str
    arm: str
    confirmed: int
    prompts: int
    by_hand: bool
    proposal: float | None = None
    unsure: float | None = None


@dataclass
class Work:
    """One case for the annotator: a frame of it, or all of it (`frame` None)."""

    loaded: LoadedCase
    truth: np.ndarray  # (T, H, W)
    start: int
    frame: int | None
    how: How
    task: str
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def propose(self, predictor: Predictor) -> tuple[np.ndarray, float]:
        """The memory's mask and its uncertainty."""
        scan = self.loaded.scan
        if self.frame is None:
            result = propose(predictor, scan, self.task, self.how)
            return result.labels == 1, uncertainty(result)
        found = predictor.recall(scan, self.frame, task=self.task)
        return self.placed(found.mask), 1 - found.confidence if found.mask.any() else 1.0

    def answer(self, predictor: Predictor, prompts: Prompts) -> np.ndarray:
        """The mask that prompts give."""
        if self.frame is None:
            return correct(predictor, self.loaded.scan, prompts, self.task, self.how).labels == 1
        asked: dict[str, Any] = {"memory": self.how.condition, "task": self.task if self.how.condition else None}
        found = predictor.predict(self.loaded.scan, prompts, self.frame, **asked)[0]
        return self.placed(found.mask)

    def score(self, mask: np.ndarray) -> float:
        return float(dice(mask, self.truth))

    def click(self, mask: np.ndarray) -> tuple[int, int, int, bool] | None:
        """(frame, y, x, positive) on the worst frame."""
        wrong = (mask != self.truth).sum(axis=(1, 2))
        frame = int(wrong.argmax())
        found = error_click(mask[frame], self.truth[frame], self.rng)
        return None if found is None else (frame, *found)

    def placed(self, mask: np.ndarray) -> np.ndarray:
        whole = np.zeros_like(self.truth)
        whole[self.frame] = mask
        return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", nargs="+", default=["test"])
    parser.add_argument("--task", default="*", help="only tasks like this, such as 'us_*/*'")
    parser.add_argument("--limit", type=int, default=None, help="most cases of each task")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default=None)
    parser.add_argument("--volumes", choices=("frame", "whole"), default="frame")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--goal", type=float, default=0.85)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="PNG of the curve")
    parser.add_argument("--rows", type=Path, default=None, help="JSON of every case")
    options = parser.parse_args()
    started = time.perf_counter()
    try:
        predictor = Predictor.from_pretrained(options.model, device=options.device)
        rows = run(predictor, options)
    except InputError as error:
        sys.exit(f"annotation: {error}")
    if not rows:
        sys.exit(f"annotation: no case of a task like {options.task!r} in split {' '.join(options.split)}")
    summary = summarise(rows, options.arms)
    show(summary, options)
    if options.out is not None:
        draw(summary, options)
        print(f"wrote {options.out}")
    if options.rows is not None:
        options.rows.write_text(json.dumps([vars(row) for row in rows]))
    summary["seconds"] = round(time.perf_counter() - started)
    print(json.dumps(summary))


def run(predictor: Predictor, options: argparse.Namespace) -> list[Row]:
    """Every task under every annotator."""
    tasks: dict[str, list[Case]] = {}
    for case in open_cases(options.data, options.split):
        for name in case.objects:
            if fnmatch.fnmatchcase(case.task(name), options.task):
                tasks.setdefault(case.task(name), []).append(case)
    rows: list[Row] = []
    for number, (task, cases) in enumerate(sorted(tasks.items()), start=1):
        rng = np.random.default_rng([options.seed, zlib.crc32(task.encode())])
        order = [cases[int(i)] for i in rng.permutation(len(cases))]
        for arm in options.arms:
            began, own = time.perf_counter(), one_task(predictor, task, order, arm, options)
            rows += own
            mean = np.mean([row.prompts for row in own]) if own else float("nan")
            print(
                f"{number}/{len(tasks)} {task}, {arm}: {len(own)} cases, {mean:.2f} prompts "
                f"({time.perf_counter() - began:.0f} s)",
                file=sys.stderr,
            )
    return rows


def one_task(predictor: Predictor, task: str, cases: list[Case], arm: str, options: argparse.Namespace) -> list[Row]:
    """One annotator through the cases of one task, with a memory of its own."""
    how = How(condition=arm == "conditioned")
    predictor.memory = predictor.new_memory(20_000) if arm != "without" else None
    rows: list[Row] = []
    for case in cases:
        if options.limit is not None and len(rows) >= options.limit:
            break
        work = prepared(case, task, how, options)
        if work is None:
            continue
        row, mask = annotate(predictor, work, Row(task, case.name, arm, len(rows), 0, False), options)
        rows.append(row)
        if predictor.memory is not None:
            remember(predictor, work.loaded.scan, mask, task, case.label, how)
    return rows


def prepared(case: Case, task: str, how: How, options: argparse.Namespace) -> Work | None:
    """The case with its truth, None where the object is absent or too small to point at."""
    loaded = case.load()
    truth = loaded.masks[task.split("/", 1)[1]]
    areas = truth.sum(axis=(1, 2))
    start = int(areas.argmax())
    if areas[start] < SMALLEST:
        return None
    frame = start if options.volumes == "frame" or len(truth) == 1 else None
    if frame is not None:
        truth = np.where(np.arange(len(truth))[:, None, None] == frame, truth, False)
    rng = np.random.default_rng([options.seed, zlib.crc32(f"{task}/{case.name}".encode())])
    return Work(loaded, truth, start, frame, how, task, rng)


def annotate(predictor: Predictor, work: Work, row: Row, options: argparse.Namespace) -> tuple[Row, np.ndarray]:
    """Prompt a case until the goal is reached; gives the row and the mask that is confirmed."""
    if predictor.memory is not None and len(predictor.memory):
        mask, row.unsure = work.propose(predictor)
        row.proposal = work.score(mask)
        if row.proposal >= options.goal:
            return row, mask
    prompts = Prompts().add_box(1, work.start, *tight_box(work.truth[work.start]))
    while True:
        row.prompts += 1
        mask = work.answer(predictor, prompts)
        if work.score(mask) >= options.goal:
            return row, mask
        click = work.click(mask) if row.prompts <= options.clicks else None
        if click is None:
            row.by_hand = True
            return row, work.truth
        prompts.add_point(1, *click)


def summarise(rows: list[Row], arms: list[str]) -> dict[str, Any]:
    """Macro means over tasks, by the number of confirmed cases and by annotator."""
    found: dict[str, Any] = {key: {} for key in (*FIGURES, "tasks", "cases")}
    for name, (low, high) in {**BUCKETS, "all": (0, 10**9)}.items():
        inside = [row for row in rows if low <= row.confirmed <= high]
        if not inside:
            continue
        found["tasks"][name] = len({row.task for row in inside})
        found["cases"][name] = len({(row.task, row.case) for row in inside})
        for key in FIGURES:
            found[key][name] = {}
        for arm in arms:
            own = [row for row in inside if row.arm == arm]
            found["prompts"][name][arm] = macro(own, lambda row: row.prompts)
            found["by_hand"][name][arm] = macro(own, lambda row: row.by_hand)
            proposed = [row for row in own if row.proposal is not None]
            if proposed:
                found["accepted"][name][arm] = macro(proposed, lambda row: row.prompts == 0)
                found["proposal_dice"][name][arm] = macro(proposed, lambda row: row.proposal)
    found["uncertainty_spearman"] = ranked([row for row in rows if row.arm == "proposals" and row.proposal is not None])
    return found


def macro(rows: list[Row], value: Any) -> float | None:
    """Mean over tasks of the mean over their cases."""
    tasks: dict[str, list[float]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(float(value(row)))
    return round(float(np.mean([np.mean(values) for values in tasks.values()])), 3) if tasks else None


def ranked(rows: list[Row]) -> float | None:
    """Spearman's rank correlation of uncertainty with one minus Dice inside each task, mean over tasks."""
    from scipy.stats import spearmanr

    tasks: dict[str, list[Row]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(row)
    values = []
    for own in tasks.values():
        unsure, wrong = [row.unsure for row in own], [1 - (row.proposal or 0) for row in own]
        if len(own) >= 5 and len(set(unsure)) > 1 and len(set(wrong)) > 1:
            values.append(float(spearmanr(unsure, wrong).statistic))
    return round(float(np.mean(values)), 3) if values else None


def show(summary: dict[str, Any], options: argparse.Namespace) -> None:
    table = Table(title=f"prompts per case to Dice {options.goal:g}, {options.model}, {' '.join(options.split)}")
    heads = ["confirmed", "tasks", "cases", *options.arms, "by hand", "accepted", "Dice of proposals"]
    for head in heads:
        table.add_column(head)
    for name in summary["prompts"]:
        cells = [name, str(summary["tasks"][name]), str(summary["cases"][name])]
        cells += [number(summary["prompts"][name][arm]) for arm in options.arms]
        for key in ("by_hand", "accepted", "proposal_dice"):
            cells.append(" / ".join(number(summary[key][name].get(arm)) for arm in options.arms))
        table.add_row(*cells)
    Console(file=sys.stdout, width=150).print(table)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def draw(summary: dict[str, Any], options: argparse.Namespace) -> None:
    """Prompts per case against confirmed cases, one line per annotator."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in summary["prompts"] if name != "all"]
    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    for arm, style in zip(ARMS, (("#666666", "--", "s"), ("#0072b2", "-", "o"), ("#d55e00", "-", "^")), strict=True):
        if arm in options.arms:
            values = [summary["prompts"][name][arm] for name in names]
            axes.plot(names, values, color=style[0], linestyle=style[1], marker=style[2], label=arm)
    axes.set_xticks(
        range(len(names)), [f"{n}\n{summary['tasks'][n]} tasks, {summary['cases'][n]} cases" for n in names]
    )
    axes.set_xlabel("confirmed cases of the task")
    axes.set_ylabel(f"prompts per case to Dice {options.goal:g}")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
