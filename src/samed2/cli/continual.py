"""`samed2 continual`: run a continual-learning experiment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from samed2.errors import InputError


def continual(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file such as recipes/continual.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of the recipe to change, as name=value.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished stage in --out.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the results.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Learn tasks one after another by several methods, and print what each remembers."""
    if not recipe.is_file():
        raise InputError(f"{recipe}: is not a file; wanted a recipe such as recipes/continual.yaml")
    from rich.console import Console
    from rich.progress import Progress

    from samed2.cli.evaluate_run import check_installed

    check_installed()
    from samed2.train.continual.recipe import ContinualRecipe
    from samed2.train.continual.run import Experiment
    from samed2.train.continual.show import table_of
    from samed2.train.recipe import load_form

    form = load_form(recipe, list(overrides or []), ContinualRecipe)
    if out is not None:
        form = form.model_copy(update={"out": out})
    hidden = quiet or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=hidden, transient=True) as bar:
        line = bar.add_task("read", total=None)

        def show(doing: str, done: int, loss: float) -> None:
            bar.update(line, completed=done, description=f"{doing}: loss {loss:.3f}")

        experiment = Experiment(form, resume, show)
        bar.update(line, total=experiment.steps)
        results = experiment.run()
    print(table_of(results))
    print(f"\n{form.out}")
