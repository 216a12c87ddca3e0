"""The engine under the predictor: views of frames in, answers of the model out, with embeddings kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

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
SHARING = 4  # shallow clips that follow each other go through the encoder together, whatever their size


class Clip(NamedTuple):
    """Frames that are encoded together for one of them.

    Attributes:
        middle: place of the one that is wanted; the others are its neighbours.
        shallow: they are seen by the first adapter alone, see `SAMed2Model.encode`.
    """

    frames: tuple[int, ...]
    middle: int
    shallow: bool = False


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
        features = self.features(scan, frame, [row.view for row in rows], window, settings)
        recalled = self.recalled(scan, features, settings, memory)
        with self.autocast():
            low = self.model.condition(features.low, recalled)
        return self.decode(features._replace(low=low), rows, multimask)

    def decode(self, features: Features, rows: list[Row], multimask: bool) -> Decoded:
        """What the decoder makes of conditioned features, always in fp32: it takes little of the time, and most of what
        masks lose by bf16 they lose here."""
        exact = Features(*(level.float() for level in features))
        return self.model.decode(exact, to_tensors(rows), multimask)

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

    def look_ahead(self, scan: Scan, frames: Sequence[int], view: View, window: Window, settings: Settings) -> None:
        """Encode the first of these frames together and keep them: small models spend most of their time between
        operations, so that many frames cost little more than one. Equal to encoding each alone, to rounding."""
        first = self._clip(scan, frames[0], settings)
        count = max(SHARING if first.shallow else 1, self._together(first) // 2)  # fewer than of views: it saves memory
        clips = [self._clip(scan, frame, settings) for frame in frames[:count]]
        keys = [(id(scan), clip, window, view) for clip in clips]
        if keys[0] in self._cache or len(keys) == 1 or self.store is not None:
            return
        looked = self._looked(scan, [f for clip in clips for f in clip.frames], window)
        if first.shallow:
            self._encode_run(scan, sorted(keys, key=lambda key: key[1].frames[1]), looked)
        else:
            self._encode_together(scan, keys, [self._seen(looked, clip, view) for clip in clips])

    def features(self, scan: Scan, frame: int, views: list[View], window: Window, settings: Settings) -> Features:
        """Features of one frame through several views, one row each, from the cache where possible."""
        clip = self._clip(scan, frame, settings)
        keys = [(id(scan), clip, window, view) for view in views]
        missing = list(dict.fromkeys(k for k in keys if k not in self._cache))
        if missing:
            looked = self._looked(scan, clip.frames, window)
            if self.dtype is not None and self.store is None:
                self._encode_together(scan, missing, [self._seen(looked, clip, key[3]) for key in missing])
                missing = []
            for key in missing:  # one by one in full precision: the same numbers whatever else is asked
                self._cache[key] = (scan, self._kept(scan, looked, clip, window, key[3]))
        found = [self._cache[key][1] for key in keys]
        for key in keys:
            self._cache.move_to_end(key)
        while len(self._cache) > max(CACHED_VIEWS, len(keys)):
            self._cache.popitem(last=False)
        return Features(*(torch.cat(level) for level in zip(*found, strict=True)))

    def _encode_together(self, scan: Scan, keys: list[tuple[Any, ...]], seen: list[torch.Tensor]) -> None:
        """Encode what is seen of clips of one kind, (T, 3, S, S) each, in as few passes as `AHEAD_PIXELS` allows."""
        clip: Clip = keys[0][1]
        most = self._together(clip)
        for start in range(0, len(seen), most):
            found = self._middles(torch.stack(seen[start : start + most]), clip)
            self._keep(scan, keys[start : start + most], found)

    def _encode_run(self, scan: Scan, keys: list[tuple[Any, ...]], looked: dict[int, torch.Tensor]) -> None:
        """Encode shallow clips of frames that follow each other as one: what is done before neighbours are looked at
        is done once for every frame."""
        clips: list[Clip] = [key[1] for key in keys]
        run = Clip((*(clip.frames[0] for clip in clips), *clips[-1].frames[1:]), 1, shallow=True)
        found = self._middles(self._seen(looked, run, keys[0][3])[None], run)
        self._keep(scan, keys, found)

    def _keep(self, scan: Scan, keys: list[tuple[Any, ...]], found: Features) -> None:
        """Put the rows of some features into the cache, each by itself: an old one does not hold the others' memory."""
        for number, key in enumerate(keys):
            self._cache[key] = (scan, Features(*(level[number : number + 1].clone() for level in found)))

    def _kept(self, scan: Scan, looked: dict[int, torch.Tensor], clip: Clip, window: Window, view: View) -> Features:
        """The embedding of a clip's middle frame, from disk where it is kept there."""
        if self.store is None:
            return self._middles(self._seen(looked, clip, view)[None], clip)
        how = f"{self.dtype} shallow" if clip.shallow else str(self.dtype)
        key = self.store.key(self.fingerprint, how, [scan.frame(f) for f in clip.frames], window, view)
        held = self.store.get(key)
        if held is None:
            held = self._middles(self._seen(looked, clip, view)[None], clip)
            self.store.put(key, held)
        return to_device(held, self.device)

    def _looked(self, scan: Scan, frames: Sequence[int], window: Window) -> dict[int, torch.Tensor]:
        return {f: as_tensor(window.apply(scan.frame(f))) for f in dict.fromkeys(frames)}

    def _seen(self, looked: dict[int, torch.Tensor], clip: Clip, view: View) -> torch.Tensor:
        """A clip through a view, (T, 3, S, S) in [0, 1]."""
        frames = sample(torch.cat([looked[f] for f in clip.frames]), view).unflatten(0, (len(clip.frames), -1))
        return torch.stack([three_channels(frame) for frame in frames])

    def _middles(self, seen: torch.Tensor, clip: Clip) -> Features:
        """The embeddings of the frames that clips like this one are of, from (B, T, 3, S, S) in [0, 1].

        B rows; of shallow clips of more than three frames B*(T-2).
        """
        with self.autocast():
            found = self.model.encode(((seen - self._mean) / self._std).to(self.device), shallow=clip.shallow)
        return found if clip.shallow else found.select(slice(clip.middle, None, len(clip.frames)))

    def _together(self, clip: Clip) -> int:
        """How many clips like this one are encoded at a time."""
        return max(1, AHEAD_PIXELS // (self.size**2 * (1 if clip.shallow else len(clip.frames))))

    def _clip(self, scan: Scan, frame: int, settings: Settings) -> Clip:
        """The frames encoded together with one frame; missing ends repeat the last one there is."""
        if self.model.config.adapter_layout == "released":
            return Clip((frame, frame), 0)  # the released code pairs maps; a lone image is paired with itself
        if scan.num_frames == 1 or self.model.config.adapter_dim == 0 or settings.neighbours == 1:
            return Clip((frame,), 0)
        count, end = 3 if settings.shallow else settings.neighbours, scan.num_frames - 1
        first = frame - count // 2
        return Clip(tuple(min(max(first + i, 0), end) for i in range(count)), count // 2, settings.shallow)
