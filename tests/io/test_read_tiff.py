"""TIFF: bit depths, colour, palettes, pages, compressions."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from samed2.errors import InputError
from samed2.io import read

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 9), dtype=np.uint8)
RGB = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 9), (1, 1), (7, 9, 3), (3, 7, 9), (2, 7, 9, 3)])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}])
def test_what_goes_in_comes_out(tmp_path: Path, dtype: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    values = (RNG.random(shape) * 200).astype(dtype)
    colour = shape[-1] == 3
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb" if colour else "minisblack", **options)
    scan = read(tmp_path / "a.tif")
    assert np.array_equal(scan.frames().reshape(shape), values)
    assert scan.dtype == np.dtype(dtype)
    assert scan.num_frames == (shape[0] if len(shape) == 4 or (len(shape) == 3 and not colour) else 1)
    assert scan.kind == ("image" if scan.num_frames == 1 else "volume")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_planes_and_tiles(tmp_path: Path, planar: str) -> None:
    values = RGB if planar == "contig" else np.moveaxis(RGB, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig=planar, tile=(16, 16))
    assert np.array_equal(read(tmp_path / "a.tif").frame(0), RGB)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "raw"])
@pytest.mark.parametrize("pixels", [GREY, RGB, GREY.astype(np.uint16) * 200])
def test_compressions(tmp_path: Path, compression: str, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read(tmp_path / "a.tif").frame(0), pixels)


def test_white_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    assert np.array_equal(read(tmp_path / "a.tif").frame(0), 255 - GREY)


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(GREY > 99).save(tmp_path / "a.tif")
    assert np.array_equal(read(tmp_path / "a.tif").frame(0), np.where(GREY > 99, 255, 0))


@pytest.mark.parametrize("depth", [1, 257])
def test_palette(tmp_path: Path, depth: int) -> None:
    table = RNG.integers(0, 256, (3, 256))
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=(table * 257).astype(np.uint16))
    scan = read(tmp_path / "a.tif")
    assert scan.dtype == np.uint8
    assert np.array_equal(scan.frame(0), table.T[GREY])


def test_alpha_is_dropped(tmp_path: Path) -> None:
    values = np.dstack([RGB, np.full((7, 9), 255, np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read(tmp_path / "a.tif").frame(0), RGB)


def test_pages_of_several_sizes(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for page in (GREY, GREY[:3, :4], GREY // 2):
            out.write(page, photometric="minisblack")
    scan = read(tmp_path / "a.tif")
    assert np.array_equal(scan.frames(), np.stack([GREY, GREY // 2]))
    assert "3 pages of many sizes" in scan.warnings[0]


def test_imagej_stack(tmp_path: Path) -> None:
    stack = RNG.integers(0, 4000, (5, 7, 9)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True)
    assert np.array_equal(read(tmp_path / "a.tif").frames(), stack)


def test_pages_are_read_when_asked_for_and_survive_a_worker(tmp_path: Path) -> None:
    stack = RNG.integers(0, 4000, (5, 7, 9)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    scan = read(tmp_path / "a.tif")
    assert np.array_equal(scan.frame(4), stack[4])
    assert np.array_equal(pickle.loads(pickle.dumps(scan)).frame(2), stack[2])


def test_too_many_channels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RNG.random((7, 9, 6)), photometric="minisblack", planarconfig="contig")
    with pytest.raises(InputError, match="channels"):
        read(tmp_path / "a.tif")


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    with pytest.raises(InputError, match="complex64"):
        read(tmp_path / "a.tif")


def test_pages_in_a_circle(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    first = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[first : first + 2], "little")
    content[first + 2 + 12 * entries : first + 6 + 12 * entries] = content[4:8]
    (tmp_path / "a.tif").write_bytes(bytes(content))
    with pytest.raises(InputError, match="circle"):
        read(tmp_path / "a.tif")


def test_real_files() -> None:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    assert np.array_equal(read(folder / "multipage.tif").frames(), tifffile.imread(folder / "multipage.tif"))
    planes = tifffile.imread(folder / "multipage_rgb.tif")  # (page, colour, y, x)
    assert np.array_equal(read(folder / "multipage_rgb.tif").frames(), np.moveaxis(planes, 1, -1))
