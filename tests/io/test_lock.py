"""One writer at a time: the second is refused by name, what a dead one left is taken over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from samed2.errors import InputError
from samed2.io.lock import holder, locked

HOLD = """
import sys
from pathlib import Path
from samed2.io.lock import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_writer_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locked(path):
        assert holder(path) == f"process {os.getpid()} on {os.uname().nodename}"
        with pytest.raises(InputError, match=f"is being written by process {os.getpid()}"), locked(path):
            pass
    assert not path.exists() and holder(path) is None
    with locked(path):
        pass


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"is being written by process {process.pid}"), locked(path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.exists() and holder(path) is None
    with locked(path):
        pass
    assert not path.exists()


def test_a_block_that_raises_lets_go_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with pytest.raises(RuntimeError), locked(path):
        raise RuntimeError
    assert path.exists() and holder(path) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), locked(tmp_path / "file" / "a.lock"):
        pass
