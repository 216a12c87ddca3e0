"""Image embeddings kept on disk, so that a case opened again answers its first prompt as quickly as the next ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import astuple
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from samed2.errors import InputError
from samed2.io import Window
from samed2.io.atomic import atomic_path
from samed2.nn import Features
from samed2.predict.zoom import View

SUFFIX = ".features"
_SLACK = 0.8  # share of the limit that is left after making room, so that room is not made for every file


class FeatureStore:
    """Embeddings in one folder, found by what they were made of; the longest unused go when the limit is reached.

    Several processes may share the folder: files appear whole or not at all, and a damaged or vanished one is simply
    made again.

    Args:
        folder: made when missing.
        megabytes: the most that all files together may take.

    Raises:
        InputError: the folder cannot be made, or the limit is not positive.
    """

    def __init__(self, folder: str | PathLike[str], megabytes: float = 1000.0) -> None:
        if not megabytes > 0:
            raise InputError(f"embedding cache: got a limit of {megabytes} MB, wanted more than 0")
        self.folder, self.limit = Path(folder), int(megabytes * 1e6)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot hold the embedding cache ({error.strerror})") from error
        self._bytes = sum(size for _, size, _ in self._files())

    @staticmethod
    def key(model: str, precision: str, frames: Sequence[NDArray[np.generic]], window: Window, view: View) -> str:
        """A name for the embedding of a clip's frames, through a window and a view, by a model's weights."""
        digest = hashlib.sha256(f"{model} {precision} {window.low!r} {window.high!r} {astuple(view)!r}".encode())
        for frame in frames:
            digest.update(f"{frame.shape}{frame.dtype.str}".encode())
            digest.update(np.ascontiguousarray(frame).tobytes())
        return digest.hexdigest()

    def get(self, key: str) -> Features | None:
        """The embedding, on the CPU; None where it is not kept or cannot be read."""
        path = self._path(key)
        try:
            held = load_file(path)
            os.utime(path)
            return Features(held["high"], held["mid"], held["low"])
        except (OSError, KeyError, ValueError, RuntimeError):
            return None
        except Exception as error:  # safetensors has an error class of its own for damaged files
            if type(error).__name__ != "SafetensorError":
                raise
            return None

    def put(self, key: str, features: Features) -> None:
        """Keep an embedding; a full disk is no reason to stop, it is then not kept."""
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            with atomic_path(path) as temporary:
                save_file(
                    {name: part.detach().cpu().contiguous() for name, part in features._asdict().items()}, temporary
                )
            self._bytes += path.stat().st_size
        except (InputError, OSError):
            return
        if self._bytes > self.limit:
            self._make_room()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / (key[2:] + SUFFIX)

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, size, path) of every file."""
        found = []
        for path in self.folder.glob(f"*/*{SUFFIX}"):
            try:
                facts = path.stat()
            except OSError:
                continue
            found.append((facts.st_mtime, facts.st_size, path))
        return found

    def _make_room(self) -> None:
        files = sorted(self._files())
        self._bytes = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._bytes <= self.limit * _SLACK:
                return
            path.unlink(missing_ok=True)
            self._bytes -= size


def to_device(features: Features, device: torch.device) -> Features:
    """The same on a device."""
    return Features(*(part.to(device) for part in features))
