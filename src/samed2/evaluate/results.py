"""The results of a run: rows, tables and `results.json`.

A results folder holds

- `rows.jsonl`: one row per (case, object), written as the run goes; in the order of the cases once it is done;
- `cases.parquet`, `cases.csv`: the same rows as tables;
- `results.json`: see `summary_of`;
- `masks/`: see `samed2.evaluate.keep`.

Columns: dataset, object, task, case, patient, modality, kind, split; status ("ok", "skipped", "failed") and reason;
size (pixels of the object per frame, voxels in 3-D), share (of the frame), components, frames (scored), points, boxes,
masks, prompts (given for the case); unit ("mm" or "px" of lengths and tolerance); dice, iou, nsd, hd95, assd;
predicted_iou and true_iou; pixel_* and border_* calibration; dice_1, ... after each step; baseline_NAME_dice, _iou and
_nsd; notes; predictions (frames the model was asked for) and, apart from these as they differ between equal runs, the
model's seconds and the most memory of the process so far, memory_mb and gpu_mb.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samed2.errors import InputError
from samed2.io import atomic_path, atomic_write
from samed2.io.json_file import read_json

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
METRICS = ("dice", "nsd", "iou", "hd95", "assd")
BASELINE_METRICS = ("dice", "nsd", "iou")
ROWS, PARQUET, CSV, JSON = "rows.jsonl", "cases.parquet", "cases.csv", "results.json"
PEAKS = {"ram": "memory_mb", "gpu": "gpu_mb"}
TIMINGS = ("seconds", "memory_mb", "gpu_mb")  # columns that may differ between two equal runs
Row = Mapping[str, Any]


@dataclass
class Results:
    """A finished run.

    Attributes:
        document: what `results.json` holds.
        rows: all rows, skipped and failed ones included.
        folder: where they lie, None before they are saved.
    """

    document: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path | None = None

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.document["summary"])

    @property
    def baselines(self) -> dict[str, dict[str, Any]]:
        return dict(self.document["baselines"])

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        return dict(self.document["tasks"])

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.document["config"])

    def frame(self, status: str | None = "ok") -> pd.DataFrame:
        """The rows of one status (None: all) as a table."""
        import pandas as pd

        return pd.DataFrame([row for row in self.rows if status is None or row["status"] == status])

    def save(self, folder: Path | str) -> Path:
        """Write rows, tables and `results.json` into a folder, the last one last, and return the folder.

        Raises:
            InputError: the folder cannot be written.
        """
        target, self.document = Path(folder), finite(self.document)
        atomic_write(target / ROWS, "".join(line(row) for row in self.rows))
        table = self.frame(None)
        for name, write in ((PARQUET, table.to_parquet), (CSV, table.to_csv)):
            with atomic_path(target / name) as path:
                write(path, index=False)
        atomic_write(target / JSON, json.dumps(self.document, indent=2, ensure_ascii=False, allow_nan=False))
        self.folder = target
        return target

    @classmethod
    def load(cls, folder: Path | str) -> Results:
        """A finished run's folder.

        Raises:
            InputError: no results there, an older form, or damaged files.
        """
        source = Path(folder)
        path = source / JSON
        if not path.is_file():
            unfinished = "; the run there is not finished, start it again" if (source / ROWS).is_file() else ""
            raise InputError(f"{path}: not found, wanted the folder of a finished evaluation{unfinished}")
        document = read_json(path, f"results of schema {SCHEMA}", "run the evaluation again")
        if document.get("schema") != SCHEMA:
            raise InputError(f"{path}: is not of schema {SCHEMA}; run the evaluation again")
        return cls(document, read_rows(source / ROWS), source)


def line(row: Row) -> str:
    """A row as one line of JSON; undefined numbers are null."""
    return json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; a last line that was cut off is left out.

    Raises:
        InputError: another line is no row.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    rows = []
    for number, text in enumerate(lines, start=1):
        if not text:
            continue
        try:
            row = json.loads(text)
            if not isinstance(row, dict) or not {"dataset", "case", "object", "task", "status"} <= set(row):
                raise ValueError("fields are missing")
        except ValueError as error:
            if number == len(lines):
                break  # what follows the last line break was being written when the run was stopped
            raise InputError(f"{path}: line {number} is no row ({error}); remove the folder and run again") from error
        rows.append({key: math.nan if value is None else value for key, value in row.items()})
    return rows


def finite(value: Any) -> Any:
    """The value with null for numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rows_hash(rows: Sequence[Row]) -> str:
    """SHA-256 of rows without their timings: equal for two runs that gave the same answers."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(line({key: value for key, value in row.items() if key not in TIMINGS}).encode())
    return digest.hexdigest()


def summary_of(rows: Sequence[Row], seed: int, resamples: int) -> dict[str, Any]:
    """What `results.json` says about rows: `summary`, `baselines`, `tasks`, `calibration`, `counts`, ....

    `summary.macro_dice` is the mean over tasks of the mean over cases, `summary.case_dice` the mean over all rows,
    `_ci` their 95 % bootstrap intervals. `tasks.TASK.dice` and `baselines.NAME.macro_dice` alike.

    Raises:
        InputError: no row has a score.
    """
    import pandas as pd

    from samed2.evaluate.statistics import summarise

    scored = [row for row in rows if row["status"] == "ok"]
    counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "skipped", "failed")}
    if not scored:
        why = next((row["reason"] for row in rows), "there is no case")
        raise InputError(f"evaluation: none of {len(rows)} rows has a score; the first one: {why}")
    table = pd.DataFrame(scored)
    summary: dict[str, Any] = {"cases": len(scored), "tasks": int(table["task"].nunique())}
    tasks: dict[str, dict[str, Any]] = {str(task): {} for task in sorted(table["task"].unique())}
    for metric in METRICS:
        found = summarise(table, metric, seed, resamples)
        summary |= found.flat()
        for task, values in found.flat_tasks().items():
            tasks[task] |= values
    return {
        "summary": summary | _steps(table, seed, resamples),
        "baselines": _baselines(table, tasks, seed, resamples),
        "tasks": tasks,
        "calibration": _calibration(table),
        "counts": counts,
        "skipped": _listed(rows, "skipped"),
        "failed": _listed(rows, "failed"),
        "notes": {str(k): int(v) for k, v in table["notes"].value_counts().items() if k},
        "prompts_per_case": {k: float(table[k].mean()) for k in ("points", "boxes", "masks", "prompts")},
        "seconds": _seconds(table),
        "peak_memory_mb": {k: float(table[c].max()) for k, c in PEAKS.items() if c in table},
    }


def _baselines(table: pd.DataFrame, tasks: dict[str, dict[str, Any]], seed: int, resamples: int) -> dict[str, Any]:
    """The same for every baseline; its means per task go into `tasks.TASK.baselines.NAME`, too."""
    from samed2.evaluate.statistics import summarise

    names = [c.removeprefix("baseline_").removesuffix("_dice") for c in table if c.startswith("baseline_")]
    baselines: dict[str, Any] = {}
    for name in (n for n in names if f"baseline_{n}_dice" in table):
        baselines[name] = {"tasks": {}}
        for metric in BASELINE_METRICS:
            renamed = table.assign(**{metric: table[f"baseline_{name}_{metric}"]})
            found = summarise(renamed, metric, seed, resamples)
            baselines[name] |= found.flat()
            for task, values in found.flat_tasks().items():
                baselines[name]["tasks"].setdefault(task, {})[metric] = values[metric]
        for task, values in baselines[name]["tasks"].items():
            tasks[task].setdefault("baselines", {})[name] = values["dice"]
    return baselines


def _steps(table: pd.DataFrame, seed: int, resamples: int) -> dict[str, Any]:
    """Macro and case means of the columns of interactive protocols."""
    from samed2.evaluate.statistics import summarise

    names = [c for c in table if str(c).split("_")[0] in ("dice", "nsd") and "_" in str(c)]
    found: dict[str, Any] = {}
    for name in names:
        found |= {k: v for k, v in summarise(table, name, seed, resamples).flat().items() if "undefined" not in k}
    return found


def _calibration(table: pd.DataFrame) -> dict[str, Any]:
    """Predicted against true IoU over the rows, and the means of the pixels' calibration."""
    from samed2.evaluate.metrics import confidence_calibration

    found: dict[str, Any] = {}
    if table["predicted_iou"].notna().any():
        predicted = table["predicted_iou"].to_numpy(float)
        found |= confidence_calibration(predicted, table["true_iou"].to_numpy(float)).to_dict()
    pixels = [c for c in table if str(c).startswith(("pixel_", "border_"))]
    return found | {str(name): float(table[name].mean()) for name in pixels}


def _listed(rows: Sequence[Row], status: str) -> list[dict[str, Any]]:
    keys = ("dataset", "case", "object", "reason")
    return [{key: row[key] for key in keys} for row in rows if row["status"] == status]


def _seconds(table: pd.DataFrame) -> dict[str, float]:
    """Of the model alone: per prediction (one frame), per row, and in all."""
    asked = table[table["predictions"] > 0]
    each = asked["seconds"] / asked["predictions"]
    return {
        "per_prediction_median": float(each.median()) if len(each) else math.nan,
        "per_case_median": float(table["seconds"].median()),
        "total": float(table["seconds"].sum()),
    }
