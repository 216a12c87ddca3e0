"""`samed2 convert`: weights and memory files of other projects into safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from samed2.cli.console import print_json, table
from samed2.errors import InputError

KINDS = ("auto", "sam2", "samed2", "memory")


def _is_memory(source: Path, kind: str) -> bool:
    return kind == "memory" or (kind == "auto" and source.suffix.lower() in (".pkl", ".pickle"))


def _memory(source: Path, out: Path) -> dict[str, Any]:
    from samed2.memory.released import convert as run

    return run(source, out)


def _weights(source: Path, out: Path, kind: str) -> dict[str, Any]:
    from samed2.nn.convert import convert as run

    return run(source, out, kind)


def convert(
    source: Annotated[Path, typer.Argument(help="A SAM 2 .pt, a released SAMed-2 .pth, or its memory bank .pkl.")],
    out: Annotated[Path, typer.Argument(help="The folder (weights) or file (memory) to write.")],
    kind: Annotated[str, typer.Option("--kind", help=f"What the source is: {', '.join(KINDS)}.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Convert weights or a memory bank into samed2's safetensors files, without running anything in them."""
    if kind not in KINDS:
        raise InputError(f"--kind {kind}: unknown, wanted one of {', '.join(KINDS)}")
    if not source.exists():
        raise InputError(f"{source}: does not exist; check the path")
    if source.is_dir():
        raise InputError(f"{source}: is a folder, wanted a file of weights or a memory bank")
    summary = _memory(source, out) if _is_memory(source, kind) else _weights(source, out, kind)
    if as_json:
        print_json(summary)
    else:
        table(summary.items())
