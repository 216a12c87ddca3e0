"""The predictor: one call from a scan and prompts to masks on the scan's own grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, Window, read, resolve_window
from samed2.memory import SelectiveMemory
from samed2.nn import SAMed2Model
from samed2.nn.weights import load, memory_file
from samed2.predict.collect import collect
from samed2.predict.engine import Engine
from samed2.predict.feature_store import FeatureStore
from samed2.predict.find import LOOKS, look_for, named, shown, spread, surest, with_lost
from samed2.predict.frame import predict_frame
from samed2.predict.journal import Journal, key_of
from samed2.predict.propagation import Direction, propagate
from samed2.predict.recall import check_task, recall_frame
from samed2.predict.results import ObjectPrediction
from samed2.predict.rows import plan_rows, to_tensors
from samed2.predict.scene import Scene
from samed2.predict.session import Session
from samed2.predict.settings import Settings, settings_from
from samed2.predict.spans import Allowed, Span, allowed_frames, checked_spans, limits_of, only
from samed2.predict.tracking import Tracking
from samed2.prompts import Prompts

MemoryView = Literal["near", "whole"]


class Predictor:
    """A model ready to segment.

    Image embeddings are cached, so a further prompt on the same part of an image costs only the decoder. What a
    prompt gives never depends on what was asked before, nor on the other objects.

    Args:
        model: a `SAMed2Model`.
        device: "cpu", "cuda", "mps" or None for the best there is.
        memory: a bank of past cases, or its file; it is only read here, `remember` writes.
        precision: "fp32", "bf16", "fp16" or None for what pays on the device.
        name: what to call the model in results.
        embeddings: a `FeatureStore` that keeps image embeddings on disk.
    """

    def __init__(
        self,
        model: SAMed2Model,
        device: str | torch.device | None = None,
        memory: SelectiveMemory | str | PathLike[str] | None = None,
        precision: str | None = None,
        name: str = "",
        embeddings: FeatureStore | None = None,
    ) -> None:
        self.engine = Engine(model, device, precision, embeddings)
        self.model, self.device, self.size = self.engine.model, self.engine.device, self.engine.size
        self.name = name or type(model).__name__
        self.fingerprint = self.engine.fingerprint
        self.memory = memory if isinstance(memory, SelectiveMemory | None) else self._load_memory(Path(memory))

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str] = "nano",
        device: str | torch.device | None = None,
        memory: SelectiveMemory | str | PathLike[str] | None = None,
        precision: str | None = None,
    ) -> Predictor:
        """A built-in name ("nano"), a folder, or a SAM 2 / 2.1 checkpoint of the hub.

        Args:
            memory: a bank, its file, or "own": the confirmed training cases that came with the model.

        Raises:
            InputError: no such model or memory, or they do not fit together.
        """
        bank = memory if isinstance(memory, SelectiveMemory) else memory_file(name, memory)
        return cls(load(str(name)), device, bank, precision, str(name))

    def segment(
        self,
        scan: Scan | str | PathLike[str],
        prompts: Prompts,
        *,
        window: str | Window | None = None,
        propagate: Direction | None = None,
        spans: Mapping[int, Span] | None = None,
        progress: Callable[[int], None] | None = None,
        journal: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Segmentation:
        """Segment every prompted frame, or with `propagate` the whole volume or video from them.

        Where objects overlap, one that lies within another is on top; else a pixel goes to the larger logit.

        Args:
            scan: or the file to read.
            prompts: what to segment, on which frames.
            window: see `samed2.io.resolve_window`.
            propagate: "forward", "backward" or "both"; None segments only the prompted frames.
            spans: by object id the first and last frame that it may lie on. Such an object is followed through them,
                in both directions where `propagate` is None, and found nowhere else; a prompt outside widens its span.
            progress: called with the number of each finished frame.
            journal: a folder in which a long propagation notes how far it is, so that the same call goes on from there
                after it was killed; the result is the same. It stays until `samed2.predict.journal.discard` removes it.
            settings: fields of `Settings`.

        Raises:
            InputError: the file, the prompts, the spans, the window or a setting cannot be used.
        """
        start = time.perf_counter()
        scan = scan if isinstance(scan, Scan) else read(scan)
        chosen = settings_from(settings)
        prompts = prompts.validate(scan)
        resolved = resolve_window(scan, window)
        ranges = checked_spans(spans or {}, prompts, scan)
        way = propagate or ("both" if ranges else None)
        asked = {
            **self.describe(resolved, chosen),
            "prompts": prompts.to_json(),
            **({"spans": {str(i): list(span) for i, span in ranges.items()}} if ranges else {}),
            "propagate": way,
        }
        answers: Iterator[tuple[int, list[ObjectPrediction]]]
        if way is None:
            answers = ((f, self._predict(scan, prompts, f, resolved, chosen)) for f in prompts.frames())
        else:
            allowed = allowed_frames(prompts, ranges, scan.num_frames, follow=propagate is not None)
            book = None
            if journal is not None:
                facts = {**asked, "model": None, "device": self.device.type, "tracking": asdict(Tracking())}
                memory = self.memory if chosen.memory else None
                book = Journal(journal, lambda: key_of(scan, memory, facts), scan.warnings.append)
            answers = self._follow(scan, prompts, resolved, chosen, Tracking(), way, allowed, book)
        result = collect(scan, prompts, answers, progress)
        result.provenance = {**asked, "seconds": round(time.perf_counter() - start, 4)}
        return result

    def predict(
        self,
        scan: Scan,
        prompts: Prompts,
        frame: int = 0,
        *,
        window: str | Window | None = None,
        **settings: Any,
    ) -> list[ObjectPrediction]:
        """Masks of the objects prompted on one frame, one by one, so that they may overlap.

        Raises:
            InputError: as `segment`.
        """
        prompts = prompts.validate(scan)
        return self._predict(scan, prompts, frame, resolve_window(scan, window), settings_from(settings))

    def propagate(
        self,
        scan: Scan | str | PathLike[str],
        prompts: Prompts,
        *,
        direction: Direction = "both",
        spans: Mapping[int, Span] | None = None,
        tracking: Tracking | None = None,
        window: str | Window | None = None,
        **settings: Any,
    ) -> Iterator[tuple[int, list[ObjectPrediction]]]:
        """Follow the prompted objects through a volume or video.

        Args:
            direction: "forward", "backward" or "both", see `samed2.predict.propagation.propagate`.
            tracking: how objects are followed.
            spans, window, settings: as for `segment`.

        Yields:
            (frame, predictions) as frames become final; frames where nothing was looked for are left out.

        Raises:
            InputError: as `segment`, or an unknown direction.
        """
        scan = scan if isinstance(scan, Scan) else read(scan)
        chosen, resolved, prompts = settings_from(settings), resolve_window(scan, window), prompts.validate(scan)
        allowed = allowed_frames(prompts, checked_spans(spans or {}, prompts, scan), scan.num_frames, follow=True)
        return self._follow(scan, prompts, resolved, chosen, tracking or Tracking(), direction, allowed)

    def session(self, scan: Scan | str | PathLike[str], **options: Any) -> Session:
        """Work on a scan in dialogue; options are those of `samed2.predict.session.Session`."""
        return Session(self, scan if isinstance(scan, Scan) else read(scan), **options)

    @torch.inference_mode()
    def remember(
        self,
        scan: Scan,
        mask: NDArray[np.bool_],
        frame: int = 0,
        *,
        window: str | Window | None = None,
        confidence: float = 1.0,
        task: str = "",
        origin: str = "",
        margin: float = 1.3,
        views: Sequence[MemoryView] = ("near", "whole"),
        neighbours: int = 1,
    ) -> int:
        """Offer a confirmed (H, W) mask of a frame to the memory, and tell how many entries it left there.

        Args:
            task, origin: what the object is, and which case it is from.
            views: each is an entry: "near" is seen through the view that a prompt would get, `margin` times as wide as
                the mask's box, and serves prompts; "whole" is the whole frame, which is what `recall` compares with.
            neighbours: frames of the clip around it, as in `Settings`.

        Raises:
            InputError: the predictor has no memory, or the mask is empty or of another size.
        """
        memory = self._needed_memory()
        prompts = Prompts().add_mask(1, frame, mask).validate(scan)
        entry = prompts.on_frame(frame).objects[1]
        window = resolve_window(scan, window)
        kept = 0
        for view in views:
            row = plan_rows(1, entry, scan.height, scan.width, self.size, margin, view == "near")[0]
            row = replace(row, view=self.engine.content(scan, frame, window)) if view == "whole" else row
            features = self.engine.features(scan, frame, [row.view], window, Settings(neighbours=neighbours))
            logits = to_tensors([row]).masks
            assert logits is not None
            with self.engine.autocast():
                feature = self.model.encode_memory(features.low, logits.to(self.device), binary=True)
            sample = features.low.float().cpu(), feature.float().cpu(), [confidence]
            kept += memory.add(*sample, task=task, modality=scan.modality, origin=origin)[0].kept
        return kept

    @torch.inference_mode()
    def recall(
        self,
        scan: Scan,
        frame: int = 0,
        *,
        task: str | None = None,
        window: str | Window | None = None,
        **settings: Any,
    ) -> ObjectPrediction:
        """Find an object on a frame by the memory alone, without a prompt.

        The whole frame is compared with what is remembered (see `remember`, `whole`), then each larger part of the
        answer is looked at again from near. The confidence is mostly that of the first look: whether it is the object.

        Args:
            task: only entries of this task; None takes all.

        Raises:
            InputError: no memory, no entry of the task, or a frame, window or setting that cannot be used.
        """
        memory, chosen = self._needed_memory(), settings_from(settings)
        check_task(memory, task)
        window = resolve_window(scan, window)
        return recall_frame(Scene(self.engine, scan, frame, window, replace(chosen, task=task), memory))

    def find(
        self,
        scan: Scan | str | PathLike[str],
        tasks: Mapping[str, str],
        *,
        frame: int | None = None,
        propagate: Direction | None = None,
        looks: int = LOOKS,
        condition: bool = False,
        window: str | Window | None = None,
        progress: Callable[[int], None] | None = None,
        journal: str | PathLike[str] | None = None,
        **settings: Any,
    ) -> Segmentation:
        """Segment objects by the memory alone, without a prompt, see `recall`.

        Every frame is looked at by itself, and stays empty where the object score says that the object is not there;
        a lone frame shows its answer in any case. With `propagate` each object is followed from the frame on which it
        is found most surely.

        Args:
            scan: or the file to read.
            tasks: by the name of each object the task whose entries it is known from.
            frame: look at this frame alone.
            looks: with `propagate`, how many frames, spread evenly, are looked at.
            condition: let the memory also speak while an object is followed, which takes a single task.
            window, propagate, progress, journal, settings: as for `segment`.

        Raises:
            InputError: no memory or no entry of a task, or as `segment`.
        """
        start = time.perf_counter()
        scan = scan if isinstance(scan, Scan) else read(scan)
        resolved, chosen, names = resolve_window(scan, window), settings_from(settings), named(tasks)
        if condition and len(tasks) > 1:
            raise InputError(f"condition: got {len(tasks)} tasks, wanted one, whose entries are read")
        follow = propagate is not None and scan.num_frames > 1
        frames = spread(scan.num_frames, looks) if follow else list(range(scan.num_frames))
        answers = look_for(self, scan, tasks.values(), frames if frame is None else [frame], resolved, settings)
        notes: dict[str, Any] = {"tasks": dict(tasks), "propagate": propagate}
        if not follow:
            result = collect(scan, names, answers, progress)
        else:
            best = surest(answers, progress)
            notes["surest"] = {names.objects[number].name: at for number, (at, _) in best.items()}
            reading = {"memory": condition, "task": next(iter(tasks.values())) if condition else None}
            how = {**settings, **reading, "window": resolved, "propagate": propagate, "progress": progress}
            prompts = shown(best, names)
            result = (
                self.segment(scan, prompts, journal=journal, **how) if prompts.objects else collect(scan, prompts, [])
            )
            result = with_lost(result, best, names)
        seconds = round(time.perf_counter() - start, 4)
        result.provenance = {**self.describe(resolved, chosen), **result.provenance, **notes, "seconds": seconds}
        return result

    def _needed_memory(self) -> SelectiveMemory:
        if self.memory is None:
            raise InputError("memory: this predictor has none; give it a SelectiveMemory first")
        return self.memory

    def new_memory(self, capacity: int = 640, **settings: Any) -> SelectiveMemory:
        """An empty bank that fits this model."""
        grid = self.size // 16
        shape = (self.model.config.memory_encoder_output_channels, grid, grid)
        return SelectiveMemory(capacity, shape, fingerprint=self.fingerprint, **settings)

    def _predict(
        self, scan: Scan, prompts: Prompts, frame: int, window: Window, settings: Settings
    ) -> list[ObjectPrediction]:
        return predict_frame(Scene(self.engine, scan, frame, window, settings, self.memory), prompts)

    def _follow(
        self,
        scan: Scan,
        prompts: Prompts,
        window: Window,
        settings: Settings,
        tracking: Tracking,
        direction: Direction,
        allowed: Allowed,
        journal: Journal | None = None,
    ) -> Iterator[tuple[int, list[ObjectPrediction]]]:
        """(frame, predictions) of objects where they may lie."""
        where = (direction, limits_of(allowed), allowed)
        found = propagate(self.engine, scan, prompts, window, settings, tracking, self.memory, *where, journal)
        return only(found, allowed)

    def _load_memory(self, path: Path) -> SelectiveMemory:
        return SelectiveMemory.load(path, fingerprint=self.fingerprint)

    def describe(self, window: Window, settings: Settings) -> dict[str, Any]:
        """How results come about: model, version, device, window, settings; JSON-able, for provenance."""
        from samed2 import __version__

        return {
            "model": self.name,
            "weights": self.fingerprint,
            "version": __version__,
            "device": str(self.device),
            "precision": str(self.engine.dtype or torch.float32).removeprefix("torch."),
            "window": window.to_dict(),
            "settings": asdict(settings),
            "memory_entries": len(self.memory) if self.memory is not None and settings.memory else 0,
        }
