"""The best Dice that perfect logits could reach at several input sizes, seen through the predictor's views.

    python benchmarks/resolution.py --data DIR --split val

One tight box per component. Each component is averaged to a quarter of the input size, as the
decoder's logits are, cut at a half and pasted back on the image's grid. `asked` is what the prompts leave: specks and
the parts beyond the 32 largest get no box, but stay in the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from samed2.cli.evaluate_run import limited
from samed2.data import open_cases
from samed2.evaluate.metrics import dice
from samed2.evaluate.settings import middle_frames
from samed2.predict.rows import snapped_view
from samed2.predict.zoom import paste, sample
from samed2.prompts.simulate import components, tight_box

SIZES = (64, 128, 192, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=6, help="cases per data set")
    parser.add_argument("--margin", type=float, default=1.3)
    options = parser.parse_args()
    scores: dict[str, list[list[float]]] = defaultdict(list)
    for case in limited(open_cases(options.data, [options.split]), options.limit, 0):
        loaded = case.load()
        for name, mask in loaded.masks.items():
            truth = mask[middle_frames(mask, 1)[0]]
            if parts := components(truth):
                found = [dice(through(truth, size, options.margin), truth) for size in SIZES]
                found.append(dice(np.logical_or.reduce(parts), truth))
                scores[f"{case.dataset}/{name}"].append(found)
    columns = [*(f"{size} px" for size in SIZES), "asked"]
    table = Table("task", *columns)
    means = {task: np.mean(values, axis=0) for task, values in scores.items()}
    for task, values in sorted(means.items()):
        table.add_row(task, *(f"{v:.3f}" for v in values))
    Console(file=sys.stdout, width=100).print(table)
    rest = np.mean([v for task, v in means.items() if "vessel" not in task], axis=0)
    names = [f"macro_dice_{column.removesuffix(' px')}" for column in columns]
    print(json.dumps({name: round(float(v), 4) for name, v in zip(names, rest, strict=True)}))


def through(truth: NDArray[np.bool_], size: int, margin: float) -> NDArray[np.bool_]:
    """(H, W) mask -> the mask that perfect logits at this input size give."""
    height, width = truth.shape
    found = np.zeros_like(truth)
    for part in components(truth):
        view = snapped_view(tight_box(part), margin, size, height, width, (16.0, 1.5))
        seen = sample(torch.from_numpy(part.astype(np.float32))[None], view)
        found |= paste(F.avg_pool2d(seen[None], 4)[0] - 0.5, view, height, width)[0].numpy() > 0
    return found


if __name__ == "__main__":
    main()
