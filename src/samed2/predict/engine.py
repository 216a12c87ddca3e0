"""The engine under the predictor: views of frames in, answers of the model out, with embeddings kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.nn import Features, SAMed2Model
from samed2.nn.model import Decoded
from samed2.nn.weights import fingerprint
from samed2.predict.device import autocast, resolve_device, resolve_precision
from samed2.predict.feature_store import FeatureStore, to_device
from samed2.predict.results import Answer
from samed2.predict.rows import Row, to_tensors
from samed2.predict.settings import Settings
from samed2.predict.zoom import View, as_tensor, content_view, paste, sample, three_channels

CACHED_VIEWS = 64
AHEAD_PIXELS = 1 << 17  # that go through the encoder together when frames are known to follow each other


class Engine:
    """A model on its device, and the embeddings of the views it looked through last.

    An answer never depends on what was asked before, nor on the other rows asked together with it.

    Args:
        store: where embeddings are also kept on disk, None keeps them only in memory.
    """

    def __init__(
        self,
        model: SAMed2Model,
        device: str | torch.device | None,
        precision: str | None,
        store: FeatureStore | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.model = model.to(self.device).eval()
        self.size = int(model.config.image_size)
        self.fingerprint = fingerprint(model)
        self.store = store
        self._cache: OrderedDict[tuple[Any, ...], tuple[Scan, Features]] = OrderedDict()
        self._mean = torch.tensor(model.config.pixel_mean)[:, None, None]
        self._std = torch.tensor(model.config.pixel_std)[:, None, None]

    def autocast(self) -> Any:
        """The precision to compute in, as a context."""
        return autocast(self.device, self.dtype)

    def ask(
        self,
        scan: Scan,
        frame: int,
        rows: list[Row],
        window: Window,
        settings: Settings,
        memory: SelectiveMemory | None,
    ) -> list[Answer]:
        """The answers to rows of one frame; all rows of one structure go through the decoder together."""
        answers: dict[int, Answer] = {}
        groups: dict[tuple[int, bool, bool], list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.structure, []).append(index)
        for structure, members in groups.items():
            chosen = [rows[i] for i in members]
            click = structure[0] == 1 and not structure[1] and not structure[2]
            multimask = settings.multimask or click
            found = self._decode(scan, frame, chosen, window, settings, memory, multimask)
            if settings.mirror:
                turned = [replace(row, view=replace(row.view, flip_x=True)) for row in chosen]
                other = self._decode(scan, frame, turned, window, settings, memory, multimask)
                found = found._replace(
                    logits=(found.logits + other.logits.flip(-1)) / 2,
                    iou=(found.iou + other.iou) / 2,
                    object_score=(found.object_score + other.object_score) / 2,
                )
            answers.update(zip(members, self.answers(scan, chosen, found), strict=True))
        return [answers[i] for i in range(len(rows))]

    def _decode(
        self,
        scan: Scan,
        frame: int,
        rows: list[Row],
        window: Window,
        settings: Settings,
        memory: SelectiveMemory | None,
        multimask: bool,
    ) -> Decoded:
        """What the model says to rows of one structure."""
        features = self.features(scan, frame, [row.view for row in rows], window, settings.neighbours)
        recalled = self.recalled(scan, features, settings, memory)
        with self.autocast():
            conditioned = features._replace(low=self.model.condition(features.low, recalled))
            return self.model.decode(conditioned, to_tensors(rows), multimask)

    def answers(self, scan: Scan, rows: list[Row], found: Decoded) -> list[Answer]:
        """The decoder's output for rows, brought to the frame."""
        logits, iou = found.logits.float(), found.iou.float().cpu()
        answers = []
        for place, row in enumerate(rows):
            order = iou[place].argsort(descending=True, stable=True)
            seen = logits[place][order.to(logits.device)]
            pasted = paste(seen.cpu(), row.view, scan.height, scan.width).numpy()
            score = float(found.object_score[place])
            answers.append(Answer(pasted, iou[place][order].tolist(), score, seen[:1], found.pointer[place]))
        return answers

    def content(self, scan: Scan, frame: int, window: Window) -> View:
        """The view of all that a frame shows: how it is looked at where nothing tells the place of an object."""
        return content_view(as_tensor(window.apply(scan.frame(frame))), self.size)

    def recalled(
        self, scan: Scan, features: Features, settings: Settings, memory: SelectiveMemory | None
    ) -> torch.Tensor | None:
        """What the memory of past cases has for each row, (N, k, M, h, w), None where it is not asked."""
        if memory is None or not (settings.memory and len(memory) and settings.memories):
            return None
        known = {entry.modality for entry in memory.entries}
        modality = scan.modality if scan.modality in known and settings.task is None else None
        return memory.retrieve(features.low.float(), settings.memories, task=settings.task, modality=modality).features

    def forget(self) -> None:
        """Let go of the embeddings kept in memory."""
        self._cache.clear()

    def look_ahead(self, scan: Scan, frames: Sequence[int], view: View, window: Window, neighbours: int) -> None:
        """Encode the first of these frames together and keep them: small models spend most of their time between
        operations, so that many frames cost little more than one. Equal to encoding each alone, to rounding."""
        length = len(self._clip(scan, frames[0], neighbours))
        count = max(1, AHEAD_PIXELS // (self.size**2 * length))
        clips = [self._clip(scan, frame, neighbours) for frame in frames[:count]]
        keys = [(id(scan), tuple(clip), window, view) for clip in clips]
        if keys[0] in self._cache or len(keys) == 1 or self.store is not None:
            return
        looked = {f: as_tensor(window.apply(scan.frame(f))) for f in dict.fromkeys(f for clip in clips for f in clip)}
        self._encode_together(scan, keys, [self._seen(looked, clip, view) for clip in clips])

    def features(self, scan: Scan, frame: int, views: list[View], window: Window, neighbours: int) -> Features:
        """Features of one frame through several views, one row each, from the cache where possible."""
        frames = self._clip(scan, frame, neighbours)
        keys = [(id(scan), tuple(frames), window, view) for view in views]
        missing = list(dict.fromkeys(k for k in keys if k not in self._cache))
        if missing:
            looked = {f: as_tensor(window.apply(scan.frame(f))) for f in dict.fromkeys(frames)}
            if self.dtype is not None and self.store is None:
                self._encode_together(scan, missing, [self._seen(looked, frames, key[3]) for key in missing])
                missing = []
            for key in missing:  # one by one in full precision: the same numbers whatever else is asked
                self._cache[key] = (scan, self._kept([scan.frame(f) for f in frames], looked, frames, window, key[3]))
        found = [self._cache[key][1] for key in keys]
        for key in keys:
            self._cache.move_to_end(key)
        while len(self._cache) > max(CACHED_VIEWS, len(keys)):
            self._cache.popitem(last=False)
        return Features(*(torch.cat(level) for level in zip(*found, strict=True)))

    def _encode_together(self, scan: Scan, keys: list[tuple[Any, ...]], clips: list[torch.Tensor]) -> None:
        """Encode clips (T, 3, S, S) of one length in as few passes as `AHEAD_PIXELS` allows, and keep their middles."""
        length = len(clips[0])
        middle, most = self._middle(length), max(1, AHEAD_PIXELS // (self.size**2 * length))
        for start in range(0, len(clips), most):
            encoded = self._run(torch.stack(clips[start : start + most]))
            for number, key in enumerate(keys[start : start + most]):
                place = number * length + middle
                self._cache[key] = (scan, Features(*(level[place : place + 1].clone() for level in encoded)))

    def _kept(
        self, seen: list[NDArray[Any]], looked: dict[int, torch.Tensor], frames: list[int], window: Window, view: View
    ) -> Features:
        """The embedding of a clip's middle frame, from disk where it is kept there."""
        if self.store is None:
            return self._encoded(looked, frames, view)
        key = self.store.key(self.fingerprint, str(self.dtype), seen, window, view)
        held = self.store.get(key)
        if held is None:
            held = self._encoded(looked, frames, view)
            self.store.put(key, held)
        return to_device(held, self.device)

    def _encoded(self, looked: dict[int, torch.Tensor], frames: list[int], view: View) -> Features:
        middle = self._middle(len(frames))
        return self._run(self._seen(looked, frames, view)[None]).select(slice(middle, middle + 1))

    def _seen(self, looked: dict[int, torch.Tensor], frames: list[int], view: View) -> torch.Tensor:
        """A clip through a view, (T, 3, S, S) in [0, 1]."""
        return torch.stack([three_channels(sample(looked[f], view)) for f in frames])

    def _run(self, clips: torch.Tensor) -> Features:
        """The encoder's answer to clips (B, T, 3, S, S) in [0, 1]."""
        with self.autocast():
            return self.model.encode(((clips - self._mean) / self._std).to(self.device))

    def _clip(self, scan: Scan, frame: int, neighbours: int) -> list[int]:
        """The frames encoded together with one frame; missing ends repeat the last one there is."""
        if self.model.config.adapter_layout == "released":
            return [frame, frame]  # the released code pairs maps; a lone image is paired with itself
        if scan.num_frames == 1 or self.model.config.adapter_dim == 0:
            return [frame]
        first = frame - neighbours // 2
        return [min(max(first + i, 0), scan.num_frames - 1) for i in range(neighbours)]

    def _middle(self, count: int) -> int:
        return 0 if self.model.config.adapter_layout == "released" else count // 2
