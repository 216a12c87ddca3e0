from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from tests.generated import disc

from samed2.data.store import codec
from samed2.data.store.resize import shrink, shrink_frame, shrink_geometry, shrink_mask, target_size
from samed2.errors import InputError
from samed2.io import Geometry

SIZE = (23, 31)


def row_of(packed: codec.Packed, frame: np.ndarray) -> dict:
    return {
        "dataset": "d",
        "case": "c",
        "frame": 0,
        "height": frame.shape[0],
        "width": frame.shape[1],
        "channels": 3 if frame.ndim == 3 else 1,
        "dtype": frame.dtype.name,
        "codec": packed.codec,
        "slope": packed.slope,
        "intercept": packed.intercept,
        "image": packed.data,
    }


def frames() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    made = {
        "uint8": rng.integers(0, 256, SIZE).astype(np.uint8),
        "rgb8": rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8),
        "grey rgb8": np.repeat(rng.integers(0, 256, (*SIZE, 1)), 3, axis=-1).astype(np.uint8),
        "uint16": rng.integers(0, 65536, SIZE).astype(np.uint16),
        "rgb16": rng.integers(0, 65536, (*SIZE, 3)).astype(np.uint16),
        "int8": rng.integers(-128, 128, SIZE).astype(np.int8),
        "hounsfield": rng.integers(-1024, 3072, SIZE).astype(np.int16),
        "whole int16": rng.integers(-32768, 32768, SIZE).astype(np.int16),
        "narrow int32": (rng.integers(0, 200, SIZE) + 2_000_000_000).astype(np.int32),
        "wide int32": rng.integers(-(2**31), 2**31, SIZE).astype(np.int32),
        "big int64": rng.integers(2**60, 2**60 + 9, SIZE),
        "uint32": rng.integers(0, 2**32, SIZE).astype(np.uint32),
        "float32": rng.normal(0, 100, SIZE).astype(np.float32),
        "whole float32": rng.integers(-500, 500, SIZE).astype(np.float32),
        "float64": rng.normal(0, 1e-9, SIZE),
        "float16": rng.normal(0, 1, SIZE).astype(np.float16),
        "constant": np.full(SIZE, -7, np.int16),
    }
    holes = made["float32"].copy()
    holes[0, :3] = np.nan, np.inf, -0.0
    made["nan"] = holes
    made["minus zero"] = np.zeros(SIZE, np.float32) * -1
    return made


@pytest.mark.parametrize("name", frames())
def test_lossless_gives_every_bit_back(name):
    frame = frames()[name]
    packed = codec.pack_lossless(frame)
    back = codec.decode_frame(row_of(packed, frame))
    assert packed.codec not in codec.LOSSY
    assert back.dtype == frame.dtype and back.shape == frame.shape
    assert back.tobytes() == frame.tobytes()


def test_numbers_that_fit_16_bits_become_png():
    kinds = {name: codec.pack_lossless(frame).codec for name, frame in frames().items()}
    planes = {name for name, kind in kinds.items() if kind == "planes"}
    assert planes == {
        "rgb16",
        "wide int32",
        "big int64",
        "uint32",
        "float32",
        "float64",
        "float16",
        "nan",
        "minus zero",
    }


@pytest.mark.parametrize("form, options", [("PNG", {}), ("JPEG", {"quality": 85})])
@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 3)])
def test_source_bytes_are_kept_only_if_they_are_the_frame(form, options, shape):
    frame = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, form, **options)
    shown = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
    packed = codec.pack_source(buffer.getvalue(), shown)
    assert packed is not None and packed.data == buffer.getvalue()
    assert np.array_equal(codec.decode_frame(row_of(packed, shown)), shown)
    assert codec.pack_source(buffer.getvalue(), shown[::-1]) is None
    assert codec.pack_source(buffer.getvalue()[:40], shown) is None
    assert codec.pack_source(b"GIF89a", shown) is None


@pytest.mark.parametrize("name", ["uint8", "rgb8", "hounsfield", "float32", "nan", "constant"])
def test_lossy_keeps_type_and_scale(name):
    smooth = disc((64, 64), 30, 30, 20) * 800.0 - 200
    frame = {
        "rgb8": np.stack([smooth / 8 + 60] * 3, -1).astype(np.uint8),
        "uint8": (smooth / 8 + 60).astype(np.uint8),
    }.get(name, frames()[name])
    if name == "hounsfield":
        frame = smooth.astype(np.int16)
    finite = frame[np.isfinite(frame)]
    packed = codec.pack_lossy(frame, (float(finite.min()), float(finite.max())))
    back = codec.decode_frame(row_of(packed, frame))
    assert packed.codec == "webp" and back.dtype == frame.dtype and back.shape == frame.shape
    assert np.isfinite(back).all()
    if name in ("uint8", "rgb8", "hounsfield"):
        assert np.abs(back.astype(float) - frame).mean() < 0.02 * np.ptp(frame)


