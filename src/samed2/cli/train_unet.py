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
        str | None, typer.Option(help="DATASET/OBJECT of a specialist; without it one network learns all tasks.")
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

    from samed2.cli.evaluate_run import check_installed
    from samed2.data import open_cases

    check_installed()
    from samed2.train.unet import train_unet as run

    train, val = open_cases(data, [train_split]), open_cases(data, [val_split])
    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        line = bar.add_task("read", total=steps)

        def show(step: int, loss: float) -> None:
            bar.update(line, completed=step, description=f"loss {loss:.3f}")

        how = {"steps": steps, "size": size, "network": network, "width": width}
        how |= {"seed": seed, "device": device, "resume": resume}
        try:
            folder = run(train, val, out, task, progress=show, **how)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            warn(f"stopped; the checkpoint in {out} is kept, go on with --resume")
            raise
    print(folder)
