"""`samed2 train`: run a training recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samed2.errors import InputError


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of the recipe to change, as name=value.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of checkpoints, log and weights.")] = None,
) -> None:
    """Train a model from a recipe and print the folder of its weights."""
    if not recipe.is_file():
        raise InputError(f"{recipe}: is not a file; wanted a recipe such as recipes/nano.yaml")
    for override in overrides or []:
        if "=" not in override:
            raise InputError(f"{override}: is not an override of the recipe; wanted name=value")
    from samed2.train.trainer import run

    print(run(recipe, list(overrides or []), resume, out))
