"""Video (mp4, mov, avi, mkv, webm) through PyAV: frames are decoded when asked for, few are kept."""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.checks import MAX_PIXELS, one_line
from samed2.io.readers import register_reader, stem
from samed2.io.scan import Scan
from samed2.io.video_boxes import check_whole

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_KEEP_BYTES = 2**26  # of decoded frames, so that going backwards decodes a group of pictures a few times only
_KEEP_FRAMES = 32
_CHECKED = 6
_MAX_PACKETS = 10_000_000


def _container(head: bytes) -> str | None:
    """PyAV's name of the format, so that it never guesses (a playlist would open other files)."""
    if head[4:8] in _BOXES:
        return "mov"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "avi"
    return "matroska" if head[:4] == b"\x1a\x45\xdf\xa3" else None


def _container_of(path: Path) -> str:
    with open(path, "rb") as handle:
        kind = _container(handle.read(16))
    if kind is None:
        raise InputError(f"{path}: is no longer the video that it was; open it again")
    return kind


@register_reader("video", SUFFIXES, lambda path, head: _container(head) is not None)
def read_video(path: Path) -> Scan:
    """Frames (H, W, 3), or (H, W) for grey ones, turned as the file's rotation says; deeper than 8 bits as 16."""
    source = VideoSource(path)
    return Scan(
        source,
        name=stem(path),
        path=path,
        modality="rgb" if source.shape[3] == 3 else "unknown",
        kind="video",
        properties={"reader": "video", **source.facts},
        warnings=source.notes,
    )


