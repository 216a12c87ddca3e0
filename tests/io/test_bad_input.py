"""Whatever is wrong with a file, `read` says so in one line that names it, and never anything else."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samed2.errors import InputError
from samed2.io import read, resolve_window

EXAMPLES = int(os.environ.get("SAMED2_EXAMPLES", "25"))  # raise it to search longer, then at random
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_all(path: Path) -> None:
    """Read a file and every frame of it, check what a scan promises, and window it."""
    scan = read(path)
    assert 1 <= scan.num_frames <= 10_000
    window = resolve_window(scan)
    for frame in (scan.frame(i) for i in range(min(scan.num_frames, 8))):
        assert frame.shape[:2] == (scan.height, scan.width)
        assert frame.dtype == scan.dtype
        shown = window.apply(frame)
        assert shown.dtype == np.float32
        assert shown.min() >= 0
        assert shown.max() <= 1


def refused(path: Path) -> str:
    """The message `read` refuses a file with, after checking its form."""
    with pytest.raises(InputError) as caught:
        read_all(path)
    message = str(caught.value)
    check_message(message, path)
    return message


def check_message(message: str, path: Path) -> None:
    assert message.startswith(str(path))
    assert message.isprintable()
    assert 20 + len(str(path)) < len(message) < 600 + len(str(path))


def accept_or_refuse(path: Path) -> None:
    start = time.process_time()
    try:
        read_all(path)
    except InputError as error:
        check_message(str(error), path)
    assert time.process_time() - start < 20, "a damaged file must not take long"


def test_good_files_are_read(good_file: tuple[str, bytes], tmp_path: Path) -> None:
    name, content = good_file
    (tmp_path / name).write_bytes(content)
    read_all(tmp_path / name)


@MANY
@given(data=st.data())
def test_truncated(good_file: tuple[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    name, content = good_file
    length = data.draw(st.integers(1, len(content) - 1))
    (tmp_path / name).write_bytes(content[:length])
    accept_or_refuse(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_clearly_truncated_is_refused(good_file: tuple[str, bytes], tmp_path: Path, share: float) -> None:
    name, content = good_file
    (tmp_path / name).write_bytes(content[: max(1, int(len(content) * share))])
    refused(tmp_path / name)


@MANY
@given(data=st.data())
def test_flipped_bits(good_file: tuple[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    name, content = good_file
    damaged = bytearray(content)
    reach = data.draw(st.sampled_from([min(200, len(content)), len(content)]))  # headers break more often
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, reach - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / name).write_bytes(bytes(damaged))
    accept_or_refuse(tmp_path / name)


@MANY
@given(data=st.data())
def test_overwritten_pieces(good_file: tuple[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    name, content = good_file
    start = data.draw(st.integers(0, len(content) - 1))
    piece = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 8])))
    (tmp_path / name).write_bytes(content[:start] + piece + content[start + len(piece) :])
    accept_or_refuse(tmp_path / name)


@MANY
@given(
    head=st.sampled_from(
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"BM",
            b"II*\0",
            b"MM\0*",
            b"II+\0",
            bytes(128) + b"DICM",
            b"\x08\0\x05\0",
            b"\x1f\x8b\x08\0",
            struct.pack("<i", 348) + bytes(340) + b"n+1\0",
            struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n",
        ]
    ),
    rest=st.binary(max_size=400),
    suffix=st.sampled_from([".png", ".jpg", ".bmp", ".tif", ".dcm", ".nii", ".nii.gz", "", ".xyz"]),
)
def test_noise_behind_a_known_beginning(tmp_path: Path, head: bytes, rest: bytes, suffix: str) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(head + rest or b"\0")
    accept_or_refuse(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".dcm", ".nii", ".nii.gz", ""])
def test_no_image_at_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    assert "does not exist" in refused(path)
    path.mkdir()
    assert "is a folder" in refused(path)
    path.rmdir()
    path.touch()
    assert "is empty" in refused(path)
    path.write_text("a patient's letter, not an image\n" * 20)
    refused(path)


def test_odd_names(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match="not a usable file name"):
        read("a\0b.png")
    path = tmp_path / "two words ü (1).dat"
    path.write_bytes(good_files["rgb.png"])
    assert read(path).name == "two words ü (1)"
    assert read(str(path)).shape == (1, 24, 31)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refused(tmp_path / "pipe.png")


def _png_claim(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


def _jpeg_claim(width: int, height: int, content: bytes) -> bytes:
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


def _bmp_claim(width: int, height: int, content: bytes) -> bytes:
    return content[:18] + struct.pack("<ii", width, height) + content[26:]


def _tiff_claim(width: int, height: int, compression: int) -> bytes:
    import tifffile

    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((8, 8), np.uint8), compression="zlib" if compression == 8 else None)
    content = bytearray(out.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as tif:
        for name, value in (("ImageWidth", width), ("ImageLength", height)):
            tag = tif.pages[0].tags[name]
            content[tag.offset + 2 : tag.offset + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(content)


def _dicom_claim(rows: int, columns: int, content: bytes) -> bytes:
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.Rows, dataset.Columns = rows, columns
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def _nifti_claim(dims: tuple[int, int, int], content: bytes) -> bytes:
    return content[:40] + struct.pack("<8h", 3, *dims, 1, 1, 1, 1) + content[56:]


@pytest.mark.parametrize("side", [65_000, 20_000, 0])
def test_sizes_that_the_file_cannot_hold(tmp_path: Path, good_files: dict[str, bytes], side: int) -> None:
    import gzip

    short = min(side, 32_000)
    claims = {
        "claim.png": _png_claim(side, side),
        "claim16.png": _png_claim(side, side, bits=16),
        "claim.jpg": _jpeg_claim(side, side, good_files["rgb.jpg"]),
        "claim.bmp": _bmp_claim(side, side, good_files["grey.bmp"]),
        "claim.tif": _tiff_claim(side, side, 1),
        "packed.tif": _tiff_claim(side, side, 8),
        "claim.dcm": _dicom_claim(side, side, good_files["ct.dcm"]),
        "claim.nii": _nifti_claim((short, short, 3), good_files["volume.nii"]),
        "claim.nii.gz": gzip.compress(_nifti_claim((short, short, 3), good_files["volume.nii"])),
    }
    for name, content in claims.items():
        (tmp_path / name).write_bytes(content)
        start = time.process_time()
        message = refused(tmp_path / name)
        assert time.process_time() - start < 5, message


def test_the_true_size_of_a_bomb_is_told(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_claim(65_536, 65_536))
    assert "65536 x 65536" in refused(tmp_path / "bomb.png")


def test_a_bomb_behind_gzip(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    """A header that promises more than deflate can hold in so small a file, and one that promises less."""
    import gzip

    header = _nifti_claim((2000, 2000, 2000), good_files["volume.nii"])[:352]
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(header + bytes(2**20)))
    refused(tmp_path / "bomb.nii.gz")


@pytest.mark.parametrize("name", ["rtplan.dcm", "rtstruct.dcm", "test-SR.dcm", "waveform_ecg.dcm"])
def test_dicom_without_an_image(name: str) -> None:
    from pydicom.data import get_testdata_file

    path = Path(str(get_testdata_file(name, download=False)))
    assert "without an image" in refused(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("JPGExtended.dcm", "JPEG Extended"),
        ("liver_1frame.dcm", "segmentation"),
        ("MR_truncated.dcm", "cut off"),
        ("dicomdirtests/DICOMDIR", "DICOMDIR"),
    ],
)
def test_dicom_that_is_not_read(name: str, words: str) -> None:
    import pydicom.data

    path = Path(pydicom.data.__file__).parent / "test_files" / name
    if not path.exists():
        pytest.skip(f"pydicom ships no {name}")
    assert words in refused(path)


def test_unreadable_by_permission(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(good_files["rgb.png"])
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be opened" in refused(path)
