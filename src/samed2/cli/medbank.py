"""`samed2 medbank`: the catalogue of data sets, and stores built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samed2.cli.console import print_json, table, track, warn
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.data.store import Manifest

PROBLEMS = 1  # exit code of `verify` that found some
SHOWN = 20  # lines of a list before "and N more"

app = typer.Typer(help="The catalogue of data sets, and stores built from them.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="A store, as written by `build`.")]


@app.command("list")
def list_(
    modality: Annotated[str | None, typer.Option("--modality", help="Only this modality, such as ct.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the data sets of the catalogue and what the paper's tasks they can serve."""
    from samed2.data.catalog import datasets

    found = [d for d in datasets().values() if modality is None or d.modality == modality]
    if not found:
        have = ", ".join(sorted({d.modality for d in datasets().values()}))
        raise InputError(f"--modality: got {modality!r}, wanted one of {have}")
    if as_json:
        print_json([entry.model_dump() for entry in found])
        return
    rows = [
        (d.name, d.modality, d.kind, ", ".join(d.objects), d.licence, ", ".join(s.task for s in d.published) or "-")
        for d in found
    ]
    grid(("name", "modality", "kind", "objects", "licence", "published tasks"), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name of the catalogue.")],
    as_json: AsJson = False,
) -> None:
    """Show one data set: objects, terms, where to get it, and the folders that `build` expects."""
    from samed2.data.catalog import get_dataset

    entry = get_dataset(name).model_dump()
    if as_json:
        print_json(entry)
        return
    tree = entry.pop("tree")
    entry["published"] = [f"{s['task']} ({s['set']}: {', '.join(s['objects'])})" for s in entry["published"]]
    table((field, _line(value)) for field, value in entry.items() if value not in ("", [], {}))
    print(f"\nexpected folders\n{tree}")
    print(f"\nsamed2 medbank build --source {name}:FOLDER --out STORE")


