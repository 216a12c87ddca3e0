"""The tables of `samed2 train --data`: what was found, what will be done, what it gained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samed2.data.folders.check import CaseFacts
    from samed2.train.finetune import Survey
    from samed2.train.finetune_gain import Asked
    from samed2.train.recipe import Recipe

SHOWN = 12  # lines of a list before "and N more"


def show_survey(survey: Survey) -> None:
    """Print what is in the folder: cases, objects, what is not used and why."""
    found, facts = survey.found, survey.report.facts
    console = _console()
    console.print(f"{found.root}: {found.layout}", markup=False, highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    kinds = Counter(fact.case.kind for fact in facts)
    lines = [
        ("cases", ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in kinds.items())),
        ("train, val", ", ".join(f"{len(cases)}" for cases in survey.splits.values())),
        ("frames", _range([fact.shape[0] for fact in facts])),
        ("height", _range([fact.shape[1] for fact in facts], " px")),
        ("width", _range([fact.shape[2] for fact in facts], " px")),
        ("spacing", _spacing(facts)),
        ("modality", _most(fact.case.modality for fact in facts)),
        ("pixels", _most(f"{'RGB' if fact.channels == 3 else 'grey'} {fact.dtype}" for fact in facts)),
        ("values", f"{min(fact.values[0] for fact in facts):g} to {max(fact.values[1] for fact in facts):g}"),
    ]
    _print_table("data", ("", ""), lines)
    _print_table(
        "objects",
        ("object", "label", "cases", "empty", "frames", "pixels on a frame: median", "from", "to", "% of frame"),
        [_object_row(survey, task) for task in survey.report.objects],
    )
    unused = [*found.unused, *survey.report.failed, *survey.left_out]
    if unused:
        console.print(f"not used: {len(unused)}", markup=False, highlight=False)
        for name, reason in unused[:SHOWN]:
            console.print(f"  {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
        if len(unused) > SHOWN:
            rest = _most((reason.split(":")[0] for _, reason in unused[SHOWN:]))
            console.print(f"  and {len(unused) - SHOWN} more: {rest}", markup=False, highlight=False, soft_wrap=True)


def show_recipe(recipe: Recipe, survey: Survey, path: Path) -> None:
    """Print what will be done."""
    stage = recipe.stages[0]
    prompts = ", ".join(f"{share:.0%} {name}" for name, share in stage.prompts.items() if share)
    train, val = (len(survey.splits[split]) for split in ("train", "val"))
    lines = [
        ("start", str(recipe.model.init)),
        ("data", f"{train} cases to train on, {f'{val} kept to see whether it helps' if val else 'none kept aside'}"),
        ("steps", f"{stage.steps} of {stage.rows} frames at {stage.image_size} px"),
        ("learning rate", f"{stage.lr:g}, falling to {stage.lr_end or stage.lr:g}"),
        ("prompts", prompts),
        ("recipe", f"{path} (edit it and run `samed2 train {path} --out ANOTHER_FOLDER`)"),
    ]
    _print_table("training", ("", ""), lines)


def show_gains(asked: Sequence[Asked], split: str, out: Path) -> None:
    """Print Dice before and after by object."""
    from samed2.train.finetune_gain import gains

    rows = []
    for row in gains(asked):
        before, after = row["before"], row["after"]
        rows.append((row["object"], row["cases"], f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"))
    where = "val" if split == "val" else "the training cases themselves, which flatters"
    _print_table(f"Dice with a box, on {where}", ("object", "cases", "before", "after", "change"), rows)
    print(f"pictures: {out / 'examples.png'}")


def _object_row(survey: Survey, task: str) -> tuple[Any, ...]:
    own = [
        (fact, pixels)
        for fact in survey.report.facts
        for name, pixels in fact.pixels.items()
        if fact.case.task(name) == task
    ]
    sizes = [n for _, pixels in own for n in pixels]
    shares = [100 * n / (fact.shape[1] * fact.shape[2]) for fact, pixels in own for n in pixels]
    source = survey.found.source
    rule = source.objects.get(task.split("/", 1)[1]) if source is not None else None
    label = ", ".join(map(str, rule)) if isinstance(rule, list) else str(rule or "")
    several = len({fact.case.dataset for fact in survey.report.facts}) > 1
    start = (task if several else task.split("/", 1)[1], label, len(own), sum(not pixels for _, pixels in own))
    if not sizes:
        return (*start, 0, "-", "-", "-", "-")
    return (*start, len(sizes), f"{median(sizes):g}", min(sizes), max(sizes), f"{median(shares):.2g}")


def _spacing(facts: Sequence[CaseFacts]) -> str:
    known = [fact.spacing for fact in facts if fact.spacing is not None]
    if not known:
        return "unknown"
    parts = [_range([step[axis] for step in known]) for axis in range(3)]
    text = f"{' x '.join(parts)} mm (frame, y, x)"
    return text if len(known) == len(facts) else f"{text}; unknown in {len(facts) - len(known)} cases"


def _range(values: Sequence[float], unit: str = "") -> str:
    low, high = min(values), max(values)
    return f"{low:g}{unit}" if low == high else f"{low:g} to {high:g}{unit}"


def _most(values: Iterable[str]) -> str:
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count})" for value, count in counts.most_common(4))


def _console() -> Any:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=160)


def _print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=any(headings), pad_edge=False)
    for number, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if number == 0 or not any(headings) else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    _console().print(drawn)
