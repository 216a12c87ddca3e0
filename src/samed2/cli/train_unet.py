"""`samed2 train-unet`: train the U-Net that an evaluation compares with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from samed2.cli.console import warn


def train_unet(
    data: Annotated[Path, typer.Option("--data", help="A MedBank store, or a folder with items.csv.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the weights.")],
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="DATASET/OBJECT of a specialist, * and ? allowed; of several tasks each has a network and a folder of "
            "its own. Without it one network learns all tasks. Repeatable."
        ),
    ] = None,
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    val_split: Annotated[str, typer.Option(help="Split to choose the best weights on.")] = "val",
    steps: Annotated[int, typer.Option(min=1, help="Steps of 16 frames.")] = 2000,
    size: Annotated[int, typer.Option(min=32, help="Side of the input in pixels.")] = 256,
    network: Annotated[str, typer.Option(help="basic, residual or dynamic; all MONAI's.")] = "basic",
    width: Annotated[int, typer.Option(min=4, help="Channels of the first level.")] = 32,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Train a MONAI U-Net on a store, to compare with: `samed2 evaluate --model unet:FOLDER`."""
    from rich.console import Console
    from rich.progress import Progress

    from samed2.cli.evaluate_run import check_installed, chosen_tasks
    from samed2.data import open_cases

    check_installed()
    from samed2.data.cases import file_name
    from samed2.train.unet import is_finished
    from samed2.train.unet import train_unet as run

    train, val = open_cases(data, [train_split]), open_cases(data, [val_split])
    tasks: list[str | None] = [*chosen_tasks(train, task)] if task else [None]
    folders = [out / file_name(str(one)) if len(tasks) > 1 else out for one in tasks]
    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        line = bar.add_task("read", total=steps * len(tasks))
        how = {"steps": steps, "size": size, "network": network, "width": width}
        how |= {"seed": seed, "device": device, "resume": resume}
        for number, (one, folder) in enumerate(zip(tasks, folders, strict=True)):

            def show(step: int, loss: float, number: int = number, one: str | None = one) -> None:
                said = f"{one or 'all tasks'}, loss {loss:.3f}"
                bar.update(line, completed=number * steps + step, description=said)

            before = resume and is_finished(folder)
            try:
                run(train, val, folder, one, progress=show, **how)  # type: ignore[arg-type]
            except KeyboardInterrupt:
                warn(f"stopped; the checkpoint in {folder} is kept, go on with --resume")
                raise
            if before:
                warn(f"{folder}: was finished before, left as it is")
    print(out)
