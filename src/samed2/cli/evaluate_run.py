"""What `samed2 evaluate` does with its options: open the cases, run the protocols, print what came out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samed2.cli.console import warn
from samed2.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from samed2.data.cases import Case
    from samed2.evaluate.results import Results
    from samed2.evaluate.runner import Progress

KINDS = ("image", "volume", "video")
NEEDED = ("pandas", "pyarrow", "jinja2", "matplotlib")
_WIDTH = 132  # of tables that are not printed to a terminal


@dataclass(frozen=True)
class Choice:
    """Which cases of the data.

    Attributes:
        tasks: patterns of DATASET/OBJECT; none means all.
        kinds: "image", "volume", "video"; none means all.
        limit: cases per data set, None for all.
    """

    splits: list[str]
    tasks: list[str]
    kinds: list[str]
    limit: int | None


@dataclass(frozen=True)
class Job:
    """One call: one or several models under one or several protocols.

    Attributes:
        options: fields of `EvalSettings`.
    """

    models: list[str]
    model_settings: dict[str, str]
    device: str
    data: Path
    choice: Choice
    protocols: list[str]
    out: Path
    options: dict[str, Any]


def run(job: Job, as_json: bool, quiet: bool) -> None:
    """Evaluate, write results and reports, and print the means.

    Raises:
        InputError: an option, the data or the model cannot be used, or nothing has a score.
    """
    check_installed()
    from samed2.evaluate.models import load_model
    from samed2.evaluate.protocols import parse_protocol
    from samed2.evaluate.report import write_report
    from samed2.evaluate.runner import evaluate
    from samed2.evaluate.settings import EvalSettings

    settings = EvalSettings(**job.options)
    protocols = list(dict.fromkeys(parse_protocol(text).text for text in job.protocols))
    names = list(dict.fromkeys(job.models))
    places = model_folders(job.out, names)
    cases = open_chosen(job.data, job.choice, settings.seed)
    runs = []
    for name in names:
        loader = partial(load_model, name, job.device, **job.model_settings)
        model = loader() if settings.workers == 1 else loader
        for protocol, folder in result_folders(places[name], protocols).items():
            with progress_bar(protocol, quiet) as progress:
                results = evaluate(
                    model, cases, protocol, out=folder, settings=settings, data=job.data, progress=progress
                )
            report = write_report(folder)
            (print_line if as_json else print_results)(results, folder, report)
            runs.append(results)
    if len(names) > 1 and not as_json:
        print_side_by_side(runs)


def check_installed() -> None:
    """Say what to install where a library of the bench is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"evaluate: needs {', '.join(missing)}; install with `pip install samed2[bench]`")


def result_folders(out: Path, protocols: Sequence[str]) -> dict[str, Path]:
    """The results folder of every protocol: `out` itself for one, for several a folder in it named after each."""
    if len(protocols) == 1:
        return {protocols[0]: out}
    return {text: out / text.replace(":", "-") for text in protocols}


def model_folders(out: Path, models: Sequence[str]) -> dict[str, Path]:
    """The folder of every model: `out` itself for one, for several a folder in it named after each."""
    if len(models) == 1:
        return {models[0]: out}
    short = {name: _short(name) for name in models}
    names = list(short.values())
    return {name: out / (s if names.count(s) == 1 else f"{models.index(name)}-{s}") for name, s in short.items()}


def _short(model: str) -> str:
    """A folder's name for a model: the last part of its weights, and its settings."""
    weights, _, query = model.partition("?")
    text = weights.rstrip("/").rsplit("/", 1)[-1] + (f"-{query}" if query else "")
    return re.sub(r"[^\w.=-]+", "-", text).strip("-.")


def open_chosen(data: Path, choice: Choice, seed: int = 0) -> list[Case]:
    """The cases of the wanted splits, kinds and tasks, at most `limit` of each data set.

    Raises:
        InputError: the data cannot be opened, or nothing is left.
    """
    from samed2.data import open_cases

    cases = open_cases(data, choice.splits)
    if choice.kinds:
        kinds = sorted({str(case.kind) for case in cases})
        strange = [kind for kind in choice.kinds if kind not in KINDS]
        if strange or not set(choice.kinds) & set(kinds):
            raise InputError(f"--kind {(strange or choice.kinds)[0]}: there is none, only {', '.join(kinds)}")
        cases = [case for case in cases if case.kind in choice.kinds]
    if choice.tasks:
        tasks = chosen_tasks(cases, choice.tasks)
        cases = [kept for case in cases if (kept := _only(case, tasks)).objects]
    return cases if choice.limit is None else limited(cases, choice.limit, seed)


def chosen_tasks(cases: Sequence[Case], patterns: Sequence[str]) -> list[str]:
    """The tasks of cases that fit one of the patterns given with --task, sorted.

    Raises:
        InputError: a pattern fits none.
    """
    from samed2.data.cases import tasks_of

    known = tasks_of(cases)
    lost = [pattern for pattern in patterns if not any(fnmatchcase(task, pattern) for task in known)]
    if lost:
        raise InputError(f"--task {lost[0]}: fits none of {', '.join(known)}")
    return [task for task in known if any(fnmatchcase(task, pattern) for pattern in patterns)]


