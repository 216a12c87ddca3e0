"""How long a prompt takes on one image: the first (encoder and decoder) and further ones (decoder only).

    python benchmarks/latency.py [--model nano] [--image-px 512] [--repeats 20]

The first prompt is a box on an image not seen before. A further prompt is a corrective click on the same object;
another object's box elsewhere in the image, which needs a view of its own, is timed apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from samed2.io import Scan
from samed2.predict import Predictor
from samed2.prompts import Prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--image-px", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default=None)
    options = parser.parse_args()
    start = time.perf_counter()
    predictor = Predictor.from_pretrained(options.model, device=options.device)
    loading = (time.perf_counter() - start) * 1000
    times = measure(predictor, options.image_px, options.repeats)
    table = Table(title=f"{options.model}, {options.image_px} px, {predictor.device}, loaded in {loading:.0f} ms")
    for heading in ("what", "median ms", "fastest ms", "slowest ms"):
        table.add_column(heading)
    for name, values in times.items():
        table.add_row(name, *(f"{f(values):.1f}" for f in (np.median, np.min, np.max)))
    Console(file=sys.stdout, width=100).print(table)
    result = {
        "first_prompt_ms": round(float(np.median(times["first prompt"])), 1),
        "next_prompt_ms": round(float(np.median(times["next prompt, same object"])), 1),
        "new_object_ms": round(float(np.median(times["box of another object"])), 1),
        "image_px": options.image_px,
    }
    print(json.dumps(result))


def measure(predictor: Predictor, side: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each kind of prompt, each time on a new image, after one round to warm up."""
    times: dict[str, list[float]] = {
        "first prompt": [],
        "next prompt, same object": [],
        "box of another object": [],
    }
    for repeat in range(repeats + 1):
        scan = picture(side, repeat)
        box = (side * 0.2, side * 0.25, side * 0.55, side * 0.6)
        click = (side * 0.4, side * 0.4)
        first = clocked(lambda s=scan, b=box: predictor.predict(s, Prompts().add_box(1, 0, *b)))
        corrected = Prompts().add_box(1, 0, *box).add_point(1, 0, *click)
        second = clocked(lambda s=scan, p=corrected: predictor.predict(s, p))
        elsewhere = Prompts().add_box(1, 0, side * 0.6, side * 0.65, side * 0.8, side * 0.9)
        third = clocked(lambda s=scan, p=elsewhere: predictor.predict(s, p))
        if repeat:
            for values, value in zip(times.values(), (first, second, third), strict=True):
                values.append(value)
    return times


def picture(side: int, seed: int) -> Scan:
    """A grey ellipse on noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    inside = ((y - 0.375) / 0.17) ** 2 + ((x - 0.425) / 0.17) ** 2 < 1
    values = rng.normal(80, 15, (side, side)) + 80 * inside
    return Scan.from_array(np.clip(values, 0, 255).astype(np.uint8), kind="image")


def clocked(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
