"""Propagation against transformers' own SAM-2 video session, and the fast setting against the exact one.

    python benchmarks/propagation.py [--size nano|tiny] [--frames 24] [--seed 0] [--rounds 3]

Against transformers: the same random weights (seeded, the object score raised so that no mask is hidden), boxes and
precision, in the setting that it knows: no adapters, the whole frame, SAM-2's streaming memory. `nano` has the shape
of the built-in model, `tiny` is Hiera-T at 512 px.
Fast against exact, both with `--neighbours 3`: fp32 with temporal adapters that all see the neighbours, against what
`samed2 segment --fast` does: bf16 but for the decoder, neighbours for the first adapter alone, and a streaming memory
of three recent frames instead of six. `nano` is here the built-in model as it is used, each object in a view that
follows it; `tiny` has fresh adapters, which change nothing yet, and looks at the whole frame. All see the same moving
discs on noise. Peak memory is that of a process of its own for each side.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

SIDES = ("theirs", "ours", "exact", "fast")
WARM_UP = 3  # frames that are not timed: libraries prepare their kernels when they are first used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=("nano", "tiny"), default=["nano", "tiny"])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1, help="measure so often, all sides in turn, and take medians")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--objects", type=int, default=5, help=argparse.SUPPRESS)
    parser.add_argument("--masks", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure(options)
        return
    summary = {}
    for size in options.size:
        summary[size] = compare(size, options.frames, options.seed, options.rounds)
    print(json.dumps(summary if len(summary) > 1 else next(iter(summary.values()))))


def compare(size: str, frames: int, seed: int, rounds: int) -> dict[str, float]:
    """Run all sides with one and five objects, print a table and return what is asked for."""
    import tempfile

    found: dict[tuple[str, int], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 5):
            runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
            for _, side in itertools.product(range(rounds), SIDES):
                masks = f"{folder}/{side}{count}.npy"
                command = [sys.executable, __file__, "--side", side, "--size", size, "--frames", str(frames)]
                command += ["--objects", str(count), "--seed", str(seed), "--masks", masks]
                line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
                runs[side].append(json.loads(line))
            for side in SIDES:
                medians = {key: float(np.median([run[key] for run in runs[side]])) for key in ("fps", "peak_mb")}
                found[side, count] = {**medians, "masks": np.load(f"{folder}/{side}{count}.npy")}
    table = Table(title=f"{size}, {frames} frames, median of {rounds}")
    for heading in ("side", "objects", "frames/s", "peak MB", "Dice"):
        table.add_column(heading)
    for (side, count), one in found.items():
        reference = "theirs" if side in ("theirs", "ours") else "exact"
        one["dice"] = agreement(one["masks"], found[reference, count]["masks"])
        against = "" if side == reference else f"{one['dice']:.4f} to {reference}"
        table.add_row(side, str(count), f"{one['fps']:.2f}", f"{one['peak_mb']:.0f}", against)
    Console(file=sys.stdout, width=100).print(table)
    theirs, ours, exact, fast = (found[side, 5] for side in SIDES)
    return {
        "dice": round(min(found["ours", n]["dice"] for n in (1, 5)), 4),
        "fps_ratio_1": round(found["ours", 1]["fps"] / found["theirs", 1]["fps"], 2),
        "fps_ratio_5": round(ours["fps"] / theirs["fps"], 2),
        "memory_ratio": round(ours["peak_mb"] / theirs["peak_mb"], 3),
        "fast_ratio_5": round(fast["fps"] / exact["fps"], 2),
        "fast_dice": round(fast["dice"], 4),
    }


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Dice over frames and objects of (T, N, H, W) masks; 1 where both are empty."""
    total = a.sum(axis=(2, 3)) + b.sum(axis=(2, 3))
    both = (a & b).sum(axis=(2, 3))
    return float(np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0).mean())


def measure(options: argparse.Namespace) -> None:
    """One side, in this process: write its masks and print frames per second and peak memory."""
    torch.set_num_threads(2)
    small, compatible = options.size == ["nano"], options.side in ("theirs", "ours")
    trained = small and not compatible
    model = built_in() if trained else random_model(small, compatible, options.seed)
    side = 256 if trained else model.config.image_size  # the built-in model looks through views of its own
    frames = film(options.frames, side, options.seed)
    if trained:
        discs = [disc(i) for i in range(options.objects)]
        boxes = [(y - s**0.5, x - s**0.5, y + s**0.5, x + s**0.5) for y, x, s in discs]
    else:
        boxes = [(10 + 12 * i, 8 + 15 * i, 50 + 13 * i, 60 + 10 * i) for i in range(options.objects)]
    boxes = [tuple(round(v * side / 128) for v in box) for box in boxes]
    ours = partial(run_ours, side=options.side, whole=not trained)
    runner = run_theirs if options.side == "theirs" else ours
    runner(model, frames[:WARM_UP], boxes)
    masks, seconds = runner(model, frames, boxes)
    np.save(options.masks, masks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"fps": len(frames) / seconds, "peak_mb": peak}))


