"""Small real and made files for the readers' tests."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Maker = Callable[[], bytes]


def pillow_bytes(form: str, mode: str = "RGB", **options: Any) -> Maker:
    def make() -> bytes:
        from PIL import Image

        noise = np.random.default_rng(7).integers(0, 256, (24, 31, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(out, format=form, **options)
        return out.getvalue()

    return make


def tiff_bytes(dtype: str, shape: tuple[int, ...], **options: Any) -> Maker:
    def make() -> bytes:
        import tifffile

        out = io.BytesIO()
        values = np.random.default_rng(7).integers(0, 200, shape).astype(dtype)
        tifffile.imwrite(out, values, **options)
        return out.getvalue()

    return make


def encode_png16(pixels: np.ndarray, filters: list[int]) -> bytes:
    """A 16-bit PNG of (H, W, samples) pixels, row r filtered by filters[r % len]; written out plainly."""
    height, width, samples = pixels.shape
    step = 2 * samples
    raw = pixels.astype(">u2").tobytes()
    row_bytes = width * step
    previous = bytes(row_bytes)
    lines = []
    for row in range(height):
        kind = filters[row % len(filters)]
        current = raw[row * row_bytes : (row + 1) * row_bytes]
        out = bytearray([kind])
        for i, value in enumerate(current):
            a = current[i - step] if i >= step else 0
            b, c = previous[i], previous[i - step] if i >= step else 0
            guess = a + b - c
            paeth = min((abs(guess - a), 0, a), (abs(guess - b), 1, b), (abs(guess - c), 2, c))[2]
            out.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
        lines.append(bytes(out))
        previous = current
    colour = {2: 4, 3: 2, 4: 6}[samples]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _png16() -> bytes:
    pixels = np.random.default_rng(7).integers(0, 65536, (12, 9, 3))
    return encode_png16(pixels, [0, 1, 2, 3, 4])


def _dicom(name: str) -> Maker:
    def make() -> bytes:
        from pydicom.data import get_testdata_file

        return Path(str(get_testdata_file(name, download=False))).read_bytes()

    return make


def _nifti(suffix: str, shape: tuple[int, ...] = (9, 7, 5)) -> Maker:
    def make() -> bytes:
        import gzip

        import nibabel as nib

        values = np.random.default_rng(7).integers(-900, 900, shape).astype(np.int16)
        data = nib.Nifti1Image(values, np.diag([0.5, 0.6, 2.0, 1.0])).to_bytes()
        return gzip.compress(data, mtime=0) if suffix.endswith("gz") else data

    return make


def _itk(suffix: str, packed: bool) -> Maker:
    def make() -> bytes:
        import tempfile

        import SimpleITK as sitk

        values = np.random.default_rng(7).integers(-900, 900, (5, 7, 9)).astype(np.int16)
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.5, 0.6, 2.0))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{suffix}"
            sitk.WriteImage(image, str(path), useCompression=packed)
            return path.read_bytes()

    return make


def _made(kind: str) -> Maker:
    def make() -> bytes:
        import tempfile

        from tests.io import dicom_made

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.dcm"
            if kind == "cine":
                dicom_made.cine(path, 4, (dicom_made.region(0.02, 0.03),))
            else:
                dicom_made.enhanced(path, [2, 0, 1])
            return path.read_bytes()

    return make


def _series_zip() -> bytes:
    import tempfile
    import zipfile

    from tests.io import dicom_made

    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in dicom_made.write_series(Path(folder), 4):
            archive.write(path, path.name)
    return out.getvalue()


def video_bytes(suffix: str, codec: str, pixels: str = "yuv420p") -> Maker:
    """A video of 12 frames (32, 48); the pixels of frame i are about 20 i, with a bright patch up left."""

    def make() -> bytes:
        import tempfile

        av = pytest.importorskip("av")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{suffix}"
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=10)
                stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 48, 32, pixels, 5
                for index in range(12):
                    picture = np.full((32, 48, 3), index * 20, np.uint8)
                    picture[:8, :16] = 255
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode())
            return path.read_bytes()

    return make


# one good file per kind that readers treat differently: name -> how to make it
GOOD_FILES: dict[str, Maker] = {
    "rgb.png": pillow_bytes("PNG"),
    "palette.png": pillow_bytes("PNG", "P"),
    "rgb16.png": _png16,
    "rgb.jpg": pillow_bytes("JPEG"),
    "grey.bmp": pillow_bytes("BMP", "L"),
    "plain.tif": tiff_bytes("uint16", (13, 11)),
    "deflate.tif": tiff_bytes("uint8", (13, 11, 3), compression="zlib", photometric="rgb"),
    "pages.tif": tiff_bytes("uint16", (4, 13, 11), photometric="minisblack"),
    "lzw.tif": pillow_bytes("TIFF", "L", compression="tiff_lzw"),
    "ct.dcm": _dicom("CT_small.dcm"),
    "rle.dcm": _dicom("MR_small_RLE.dcm"),
    "jpeg2000.dcm": _dicom("MR_small_jp2klossless.dcm"),
    "deflated.dcm": _dicom("image_dfl.dcm"),
    "colour.dcm": _dicom("SC_rgb_small_odd_jpeg.dcm"),
    "volume.nii": _nifti(".nii"),
    "volume.nii.gz": _nifti(".nii.gz"),
    "plain.nrrd": _itk(".nrrd", False),
    "packed.nrrd": _itk(".nrrd", True),
    "plain.mha": _itk(".mha", False),
    "packed.mha": _itk(".mha", True),
    "cine.dcm": _made("cine"),
    "enhanced.dcm": _made("enhanced"),
    "frames.dcm": _dicom("SC_rgb_rle_2frame.dcm"),
    "series.zip": _series_zip,
}


# files that need an option or a library more; the fuzzer reads them too
MORE_FILES: dict[str, Maker] = {
    "times.nii": _nifti(".nii", (9, 7, 3, 2)),
    "h264.mp4": video_bytes(".mp4", "libx264"),
    "mpeg4.mov": video_bytes(".mov", "mpeg4"),
    "mjpeg.avi": video_bytes(".avi", "mjpeg", "yuvj420p"),
    "h264.avi": video_bytes(".avi", "libx264"),
    "grey16.mkv": video_bytes(".mkv", "ffv1", "gray16le"),
    "vp9.webm": video_bytes(".webm", "libvpx-vp9"),
}


@pytest.fixture(scope="session")
def good_files() -> dict[str, bytes]:
    """The content of one good file per kind, by name."""
    return {name: make() for name, make in GOOD_FILES.items()}


@pytest.fixture(params=list(GOOD_FILES), scope="session")
def good_file(request: pytest.FixtureRequest, good_files: dict[str, bytes]) -> tuple[str, bytes]:
    """Name and content of one good file; tests that use it run once per kind."""
    return request.param, good_files[request.param]


@pytest.fixture
def png16() -> Callable[[np.ndarray, list[int]], bytes]:
    """Encode (H, W, samples) pixels as a 16-bit PNG with the given row filters."""
    return encode_png16