@app.command()
def build(
    source: Annotated[
        list[str],
        typer.Option(
            "--source",
            metavar="NAME:PATH",
            help="What to read; repeatable. NAME is a data set of the catalogue, or folder, released, dicom, pairs.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; an interrupted build there goes on.")],
    max_side: Annotated[
        int | None,
        typer.Option("--max-side", help="A small lossy copy: longer side at most this many pixels."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that read and pack.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of the splits of cases whose source names none.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Build a store. Ends with a table of what was read, kept and dropped, and the hash of the content."""
    from samed2.data.catalog import layout_warnings, resolve_source
    from samed2.data.store import build as build_store

    sources = [resolve_source(text) for text in source]
    for line in (line for found in sources for line in layout_warnings(found)):
        warn(line)
    with _progress("build") as progress:
        manifest = build_store(sources, out, workers=workers, max_side=max_side, seed=seed, progress=progress)
    if as_json:
        print_json(_summary(manifest))
    else:
        _print_built(manifest, out)


@app.command()
def verify(
    store: StorePath,
    fast: Annotated[bool, typer.Option("--fast", help="Compare checksums only, decode nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every byte of a store. Exit code 1 where something is wrong."""
    from samed2.data.store import verify as verify_store

    with _progress("verify") as progress:
        problems = verify_store(store, decode=not fast, progress=progress)
    if as_json:
        print_json({"store": str(store), "problems": problems})
    elif problems:
        print("\n".join(problems))
    else:
        print(f"{store}: whole")
    if problems:
        raise typer.Exit(PROBLEMS)


@app.command()
def stats(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store, or a folder with items.csv.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for index.html, plots, contact sheets and stats.json.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only this split; repeatable.")] = None,
    examples: Annotated[int, typer.Option("--examples", min=1, help="Frames to look at for each task.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Print what is in a store by data set and task; with --out draw it, contact sheets included."""
    from samed2.data.frames import open_table
    from samed2.data.stats import collect_stats
    from samed2.data.stats_page import (
        DATASET_HEADINGS,
        TASK_HEADINGS,
        dataset_rows,
        summary,
        task_rows,
        write_stats,
    )

    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file, wanted a folder")
    found = open_table(store, split or None, lambda cases: track(cases, len(cases), "read"))
    numbers = collect_stats(found, examples)
    written = write_stats(numbers, out, store.absolute().name) if out is not None else []
    if as_json:
        print_json({**numbers.to_dict(), "written": [str(path) for path in written]})
        return
    print(summary(numbers), end="\n\n")
    grid(DATASET_HEADINGS, dataset_rows(numbers))
    print()
    grid(TASK_HEADINGS, task_rows(numbers))
    if written:
        print(f"\n{written[-1]}")


@app.command()
def doubts(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store, or a folder with items.csv.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for doubts.csv and pictures of the masks.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only this split; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find masks whose outlines hardly follow the image; with --out list and draw them."""
    from samed2.data.doubts import find_doubts, write_doubts
    from samed2.data.frames import open_table

    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file, wanted a folder")
    table = open_table(store, split or None, lambda cases: track(cases, len(cases), "read"))
    tasks = find_doubts(table, lambda cases: track(cases, len(cases), "look at outlines"))
    written = write_doubts(table, tasks, out) if out is not None else []
    if as_json:
        found = [
            {"task": t.task, "masks": t.masks, "usual": t.usual, "doubtful": [d.case for d in t.found]} for t in tasks
        ]
        print_json({"tasks": found, "written": [str(path) for path in written]})
        return
    rows = [(t.task, t.masks, f"{t.usual:.2f}", len(t.found), ", ".join(d.case for d in t.found[:3])) for t in tasks]
    grid(("task", "masks", "usual contrast", "doubtful", "such as"), rows)
    print(f"\n{sum(len(t.found) for t in tasks)} of {sum(t.masks for t in tasks)} masks hardly follow the image")
    if written:
        print(written[0])


@app.command()
def noise(
    store: StorePath,
    out: Annotated[Path, typer.Option("--out", help="The store to write; a new folder.")],
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="dilate:2,4 erode:5%,10% dilate-or-erode:brats markov:S_R markov:T=50,theta1=.4 shift:2,4 drop:.5",
        ),
    ],
    fraction: Annotated[float, typer.Option("--fraction", help="Share of the cases of each data set.")] = 1.0,
    split: Annotated[list[str] | None, typer.Option("--split", help="Cases to change; repeatable. [train]")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of cases and of the noise.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write a copy of a store with worse masks on a share of its training cases, and a record of all of it."""
    from samed2.data.noise import parse_noise
    from samed2.data.noise_cases import NoisePlan
    from samed2.data.noise_store import RECORD, write_noisy_store

    plan = NoisePlan(parse_noise(protocol), fraction, seed, tuple(split or ["train"]))
    with _progress("noise") as progress:
        manifest, record = write_noisy_store(store, out, plan, progress)
    if as_json:
        print_json({**{k: v for k, v in record.items() if k != "entries"}, "content_hash": manifest.content_hash})
        return
    rows = [(name, t["masks"], _score(t["mean_dice"]), t["vanished"]) for name, t in record["tasks"].items()]
    grid(("task", "masks", "mean Dice to clean", "vanished"), rows)
    strength = f"{record['masks']} masks of {record['cases']} cases, mean Dice to clean {_score(record['mean_dice'])}"
    print()
    table([("protocol", plan.noise), ("noise", strength), ("record", out / RECORD), ("content", manifest.content_hash)])


def grid(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows in aligned columns to standard output, numbers to the right; nothing is cut off."""
    lines = [[str(cell) for cell in line] for line in (headings, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    right = [all(_is_number(line[i]) for line in lines[1:]) for i in range(len(headings))]
    for number, line in enumerate(lines):
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "", 1).lstrip("-").isdigit()


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_line(inner)}" for name, inner in value.items())
    return ", ".join(map(_line, value)) if isinstance(value, list) else str(value)


def _summary(manifest: Manifest) -> dict[str, Any]:
    names = ("content_hash", "cases", "rows", "datasets", "dropped", "left_out", "duplicates", "warnings", "settings")
    return {name: getattr(manifest, name) for name in names}


def _print_built(manifest: Manifest, out: Path) -> None:
    grid(("data set", "read", "kept", "dropped", "frames", "why"), manifest.table())
    for heading, entries in (("dropped", manifest.dropped), ("left out", manifest.left_out)):
        _some(heading, [f"{e['dataset']}/{e['name']}: {e['reason']}" for e in entries])
    for kind in ("exact", "near"):
        found = [f"{d['a']} ({d['splits'][0]}) and {d['b']} ({d['splits'][1]})" for d in manifest.duplicates[kind]]
        _some(f"{kind} duplicates across splits", found, manifest.duplicates[f"{kind}_total"])
    _some("warnings", manifest.warnings)
    print()
    size = sum(shard.bytes for shard in manifest.shards)
    table(
        [
            ("store", f"{out}, {manifest.cases} cases, {manifest.rows} frames, {size / 1e6:.1f} MB"),
            ("content", manifest.content_hash),
        ]
    )


def _some(heading: str, lines: Sequence[str], total: int | None = None) -> None:
    """Print a list under a heading with its length, the first lines of it; nothing for an empty one."""
    count = len(lines) if total is None else total
    if count:
        print(f"\n{heading}: {count}")
        print("\n".join(f"  {line}" for line in lines[:SHOWN]))
        if count > SHOWN:
            print(f"  and {count - min(SHOWN, len(lines))} more, see manifest.json")


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on standard error, where that is a terminal: called as (done, all, what is at work)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=f"{doing} {text}")
