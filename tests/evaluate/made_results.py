"""A results folder made by hand: random scores, discs as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.generated import disc

from samed2.evaluate.results import Results, summary_of

TASKS = {"spots/disc": "microscopy", "spots/dot": "microscopy", "stack/ball": "ct"}
CONFIG = {
    "model": "nano",
    "model_settings": "zoom=True",
    "protocol": "box",
    "protocol_words": "one box per component, tight",
    "select": "chosen",
    "select_words": "the mask that the model itself gives to a user",
    "slices": "middle:2",
    "seed": 7,
    "splits": ["test"],
    "data_hash": "d" * 64,
    "cases_hash": "c" * 64,
    "support_splits": ["train"],
    "tolerance_mm": 2.0,
    "tolerance_px": 2.0,
    "resamples": 50,
}


def make_rows(count: int = 9, seed: int = 0, shift: float = 0.0, steps: int = 0) -> list[dict[str, Any]]:
    """Rows of three tasks; scores lie around 0.8 + `shift`."""
    rng = np.random.default_rng(seed)
    rows = []
    for task, modality in TASKS.items():
        dataset, name = task.split("/")
        for number in range(count):
            dice = float(np.clip(0.8 + shift + rng.normal(0, 0.08), 0, 1))
            row = {"dataset": dataset, "object": name, "task": task, "case": f"c{number}", "patient": f"p{number}"}
            row |= {"modality": modality, "kind": "volume" if dataset == "stack" else "image", "split": "test"}
            row |= {"status": "ok", "reason": "", "size": float(10 ** rng.uniform(1.5, 4)), "share": 0.1}
            row |= {"components": 1, "frames": 1, "points": 0, "boxes": 1, "masks": 0, "prompts": 1, "unit": "px"}
            row |= {"dice": dice, "iou": dice / (2 - dice), "nsd": dice - 0.1, "hd95": 9 * (1 - dice), "assd": 1 - dice}
            row |= {"predicted_iou": float(np.clip(dice - 0.05, 0, 1)), "true_iou": dice / (2 - dice)}
            row |= {f"dice_{step}": dice * step / steps for step in range(1, steps + 1)}
            for baseline, less in (("ellipse", 0.05), ("box", 0.15)):
                row |= {f"baseline_{baseline}_{m}": max(dice - less, 0.0) for m in ("dice", "iou", "nsd")}
            rows.append({**row, "notes": "", "predictions": 1, "seconds": 0.01})
    return rows


def save_results(folder: Path, rows: list[dict[str, Any]], **config: Any) -> Path:
    """Write a finished run's folder with the pictures of best, median and worst."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**CONFIG, **config}
    document = {"schema": 1, "config": settings, "config_hash": "f" * 64, "versions": {"samed2": "1.2.3"}}
    document |= {"data_hash": settings["data_hash"], "weights_hash": "w" * 64, "seed": settings["seed"]}
    document |= {"rows_hash": "a" * 64, **summary_of(rows, settings["seed"], 50), "peak_memory_mb": {"ram": 512.0}}
    Results(document, rows).save(folder)
    entries = []
    for task in sorted({row["task"] for row in rows if row["status"] == "ok"}):
        ranked = sorted((r for r in rows if r["task"] == task and r["status"] == "ok"), key=lambda r: -r["dice"])
        for rank, place in (("best", 0), ("median", len(ranked) // 2), ("worst", -1)):
            entries.append(save_picture(folder, ranked[place], rank))
    (folder / "masks" / "index.json").write_text(json.dumps(entries))
    return folder


def save_picture(folder: Path, row: dict[str, Any], rank: str) -> dict[str, Any]:
    """Write image, truth and answer of one row, two discs, and give its entry."""
    (folder / "masks").mkdir(exist_ok=True)
    truth, answer = disc((60, 80), 30, 40, 14), disc((60, 80), 32, 42, 12)
    image = np.where(truth, 200, 40).astype(np.uint8)
    stem = f"{row['dataset']}_{row['object']}_{row['case']}"
    files = {"truth": f"{stem}_truth.png", "answer": f"{stem}_answer.png", "image": f"{stem}_image.jpg"}
    for name, array in (("truth", truth), ("answer", answer)):
        Image.fromarray(array).save(folder / "masks" / files[name])
    Image.fromarray(image).save(folder / "masks" / files["image"])
    known = {key: row[key] for key in ("task", "dataset", "case", "object", "dice")}
    return {**known, "rank": rank, "frame": 0, "boxes": [[16, 26, 45, 55]], "points": [[30, 40, True]], **files}
