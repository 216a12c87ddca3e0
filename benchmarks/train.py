"""How fast training is, where the time goes, and what MedBank-100k would take.

    python benchmarks/train.py --data STORE [--recipe recipes/rounds/nano-boxes.yaml] [--steps 30] [FIELD=VALUE ...]

Runs steps of a recipe and prints, by episode, encoded images per second, and the share of time spent waiting for
batches; on a GPU also the share of its peak. The cost of MedBank-100k (122,594 image-mask pairs, Hiera-S, 1024 px,
100 epochs) is estimated from two numbers: the floating-point operations of a forward pass of that model, counted on
this machine, and the operations per second reached in the steps. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from samed2.nn import SAMed2Model
from samed2.nn.builders import sam2_config
from samed2.nn.model import PromptTensors
from samed2.train.recipe import load_recipe
from samed2.train.trainer import Trainer

PAIRS, EPOCHS = 122_594, 100
BACKWARD = 3  # forward and backward together, over forward
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # bf16, dense, operations per second, by their makers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=Path("recipes/rounds/nano-boxes.yaml"))
    parser.add_argument("--data", type=Path, help="instead of the recipe's")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--cost-px", type=int, default=1024, help="input side of the model whose cost is estimated")
    parser.add_argument("overrides", nargs="*", help="fields of the recipe, as name=value")
    options = parser.parse_args()
    changes = [*options.overrides, "data.val_splits=[]"]
    changes += [f"data.root={options.data}"] if options.data else []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(load_recipe(options.recipe, [*changes, f"out={folder}/run"]))
        result = measure(trainer, options.steps, options.warm_up)
    work = forward_operations(trainer.model, trainer.recipe.stages[0].image_size)
    rate = BACKWARD * work * result["images_per_s"]
    per_image = BACKWARD * forward_operations(hiera_small(options.cost_px), options.cost_px)
    hours = PAIRS * EPOCHS * per_image / rate / 3600
    result |= {
        "gflop_per_image": round(BACKWARD * work / 1e9, 2),
        "gflop_per_s": round(rate / 1e9, 1),
        "medbank_100k_gflop_per_image": round(per_image / 1e9, 1),
        "medbank_100k_hours": round(hours, 1),
    }
    name = torch.cuda.get_device_name() if trainer.processes.device.type == "cuda" else ""
    peak = next((value for key, value in PEAKS.items() if key in name), None)
    if peak:
        result["share_of_peak"] = round(rate / peak, 4)
    print(
        f"MedBank-100k, {PAIRS} pairs x {EPOCHS} epochs, Hiera-S at {options.cost_px} px: "
        f"{per_image / 1e9:.0f} GFLOP an image, {hours:.0f} hours at {rate / 1e9:.0f} GFLOP/s as reached here"
    )
    print(json.dumps(result))


def measure(trainer: Trainer, steps: int, warm_up: int) -> dict[str, float]:
    """Run steps; print a table by episode and return the figures over all."""
    seconds: dict[str, float] = defaultdict(float)
    images: dict[str, int] = defaultdict(int)
    waited = 0.0
    batches = trainer._batches(0)
    for number in range(warm_up + steps):
        started = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        trainer._step(batch)
        if trainer.processes.device.type == "cuda":
            torch.cuda.synchronize()
        trainer.state.step += 1
        if number >= warm_up:
            waited += ready - started
            seconds[batch.episode] += time.perf_counter() - ready
            images[batch.episode] += batch.pixels.shape[0] * batch.pixels.shape[1]
    shown = Table("episode", "encoded images", "images/s")
    for episode in sorted(seconds):
        shown.add_row(episode, str(images[episode]), f"{images[episode] / seconds[episode]:.1f}")
    total = sum(seconds.values()) + waited
    Console(file=sys.stdout).print(shown)
    print(f"{trainer.processes.device}, {torch.get_num_threads()} threads, {trainer.recipe.precision}")
    return {
        "images_per_s": round(sum(images.values()) / total, 2),
        "seconds_per_step": round(total / steps, 3),
        "waiting": round(waited / total, 4),
    }


def hiera_small(side: int) -> SAMed2Model:
    """The paper's model, without weights worth anything."""
    return SAMed2Model._from_config(sam2_config("small", image_size=side)).eval()


@torch.inference_mode()
def forward_operations(model: SAMed2Model, side: int) -> float:
    """Floating-point operations of encoding one image and answering one box."""
    model.eval()
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        features = model.encode(torch.zeros(1, 1, 3, side, side, device=device))
        features = features._replace(low=model.condition(features.low))
        box = torch.tensor([[0.25, 0.25, 0.75, 0.75]], device=device) * side
        model.candidates(features, PromptTensors(boxes=box))
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
