"""Following objects through the frames of a volume or video, in one direction, all objects in one pass.

Every object has its own track of SAM-2's streaming memory (`nn/streaming.py`). On prompted frames it is segmented from
its prompts; on the others from the memory, with its last mask as a further hint where `Tracking.carry` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan, Window
from samed2.memory import SelectiveMemory
from samed2.nn.streaming import Trace, Track, reach, read, structure
from samed2.predict.engine import Engine
from samed2.predict.frame import look_closely
from samed2.predict.results import Answer, ObjectPrediction, unite
from samed2.predict.rows import Row, box_of, core_box, plan_rows, seen_logits, snapped_view, to_tensors
from samed2.predict.scene import Scene
from samed2.predict.settings import Settings
from samed2.predict.zoom import View, whole_view
from samed2.prompts import Prompts

CARRY = ("auto", "memory", "box", "mask")
_FACTS = ("sure", "absent", "ended")


@dataclass(frozen=True)
class Tracking:
    """How objects are followed.

    Attributes:
        follow: every object has a view of its own that moves and grows with it; else all share the whole frame.
        margin: width of that view over the object's.
        carry: what an unprompted frame is told beside the memory: nothing ("memory"), the box of the last mask
            grown by `slack` ("box"), or that and the mask itself ("mask"). "auto": "memory" for models trained to
            stream with nothing else, else "mask".
        slack: share of the box's size by which each side is moved out.
        stream: read SAM-2's streaming memory; off, only what is carried connects the frames. None: as the model
            was trained.
        drop: an answer with a predicted IoU below this share of the prompted frame's counts as "not there". None: 0 for
            models trained to stream, whose object score tells, else 0.88 (tuned on `val`).
        patience: how many frames in a row without the object end it; 0 never ends it.
    """

    follow: bool = True
    margin: float = 1.5
    carry: str = "auto"
    slack: float = 0.08
    stream: bool | None = None
    drop: float | None = None
    patience: int = 2

    def __post_init__(self) -> None:
        if self.carry not in CARRY:
            raise InputError(f"carry: got {self.carry!r}, wanted one of {', '.join(CARRY)}")
        for name, least in {"margin": 1.0, "slack": 0.0, "drop": 0.0, "patience": 0}.items():
            if getattr(self, name) is not None and not getattr(self, name) >= least:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted at least {least}")


@dataclass
class _Followed:
    """One object on its way: its track, next view, last mask, confidence where prompted, frames without it."""

    track: Track = field(default_factory=Track)
    view: View | None = None
    mask: NDArray[np.bool_] | None = None
    sure: float = 0.0
    absent: int = 0
    ended: bool = False


class _Seen(NamedTuple):
    """An object on the frame at hand: its track, and the mask logits (1, 1, h, w) seen through a view."""

    track: Track
    view: View
    logits: torch.Tensor
    answer: Answer
    prompted: bool


class Tracker:
    """Objects followed in one direction. `step` takes the frames in order."""

    def __init__(
        self,
        engine: Engine,
        scan: Scan,
        prompts: Prompts,
        window: Window,
        settings: Settings,
        tracking: Tracking,
        memory: SelectiveMemory | None = None,
        reverse: bool = False,
    ) -> None:
        self.engine, self.scan, self.prompts, self.window = engine, scan, prompts, window
        self.settings, self.tracking, self.memory, self.reverse = settings, tracking, memory, reverse
        trained = bool(engine.model.config.streaming)
        self.stream = trained if tracking.stream is None else tracking.stream
        alone = trained and not engine.model.config.carried
        self.carry = ("memory" if alone else "mask") if tracking.carry == "auto" else tracking.carry
        self.drop = (0.0 if trained else 0.88) if tracking.drop is None else tracking.drop
        self._objects = {object_id: _Followed() for object_id in prompts.objects}
        self._reach = reach(engine.model)
        self._seen: list[_Seen] = []
        self._done = 0  # frames

    def frames(self) -> list[int]:
        """The frames to visit, from the first prompt to the end."""
        prompted = self.prompts.frames()
        return list(range(prompted[-1], -1, -1) if self.reverse else range(prompted[0], self.scan.num_frames))

    def __iter__(self) -> Iterator[tuple[int, list[ObjectPrediction]]]:
        """(frame, objects found or looked for) in order; ends when every object has ended."""
        frames = self.frames()
        ahead = set(self.prompts.frames()).intersection(frames[self._done :])
        for frame in frames[self._done :]:
            if not ahead and all(o.ended for o in self._objects.values()):
                return
            ahead.discard(frame)
            if not self.tracking.follow:
                self._look_ahead(frames[self._done :])
            found = self.step(frame)
            self._done += 1
            yield frame, found

    def leave(self, ids: Iterable[int]) -> None:
        """Follow some objects no further."""
        for object_id in ids:
            self._objects[object_id].ended = True

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What `restore` needs to go on after the frames given so far: tensors in CPU memory, and JSON-able facts."""
        tensors: dict[str, torch.Tensor] = {}
        objects = {}
        for object_id, followed in self._objects.items():
            kinds = {"prompted": followed.track.prompted, "recent": followed.track.recent}
            for kind, traces in kinds.items():
                for frame, trace in traces.items():
                    for name, part in trace._asdict().items():
                        tensors[f"{object_id}.{kind}.{frame}.{name}"] = part.detach().to("cpu", copy=True).contiguous()
            if followed.mask is not None:
                tensors[f"{object_id}.mask"] = torch.from_numpy(np.packbits(followed.mask))
            objects[str(object_id)] = {
                **{kind: list(traces) for kind, traces in kinds.items()},
                "view": None if followed.view is None else asdict(followed.view),
                **{name: getattr(followed, name) for name in _FACTS},
            }
        return tensors, {"done": self._done, "objects": objects}

    def restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Become what a tracker of the same scan, prompts and settings was when it gave its `state`, bit for bit."""
        self._done = facts["done"]
        height, width = self.scan.height, self.scan.width
        for object_id, followed in self._objects.items():
            known = facts["objects"][str(object_id)]
            for kind, traces in (("prompted", followed.track.prompted), ("recent", followed.track.recent)):
                for frame in known[kind]:  # their order is that in which they are read
                    parts = [tensors[f"{object_id}.{kind}.{frame}.{name}"] for name in Trace._fields]
                    traces[frame] = Trace(*(part.to(self.engine.device) for part in parts))
            packed = tensors.get(f"{object_id}.mask")
            if packed is not None:
                bits = np.unpackbits(packed.numpy(), count=height * width)
                followed.mask = bits.reshape(height, width).astype(bool)
            followed.view = None if known["view"] is None else View(**known["view"])
            for name in _FACTS:
                setattr(followed, name, known[name])

    @torch.inference_mode()
    def _look_ahead(self, frames: list[int]) -> None:
        view = whole_view(self.scan.height, self.scan.width, self.engine.size)
        self.engine.look_ahead(self.scan, frames, view, self.window, self.settings)

    @torch.inference_mode()
    def step(self, frame: int) -> list[ObjectPrediction]:
        """Segment every started object on a frame and remember what was found."""
        now = self.prompts.on_frame(frame).objects
        found = [self._prompted(object_id, frame) for object_id in now]
        rest = [i for i, o in self._objects.items() if i not in now and o.view is not None and not o.ended]
        found += self._unprompted(rest, frame)
        self._remember(frame)
        return sorted(found, key=lambda p: p.id)

    def _prompted(self, object_id: int, frame: int) -> ObjectPrediction:
        scan, settings = self.scan, self.settings
        entry = self.prompts.on_frame(frame).objects[object_id]
        zoom = settings.zoom and self.tracking.follow
        rows = plan_rows(object_id, entry, scan.height, scan.width, self.engine.size, settings.margin, zoom)
        rows, answers = look_closely(Scene(self.engine, scan, frame, self.window, settings, self.memory), rows)
        found = unite(object_id, answers, settings)
        self._objects[object_id].sure = found.confidence
        largest = max(range(len(rows)), key=lambda i: np.count_nonzero(answers[i].logits[0] > 0))
        self._note(frame, found, answers[largest], rows[largest].view if len(rows) == 1 else None, prompted=True)
        return found

    def _unprompted(self, ids: list[int], frame: int) -> list[ObjectPrediction]:
        groups: dict[Any, list[int]] = {}
        model, total, recent = self.engine.model, self.scan.num_frames, self.settings.recent
        for object_id in ids:
            shape = structure(model, self._objects[object_id].track, frame, self.reverse, total, recent)
            groups.setdefault((shape, self._objects[object_id].mask is None), []).append(object_id)
        found = []
        for members in groups.values():
            rows = [self._row(object_id) for object_id in members]
            for row, answer in zip(rows, self._tracked(members, rows, frame), strict=True):
                prediction = unite(row.object_id, [answer], self.settings)
                least = self.drop * self._objects[row.object_id].sure
                if answer.object_score <= 0 or prediction.confidence < least:
                    prediction.mask = np.zeros_like(prediction.mask)
                self._note(frame, prediction, answer, row.view, prompted=False)
                found.append(prediction)
        return found

    def _row(self, object_id: int) -> Row:
        """The question about an object on an unprompted frame: what is carried over from the last one."""
        followed, carry = self._objects[object_id], self.carry
        assert followed.view is not None
        if followed.mask is None or carry == "memory":
            return Row(object_id, followed.view)
        y0, x0, y1, x1 = box_of(followed.mask)
        grow_y, grow_x = self.tracking.slack * (y1 - y0), self.tracking.slack * (x1 - x0)
        height, width = followed.mask.shape
        box = (max(y0 - grow_y, 0), max(x0 - grow_x, 0), min(y1 + grow_y, height), min(x1 + grow_x, width))
        return Row(object_id, followed.view, [], box, seen_logits(followed.mask) if carry == "mask" else None)

    def _tracked(self, ids: list[int], rows: list[Row], frame: int) -> list[Answer]:
        engine, model = self.engine, self.engine.model
        features = engine.features(self.scan, frame, [r.view for r in rows], self.window, self.settings)
        tracks = [self._objects[i].track for i in ids]
        tokens = None
        if self.stream:
            total, recent = self.scan.num_frames, self.settings.recent
            tokens = read(model, tracks, frame, self.reverse, total, recent)
        past = engine.recalled(self.scan, features, self.settings, self.memory)
        with engine.autocast():
            low = features.low
            if tokens is not None:
                memory, position, counts = tokens.memory, tokens.memory_position, tokens.counts
                if past is not None:
                    shared = model.memory_position(past.shape[-2:]).to(position).expand_as(past)
                    memory = torch.cat([memory, past.to(memory)], dim=1)
                    position = torch.cat([position, shared], dim=1)
                    counts = None if counts is None else [*counts, *[1.0] * past.shape[1]]
                low = model.condition(low, memory, position, tokens.pointers, tokens.pointer_position, counts)
            else:
                low = model.condition(low, past)
            unprompted = rows[0].box is None  # then SAM-2 chooses among its three masks, if it was trained to
            config = model.config
            multimask = unprompted and config.multimask_output_for_tracking and config.multimask_min_pt_num == 0
        decoded = engine.decode(features._replace(low=low), rows, bool(multimask))
        return engine.answers(self.scan, rows, decoded)

    def _note(self, frame: int, found: ObjectPrediction, answer: Answer, view: View | None, *, prompted: bool) -> None:
        """Remember a frame's answer; `view` is the one the answer was seen through, None for several parts."""
        followed = self._objects[found.id]
        present = bool(found.mask.any()) and (prompted or answer.object_score > 0)
        followed.absent = 0 if present else followed.absent + 1
        followed.ended = 0 < self.tracking.patience <= followed.absent
        if present:
            followed.mask = found.mask
            followed.view = self._view(found.mask)
        elif followed.view is None:
            followed.view = self._view(np.ones((self.scan.height, self.scan.width), bool))
        if self.stream and not followed.ended:
            if view is None:
                view = followed.view
                seen = to_tensors([Row(found.id, view, mask=seen_logits(found.mask))]).masks
                assert seen is not None
            else:
                seen = answer.seen[None]
            self._seen.append(_Seen(followed.track, view, seen, answer, prompted))

    def _remember(self, frame: int) -> None:
        """Write what was seen of all objects on a frame to their tracks, in one pass."""
        engine, model = self.engine, self.engine.model
        for prompted in (True, False):
            some = [s for s in self._seen if s.prompted is prompted]
            if not some:
                continue
            views = [s.view for s in some]
            low = engine.features(self.scan, frame, views, self.window, self.settings).low
            score = torch.tensor([s.answer.object_score for s in some], device=engine.device)
            with engine.autocast():
                logits = torch.cat([s.logits for s in some]).to(engine.device)
                features = model.encode_memory(low, logits, prompted, score)
            for seen, feature in zip(some, features, strict=True):
                trace = Trace(feature, seen.answer.pointer)
                seen.track.write(frame, trace, prompted=prompted, reach=self._reach)
        self._seen = []

    def _view(self, mask: NDArray[np.bool_]) -> View:
        height, width = mask.shape
        if not self.tracking.follow:
            return whole_view(height, width, self.engine.size)
        return snapped_view(core_box(mask), self.tracking.margin, self.engine.size, height, width, (16.0, 1.5))
