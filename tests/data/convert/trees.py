"""Tiny copies of the published layouts: exact folder and file names, made-up pixels, and what should be read."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

SIZE = (20, 26)  # (y, x) of images
GRID = (4, 9, 16)  # (frame, y, x) of volumes
SPACING = (2.5, 0.8, 0.7)  # mm, (frame, y, x)


@dataclass
class Expected:
    """A case that should be found: its masks (T, H, W) by object, and the values of its first frame, if checked."""

    name: str
    masks: dict[str, np.ndarray]
    patient: str = ""
    split: str = ""
    spacing: tuple[float, float, float] | None = None
    frame: np.ndarray | None = None


@dataclass
class Tree:
    """What a made tree holds; `dropped` is part of a name -> words of the reason."""

    cases: list[Expected] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)


def rng_of(text: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(text).encode()))


def boxes(shape: tuple[int, ...], count: int, seed: object) -> np.ndarray:
    """(…) uint8 labels 0..count: lopsided boxes, so that turned or mirrored grids are noticed."""
    rng = rng_of(seed)
    labels = np.zeros(shape, np.uint8)
    height, width = shape[-2:]
    for value in range(1, count + 1):
        y, x = rng.integers(0, height - 4), rng.integers(0, width - 5)
        place = (slice(y, y + 3), slice(x, x + 4))
        labels[(slice(1, 3), *place) if len(shape) == 3 else place] = value
    labels[..., 0, 0] = 1  # a corner: offsets are noticed; every object below may hide the others
    for value in range(1, count + 1):
        labels[..., -1, value - 1] = value
    return labels


def save(path: Path, array: np.ndarray) -> np.ndarray:
    """Write a picture by its suffix and give back the array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path, **({"quality": 95} if path.suffix.lower() == ".jpg" else {}))
    return array


def picture(path: Path, shape: tuple[int, int] = SIZE, colour: bool = True) -> np.ndarray:
    size = (*shape, 3) if colour else shape
    return save(path, rng_of(path.name).integers(0, 200, size).astype(np.uint8))


def nifti(path: Path, array: np.ndarray, spacing=SPACING, axes=(2, 1, 0)) -> np.ndarray:
    """Write (frame, y, x[, channel]) with `axes` = the file's axes that are (frame, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = [axes.index(axis) for axis in range(3)]  # file axis -> our axis
    data = array.transpose(*order, *range(3, array.ndim)) if array.ndim >= 3 else array.T
    zooms = [spacing[o] for o in order] if array.ndim >= 3 else [spacing[2], spacing[1], 1.0]
    nibabel.save(nibabel.Nifti1Image(data, np.diag([*zooms, 1.0])), path)
    return array


def pick(labels: np.ndarray, values: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    stack = labels if labels.ndim == 3 else labels[None]
    return {name: np.isin(stack, chosen) for name, chosen in values.items()}


# --- volumes with one label map: image, label, name, patient, split ---------------------------------------------


@dataclass(frozen=True)
class Volumes:
    values: dict[str, tuple[int, ...]]
    rows: tuple[tuple[str, str, str, str, str], ...]
    channels: int = 0
    axes: tuple[int, int, int] = (2, 1, 0)
    others: tuple[str, ...] = ()  # files that belong to the set and are not read
    unlabelled: dict[str, str] = field(default_factory=dict)  # image -> name in the report
    grid: tuple[int, ...] = GRID

    def __call__(self, root: Path) -> Tree:
        tree = Tree()
        for image, label, name, patient, split in self.rows:
            shape = self.grid if not self.channels else (*self.grid, self.channels)
            values = nifti(root / image, rng_of(image).normal(0, 50, shape).astype(np.float32), axes=self.axes)
            top = max(max(v) for v in self.values.values())
            labels = nifti(root / label, boxes(self.grid, top, label), axes=self.axes)
            first = (values[0] if values.ndim > 2 else values)[..., 0] if self.channels else values[0]
            frame = values if len(self.grid) == 2 else first
            spacing = SPACING if len(self.grid) == 3 else None
            tree.cases.append(Expected(name, pick(labels, self.values), patient, split, spacing, frame))
        for image, name in self.unlabelled.items():
            nifti(root / image, np.zeros(self.grid, np.float32))
            tree.dropped[name] = "image without label"
        for path in self.others:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(b"not to be read")
        return tree


def msd(prefix: str, values: dict[str, tuple[int, ...]], digits: int = 3, channels: int = 0) -> Volumes:
    names = [f"{prefix}_{number:0{digits}d}" for number in (1, 2)]
    rows = tuple((f"imagesTr/{n}.nii.gz", f"labelsTr/{n}.nii.gz", n, n, "") for n in names)
    others = ("imagesTs/x_003.nii.gz", f"imagesTr/._{names[0]}.nii.gz", f"labelsTr/._{names[0]}.nii.gz", "dataset.json")
    return Volumes(values, rows, channels, others=others)


# --- images with masks of 0 and 255: image, {object: mask files}, name, patient, split --------------------------


@dataclass(frozen=True)
class Images:
    rows: tuple[tuple[str, dict[str, tuple[str, ...]], str, str, str], ...]
    value: int = 255  # of an object's pixels
    size: tuple[int, int] = SIZE
    others: tuple[str, ...] = ()
    unlabelled: dict[str, str] = field(default_factory=dict)

    def __call__(self, root: Path) -> Tree:
        tree = Tree()
        for image, objects, name, patient, split in self.rows:
            pixels = picture(root / image, self.size)
            masks = {}
            for one, files in objects.items():
                masks[one] = np.zeros((1, *self.size), bool)
                for file in files:
                    mask = boxes(self.size, 1, file) > 0
                    save(root / file, mask.astype(np.uint8) * np.uint8(self.value))
                    masks[one][0] |= mask
            frame = pixels if not image.lower().endswith(".jpg") else None
            tree.cases.append(Expected(name, masks, patient, split, None, frame))
        for path in self.others:
            picture(root / path, self.size)
        for image, name in self.unlabelled.items():
            picture(root / image, self.size)
            tree.dropped[name] = "image without label"
        return tree


def simple(image: str, label: str, one: str, names: tuple[str, ...], **more) -> Images:
    """Rows of {n} in the two paths, without split."""
    return Images(tuple((image.format(n=n), {one: (label.format(n=n),)}, n, n, "") for n in names), **more)