def test_a_copy_of_ct_keeps_narrow_windows():
    hounsfield = np.arange(-1000, 3000, 4, dtype=np.int16).reshape(20, 50)
    packed = codec.pack_lossy(hounsfield, (-1000.0, 2996.0), fine=True)
    back = codec.decode_frame(row_of(packed, hounsfield))
    assert packed.codec == "png" and np.abs(back - hounsfield).max() <= 2
    narrow = codec.pack_lossy(hounsfield // 100, (-10.0, 29.0), fine=True)
    assert narrow.slope == 1 and np.array_equal(codec.decode_frame(row_of(narrow, hounsfield)), hounsfield // 100)


def test_masks_are_one_bit_and_exact():
    mask = disc((50, 61), 20, 20, 9)
    data = codec.encode_mask(mask)
    assert Image.open(io.BytesIO(data)).mode == "1"
    assert np.array_equal(codec.decode_mask(data, mask.shape), mask)
    with pytest.raises(InputError, match="shape"):
        codec.decode_mask(data, (61, 50))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"image": b"nothing"}, "cannot be decoded"),
        ({"codec": "jxl"}, "jxl"),
        ({"height": 9}, "shape"),
        ({"codec": "planes"}, "cannot be unpacked"),
    ],
)
def test_damaged_rows_are_told(change, says):
    frame = frames()["hounsfield"]
    with pytest.raises(InputError, match=says):
        codec.decode_frame({**row_of(codec.pack_lossless(frame), frame), **change})


@pytest.mark.parametrize(
    "old, new", [((10, 10), (5, 5)), ((7, 13), (3, 4)), ((640, 480), (256, 192)), ((5, 5), (1, 1))]
)
def test_area_average_keeps_the_mean_and_the_constant(old, new):
    pixels = np.random.default_rng(0).random(old).astype(np.float32)
    assert shrink(pixels, new).mean() == pytest.approx(pixels.mean(), rel=1e-5)
    assert np.allclose(shrink(np.ones(old), new), 1, atol=1e-5)


def test_area_average_by_hand():
    pixels = np.arange(6, dtype=np.uint8).reshape(1, 6) * 10  # three old pixels under two new ones, twice
    assert shrink(pixels, (1, 4))[0].tolist() == pytest.approx(
        [(0 + 5) / 1.5, (5 + 20) / 1.5, (30 + 20) / 1.5, (20 + 50) / 1.5]
    )
    assert shrink_frame(pixels + 1, (1, 3)).tolist() == [[6, 26, 46]]


def test_small_masks_survive_and_large_ones_keep_their_area():
    tiny = np.zeros((512, 512), bool)
    tiny[100, 200] = True
    small = shrink_mask(tiny, (64, 64))
    assert small.sum() == 1 and small[12, 25]
    large = disc((512, 512), 250, 260, 100)
    assert shrink_mask(large, (64, 64)).sum() * 64 == pytest.approx(large.sum(), rel=0.02)
    assert not shrink_mask(np.zeros((512, 512), bool), (64, 64)).any()


def test_target_sizes():
    sizes = [target_size(h, w, 256) for h, w in ((256, 100), (512, 256), (100, 3000), (1, 1))]
    assert sizes == [(256, 100), (256, 128), (9, 256), (1, 1)]
    assert target_size(4000, 3000, None) == (4000, 3000)
    assert all(max(target_size(n, n + 7, 256)) == 256 for n, _ in pairwise(range(300, 400)))


def test_the_smaller_grid_covers_the_same_millimetres():
    geometry = Geometry.from_spacing((5, 0.5, 0.7), (10, 20, 30))
    small = shrink_geometry(geometry, (512, 400), (256, 200))
    for corner, same in ((-0.5, -0.5), (511.5, 255.5)):
        assert np.allclose(geometry.to_mm((2, corner, -0.5)), small.to_mm((2, same, -0.5)))
    assert small.spacing == pytest.approx((5, 1.0, 1.4))
    assert not shrink_geometry(Geometry.unknown(), (512, 400), (256, 200)).known
