"""Peak memory and seconds per frame of propagation, by the length of the video.

    python benchmarks/length.py [--frames 100 1000 5000] [--model nano]

Each length runs in a process of its own on a made-up video of 256 x 256 px, whose frames are drawn when they are asked
for: a disc that wanders over noise, followed from a box on the first frame to the last one, and put together as
`Predictor.segment` does. Last line: {"peak_mb": {"100": ..}, "ms_per_frame": {"100": ..}}.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

SIDE = 256


class Wandering:
    """Frames (T, 256, 256) of a disc on noise, made one by one."""

    def __init__(self, count: int) -> None:
        self.shape, self.dtype = (count, SIDE, SIDE, 1), np.dtype(np.uint8)
        self._y, self._x = np.mgrid[:SIDE, :SIDE]

    def centre(self, index: int) -> tuple[float, float]:
        """Where the disc is: (y, x)."""
        return 128 + 60 * np.sin(index / 90), 128 + 60 * np.cos(index / 130)

    def read(self, index: int) -> np.ndarray:
        """One frame (256, 256)."""
        y, x = self.centre(index)
        noise = np.random.default_rng(index).integers(0, 80, (SIDE, SIDE))
        return (noise + 130 * ((self._y - y) ** 2 + (self._x - x) ** 2 < 30**2)).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.model)))
        return
    table = Table("frames", "peak MB", "ms per frame", "Dice")
    peaks, times = {}, {}
    for count in options.frames:
        command = [sys.executable, __file__, "--one", str(count), "--model", options.model]
        line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        found = json.loads(line)
        peaks[str(count)], times[str(count)] = round(found["peak_mb"]), round(found["ms"], 1)
        table.add_row(str(count), f"{found['peak_mb']:.0f}", f"{found['ms']:.1f}", f"{found['dice']:.3f}")
    Console(file=sys.stdout, width=80).print(table)
    print(json.dumps({"peak_mb": peaks, "ms_per_frame": times}))


def measure(count: int, model: str) -> dict[str, float]:
    from samed2.allocation import keep_freed_memory
    from samed2.io import Scan
    from samed2.io.scratch import walked
    from samed2.predict import Predictor, Tracking
    from samed2.predict.collect import collect
    from samed2.prompts import Prompts

    keep_freed_memory()  # as the command line does
    source = Wandering(count)
    scan = Scan(source, name="wandering", kind="video")
    y, x = source.centre(0)
    prompts = Prompts().add_box(1, 0, y - 31, x - 31, y + 31, x + 31)
    predictor = Predictor.from_pretrained(model, device="cpu")
    scores = []
    start = time.perf_counter()
    answers = predictor.propagate(scan, prompts, direction="forward", tracking=Tracking(patience=0))
    result = collect(scan, prompts, answers)
    seconds = time.perf_counter() - start
    for frame, labels in enumerate(walked(result.labels)):
        if frame % 10 == 0:
            truth = source.read(frame) >= 130
            scores.append(2 * (truth & (labels == 1)).sum() / max(truth.sum() + (labels == 1).sum(), 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"peak_mb": peak, "ms": 1e3 * seconds / count, "dice": float(np.mean(scores))}


if __name__ == "__main__":
    main()
