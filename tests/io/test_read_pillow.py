"""PNG, JPEG and BMP: every kind of pixel comes out as the numbers that went in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samed2.errors import InputError
from samed2.io import read

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 9), dtype=np.uint8)
RGB = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (7, 9), dtype=np.uint16)


@pytest.mark.parametrize("pixels", [GREY, RGB, DEEP, GREY[:1, :1], RGB[:1, :1], GREY[:, :1]])
def test_png_is_lossless(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    scan = read(tmp_path / "a.png")
    assert np.array_equal(scan.frame(0), pixels)
    assert scan.dtype == pixels.dtype
    assert (scan.kind, scan.num_frames, scan.name) == ("image", 1, "a")
    assert scan.modality == ("rgb" if pixels.ndim == 3 else "unknown")
    assert scan.properties["reader"] == "PNG"
    assert not scan.geometry.known
    assert read(tmp_path / "a.png", modality="Ultrasound ").modality == "ultrasound"


@pytest.mark.parametrize("pixels", [GREY, RGB])
def test_bmp_is_lossless(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    assert np.array_equal(read(tmp_path / "a.bmp").frame(0), pixels)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_jpeg(tmp_path: Path, mode: str, channels: int) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    image = Image.fromarray(smooth).convert(mode)
    image.save(tmp_path / "a.jpg", quality=98)
    scan = read(tmp_path / "a.jpg")
    assert scan.channels == channels
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).astype(int)
    assert abs(scan.frame(0).astype(int) - expected).max() < 12


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png").frame(0), np.where(GREY > 100, 255, 0))


def test_palette_is_expanded(tmp_path: Path) -> None:
    image = Image.fromarray(GREY % 4)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    image.save(tmp_path / "colour.png")
    table = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [1, 2, 3]])
    assert np.array_equal(read(tmp_path / "colour.png").frame(0), table[GREY % 4])
    image.putpalette([5, 5, 5, 9, 9, 9, 7, 7, 7, 0, 0, 0])
    image.save(tmp_path / "grey.png")
    assert np.array_equal(read(tmp_path / "grey.png").frame(0), np.array([5, 9, 7, 0])[GREY % 4])


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha(tmp_path: Path, channels: int) -> None:
    colour = RGB if channels == 3 else GREY[..., None]
    constant = np.concatenate([colour, np.full((7, 9, 1), 128, np.uint8)], axis=-1)
    Image.fromarray(constant).save(tmp_path / "constant.png")
    scan = read(tmp_path / "constant.png")
    assert np.array_equal(scan.frame(0), RGB if channels == 3 else GREY)
    assert scan.warnings == []
    alpha = np.where(GREY > 100, 255, 0).astype(np.uint8)[..., None]
    Image.fromarray(np.concatenate([colour, alpha], axis=-1)).save(tmp_path / "holes.png")
    scan = read(tmp_path / "holes.png")
    assert np.array_equal(scan.frame(0), np.where(alpha > 0, colour, 0).squeeze())
    assert "transparent" in scan.warnings[0]


@pytest.mark.parametrize("shape", [(11, 6, 3), (1, 1, 3), (5, 1, 2), (1, 9, 4), (6, 13, 2), (9, 9, 4)])
@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 3, 2, 1, 0], [3, 4]])
def test_sixteen_bit_colour_keeps_all_bits(
    tmp_path: Path,
    png16: Callable[[np.ndarray, list[int]], bytes],
    shape: tuple[int, int, int],
    filters: list[int],
) -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    if shape[2] in (2, 4):
        pixels[..., -1] = 65535
    (tmp_path / "a.png").write_bytes(png16(pixels, filters))
    scan = read(tmp_path / "a.png")
    expected = {2: pixels[..., 0], 3: pixels, 4: pixels[..., :3]}[shape[2]]
    assert scan.dtype == np.uint16
    assert np.array_equal(scan.frame(0), expected)


def test_sixteen_bit_colour_agrees_with_pillow_on_the_upper_bits() -> None:
    from pathlib import Path as P

    import skimage

    path = P(skimage.__file__).parent / "data" / "chessboard_RGB.png"
    with Image.open(path) as image:
        assert np.array_equal(read(path).frame(0) >> 8, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_viewers_show_it(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as again:
        expected = np.asarray(ImageOps.exif_transpose(again))
    scan = read(tmp_path / "a.png")
    assert np.array_equal(scan.frame(0), expected)
    assert bool(scan.warnings) == (orientation > 1)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read(tmp_path / "a.jpg").frame(0), GREY)


def test_the_global_limit_of_pillow_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert np.array_equal(read(tmp_path / "a.png").frame(0), GREY)


def test_unknown_formats_are_told(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.gif")
    with pytest.raises(InputError, match=r"a\.gif: is not an image of a known format; wanted one of BMP, DICOM"):
        read(tmp_path / "a.gif")