class VideoSource:
    """Frames by number: seeks to the key frame before, decodes on from there, keeps the last ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._open: tuple[Any, Iterator[Any]] | None = None
        self._next = 0  # the frame that the open decoder gives next
        self.notes: list[str] = []
        with _errors(path):
            check_whole(path, _container_of(path))
            self._index()
            first = self._first_frame()
            if not self._stamps_hold():
                known, keys = self._index_by_decoding()
                self._stamps, self._keys = sorted(known), sorted(keys)
        self._turn, self._format, self.dtype = first
        self.shape = self._shape()

    def read(self, index: int) -> NDArray[Any]:
        with self._lock, _errors(self._path):
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            return self._seek_and_decode(index)

    def _index(self) -> None:
        """Time stamps of all frames in order of display and which packets are key frames, without decoding."""
        container = self._container()
        try:
            stream = _stream(self._path, container)
            self._rate = float(stream.average_rate or 0)
            ratio = stream.sample_aspect_ratio
            if ratio and ratio != 1:
                self.notes.append(f"{self._path}: its pixels are {float(ratio):.3g} times as wide as high")
            stamps: list[int | None] = []
            keys: list[int] = []
            unseen = stream.frames  # as the file counts them, 0 where it does not
            for count, packet in enumerate(container.demux(stream)):
                if count > _MAX_PACKETS:
                    raise InputError(f"{self._path}: has more than {_MAX_PACKETS} packets; cut it into parts")
                unseen -= packet.size > 0
                if packet.size == 0 or packet.is_discard:
                    continue
                stamps.append(packet.pts)
                if packet.is_keyframe and packet.pts is not None:
                    keys.append(packet.pts)
        finally:
            container.close()
        known = [stamp for stamp in stamps if stamp is not None]
        if not stamps:
            raise InputError(f"{self._path}: is a video of no frames; it is cut off or empty")
        if unseen > 0:
            self.notes.append(f"{self._path}: says that it has {unseen} frames more than are in it")
        if len(known) < len(stamps) or len(set(known)) < len(known) or not keys:
            known, keys = self._index_by_decoding()
        self._stamps, self._keys = sorted(known), sorted(keys)

    def _index_by_decoding(self) -> tuple[list[int], list[int]]:
        """As `_index`, where packets do not say when they are shown; frames then are found from the start on."""
        container = self._container()
        try:
            stamps = [frame.pts for frame in _decoded(container, _stream(self._path, container))]
        finally:
            container.close()
        if not stamps:
            raise InputError(f"{self._path}: is a video of no frames; it is cut off or empty")
        self._counted = None in stamps or stamps != sorted(set(stamps))
        return (list(range(len(stamps))), [0]) if self._counted else (stamps, stamps[:1])

    _counted = False  # frames have no usable time stamps: they are told by counting

    def _first_frame(self) -> tuple[int, str, np.dtype[Any]]:
        """Quarter turns, the pixel format frames are given in, and their type."""
        container = self._container()
        try:
            stream = _stream(self._path, container)
            frame = next(_decoded(container, stream), None)
            if frame is None:
                raise InputError(f"{self._path}: none of its {len(self._stamps)} frames can be decoded; it is damaged")
            self._size = (frame.height, frame.width)
            self.facts = {
                "codec": stream.codec_context.name,
                "pixel_format": frame.format.name,
                **({"fps": self._rate} if 0 < self._rate < 1e6 else {}),
            }
            degrees = round(float(frame.rotation or 0))
            if degrees % 90:
                self.notes.append(f"{self._path}: asks to be turned by {degrees} degrees, which is not done")
            elif degrees % 360:
                self.notes.append(f"{self._path}: was turned by {degrees % 360} degrees, as its rotation says")
            deep = max(part.bits for part in frame.format.components) > 8
            grey = frame.format.name.startswith(("gray", "ya8", "mono"))
        finally:
            container.close()
        kind = ("gray16le" if grey else "rgb48le") if deep else ("gray" if grey else "rgb24")
        return (0 if degrees % 90 else degrees // 90 % 4), kind, np.dtype(np.uint16 if deep else np.uint8)

    def _stamps_hold(self) -> bool:
        """Whether the first decoded frames bear the first time stamps of the index; AVI with B frames does not."""
        container = self._container()
        try:
            frames = islice(_decoded(container, _stream(self._path, container)), _CHECKED)
            return self._counted or all(frame.pts == stamp for frame, stamp in zip(frames, self._stamps, strict=False))
        finally:
            container.close()

    def _shape(self) -> tuple[int, int, int, int]:
        height, width = self._size if self._turn % 2 == 0 else self._size[::-1]
        return len(self._stamps), height, width, 1 if self._format.startswith("gray") else 3

    def _seek_and_decode(self, index: int) -> NDArray[Any]:
        key = bisect.bisect_right(self._keys, self._stamps[index]) - 1
        start = bisect.bisect_left(self._stamps, self._keys[key]) if key >= 0 else 0
        if self._open is None or not max(start, 0) <= self._next <= index:
            self._restart(start if not self._counted else 0)
        assert self._open is not None
        for frame in self._open[1]:
            number = self._next if self._counted else self._number(frame.pts)
            if number is None:
                continue  # before the key frame, or not one of the index
            self._next = number + 1
            if index - number < self._capacity():
                self._keep(number, frame)
            if number == index:
                return self._kept[index]
            if number > index:
                break
        self._close()
        raise InputError(f"{self._path}: frame {index} cannot be decoded, the video is damaged there")

    def _number(self, stamp: int | None) -> int | None:
        if stamp is None:
            return None
        number = bisect.bisect_left(self._stamps, stamp)
        return number if number < len(self._stamps) and self._stamps[number] == stamp else None

    def _capacity(self) -> int:
        one = self._size[0] * self._size[1] * self.shape[3] * self.dtype.itemsize
        return max(1, min(_KEEP_FRAMES, _KEEP_BYTES // max(one, 1)))

    def _keep(self, number: int, frame: Any) -> None:
        if (frame.height, frame.width) != self._size:
            raise InputError(
                f"{self._path}: frame {number} is {frame.height} x {frame.width} (rows x columns), the first one "
                f"{self._size[0]} x {self._size[1]}; wanted one size, cut the video there"
            )
        pixels = frame.to_ndarray(format=self._format)
        self._kept[number] = np.ascontiguousarray(np.rot90(pixels, self._turn))
        self._kept.move_to_end(number)
        while len(self._kept) > self._capacity():
            self._kept.popitem(last=False)

    def _restart(self, start: int) -> None:
        self._close()
        container = self._container()
        stream = _stream(self._path, container)
        if start > 0:
            container.seek(self._stamps[start], stream=stream, backward=True)
        self._open, self._next = (container, _decoded(container, stream)), start if not self._counted else 0

    def _container(self) -> Any:
        av = _av(self._path)
        return av.open(str(self._path), format=_container_of(self._path), metadata_errors="replace")

    def _close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def __del__(self) -> None:
        if getattr(self, "_open", None) is not None:
            self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_open": None, "_kept": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def _av(path: Path) -> Any:
    try:
        import av
    except ImportError:
        raise InputError(f"{path}: is a video, which needs PyAV; pip install 'samed2[video]'") from None
    av.logging.set_level(None)
    return av


def _stream(path: Path, container: Any) -> Any:
    streams = [one for one in container.streams.video if not one.disposition & 1024]  # an attached cover picture
    if not streams:
        raise InputError(
            f"{path}: has no video in it, only {', '.join(s.type for s in container.streams) or 'nothing'}"
        )
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise InputError(f"{path}: is packed with a codec that is not known here; convert it to H.264")
    if context.width * context.height > MAX_PIXELS:
        raise InputError(f"{path}: claims {context.width} x {context.height} pixels, wanted at most {MAX_PIXELS}")
    return stream


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """All frames; packets that cannot be decoded are left out."""
    av = _av(Path(container.name))
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if isinstance(error, (EOFError, MemoryError)):
                return
            continue
        yield from frames


class _errors:
    """Every error of the decoders as one InputError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, InputError) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{self._path}: no longer exists") from error
        raise InputError(
            f"{self._path}: cannot be read as video, it is damaged, cut off or of an unsupported kind "
            f"({one_line(error)})"
        ) from error
