"""Ctrl-C and `kill -9` at random moments: what was finished stays, whole, and the same line goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from samed2.memory import SelectiveMemory

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has all imports")

INTERRUPTED = 130
# Imports take seconds and would soak up most kills: a child is forked for every line after them.
SERVER = """
import json, os, signal, sys
import torch
import samed2.predict.annotate, samed2.predict.journal, samed2.io, samed2.cli.batch
from samed2.cli.main import main
from samed2.nn.weights import load

torch.set_num_threads(1)
samed2.predict.journal.SAVE_SECONDS = 0.0
load(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 130
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = main(json.loads(line))
        except KeyboardInterrupt:
            pass
        finally:
            os._exit(code)
    print(child, flush=True)
    sys.stdin.readline()  # until then the number of the child is nobody else's
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Lines:
    """Command lines, each in a process of its own."""

    def __init__(self, model: Path, folder: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(model)]
        pipe = subprocess.PIPE
        self.server = subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, text=True)
        assert self._said() == "ready"

    def run(self, *arguments: object) -> int:
        """Return the exit code of a line that is left alone."""
        self._start(arguments)
        return self._ended()

    def kill(self, number: int, after: float, *arguments: object) -> int:
        """Return the exit code of a line that gets a signal after some seconds; it may have ended before."""
        child = self._start(arguments)
        time.sleep(after)
        os.kill(child, number)
        return self._ended()

    def close(self) -> None:
        self.server.communicate()

    def _start(self, arguments: tuple[object, ...]) -> int:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        self.server.stdin.flush()
        return int(self._said())

    def _ended(self) -> int:
        assert self.server.stdin is not None
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        return int(self._said())

    def _said(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()


@pytest.fixture
def lines(tiny_model: Path, tmp_path: Path) -> Iterator[Lines]:
    lines = Lines(tiny_model, tmp_path)
    yield lines
    lines.close()


def moments(seconds: float, count: int) -> Iterator[tuple[int, float]]:
    """(signal, seconds to wait) for some kills of what takes `seconds` when left alone."""
    rng = np.random.default_rng(0)
    for number in range(count):
        yield (signal.SIGINT, signal.SIGKILL)[number % 2], float(rng.uniform(0.02, 0.7 * seconds))


def test_segment_goes_on_where_it_was_killed(lines: Lines, tiny_model: Path, tmp_path: Path) -> None:
    names = [f"v{number}" for number in range(5)]
    (tmp_path / "cases").mkdir()
    for seed, name in enumerate(names):
        values = np.random.default_rng(seed).normal(100, 30, (40, 44, 6)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 2, 1])), tmp_path / "cases" / f"{name}.nii.gz")
    line = ("segment", "cases", "--box", "blob=8,10,30,34", "--frame", 2, "--propagate", "both", "--model", tiny_model)
    line += ("--device", "cpu", "--resume", "--report", "run.json")
    began = time.monotonic()
    assert lines.run(*line, "--out", "whole") == 0
    whole = time.monotonic() - began
    (tmp_path / "run.json").unlink()

    def found(folder: str) -> dict[str, np.ndarray]:
        return {p.name: np.asarray(nibabel.load(p).dataobj) for p in (tmp_path / folder).glob("*.nii.gz")}

    kept: dict[str, int] = {}  # file -> when it was written
    codes = []
    for number, after in moments(whole, 6):
        codes.append(lines.kill(number, after, *line, "--out", "res"))
        assert codes[-1] in (0, INTERRUPTED, -signal.SIGKILL)
        for name, values in found("res").items():  # whatever is there is whole
            np.testing.assert_array_equal(values, found("whole")[name])
        if (tmp_path / "run.json").exists():
            assert json.loads((tmp_path / "run.json").read_text())["status"] in ("running", "interrupted", "done")
        noted = [Path(p).name.removesuffix(".json") for p in (tmp_path / "res").glob(".samed2/*.json")]
        times = {name: (tmp_path / "res" / name).stat().st_mtime_ns for name in noted}
        assert kept.items() <= times.items()  # nothing finished is lost or made again
        kept = times
    assert any(code != 0 for code in codes)
    assert lines.run(*line, "--out", "res") == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "res").glob("*.nii.gz")}.items() >= kept.items()
    ended, wanted = found("res"), found("whole")
    assert set(ended) == set(wanted) and len(wanted) == len(names)
    for name, values in ended.items():
        np.testing.assert_array_equal(values, wanted[name])
    assert not list((tmp_path / "res").glob(".samed2/*.journal"))
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["status"] == "done" and report["counts"].get("skipped", 0) == len(kept)


def test_annotate_goes_on_where_it_was_killed(lines: Lines, tiny_model: Path, tmp_path: Path) -> None:
    names = [f"p{number}.png" for number in range(6)]
    (tmp_path / "cases").mkdir()
    for seed, name in enumerate(names):
        values = np.random.default_rng(seed).integers(0, 255, (48, 60), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "cases" / name)
    entry = {"objects": [{"boxes": [[10, 8, 34, 30]]}]}
    (tmp_path / "boxes.json").write_text(json.dumps({"images": dict.fromkeys(names[:4], entry)}))
    line = ("annotate", "cases", "--task", "blob", "--model", tiny_model, "--device", "cpu")

    def statuses(out: str = "out") -> dict[str, str]:
        """Return the state, which must be whole and true."""
        state = tmp_path / out / "annotate.json"
        cases = json.loads(state.read_text())["cases"] if state.exists() else {}
        for case in cases.values():
            assert all((tmp_path / out / file).is_file() for file in case["files"])
            if case["mask"]:
                Image.open(tmp_path / out / case["mask"]).load()
        confirmed = [name for name, case in cases.items() if case["status"] == "confirmed"]
        bank = tmp_path / f"{out}.safetensors"
        origins = [entry.origin for entry in SelectiveMemory.load(bank).entries] if bank.exists() else []
        assert all(origins.count(f"cases/{name}") == 2 for name in confirmed)
        assert all(origins.count(origin) == 2 for origin in origins)
        return {name: case["status"] for name, case in cases.items()}

    def step(*more: object) -> None:
        """Do it at once in one folder, and with kills in another one."""
        began, before, codes = time.monotonic(), statuses(), []
        assert lines.run(*line, *more, "--out", "whole", "--memory", "whole.safetensors") == 0
        mine = (*line, *more, "--out", "out", "--memory", "out.safetensors")
        for number, after in moments(time.monotonic() - began, 4):
            codes.append(lines.kill(number, after, *mine))
            assert codes[-1] in (0, INTERRUPTED, -signal.SIGKILL)
            now, order = statuses(), ("open", "proposed", "corrected", "confirmed")
            assert all(order.index(now[name]) >= order.index(status) for name, status in before.items())
            before = now
        assert any(code != 0 for code in codes)
        assert lines.run(*mine) == 0
        assert statuses() == statuses("whole")

    step("--prompts", "boxes.json")
    assert [statuses()[name] for name in names] == ["corrected"] * 4 + ["open"] * 2
    drawn = np.zeros((48, 60), np.uint8)
    drawn[10:30, 12:36] = 1
    for name in names[:4]:
        for out in ("out", "whole"):
            Image.fromarray(drawn).save(tmp_path / out / "cases" / f"{Path(name).stem}_mask.png")
    step(*(part for name in names[:4] for part in ("--confirm", name)))
    assert [statuses()[name] for name in names] == ["confirmed"] * 4 + ["proposed"] * 2
    assert len(SelectiveMemory.load(tmp_path / "out.safetensors")) == 8
    assert not list((tmp_path / "out").rglob(".*"))  # neither locks nor halves of files
