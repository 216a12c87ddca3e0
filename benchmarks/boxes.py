"""Dice of a model with one box or point per connected component, against the ellipse inscribed in the boxes.

    python benchmarks/boxes.py --data DIR --split test external --model nano

DIR is in the `folder` layout (see samed2/data/convert/folder.py). Images are used whole; of a volume or video the two
slices next to the middle of the object's extent. Boxes: 8-connected components of at least 16 pixels, the 32
largest, each side moved outward by up to 5 % of the box (seeded per item); masks are united. Dice is per
object and image, then the mean over a case's slices, cases and objects (macro). With `--prompt point` the model
gets the deepest point of each component instead; the ellipse still has the boxes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from samed2.data import open_cases
from samed2.data.cases import Case, LoadedCase
from samed2.predict import Predictor
from samed2.prompts import Prompts
from samed2.prompts.simulate import center_point, components, ellipse_mask, jitter_box, tight_box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with items.csv")
    parser.add_argument("--split", nargs="+", default=["test"], help="values of the split column")
    parser.add_argument("--model", default="nano", help="built-in name or folder")
    parser.add_argument("--prompt", choices=("box", "point"), default="box")
    parser.add_argument("--jitter", type=float, default=0.05, help="largest outward shift, share of the box")
    parser.add_argument("--limit", type=int, default=0, help="at most this many items per data set (0: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="a setting of the predictor, NAME=VALUE")
    options = parser.parse_args()
    options.settings = {name: json.loads(value) for name, value in (s.split("=", 1) for s in options.set)}
    predictor = Predictor.from_pretrained(options.model)
    summary: dict[str, object] = {name: getattr(options, name) for name in ("model", "prompt", "jitter", "seed")}
    for split in options.split:
        items = limited(open_cases(options.data, [split]), options.limit)
        start = time.perf_counter()
        scores = evaluate(predictor, items, options)
        summary[split] = report(f"{split}, {options.prompt}", scores, time.perf_counter() - start)
    print(json.dumps(summary))


def evaluate(
    predictor: Predictor, items: list[Case], options: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """(model Dice, ellipse Dice) per case, by task."""
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with ThreadPoolExecutor(1) as pool:  # reads the next item while the model works
        loaded = pool.map(Case.load, items)
        for item in track(loaded, "cases", total=len(items), console=Console(stderr=True)):
            for name, mask in item.masks.items():
                pairs = [pair for frame in slices(mask) if (pair := dice_pair(predictor, item, name, frame, options))]
                if pairs:
                    model, ellipse = np.mean(pairs, axis=0)
                    scores[f"{item.case.dataset}/{name}"].append((float(model), float(ellipse)))
    return scores


def slices(mask: NDArray[np.bool_]) -> list[int]:
    """The frames to score: of a single image that one, of a stack two around the middle of the object."""
    frames = np.flatnonzero(mask.any(axis=(1, 2)))
    if len(mask) == 1 or len(frames) <= 2:
        return [int(f) for f in frames]
    return [int(frames[(len(frames) - 1) // 2]), int(frames[(len(frames) - 1) // 2 + 1])]


def dice_pair(
    predictor: Predictor, item: LoadedCase, name: str, frame: int, options: argparse.Namespace
) -> tuple[float, float] | None:
    """Dice of the model and of the ellipses on one frame; None when no component is large enough."""
    truth = item.masks[name][frame]
    key = f"{item.case.dataset}/{item.case.name}/{name}/{frame}"
    rng = np.random.default_rng([options.seed, zlib.crc32(key.encode())])
    parts = components(truth)
    if not parts:
        return None
    boxes = [jitter_box(tight_box(part), options.jitter, rng, truth.shape) for part in parts]
    prompts = Prompts()
    for number, (part, box) in enumerate(zip(parts, boxes, strict=True), start=1):
        if options.prompt == "point":
            prompts.add_point(number, frame, *center_point(part))
        else:
            prompts.add_box(number, frame, *box)
    found = predictor.predict(item.scan, prompts, frame, **options.settings)
    united = np.any([answer.mask for answer in found], axis=0)
    ellipses = np.any([ellipse_mask(box, truth.shape) for box in boxes], axis=0)
    return dice(united, truth), dice(ellipses, truth)


def dice(guess: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two (H, W) masks; 1 when both are empty."""
    total = int(guess.sum()) + int(truth.sum())
    return 2 * int((guess & truth).sum()) / total if total else 1.0


def report(split: str, scores: dict[str, list[tuple[float, float]]], seconds: float) -> dict[str, float]:
    """Print a table and give the means back."""
    table = Table(title=f"{split} per component: Dice")
    for heading in ("task", "cases", "model", "ellipse", "gain"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    means = {task: np.mean(pairs, axis=0) for task, pairs in sorted(scores.items())}
    for task, (model, ellipse) in means.items():
        table.add_row(task, str(len(scores[task])), f"{model:.3f}", f"{ellipse:.3f}", f"{model - ellipse:+.3f}")
    macro = np.mean(list(means.values()), axis=0)
    table.add_row("macro mean", str(len(means)), *(f"{v:.4f}" for v in macro), f"{macro[0] - macro[1]:+.4f}")
    Console(file=sys.stdout, width=100).print(table)
    cases = np.concatenate([np.array(pairs) for pairs in scores.values()]).mean(axis=0)
    return {
        "macro_dice": round(float(macro[0]), 4),
        "ellipse_macro_dice": round(float(macro[1]), 4),
        "case_dice": round(float(cases[0]), 4),
        "ellipse_case_dice": round(float(cases[1]), 4),
        "seconds": round(seconds, 1),
    }


def limited(items: list[Case], limit: int) -> list[Case]:
    count: dict[str, int] = defaultdict(int)
    kept = []
    for item in items:
        count[item.dataset] += 1
        if not limit or count[item.dataset] <= limit:
            kept.append(item)
    return kept


if __name__ == "__main__":
    main()
