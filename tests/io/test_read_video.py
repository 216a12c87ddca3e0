"""Video: frame numbers, any order of reading, rotation, depth, bounded memory."""

from __future__ import annotations

import pickle
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.conftest import MORE_FILES, video_bytes

from samed2.errors import InputError
from samed2.io import read
from samed2.io.video_boxes import check_whole

av = pytest.importorskip("av")
VIDEOS = [name for name in MORE_FILES if not name.endswith(".nii")]


def levels(scan: Any) -> np.ndarray:
    """The grey level of each frame beside its bright patch, as 8 bits."""
    frames = scan.frames().astype(float) / (257 if scan.dtype == np.uint16 else 1)
    return frames[:, -4:, -4:].reshape(len(frames), -1).mean(axis=1)


def make(path: Path, pictures: list[np.ndarray], codec: str = "ffv1", rotation: int = 0, **options: Any) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = options.get("pix_fmt", "yuv420p")
        stream.codec_context.gop_size = options.get("gop", 12)
        if rotation:
            stream.set_display_rotation(rotation)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_are_found_in_any_order(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(MORE_FILES[name]())
    scan = read(tmp_path / name)
    assert (scan.kind, scan.shape, scan.warnings) == ("video", (12, 32, 48), [])
    assert not scan.geometry.known and scan.properties["fps"] == 10
    np.testing.assert_allclose(levels(scan), np.arange(12) * 20, atol=8)
    truth = scan.frames()
    again = pickle.loads(pickle.dumps(read(tmp_path / name)))
    for index in [7, 2, 11, 0, 5, 4, 3, 11, 6, 10, 9, 8, 7, 1]:
        np.testing.assert_array_equal(again.frame(index), truth[index])
    assert truth[0, 2, 2].min() > 200 * (257 if scan.dtype == np.uint16 else 1)


def test_grey_and_deep_videos_keep_their_depth(tmp_path: Path) -> None:
    for codec, pixels, dtype, channels in (
        ("ffv1", "gray16le", np.uint16, 1),
        ("ffv1", "gray", np.uint8, 1),
        ("libx264", "yuv420p10le", np.uint16, 3),
        ("libx264", "yuv420p", np.uint8, 3),
    ):
        (tmp_path / "a.mkv").write_bytes(video_bytes(".mkv", codec, pixels)())
        scan = read(tmp_path / "a.mkv")
        assert (scan.dtype, scan.channels) == (dtype, channels)
        np.testing.assert_allclose(levels(scan), np.arange(12) * 20, atol=6)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:8, :16] = 255
    scan = read(make(tmp_path / "a.mp4", [picture] * 3, "libx264", rotation))
    turned = np.rot90(picture, rotation // 90)
    assert scan.shape == (3, *turned.shape[:2])
    assert np.abs(scan.frame(1).astype(int) - turned).mean() < 4
    assert f"turned by {rotation % 360} degrees" in scan.warnings[0]


def test_few_frames_are_kept(tmp_path: Path) -> None:
    """Memory is flat: going forwards or backwards through a long video keeps a handful of frames."""
    pictures = [np.full((64, 64, 3), i % 200, np.uint8) for i in range(300)]
    scan = read(make(tmp_path / "a.mkv", pictures, "libx264", gop=60))
    assert scan.num_frames == 300
    for index in [*range(0, 300, 7), *range(299, 200, -1)]:
        assert abs(float(scan.frame(index).mean()) - index % 200) < 6
        assert len(scan.source._kept) <= 32  # type: ignore[attr-defined]


def test_going_backwards_does_not_decode_everything_each_time(tmp_path: Path) -> None:
    pictures = [np.full((32, 32, 3), i % 200, np.uint8) for i in range(120)]
    scan = read(make(tmp_path / "a.mkv", pictures, "libx264", gop=120))
    restarts = 0
    source: Any = scan.source
    original = source._restart

    def counted(start: int) -> None:
        nonlocal restarts
        restarts += 1
        original(start)

    source._restart = counted
    for index in range(119, -1, -1):
        scan.frame(index)
    assert restarts <= 12


def test_a_changing_size_is_refused(tmp_path: Path) -> None:
    parts = []
    for side in (32, 48):
        make(tmp_path / f"{side}.avi", [np.full((side, side, 3), 90, np.uint8)] * 4, "mjpeg", pix_fmt="yuvj420p")
        with av.open(str(tmp_path / f"{side}.avi")) as container:
            parts += [bytes(packet) for packet in container.demux(video=0) if packet.size]
    with av.open(str(tmp_path / "both.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        for index, part in enumerate(parts):
            packet = av.Packet(part)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 10)
            packet.is_keyframe = True
            container.mux(packet)
    scan = read(tmp_path / "both.avi")
    assert scan.shape == (8, 32, 32)
    assert scan.frame(3).mean() == pytest.approx(90, abs=4)
    with pytest.raises(InputError, match=r"frame 4 is 48 x 48 .* wanted one size"):
        scan.frame(4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypisom" + bytes(60), "cannot be read as video"),
        (b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(60), "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(60), "video"),
    ],
)
def test_videos_without_frames(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.mp4").frame(0)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.mov", "mjpeg.avi", "h264.avi", "vp9.webm", "grey16.mkv"])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_cut_off_video_is_refused(tmp_path: Path, name: str, part: float) -> None:
    content = MORE_FILES[name]()
    (tmp_path / name).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match=r"is cut off, its part .* copy it again"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(content + bytes(50))
    assert read(tmp_path / name).num_frames == 12


def test_a_cut_off_video_whose_index_is_in_front_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 48, 3), index * 20, np.uint8))))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat") and read(path).num_frames == 12
    path.write_bytes(content[:-200])
    with pytest.raises(InputError, match="is cut off, its part 'mdat'"):
        read(path)


