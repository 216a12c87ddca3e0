"""The command `samed2`: registers the commands and turns errors into one line and an exit code.

Exit codes: 0 done, 1 internal error, 2 bad input (files, options, unwritable output), 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from samed2 import __version__
from samed2.allocation import keep_freed_memory
from samed2.cli.annotate import annotate
from samed2.cli.console import complain
from samed2.cli.continual import continual
from samed2.cli.convert import convert
from samed2.cli.demo import demo
from samed2.cli.evaluate import app as evaluate
from samed2.cli.info import info
from samed2.cli.medbank import app as medbank
from samed2.cli.memory import app as memory
from samed2.cli.segment import segment
from samed2.cli.train import train
from samed2.cli.train_unet import train_unet
from samed2.errors import InputError

OK, INTERNAL, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="samed2",
    help="Promptable segmentation of medical images, volumes and videos with SAMed-2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 internal error, 2 bad input, 130 interrupted.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"samed2 {__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors. May stand anywhere on the line.")
    ] = False,
) -> None:
    """Options of every command; `main` takes --debug off the line before it gets here."""


app.command()(segment)
app.command()(annotate)
app.command()(info)
app.command()(demo)
app.add_typer(memory, name="memory")
app.add_typer(medbank, name="medbank")
app.add_typer(evaluate, name="evaluate")
app.command()(convert)
app.command()(train)
app.command()(train_unet)
app.command()(continual)


def _usage(error: Exception) -> str:
    """Return an option error as one line that ends with where help is."""
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    return f"{message} (see `{context.command_path} --help`)" if context is not None else message


def _report(error: BaseException, debug: bool) -> int:
    """Print what went wrong to standard error and return the exit code it means."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, InputError):
        complain(str(error))
        return BAD_INPUT
    if hasattr(error, "format_message"):  # what typer raises for unknown options and missing values
        if not error.format_message():
            return BAD_INPUT  # a group without its command: typer has printed the help
        complain(_usage(error))  # type: ignore[arg-type]
        return BAD_INPUT
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    if isinstance(error, OSError) and error.filename is not None:
        complain(f"{error.filename}: {error.strerror or type(error).__name__}")
        return BAD_INPUT
    complain(f"internal error: {type(error).__name__}: {error} (run again with --debug for the traceback)")
    return INTERNAL


def main(argv: list[str] | None = None) -> int:
    """Run the command line with the given arguments (default: the process's) and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    arguments = arguments or ["--help"]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    arguments = [a for i, a in enumerate(arguments) if a != "--debug" or i > end]
    keep_freed_memory()
    try:
        code = app(args=arguments, prog_name="samed2", standalone_mode=False)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else BAD_INPUT
    except BaseException as error:
        return _report(error, debug)
    return code if isinstance(code, int) else OK
