"""What a scan promises."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.io import Scan


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((4, 5), {}, ("image", 1, 4, 5, 1)),
        ((4, 5, 3), {}, ("image", 1, 4, 5, 3)),
        ((4, 5, 3), {"kind": "volume"}, ("volume", 4, 5, 3, 1)),
        ((4, 5, 3), {"channels_last": False}, ("volume", 4, 5, 3, 1)),
        ((4, 5, 6), {}, ("volume", 4, 5, 6, 1)),
        ((2, 4, 5, 3), {}, ("volume", 2, 4, 5, 3)),
        ((2, 4, 5, 3), {"kind": "video"}, ("video", 2, 4, 5, 3)),
        ((2, 4, 5, 1), {}, ("volume", 2, 4, 5, 1)),
        ((1, 4, 5), {}, ("image", 1, 4, 5, 1)),
        ((4, 5, 1), {"channels_last": True}, ("image", 1, 4, 5, 1)),
        ((1, 1), {}, ("image", 1, 1, 1, 1)),
    ],
)
def test_from_array(shape: tuple[int, ...], options: dict, expected: tuple) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    scan = Scan.from_array(array, **options)
    assert (scan.kind, scan.num_frames, scan.height, scan.width, scan.channels) == expected
    assert len(scan) == scan.num_frames
    assert np.array_equal(scan.frames().ravel(), array.ravel())
    assert scan.dtype == np.int16
    assert not scan.geometry.known


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.zeros(5), {}, "shape"),
        (np.zeros((2, 3, 4, 5)), {}, "shape"),
        (np.zeros((2, 3, 4, 3, 3)), {}, "shape"),
        (np.zeros((0, 5)), {}, "no pixels"),
        (np.zeros((3, 5, 0)), {}, "no pixels"),
        (np.zeros((4, 5, 6)), {"kind": "image"}, "frames"),
        (np.zeros((4, 5, 6)), {"channels_last": True}, "shape"),
        (np.zeros((4, 5), dtype=complex), {}, "complex"),
        (np.array([["a", "b"]]), {}, "<U1"),
        (np.array([[None, 1]]), {}, "object"),
    ],
)
def test_from_bad_array(array: np.ndarray, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Scan.from_array(array, **options)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", ">u2", ">f4", "int32", "uint64", "float16", "float64"])
def test_dtypes_stay_in_native_order(dtype: str) -> None:
    scan = Scan.from_array(np.arange(6, dtype=dtype).reshape(2, 3))
    assert scan.dtype == np.dtype(dtype).newbyteorder("=")
    assert scan.frame(0).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_bool_becomes_black_and_white() -> None:
    assert Scan.from_array(np.array([[True, False]])).frame(0).tolist() == [[255, 0]]


@pytest.mark.parametrize("index", [-1, 3, 1.5, "x", None, float("nan"), 10**30])
def test_unknown_frames(index: object) -> None:
    scan = Scan.from_array(np.zeros((3, 4, 5)), name="clip", kind="video")
    with pytest.raises(InputError, match=r"clip: has no frame .*0 to 2"):
        scan.frame(index)  # type: ignore[arg-type]


def test_frames_are_read_only_and_stack() -> None:
    scan = Scan.from_array(np.arange(60).reshape(3, 4, 5))
    with pytest.raises(ValueError, match="read-only"):
        scan.frame(1)[0, 0] = 7
    assert np.array_equal(scan.frames([2, 0]), np.arange(60).reshape(3, 4, 5)[[2, 0]])
    assert scan.frames([]).shape == (0, 4, 5)
    assert scan.frame(np.int64(1)).shape == (4, 5)


class Counting:
    """A source that counts how often it is read."""

    shape = (3, 4, 5, 1)
    dtype = np.dtype(np.float32)

    def __init__(self) -> None:
        self.reads = 0

    def read(self, index: int) -> np.ndarray:
        self.reads += 1
        return np.full((4, 5), index, np.float32)


def test_lazy_and_last_frame_kept() -> None:
    source = Counting()
    scan = Scan(source, "lazy")
    assert source.reads == 0
    for _ in range(3):
        assert scan.frame(2).max() == 2
    assert source.reads == 1


def test_content_hash_follows_content() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    same = Scan.from_array(pixels.copy(), name="other", modality="CT")
    base = Scan.from_array(pixels).content_hash()
    assert same.modality == "ct"
    assert same.content_hash() == base
    assert len(base) == 64
    changed = pixels.copy()
    changed[1, 2, 3] += 1
    for other in (changed, pixels.astype(np.uint16), pixels.reshape(3, 5, 4), pixels[::-1]):
        assert Scan.from_array(other).content_hash() != base


def test_non_finite_pixels_are_counted_once() -> None:
    pixels = np.zeros((2, 3, 4), np.float32)
    pixels[1, 0, :2] = np.nan, np.inf
    scan = Scan.from_array(pixels)
    assert scan.warnings == []
    for _ in range(2):
        scan.frame(0)
        scan.frame(1)
    assert len(scan.warnings) == 1
    assert "frame 1 has 2 NaN or infinite" in scan.warnings[0]


def test_survives_the_way_to_a_worker() -> None:
    scan = Scan.from_array(np.arange(12).reshape(3, 4))
    copy = pickle.loads(pickle.dumps(scan))
    assert np.array_equal(copy.frame(0), scan.frame(0))
