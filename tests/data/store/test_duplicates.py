from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from samed2.data.store.duplicates import Mark, find_duplicates, frame_hashes


def picture(seed: int, size: int = 200) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = gaussian_filter(noise, 0.03 * size)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def as_jpeg(image: np.ndarray, quality: int = 60) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def mark(name: str, split: str, image: np.ndarray, modality: str = "xray") -> Mark:
    return Mark("d", name, split, modality, 0, 1, *frame_hashes(image))


CHANGES = {
    "jpeg": as_jpeg,
    "half size": lambda image: np.asarray(Image.fromarray(image).resize((100, 100), Image.Resampling.LANCZOS)),
    "darker": lambda image: (image * 0.7 + 10).astype(np.uint8),
    "colour": lambda image: np.stack([image] * 3, axis=-1),
    "16 bit": lambda image: image.astype(np.uint16) * 257,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_in_another_split_are_near(change):
    image = picture(0)
    marks = [mark("a", "train", image), mark("b", "test", CHANGES[change](image)), mark("c", "test", picture(1))]
    found = find_duplicates(marks)
    assert found["exact_total"] == 0
    assert [(e["a"], e["b"], e["splits"]) for e in found["near"]] == [("d/a", "d/b", ["train", "test"])]


def test_exact_copies_are_exact_only():
    marks = [mark("a", "train", picture(0)), mark("b", "val", picture(0)), mark("c", "train", picture(0))]
    found = find_duplicates(marks)
    assert [(e["a"], e["b"]) for e in found["exact"]] == [("d/a", "d/b"), ("d/b", "d/c")]
    assert found["near_total"] == 0


def test_within_a_split_or_across_modalities_nothing_is_near():
    image = picture(0)
    same = [mark("a", "train", image), mark("b", "train", as_jpeg(image))]
    other = [mark("a", "train", image), mark("b", "test", as_jpeg(image), modality="mr")]
    assert find_duplicates(same)["near_total"] == find_duplicates(other)["near_total"] == 0


def test_different_pictures_are_far_apart():
    marks = [mark(f"p{i}", ("train", "test")[i % 2], picture(i, 96)) for i in range(60)]
    assert find_duplicates(marks, near_bits=60)["near_total"] == 0


def test_blank_frames_say_nothing():
    spot = np.zeros((64, 64), np.int16)
    spot[3, 3] = 500
    assert frame_hashes(np.full((64, 64), 7)) == ("", "")
    assert frame_hashes(spot)[1] == ""
    assert frame_hashes(np.full((9, 9), np.nan, np.float32))[1] == ""


def test_long_cases_are_found_by_some_of_their_frames():
    frames = [picture(i, 64) for i in range(40)]
    marks = [
        Mark("v", name, split, "us", i, 40, *frame_hashes(as_jpeg(f, quality)))
        for name, split, quality in (("a", "train", 95), ("b", "test", 70))
        for i, f in enumerate(frames)
    ]
    found = find_duplicates(marks)
    assert found["near_total"] == 1 and "frame" in found["near"][0]["a"]
