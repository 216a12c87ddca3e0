"""A batch of cases: each is read, segmented and written; a failed one does not stop the others."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samed2.cli import outputs
from samed2.cli.case_prompts import PromptSource
from samed2.cli.console import Steps, complain, progress, warn
from samed2.cli.run_report import Files, RunReport, drop_journal, journal_of, key_of, made_before, note, state_of
from samed2.cli.segment_case import Method, Reading, checked, frames_of, segment_case
from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.predict import Predictor

INTERNAL, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes, as in `samed2.cli.main`


@dataclass
class Batch:
    """What is done with every case.

    Attributes:
        load: gives the predictor; called once, after the first case was read and checked.
        resume: leave out cases whose results are there already.
        keep_notes: leave beside the results what `resume` needs.
        show: print results as text; off where they are printed as JSON.
    """

    cases: list[Path]
    files: dict[Path, Files]
    prompts: PromptSource
    reading: Reading
    method: Method
    load: Callable[[], Predictor]
    memory: Path | None = None
    resume: bool = False
    keep_notes: bool = False
    show: bool = True
    quiet: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)
    _predictor: Predictor | None = None

    def predictor(self) -> Predictor:
        """Return the predictor, loaded when it is first needed."""
        if self._predictor is None:
            self._predictor = self.load()
        return self._predictor

    def options(self) -> dict[str, Any]:
        """Return the options that results depend on."""
        return {"reading": asdict(self.reading), "method": asdict(self.method)}

    def key(self, case: Path) -> str:
        """Return a hash of all that the results of a case depend on."""
        from samed2 import __version__

        return key_of(
            {
                "version": __version__,
                "model": self.predictor().fingerprint,
                "memory": state_of(self.memory) if self.memory is not None else None,
                "case": [str(case.resolve()), state_of(case)],
                "prompts": self.prompts.state(case),
                "files": [[name, str(path)] for name, path in self.files[case]],
                **self.options(),
            }
        )


def run(batch: Batch, report: RunReport) -> None:
    """Segment all cases.

    Raises:
        InputError: cases failed, or the report cannot be written.
        typer.Exit: internal errors, or Ctrl-C; what was finished stays.
    """
    crashed = False
    total = len(batch.cases)
    at = 0
    try:
        with progress(total, batch.quiet) as steps:
            for at, case in enumerate(batch.cases):
                try:
                    report.set(at, _one(batch, case, report, steps))
                except InputError as error:
                    report.set(at, {**_entry(case, "failed"), "errors": [str(error)]})
                    if total == 1 or _no_space(error):
                        raise
                    complain(str(error))
                except Exception as error:  # of one case; the others may be sound
                    if total == 1:
                        raise
                    crashed = True
                    words = f"internal error: {type(error).__name__}: {error}"
                    trace = "".join(traceback.format_exception(error))
                    report.set(at, {**_entry(case, "failed"), "errors": [words], "traceback": trace})
                    complain(f"{case}: {words}")
                steps.done()
    except KeyboardInterrupt:
        if report.cases[at]["status"] == "waiting":
            report.cases[at] = _entry(batch.cases[at], "interrupted")
        report.finish("interrupted")
        begun = journal_of(batch.files[batch.cases[at]]).exists()
        again = "; the same line with --resume goes on" if batch.keep_notes or begun else ""
        complain(f"interrupted after {at} of {total} cases{again}")
        raise typer.Exit(INTERRUPTED) from None
    except BaseException:
        report.finish("failed")
        raise
    failed = report.counts().get("failed", 0)
    report.finish("failed" if failed else "done")
    if failed:
        complain(f"{failed} of {total} cases could not be segmented, see above")
        raise typer.Exit(INTERNAL if crashed else BAD_INPUT)


def _entry(case: Path, status: str) -> dict[str, Any]:
    return {"case": str(case), "status": status, "files": [], "objects": [], "warnings": [], "errors": []}


def _one(batch: Batch, case: Path, report: RunReport, steps: Steps) -> dict[str, Any]:
    """Segment one case, write its files, print a line per object, and return its entry of the report."""
    files = batch.files[case]
    key = None
    if batch.resume and (before := made_before(files, key := batch.key(case))) is not None:
        drop_journal(files)
        if batch.show:
            print(f"{case}: made before, skipped")
        else:
            batch.results.append({"image": str(case), "skipped": True, **before})
        return {**before, "status": "skipped"}
    if not batch.resume:
        drop_journal(files)
    start = time.perf_counter()
    scan = batch.reading.open(case)
    given = checked(scan, batch.prompts.of(case, scan), batch.method)
    predictor = batch.predictor()
    report.describe(model=_model(predictor))
    steps.case(str(case), frames_of(scan, given, batch.method))
    result = segment_case(predictor, scan, given, batch.method, steps.frame, journal_of(files))
    seconds = time.perf_counter() - start
    for message in scan.warnings:
        warn(message)
    written = [str(path) for path in outputs.write_all(result, scan, files, batch.method.window)]
    summary = result.to_dict()
    entry = {
        **_entry(case, "done"),
        "files": written,
        "objects": outputs.brief(summary),
        "shape": list(scan.shape),
        "seconds": round(seconds, 3),
        "warnings": list(scan.warnings),
    }
    if batch.keep_notes:
        note(files, key or batch.key(case), entry)
    drop_journal(files)
    if batch.show:
        outputs.print_objects(scan.label, summary)
        print(f"{scan.label}: wrote {_named(written)} ({seconds:.2f} s)", flush=True)
    else:
        batch.results.append({"image": scan.label, "files": written, **summary})
    return entry


def _no_space(error: InputError) -> bool:
    """Whether the disk is full: then the other cases would be segmented in vain."""
    return getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _named(files: list[str]) -> str:
    """Many files of one case by the first and the last."""
    return ", ".join(files) if len(files) <= 8 else f"{files[0]} to {files[-1]} ({len(files)} files)"


def _model(predictor: Predictor) -> dict[str, Any]:
    return {
        "name": predictor.name,
        "weights": predictor.fingerprint,
        "device": str(predictor.device),
        "precision": str(predictor.engine.dtype or "float32").removeprefix("torch."),
    }
