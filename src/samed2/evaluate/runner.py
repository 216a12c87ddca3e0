"""Runs a protocol over cases: resumable, in one process or several, the same rows either way."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from samed2.data import open_cases
from samed2.data.cases import Case
from samed2.errors import InputError
from samed2.evaluate.keep import ANSWERS, keep_pictures
from samed2.evaluate.models.base import Segmenter
from samed2.evaluate.protocols import PromptProtocol, parse_protocol
from samed2.evaluate.provenance import cases_hash, config_hash, data_hash, versions
from samed2.evaluate.results import ROWS, SCHEMA, Results, line, read_rows, rows_hash, summary_of
from samed2.evaluate.rows import FAILED, OK, Bench, Row, row_id
from samed2.evaluate.selection import MEANING
from samed2.evaluate.settings import EvalSettings
from samed2.evaluate.support import SupportPool, usual_sizes
from samed2.io import atomic_write
from samed2.io.atomic import make_folder

Loader = Callable[[], Segmenter]
Progress = Callable[[int, int, str], None]
CONFIG, MASKS = "config.json", "masks"
Job = tuple[Case, tuple[str, ...]]


def evaluate(
    model: Segmenter | Loader,
    cases: Sequence[Case],
    protocol: str | PromptProtocol,
    *,
    out: Path | str,
    settings: EvalSettings | None = None,
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Evaluate a model on cases and write the results folder; a run that was stopped goes on where it was.

    Args:
        model: a model, or what loads it: with `workers` each process loads its own, so that must be a module-level
            function or a partial of one.
        out: the results folder, made when missing.
        data: the store or folder that the cases are from: for its hash and for support cases.
        progress: called as (cases done, cases in all, last case).

    Raises:
        InputError: the model cannot do what the protocol needs, `out` holds another run, or no row has a score.
    """
    chosen, rule = settings or EvalSettings(), parse_protocol(protocol) if isinstance(protocol, str) else protocol
    instance = _instance(model, chosen)
    if rule.needs not in instance.abilities:
        able = ", ".join(sorted(instance.abilities)) or "nothing"
        raise InputError(f"{instance.name}: cannot do {rule.text}, which needs {rule.needs!r}; it can do {able}")
    chosen = _with_support(chosen, cases, data)
    config = _config(instance, cases, rule, chosen, data)
    folder = _prepare(Path(out), config)
    done, jobs = _left(folder / ROWS, _checked(cases))
    bench = Bench(instance, rule, chosen, answers=folder / MASKS / ANSWERS)
    if jobs:
        bench = _complete(bench, [case for case, _ in jobs])
    found = _run(bench, model, jobs, folder / ROWS, _Count(progress, len(cases), len(cases) - len(jobs)))
    rows = _sorted([*done, *found.rows], cases)
    return _finish(folder, rows, cases, config, chosen)


class _Count:
    """Tells the progress."""

    def __init__(self, tell: Progress | None, total: int, done: int) -> None:
        self.tell, self.total, self.done = tell, total, done

    def add(self, label: str) -> None:
        self.done += 1
        if self.tell:
            self.tell(self.done, self.total, label)


class _Found:
    """Rows as they come, each case's written at once."""

    def __init__(self, path: Path, count: _Count) -> None:
        self.path, self.count = path, count
        self.rows: list[Row] = []

    def add(self, case: Case, rows: list[Row]) -> None:
        self.rows += rows
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write("".join(line(row) for row in rows))
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self.count.add(case.label)


def _run(bench: Bench, model: Segmenter | Loader, jobs: list[Job], path: Path, count: _Count) -> _Found:
    found = _Found(path, count)
    if bench.settings.workers > 1 and len(jobs) > 1:
        for case, rows in _in_processes(replace(bench, model=None), cast(Loader, model), jobs):
            found.add(case, rows)
    else:
        for case, objects in jobs:
            found.add(case, bench.rows(case, objects))
    return found