def built_in() -> Any:
    """The model that is shipped."""
    from samed2.predict import Predictor

    return Predictor.from_pretrained("nano", device="cpu").model


def random_model(small: bool, compatible: bool, seed: int) -> Any:
    """A model of nano's shape or Hiera-T at 512 px with seeded weights; `compatible`: without adapters."""
    from samed2.nn import SAMed2Model
    from samed2.nn.builders import nano_config, sam2_config
    from samed2.nn.init import init_from_scratch

    settings: dict[str, Any] = {"box_tokens": "points", "box_prior": "none"}
    if compatible:
        settings["adapter_dim"] = 0
    config = nano_config(**settings) if small else sam2_config("tiny", image_size=512, **settings)
    torch.manual_seed(seed)
    model = SAMed2Model(config)
    init_from_scratch(model, seed)
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias += 20
    return model.eval()


def disc(number: int) -> tuple[float, float, float]:
    """Centre (y, x) and squared radius of a disc on the first frame, on a side of 128."""
    return 30 + 12 * number, 34 + 12 * number, 150 + 40 * number


def film(count: int, side: int, seed: int) -> np.ndarray:
    """(T, side, side) uint8: discs that move over noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] * (128 / side)
    frames = []
    for t in range(count):
        frame = rng.integers(0, 90, (side, side)).astype(float)
        for i in range(5):
            cy, cx, squared = disc(i)
            frame += 70 * ((y - cy - t / 2) ** 2 + (x - cx - t / 3) ** 2 < squared)
        frames.append(np.clip(frame, 0, 255))
    return np.stack(frames).astype(np.uint8)


def run_ours(model: Any, frames: np.ndarray, boxes: list[Any], side: str, whole: bool) -> tuple[np.ndarray, float]:
    from samed2.allocation import keep_freed_memory
    from samed2.cli.segment import FAST
    from samed2.io import Scan, resolve_window
    from samed2.predict.engine import Engine
    from samed2.predict.propagation import propagate
    from samed2.predict.settings import Settings
    from samed2.predict.tracking import Tracking
    from samed2.prompts import Prompts

    compatible = side == "ours"
    keep_freed_memory()  # as the command line does
    scan = Scan.from_array(frames, kind="video", channels_last=False)
    prompts = Prompts()
    for number, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        prompts.add_box(number, 0, y0, x0, y1, x1)
    engine = Engine(model, "cpu", "bf16" if side == "fast" else "fp32")
    streamed = Tracking(follow=False, carry="memory", stream=True, drop=0.0, patience=0)
    tracking = streamed if whole else Tracking()
    masks = np.zeros((len(frames), len(boxes), *frames.shape[1:]), bool)
    settings = Settings(zoom=not whole, neighbours=1 if compatible else 3, **(FAST if side == "fast" else {}))
    start = time.perf_counter()
    for frame, found in propagate(engine, scan, prompts, resolve_window(scan), settings, tracking, None, "forward"):
        for prediction in found:
            masks[frame, prediction.id - 1] = prediction.mask
    return masks, time.perf_counter() - start


@torch.inference_mode()
def run_theirs(model: Any, frames: np.ndarray, boxes: list[Any]) -> tuple[np.ndarray, float]:
    from transformers import Sam2VideoModel
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    other = Sam2VideoModel(model.config).eval()
    other.load_state_dict(model.state_dict())
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.config.pixel_mean, model.config.pixel_std))
    del model
    masks = np.zeros((len(frames), len(boxes), *frames.shape[1:]), bool)
    start = time.perf_counter()
    pixels = torch.from_numpy(frames).float()[:, None].expand(-1, 3, -1, -1) / 255
    session = Sam2VideoInferenceSession(
        video=(pixels - mean) / std, video_height=masks.shape[2], video_width=masks.shape[3], dtype=torch.float32
    )
    for number, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        points = {
            "point_coords": torch.tensor([[[[x0, y0], [x1, y1]]]], dtype=torch.float32),
            "point_labels": torch.tensor([[[2, 3]]]),
        }
        session.add_point_inputs(session.obj_id_to_idx(number), 0, points)
        session.obj_with_new_inputs.append(number)
    for output in other.propagate_in_video_iterator(session, start_frame_idx=0):
        logits = torch.nn.functional.interpolate(output.pred_masks.float(), size=masks.shape[2:], mode="bilinear")
        for number, found in zip(output.object_ids, logits[:, 0], strict=True):
            masks[output.frame_idx, number - 1] = (found > 0).numpy()
    return masks, time.perf_counter() - start


if __name__ == "__main__":
    main()
