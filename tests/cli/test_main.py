"""Exit codes and error lines of the command as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

import samed2
from samed2.cli import main as cli
from samed2.errors import InputError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"samed2 {samed2.__version__}\n"


def test_help_lists_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "130 interrupted" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["nonsense"], ["segment"], ["segment", "--nonsense"]])
def test_usage_errors_are_one_line_and_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("samed2: error: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "error, code, text",
    [
        (InputError("a.png: is empty"), 2, "samed2: error: a.png: is empty\n"),
        (InputError("a.png: two\nlines"), 2, "samed2: error: a.png: two lines\n"),
        (KeyboardInterrupt(), 130, "samed2: error: interrupted\n"),
        (
            PermissionError(13, "Permission denied", "/x/y.png"),
            2,
            "samed2: error: /x/y.png: Permission denied\n",
        ),
        (
            OSError(28, "No space left on device", "/x/y.png"),
            2,
            "samed2: error: /x/y.png: No space left on device\n",
        ),
        (
            RuntimeError("boom"),
            1,
            "samed2: error: internal error: RuntimeError: boom (run again with --debug for the traceback)\n",
        ),
    ],
)
def test_every_error_has_its_code(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert cli.main(["info"]) == code
    assert capsys.readouterr().err == text
    assert cli.main(["info", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_debug_after_a_double_dash_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "--", "--debug"]) == 2
    assert "--debug" in capsys.readouterr().err


def test_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "samed2", "--version"], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout.strip()) == (0, f"samed2 {samed2.__version__}")