def _only(case: Case, tasks: Sequence[str]) -> Case:
    return replace(case, objects=tuple(name for name in case.objects if case.task(name) in tasks))


def limited(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """At most `count` cases of each data set, drawn by seed and names alone, in the order they have."""
    import zlib

    import numpy as np

    by_set: dict[str, list[str]] = {}
    for case in cases:
        by_set.setdefault(case.dataset, []).append(case.name)
    kept: set[tuple[str, str]] = set()
    for dataset, names in by_set.items():
        order = np.random.default_rng([seed, zlib.crc32(dataset.encode())]).permutation(len(names))
        kept |= {(dataset, sorted(names)[place]) for place in order[:count]}
    return [case for case in cases if (case.dataset, case.name) in kept]


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on standard error, nothing without a terminal; gives what the runner calls."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[label]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(title, total=None, label="")
        yield lambda done, total, label: bar.update(shown, completed=done, total=total, label=label)


def print_line(results: Results, folder: Path, report: Path) -> None:
    """Print what matters of a run as one line of JSON."""
    from samed2.evaluate.results import finite

    keys = ("summary", "baselines", "tasks", "counts", "prompts_per_case", "seconds", "seed")
    found = {
        "model": results.config["model"],
        "protocol": results.config["protocol"],
        **{key: results.document[key] for key in keys},
        "folder": str(folder),
        "report": str(report),
    }
    print(json.dumps(finite(found), ensure_ascii=False, allow_nan=False))


def print_results(results: Results, folder: Path, report: Path) -> None:
    """Print means with intervals, the baselines, and where everything lies."""
    from samed2.evaluate.report.tables import prompt_budget, summary_table

    config, counts = results.config, results.document["counts"]
    content = summary_table(results)
    show(content, f"{config['model']}  {config['protocol']}  seed {config['seed']}, select {config['select']}")
    left = f"{counts['skipped']} skipped, {counts['failed']} failed"
    print(f"{counts['ok']} objects in {len(results.tasks)} tasks, {left}; prompts per object: {prompt_budget(results)}")
    print("macro: mean over tasks of the mean over cases; in brackets the 95 % interval")
    print(f"results: {folder}\nreport: {report}")
    if counts["failed"]:
        first = results.document["failed"][0]
        warn(f"{counts['failed']} objects failed, such as {first['dataset']}/{first['case']}: {first['reason']}")


def print_table(folders: Sequence[Path], as_json: bool) -> None:
    """Print finished runs side by side.

    Raises:
        InputError: no finished runs, or none of their objects in common.
    """
    check_installed()
    from samed2.evaluate.report.side_by_side import by_dataset
    from samed2.evaluate.results import Results, finite

    runs = [Results.load(folder) for folder in folders]
    if as_json:
        print(json.dumps(finite(by_dataset(runs)), ensure_ascii=False, allow_nan=False))
    else:
        print_side_by_side(runs)


def print_side_by_side(runs: Sequence[Results]) -> None:
    """Print Dice and NSD per data set, one column per run and baseline."""
    from samed2.evaluate.report.side_by_side import as_markdown, by_dataset

    table = by_dataset(runs)
    print(f"Dice / NSD per data set\n\n{as_markdown(table)}")
    if table["left_out"]:
        warn(f"{table['left_out']} objects that not every run scored are left out of the table")


def show(content: dict[str, Any], title: str) -> None:
    """Print a table of `samed2.evaluate.report.tables` to standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table: Table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(content["columns"]):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in content["rows"]:
        cells = [c["text"] + (f" [{c['note']}]" if c["note"] else "") for c in row["cells"]]
        table.add_row(*(cell.replace("[", "\\[") for cell in cells), style="bold" if row["main"] else None)
    print(title)  # not the table's own title, which would be broken to a narrow table's width
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(table)


def print_comparison(a: Path, b: Path, out: Path | None, metric: str, data: Path | None, as_json: bool) -> None:
    """Compare two finished runs, print the table, and write the page where one is wanted.

    Raises:
        InputError: not two finished runs with cases in common, or `out` cannot be written.
    """
    check_installed()
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        wrong = "is a folder" if out.is_dir() else f"the folder {out.parent} does not exist"
        raise InputError(f"--out {out}: {wrong}; give the name of a file to write, such as compare.html")
    from samed2.evaluate.report import compare_page
    from samed2.evaluate.results import Results

    first, second = Results.load(a), Results.load(b)
    found = compare_page.compare_runs(first, second, metric)
    for text in compare_page.differing_settings(first, second):
        warn(text)
    if out is not None:
        cases: Sequence[Case] = ()
        if data is not None:
            from samed2.data import open_cases

            cases = open_cases(data)
        compare_page.write_comparison(a, b, out, metric, cases)
    if as_json:
        print(json.dumps(compare_page.as_dict(found, first, second, out), ensure_ascii=False, allow_nan=False))
        return
    names = compare_page.names_of(first, second)
    show(compare_page.task_table(found), f"A: {names[0]}   B: {names[1]}   {metric}, paired by case")
    if out is not None:
        print(f"page: {out}")
