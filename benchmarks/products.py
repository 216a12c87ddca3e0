"""Matrix products as torch sends them (fp32 to MKL, bf16 to oneDNN) and as convolutions of one cell, in GFLOP/s.

    python benchmarks/products.py [--precision fp32|bf16] [--threads 2] [--repeats 20]

The shapes are those of Hiera-T at 512 px, of the memory attention, and small ones around the size from which
`samed2.nn.products` takes the detour. The last line is JSON: the smallest and the median gain of those that take it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from samed2.allocation import keep_freed_memory
from samed2.nn import products

SHAPES = (
    (16384, 96, 384),
    (16384, 384, 96),
    (5120, 256, 2048),
    (4096, 192, 768),
    (1024, 384, 1536),
    (1024, 1536, 384),
    (1024, 256, 512),
    (1024, 512, 64),
    (256, 768, 3072),
    (128, 256, 256),
    (256, 96, 288),
    (128, 96, 288),
    (64, 256, 256),
)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: by autocast")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    half, capability = options.precision == "bf16", torch.backends.cpu.get_cpu_capability()
    table = Table(title=f"{options.precision}, {options.threads} threads, {capability}")
    for heading in ("rows", "terms", "columns", "product", "convolution", "times", "detour"):
        table.add_column(heading, justify="right")
    gains = []
    for rows, terms, columns in SHAPES:
        kind = torch.bfloat16 if half else torch.float32
        x, weight, bias = (torch.randn(shape, dtype=kind) for shape in ((rows, terms), (columns, terms), (columns,)))
        speeds = []
        for gains_here in (False, True):
            with (
                mock.patch.object(products, "_gains", lambda here=gains_here: here),
                mock.patch.multiple(products, FEWEST_ROWS=1, FEWEST_ROWS_MIXED=1, FEWEST_TERMS=1),
                torch.autocast("cpu", torch.bfloat16, enabled=half),
            ):
                seconds = quickest(lambda: products.product(x, weight, bias), options.repeats)  # noqa: B023
            speeds.append(2 * rows * terms * columns / seconds / 1e9)
        fewest = products.FEWEST_ROWS_MIXED if half else products.FEWEST_ROWS
        taken = rows >= fewest and rows * terms * columns >= products.FEWEST_TERMS
        if taken:
            gains.append(speeds[1] / speeds[0])
        cells = (f"{speeds[0]:.0f}", f"{speeds[1]:.0f}", f"{speeds[1] / speeds[0]:.2f}", "yes" if taken else "no")
        table.add_row(str(rows), str(terms), str(columns), *cells)
    Console(file=sys.stdout, width=100).print(table)
    print(json.dumps({"least": round(min(gains), 2), "median": round(float(np.median(gains)), 2)}))


def quickest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the quickest of some runs, after two that are not counted."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[2:])


if __name__ == "__main__":
    main()
