"""Small data made for tests: a folder of data sets with images, a volume and a video."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from samed2.data.convert.folder import COLUMNS


def disc(shape, cy, cx, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - cy) ** 2 + (x - cx) ** 2 < radius**2


def make_folder(root: Path, items: int = 4) -> Path:
    """Discs: `spots` (images, objects disc and dot), `stack` (a volume, object ball), `film` (a video)."""
    rng = np.random.default_rng(0)
    rows = []
    for split in ("train", "val"):
        for number in range(items):
            name = f"{split}{number}"
            image = rng.integers(0, 60, (64, 80)).astype(np.uint8)
            for kind, (cy, cx, r) in {"disc": (30, 30, 14), "dot": (40, 65, 5)}.items():
                mask = disc(image.shape, cy + rng.integers(-5, 5), cx + rng.integers(-5, 5), r)
                image[mask] += 120
                save(root / "spots" / f"masks_{kind}" / f"{name}.png", mask.astype(np.uint8) * 255)
                rows.append(("spots", "microscopy", kind, name, name, split, "image"))
            save(root / "spots" / "images" / f"{name}.png", image)
        for name, kind in ((f"v{split}", "volume"), (f"f{split}", "video")):
            values = rng.normal(0, 10, (6, 40, 48)).astype(np.float32)  # (frame, y, x)
            labels = np.zeros(values.shape, np.uint8)
            for frame in range(1, 5):
                labels[frame] = disc(values.shape[1:], 20 + frame, 20, 9)
            values += labels * 100
            if kind == "volume":
                folder = root / "stack"
                folder.mkdir(parents=True, exist_ok=True)
                for ending, array in (("image", values), ("label", labels)):
                    nibabel.save(
                        nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)),
                        folder / f"{name}_{ending}.nii.gz",
                    )
                rows.append(("stack", "ct", "ball", name, name, split, kind))
            else:
                for frame in range(6):
                    shown = np.clip(values[frame] + 60, 0, 255).astype(np.uint8)
                    save(root / "film" / name / "frames" / f"{frame:03d}.png", shown)
                    save(root / "film" / name / "masks" / f"{frame:03d}.png", labels[frame])
                rows.append(("film", "endoscopy", "ball", name, name, split, kind))
    for folder in ("stack", "film"):
        (root / folder / "labels.json").write_text(json.dumps({"1": "ball"}))
    with open(root / "items.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, *rows])
    return root


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make_recipe(root: Path, text: str, items: int) -> Path:
    """A data folder as of `make_folder`, and in it a recipe: `text` with `{root}` filled in."""
    path = make_folder(root, items=items) / "recipe.yaml"
    path.write_text(text.format(root=root))
    return path
