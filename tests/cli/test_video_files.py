"""`samed2 info` and `samed2 segment --propagate` on video files and uneven series, good and bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.dicom_made import write_series

from samed2.io import read

av = pytest.importorskip("av")
CODECS = {"a.mp4": ("libx264", "yuv420p"), "a.avi": ("mjpeg", "yuvj420p"), "a.mov": ("mpeg4", "yuv420p")}
BOX = "disc=20,14,44,38"


def picture(index: int, rows: int = 48, columns: int = 64) -> np.ndarray:
    """A bright disc that moves right by two pixels a frame."""
    y, x = np.mgrid[:rows, :columns]
    inside = (y - 26) ** 2 + (x - 32 - 2 * index) ** 2 < 10**2
    return np.where(inside, 220, 40)[..., None].repeat(3, axis=2).astype(np.uint8)


def film(path: Path, frames: int = 6) -> Path:
    codec, pixels = CODECS[f"a{path.suffix}"]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for index in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index))))
        container.mux(stream.encode())
    return path


def packets(folder: Path, rows: int, columns: int) -> list[bytes]:
    with av.open(str(folder / f"{rows}.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=12)
        stream.width, stream.height, stream.pix_fmt = columns, rows, "yuvj420p"
        made = [stream.encode(av.VideoFrame.from_ndarray(picture(index, rows, columns))) for index in range(3)]
        return [bytes(packet) for several in made for packet in several]


def changing(folder: Path, path: Path) -> Path:
    parts = packets(folder, 48, 64) + packets(folder, 64, 80)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index, part in enumerate(parts):
            packet = av.Packet(part)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 12)
            packet.is_keyframe = True
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", list(CODECS))
def test_a_video_becomes_an_overlay_video(run: Any, tiny_model: Path, tmp_path: Path, name: str) -> None:
    path, out = film(tmp_path / name), tmp_path / "out"
    facts = json.loads(run("info", path, "--json").out)
    assert (facts["kind"], facts["shape (frames, rows, columns)"], facts["frames per second"]) == (
        "video",
        [6, 48, 64],
        12,
    )
    code, _, err = run(
        "segment", path, "--box", BOX, "--frame", 2, "--propagate", "both", "--model", tiny_model, "--device", "cpu",
        "--format", "overlay-video", "--format", "label-tiff", "--out", f"{out}/",
    )  # fmt: skip
    assert (code, err) == (0, "")
    shown = read(out / "a_overlay.mp4")
    labels = read(out / "a_mask.tif")
    assert (shown.num_frames, shown.properties["fps"], labels.shape) == (6, 12, (6, 48, 64))
    assert shown.width / shown.height == pytest.approx(64 / 48, rel=0.02)
    assert set(np.unique(labels.frames())) <= {0, 1}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path, data: data[: len(data) * 2 // 3], "is cut off, its part"),
        (lambda path, data: b"", "is empty (0 bytes)"),
        (lambda path, data: data[:40] + bytes(len(data) - 40), "video"),
    ],
    ids=["cut off", "empty", "zeros"],
)
@pytest.mark.parametrize("name", list(CODECS))
def test_bad_videos_are_refused_in_one_line(
    fails: Any, tiny_model: Path, tmp_path: Path, name: str, spoil: Callable[[Path, bytes], bytes], words: str
) -> None:
    path = film(tmp_path / name)
    path.write_bytes(spoil(path, path.read_bytes()))
    assert words in fails("info", path)
    out = f"{tmp_path}/out/"
    assert words in fails("segment", path, "--box", BOX, "--frame", 0, "--model", tiny_model, "--out", out)


@pytest.mark.parametrize("name", ["a.avi", "a.mov", "a.mkv"])
def test_a_changing_size_is_refused_and_leaves_nothing(fails: Any, tiny_model: Path, tmp_path: Path, name: str) -> None:
    path = changing(tmp_path, tmp_path / name)
    options = ("--box", BOX, "--frame", 0, "--propagate", "forward", "--model", tiny_model, "--device", "cpu")
    told = fails("segment", path, *options, "--format", "overlay-video", "--out", f"{tmp_path}/out/")
    assert "frame 3 is 64 x 80 (rows x columns), the first one 48 x 64; wanted one size, cut the video there" in told
    assert not list(tmp_path.glob("out/*"))


def test_a_run_of_an_uneven_series_is_listed_and_segmented(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "ct", [0, 1, 2, 4, 6, 8, 10])
    facts = json.loads(run("info", tmp_path / "ct", "--json").out)
    assert [(one["series"], one["slices"], one["spacing_mm"]) for one in facts["even runs"]] == [
        ("0:0", 2, 2.5),
        ("0:1", 5, 5.0),
    ]
    assert "  series 0:1, slices 5, spacing_mm 5" in run("info", tmp_path / "ct").out
    code, _, err = run(
        "segment", tmp_path / "ct", "--series", "0:1", "--box", "2,2,9,8", "--frame", 1, "--model", tiny_model,
        "--device", "cpu", "--format", "nifti", "--out", f"{tmp_path}/out/",
    )  # fmt: skip
    assert (code, err) == (0, "")
    made = read(tmp_path / "out" / "ct_mask.nii.gz")
    assert made.shape == (5, 10, 14) and made.geometry.spacing[0] == pytest.approx(5)
