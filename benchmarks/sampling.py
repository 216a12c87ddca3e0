"""How many frames per second a store gives for training: read, decoded, cropped and augmented at 256 px.

    python benchmarks/sampling.py --data FOLDER [--store DIR] [--max-side 256] [--seconds 20] [--workers 1 2]

FOLDER is a folder with items.csv, from which a store is built first (in a temporary folder, or in DIR to keep it), or
a store. Tasks are drawn equally often; half of the batches are clips of 3 frames. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from samed2.data.frames import open_table
from samed2.data.samples import BatchPlan
from samed2.data.sampling import BALANCES, Sampler
from samed2.data.stream import ClipStream, clip_loader

WARM_UP = 4  # batches of each worker before the clock starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--max-side", type=int, default=256)
    parser.add_argument("--image-px", type=int, default=256)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--balance", choices=list(BALANCES), default="task")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = prepared(options.data, options.store or Path(temporary) / "store", options.max_side)
        started = time.perf_counter()
        table = open_table(store, ["train"])
        print(f"{len(table.cases)} cases, {len(table)} frames of tasks, opened in {clock(started):.2f} s")
        sampler = Sampler(table, options.balance)
        plan = BatchPlan(image_size=options.image_px, rows=options.rows, frames=3, clips=0.5)
        shown = Table("workers", "frames per second", "batches")
        result: dict[str, float] = {}
        for workers in options.workers:
            fps, batches = measure(ClipStream(sampler, plan, 10**9), workers, options.seconds)
            shown.add_row(str(workers), f"{fps:.1f}", str(batches))
            result[f"fps_{workers}"] = round(fps, 1)
    Console(file=sys.stdout).print(shown)
    print(f"{os.cpu_count()} CPU cores, {options.image_px} px, {options.rows} frames in a batch")
    print(json.dumps(result))


def prepared(data: Path, store: Path, max_side: int) -> Path:
    """`data` itself if it is a store, else one built of it."""
    if not (data / "items.csv").is_file():
        return data
    from samed2.data.catalog import resolve_source
    from samed2.data.store import build

    started = time.perf_counter()
    manifest = build([resolve_source(f"folder:{data}")], store, max_side=max_side, workers=min(2, os.cpu_count() or 1))
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(f"store: {manifest.cases} cases, {manifest.rows} frames, {size:.1f} MB, built in {clock(started):.0f} s")
    return store


def measure(stream: ClipStream, workers: int, seconds: float) -> tuple[float, int]:
    """(frames per second, batches) over about `seconds`, after every worker has warmed up."""
    frames = batches = 0
    started = time.perf_counter()
    for number, batch in enumerate(clip_loader(stream, workers)):
        if number < WARM_UP * max(1, workers):
            started = time.perf_counter()
            continue
        frames += batch.pixels.shape[0] * batch.pixels.shape[1]
        batches += 1
        if clock(started) > seconds:
            break
    return frames / clock(started), batches


def clock(started: float) -> float:
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
