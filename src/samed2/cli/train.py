"""`samed2 train`: run a training recipe, or fine-tune on a folder of images and labels without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samed2.errors import InputError

FOLDER = "Fine-tune on a folder"


def train(
    recipe: Annotated[Path | None, typer.Argument(help="The recipe, a YAML file; left out with --data.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of the recipe to change, as name=value.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of checkpoints, log and weights.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="A folder of images and labels, in any usual layout.", rich_help_panel=FOLDER),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", help="The model to start from, as for segment. [nano]", rich_help_panel=FOLDER),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Steps to train. (default: by the data)", rich_help_panel=FOLDER),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Time to train, instead of --steps.", rich_help_panel=FOLDER)
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option("--modality", help="What the images show: ct, mr, ultrasound, ...", rich_help_panel=FOLDER),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="NAME=VALUE of an object in the label files. Repeatable.", rich_help_panel=FOLDER),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look at the data and say what is found.", rich_help_panel=FOLDER)
    ] = False,
) -> None:
    """Train a model from a recipe, or fine-tune one on a folder with --data; print the folder of the weights."""
    changes = list(overrides or [])
    if data is not None and recipe is not None:
        changes.insert(0, str(recipe))
    elif recipe is not None and not recipe.is_file():
        raise InputError(f"{recipe}: is not a file; wanted a recipe such as recipes/nano.yaml")
    for override in changes:
        if "=" not in override:
            raise InputError(f"{override}: is not an override of the recipe; wanted name=value")
    if data is not None:
        from samed2.cli.train_folder import Wanted, fine_tune

        if steps is not None and minutes is not None:
            raise InputError("--steps and --minutes: give one of them")
        if minutes is not None and not minutes > 0:
            raise InputError(f"--minutes {minutes}: wanted more than 0")
        wanted = Wanted(data, init or "nano", out, steps, minutes, modality or "", tuple(label or ()), tuple(changes))
        fine_tune(wanted, resume=resume, check=check)
        return
    options = {"--init": init, "--steps": steps, "--minutes": minutes, "--modality": modality, "--label": label}
    given = [name for name, value in {**options, "--check": check or None}.items() if value is not None]
    if given:
        raise InputError(f"{given[0]}: goes with --data FOLDER; a recipe says it itself")
    if recipe is None:
        raise InputError("train: wanted a recipe (samed2 train recipes/nano.yaml), or a folder with --data")
    from samed2.train.trainer import run

    print(run(recipe, changes, resume, out))
