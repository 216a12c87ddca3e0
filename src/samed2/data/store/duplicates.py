"""The same picture in two splits: exact (equal pixels) and near (equal but for size, compression, brightness)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.store.resize import shrink

GRID, BLOCK = 64, 16
NEAR_BITS = 32  # of 256, for images; measured in docs/medbank-store.md
NEAR_BITS_FRAMES = 16  # where a frame of a volume or video is meant: slices of two patients may look much alike
NEAR_FRAMES = 16  # per case, evenly spaced over those with a label; exact copies are looked for on all frames
LISTED = 1000


@dataclass(frozen=True)
class Mark:
    """How one frame is recognised: `exact` and `near` are hex, "" for frames without structure."""

    dataset: str
    case: str
    split: str
    modality: str
    frame: int
    frames: int
    exact: str
    near: str

    @property
    def label(self) -> str:
        return f"{self.dataset}/{self.case}" + (f" frame {self.frame}" if self.frames > 1 else "")


def frame_hashes(frame: NDArray[Any]) -> tuple[str, str]:
    """(exact, near) of an (H, W) or (H, W, 3) frame.

    `exact` is the SHA-256 of type, shape and values. `near` has 256 bits: the signs, against their median, of the
    16 x 16 lowest frequencies of the cosine transform of the frame at 64 x 64 (after Zauner, Implementation and
    Benchmarking of Perceptual Image Hash Functions, 2010, with more bits). Almost constant frames have none.
    """
    if frame.min() == frame.max():
        return "", ""
    exact = hashlib.sha256(f"{frame.dtype.name}{frame.shape}".encode())
    exact.update(np.ascontiguousarray(frame).tobytes())
    with np.errstate(all="ignore"):
        grey = np.nan_to_num(frame.astype(np.float32), posinf=0, neginf=0)
        grid = _to_grid(grey.mean(axis=-1) if grey.ndim == 3 else grey).astype(np.float64)
    away = np.abs(grid - np.median(grid)) > 0.02 * np.ptp(grid)
    if away.mean() < 0.02:  # a few bright pixels on nothing
        return exact.hexdigest(), ""
    waves = _cosines() @ grid @ _cosines().T
    bits = waves > np.median(waves.ravel()[1:])
    bits[0, 0] = False
    return exact.hexdigest(), np.packbits(bits).tobytes().hex()


def find_duplicates(marks: Sequence[Mark], near_bits: int = NEAR_BITS) -> dict[str, Any]:
    """Pairs of cases in different splits that share a frame.

    Returns:
        {"exact": [...], "near": [...], "exact_total": n, "near_total": n}: one entry {"a", "b", "splits", "bits"} per
        pair of cases (its closest frames), sorted, at most 1000 listed of each. Near pairs are looked for within one
        modality and leave out exact ones.
    """
    exact = _exact_pairs(marks)
    near = {pair: found for pair, found in _near_pairs(marks, near_bits).items() if pair not in exact}
    result: dict[str, Any] = {}
    for name, pairs in (("exact", exact), ("near", near)):
        entries = [_entry(a, b, bits) for a, b, bits in pairs.values()]
        entries.sort(key=lambda entry: (entry["bits"], entry["a"], entry["b"]))
        result[name], result[f"{name}_total"] = entries[:LISTED], len(entries)
    return result


Pairs = dict[tuple[str, str], tuple[Mark, Mark, int]]


def _entry(a: Mark, b: Mark, bits: int) -> dict[str, Any]:
    return {"a": a.label, "b": b.label, "splits": [a.split, b.split], "bits": bits}


def _key(a: Mark, b: Mark) -> tuple[str, str]:
    return f"{a.dataset}/{a.case}", f"{b.dataset}/{b.case}"


def _exact_pairs(marks: Sequence[Mark]) -> Pairs:
    groups: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.exact:
            groups[mark.exact].append(mark)
    pairs: Pairs = {}
    for group in groups.values():
        if len({mark.split for mark in group}) < 2:
            continue
        chosen = sorted(group, key=lambda m: (m.dataset, m.case, m.frame))
        if len(chosen) > 50:  # one picture everywhere: the first of each split says enough
            chosen = list({mark.split: mark for mark in reversed(chosen)}.values())[::-1]
        for number, a in enumerate(chosen):
            for b in chosen[number + 1 :]:
                if a.split != b.split:
                    pairs.setdefault(_key(a, b), (a, b, 0))
    return pairs


def _near_pairs(marks: Sequence[Mark], near_bits: int) -> Pairs:
    by_case: dict[tuple[str, str], list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.near:
            by_case[mark.dataset, mark.case].append(mark)
    by_modality: dict[str, list[Mark]] = defaultdict(list)
    for own in by_case.values():
        chosen = np.linspace(0, len(own) - 1, min(len(own), NEAR_FRAMES)).round().astype(int)
        by_modality[own[0].modality] += [own[i] for i in chosen]
    pairs: Pairs = {}
    for group in by_modality.values():
        group.sort(key=lambda m: (m.dataset, m.case, m.frame))
        bits = np.array([np.frombuffer(bytes.fromhex(m.near), np.uint64) for m in group])
        several = np.array([m.frames > 1 for m in group])
        split = np.unique([m.split for m in group], return_inverse=True)[1]
        for start in range(0, len(group), 512):
            distance = _distances(bits[start : start + 512], bits[start:])
            distance[split[start : start + 512, None] == split[None, start:]] = 999
            distance[several[start : start + 512, None] | several[None, start:]] += near_bits - NEAR_BITS_FRAMES
            for i, j in np.argwhere(distance <= near_bits):
                a, b, apart = (
                    group[start + i],
                    group[start + j],
                    int(_distances(bits[start + i, None], bits[start + j, None])[0, 0]),
                )
                if j > i and ((_key(a, b) not in pairs) or pairs[_key(a, b)][2] > apart):
                    pairs[_key(a, b)] = (a, b, apart)
    return pairs


def _distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int16]:
    """(n, m) numbers of differing bits of (n, 4) and (m, 4) words."""
    total = np.zeros((len(a), len(b)), np.int16)
    for word in range(a.shape[1]):
        total += _ones(a[:, None, word] ^ b[None, :, word])
    return total


def _ones(words: NDArray[np.uint64]) -> NDArray[Any]:
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words))
    table = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)  # NumPy 1
    return np.asarray(table[words.view(np.uint16)].reshape(*words.shape, 4).sum(axis=-1))


def _to_grid(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    repeat = [-(-GRID // n) for n in grey.shape]  # smaller frames are first repeated to at least the grid
    if max(repeat) > 1:
        grey = np.repeat(np.repeat(grey, repeat[0], axis=0), repeat[1], axis=1)
    return shrink(grey, (GRID, GRID))


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """(16, 64): the lowest waves of the cosine transform of type 2."""
    k, x = np.arange(BLOCK)[:, None], np.arange(GRID)[None, :]
    return np.cos(np.pi * k * (2 * x + 1) / (2 * GRID))