def _in_processes(bench: Bench, loader: Loader, jobs: list[Job]) -> Iterator[tuple[Case, list[Row]]]:
    import multiprocessing

    count = min(bench.settings.workers, len(jobs))
    threads = max((os.cpu_count() or 1) // count, 1)
    context = multiprocessing.get_context("spawn")  # a forked process must not use torch's threads or a GPU
    pool = ProcessPoolExecutor(count, context, _start, (bench, loader, threads))
    try:
        waiting = {pool.submit(_one, case, objects): case for case, objects in jobs}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "workers: a process ended before its time, most often for want of memory; run again with fewer workers, "
            "finished cases are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_bench: Bench | None = None  # of a worker process


def _start(bench: Bench, loader: Loader, threads: int) -> None:
    global _bench
    os.environ["OMP_NUM_THREADS"] = str(threads)
    model = loader()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    _bench = replace(bench, model=model)


def _one(case: Case, objects: tuple[str, ...]) -> list[Row]:
    assert _bench is not None
    return _bench.rows(case, objects)


def _instance(model: Segmenter | Loader, settings: EvalSettings) -> Segmenter:
    if not hasattr(model, "predict"):
        return model()  # type: ignore[operator]
    if settings.workers > 1:
        raise InputError(
            f"workers: got {settings.workers} with a loaded model, wanted what loads it, such as "
            "functools.partial(load_model, NAME)"
        )
    return cast(Segmenter, model)


def _checked(cases: Sequence[Case]) -> Sequence[Case]:
    seen: set[str] = set()
    for case in cases:
        if case.label in seen:
            raise InputError(f"{case.label}: two cases have this name, wanted one")
        seen.add(case.label)
    if not cases:
        raise InputError("cases: there is none to evaluate")
    return cases


def _with_support(settings: EvalSettings, cases: Sequence[Case], data: Path | str | None) -> EvalSettings:
    """The settings with labelled cases to draw from: those given, or the data's, and the evaluated ones."""
    given = settings.support_cases
    if given is None:
        given = open_cases(data) if data is not None else []
        given = [case for case in given if case.split in settings.support_splits]
    known = {case.label for case in given}
    return replace(settings, support_cases=[*given, *(case for case in cases if case.label not in known)])


def _complete(bench: Bench, cases: list[Case]) -> Bench:
    """The bench with support cases and, for the disc, usual sizes."""
    settings = bench.settings
    pool = settings.support_cases or []
    sizes = {}
    if "disc" in settings.baselines:
        sizes = usual_sizes(cases, pool, settings.support_splits, settings.seed)
    support = SupportPool(pool, settings.support_splits, settings.seed) if bench.protocol.support else None
    return replace(bench, pool=support, sizes=sizes, settings=replace(settings, support_cases=None))


def _config(
    model: Segmenter, cases: Sequence[Case], protocol: PromptProtocol, settings: EvalSettings, data: Path | str | None
) -> dict[str, Any]:
    """All that decides the rows, by name."""
    return {
        "schema": SCHEMA,
        "model": model.name,
        "weights_hash": model.fingerprint,
        "model_settings": str(getattr(model, "settings", "")),
        "protocol": protocol.text,
        "protocol_words": protocol.words,
        **settings.to_dict(),
        "select_words": MEANING[settings.select],
        "splits": sorted({case.split for case in cases}),
        "cases": len(cases),
        "cases_hash": cases_hash(cases),
        "support_hash": cases_hash(settings.support_cases or []),
        "data_hash": data_hash(data) if data is not None else "",
        "version": versions().get("samed2", ""),
    }


def _prepare(folder: Path, config: dict[str, Any]) -> Path:
    """The folder, made or found to hold the same run."""
    make_folder(folder / MASKS / ANSWERS)
    path = folder / CONFIG
    if path.is_file():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            old = {}
        changed = [key for key in config if not isinstance(old, dict) or old.get(key) != config[key]]
        if changed:
            key = changed[0]
            was = old.get(key) if isinstance(old, dict) else None
            raise InputError(
                f"{folder}: holds a run with {key} = {was!r}, now it is {config[key]!r}; choose another folder, or "
                "remove this one"
            )
    elif (folder / ROWS).is_file():
        raise InputError(f"{folder}: holds {ROWS} without {CONFIG}, so nobody knows which run; choose another folder")
    else:
        atomic_write(path, json.dumps(config, indent=2, ensure_ascii=False))
    return folder


def _left(path: Path, cases: Sequence[Case]) -> tuple[list[Row], list[Job]]:
    """The rows of earlier runs that stand, and what is left; failed rows are tried again."""
    old = read_rows(path) if path.is_file() else []
    done = {(row["dataset"], row["case"], row["object"]): row for row in old if row["status"] != FAILED}
    atomic_write(path, "".join(line(row) for row in done.values()))  # without the line that was cut off
    jobs = []
    for case in cases:
        objects = tuple(name for name in case.objects if (case.dataset, case.name, name) not in done)
        if objects:
            jobs.append((case, objects))
    return list(done.values()), jobs


def _sorted(rows: list[Row], cases: Sequence[Case]) -> list[Row]:
    """In the order of cases and their objects, undefined numbers as they are read back."""
    found = {(row["dataset"], row["case"], row["object"]): row for row in rows}
    return [found[case.dataset, case.name, name] for case in cases for name in case.objects]


def _finish(
    folder: Path,
    rows: list[Row],
    cases: Sequence[Case],
    config: dict[str, Any],
    settings: EvalSettings,
) -> Results:
    document = {
        "schema": SCHEMA,
        "config": config,
        "config_hash": config_hash(config),
        "versions": versions(),
        "data_hash": config["data_hash"],
        "weights_hash": config["weights_hash"],
        "seed": settings.seed,
        "rows_hash": rows_hash(rows),
        **summary_of(rows, settings.seed, settings.resamples),
    }
    scored = [row for row in rows if row["status"] == OK]
    masks = folder / MASKS
    if any((masks / ANSWERS).glob("*.png")):
        keep_pictures(masks, scored, cases, [row_id(row) for row in scored])
    results = Results(document, rows)
    results.save(folder)
    return results