@pytest.mark.parametrize(
    ("kind", "content", "whole"),
    [
        ("mov", struct.pack(">I4sQ", 1, b"mdat", 24) + bytes(8), True),
        ("mov", struct.pack(">I4sQ", 1, b"mdat", 25) + bytes(8), False),
        ("mov", struct.pack(">I4s", 8, b"free") + struct.pack(">I4s", 0, b"mdat") + bytes(9), True),
        ("mov", struct.pack(">I4s", 8, b"free") + b"~~~~ a note ~~~~", True),
        ("avi", struct.pack("<4sI4s", b"RIFF", 4, b"AVI ") + struct.pack("<4sI4s", b"RIFF", 4, b"AVIX"), True),
        ("avi", struct.pack("<4sI4s", b"RIFF", 4, b"AVI ") + struct.pack("<4sI4s", b"RIFF", 5, b"AVIX"), False),
        ("avi", struct.pack("<4sI4s", b"RIFF", 0, b"AVI ") + bytes(9), True),
        ("matroska", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x84" + bytes(4) + bytes(3), True),
        ("matroska", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x40\x06" + bytes(5), False),
        ("matroska", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(5), True),
        ("matroska", b"\x1a\x45\xdf\xa3\x00" + bytes(20), True),
    ],
)
def test_parts_of_a_container(tmp_path: Path, kind: str, content: bytes, whole: bool) -> None:
    (tmp_path / "a").write_bytes(content)
    if whole:
        check_whole(tmp_path / "a", kind)
    else:
        with pytest.raises(InputError, match="is cut off"):
            check_whole(tmp_path / "a", kind)


def test_frames_that_the_file_counts_but_does_not_hold_are_told(tmp_path: Path) -> None:
    content = bytearray(MORE_FILES["mjpeg.avi"]())
    for mark, offset in ((b"avih", 24), (b"strh", 40)):  # the counts of dwTotalFrames and dwLength
        start = content.index(mark) + offset
        assert content[start] == 12
        content[start] = 14
    (tmp_path / "a.avi").write_bytes(content)
    scan = read(tmp_path / "a.avi")
    assert scan.num_frames == 12 and "2 frames more than are in it" in scan.warnings[0]


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="has no video in it, only audio"):
        read(tmp_path / "a.mp4")


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(MORE_FILES["grey16.mkv"]())
    for options, words in (({"time": 1}, "leave time out"), ({"axis": 1}, "is a video"), ({"series": 0}, "series")):
        with pytest.raises(InputError, match=words):
            read(tmp_path / "a.mkv", **options)


def test_without_pyav_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "a.mkv").write_bytes(MORE_FILES["grey16.mkv"]())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'samed2\[video\]'"):
        read(tmp_path / "a.mkv")
