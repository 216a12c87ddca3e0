"""The predictor: one call from a scan and prompts to masks on the scan's own grid."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io import Scan, Segmentation, SegmentedObject, Window, read, resolve_window
from samed2.memory import SelectiveMemory
from samed2.nn import Features, SAMed2Model
from samed2.nn.weights import fingerprint, load
from samed2.predict.device import autocast, resolve_device, resolve_precision
from samed2.predict.results import Answer, ObjectPrediction, label_map, unite
from samed2.predict.rows import Row, plan_rows, refined, to_tensors
from samed2.predict.settings import Settings, settings_from
from samed2.predict.zoom import View, as_tensor, paste, sample, three_channels
from samed2.prompts import Prompts

CACHED_VIEWS = 64


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
    """

    def __init__(
        self,
        model: SAMed2Model,
        device: str | torch.device | None = None,
        memory: SelectiveMemory | str | PathLike[str] | None = None,
        precision: str | None = None,
        name: str = "",
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.model = model.to(self.device).eval()
        self.name = name or type(model).__name__
        self.fingerprint = fingerprint(model)
        self.size = int(model.config.image_size)
        self.memory = memory if isinstance(memory, SelectiveMemory | None) else self._load_memory(Path(memory))
        self._cache: OrderedDict[tuple[Any, ...], tuple[Scan, Features]] = OrderedDict()
        config = model.config
        self._mean = torch.tensor(config.pixel_mean)[:, None, None]
        self._std = torch.tensor(config.pixel_std)[:, None, None]

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str] = "nano",
        device: str | torch.device | None = None,
        memory: SelectiveMemory | str | PathLike[str] | None = None,
        precision: str | None = None,
    ) -> Predictor:
        """A built-in name ("nano"), a folder, or a SAM 2 / 2.1 checkpoint of the hub.

        Raises:
            InputError: no such model or memory, or they do not fit together.
        """
        return cls(load(str(name)), device, memory, precision, str(name))

    def segment(
        self,
        scan: Scan | str | PathLike[str],
        prompts: Prompts,
        *,
        window: str | Window | None = None,
        **settings: Any,
    ) -> Segmentation:
        """Segment every prompted frame.

        Where objects overlap, a pixel goes to the one with the larger logit (the earlier id when equal).

        Args:
            scan: or the file to read.
            prompts: what to segment, on which frames.
            window: see `samed2.io.resolve_window`.
            settings: fields of `Settings`.

        Raises:
            InputError: the file, the prompts, the window or a setting cannot be used.
        """
        start = time.perf_counter()
        scan = scan if isinstance(scan, Scan) else read(scan)
        chosen = settings_from(settings)
        prompts = prompts.validate(scan)
        resolved = resolve_window(scan, window)
        objects = {i: SegmentedObject(i, entry.name) for i, entry in prompts.objects.items()}
        labels = np.zeros((scan.num_frames, scan.height, scan.width), np.uint16 if max(objects) > 255 else np.uint8)
        for frame in prompts.frames():
            found = self._predict(scan, prompts, frame, resolved, chosen)
            labels[frame] = label_map(found, labels.dtype)
            for entry in found:
                objects[entry.id].confidence[frame] = round(entry.confidence, 4)
                objects[entry.id].present[frame] = entry.object_score > 0
        return Segmentation(
            labels,
            list(objects.values()),
            scan.geometry,
            self._provenance(prompts, resolved, chosen, time.perf_counter() - start),
            scan.name,
            scan.properties,
        )

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
        margin: float = 1.3,
    ) -> None:
        """Offer a confirmed (H, W) mask of a frame to the memory, seen through the view a prompt would get.

        Raises:
            InputError: the predictor has no memory, or the mask is empty or of another size.
        """
        if self.memory is None:
            raise InputError("memory: this predictor has none; give it a SelectiveMemory first")
        prompts = Prompts().add_mask(1, frame, mask).validate(scan)
        entry = prompts.on_frame(frame).objects[1]
        row = plan_rows(1, entry, scan.height, scan.width, self.size, margin, True)[0]
        features = self._features(scan, frame, [row.view], resolve_window(scan, window), 3)
        logits = to_tensors([row]).masks
        assert logits is not None
        with autocast(self.device, self.dtype):
            feature = self.model.encode_memory(features.low, logits.to(self.device), binary=True)
        self.memory.add(
            features.low.float().cpu(), feature.float().cpu(), [confidence], task=task, modality=scan.modality
        )

    def new_memory(self, capacity: int = 640, **settings: Any) -> SelectiveMemory:
        """An empty bank that fits this model."""
        grid = self.size // 16
        shape = (self.model.config.memory_encoder_output_channels, grid, grid)
        return SelectiveMemory(capacity, shape, fingerprint=self.fingerprint, **settings)

    @torch.inference_mode()
    def _predict(
        self, scan: Scan, prompts: Prompts, frame: int, window: Window, settings: Settings
    ) -> list[ObjectPrediction]:
        height, width = scan.height, scan.width
        rows: list[Row] = []
        for object_id, entry in prompts.on_frame(frame).objects.items():
            if entry.frames():
                rows += plan_rows(object_id, entry, height, width, self.size, settings.margin, settings.zoom)
        answers = self._ask(scan, frame, rows, window, settings)
        again = [
            (i, better)
            for i, row in enumerate(rows)
            if row.refine and (better := refined(row, answers[i].logits[0], self.size, settings.margin)) is not None
        ]
        if again:
            for (i, _), answer in zip(
                again, self._ask(scan, frame, [r for _, r in again], window, settings), strict=True
            ):
                answers[i] = answer
        grouped: dict[int, list[Answer]] = {}
        for row, answer in zip(rows, answers, strict=True):
            grouped.setdefault(row.object_id, []).append(answer)
        return [unite(object_id, parts, settings) for object_id, parts in grouped.items()]

    def _ask(self, scan: Scan, frame: int, rows: list[Row], window: Window, settings: Settings) -> list[Answer]:
        """The answers to rows of one frame; all rows of one structure go through the decoder together."""
        answers: dict[int, Answer] = {}
        groups: dict[tuple[int, bool, bool], list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.structure, []).append(index)
        for structure, members in groups.items():
            chosen = [rows[i] for i in members]
            click = structure[0] == 1 and not structure[1] and not structure[2]
            multimask = settings.multimask or click
            logits, iou, score = self._decode(scan, frame, chosen, window, settings, multimask)
            if settings.mirror:
                turned = [replace(row, view=replace(row.view, flip_x=True)) for row in chosen]
                other, other_iou, other_score = self._decode(scan, frame, turned, window, settings, multimask)
                logits, iou = (logits + other.flip(-1)) / 2, (iou + other_iou) / 2
                score = (score + other_score) / 2
            for place, index in enumerate(members):
                order = iou[place].argsort(descending=True, stable=True)
                pasted = paste(logits[place][order], rows[index].view, scan.height, scan.width)
                answers[index] = Answer(pasted.numpy(), iou[place][order].tolist(), float(score[place]))
        return [answers[i] for i in range(len(rows))]

    def _decode(
        self, scan: Scan, frame: int, rows: list[Row], window: Window, settings: Settings, multimask: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (N, M, S/4, S/4), predicted IoU (N, M) and object scores (N,) of rows of one structure, on the CPU."""
        features = self._features(scan, frame, [row.view for row in rows], window, settings.neighbours)
        recalled = None
        if self.memory is not None and settings.memory and len(self.memory) and settings.memories:
            known = {entry.modality for entry in self.memory.entries}
            recalled = self.memory.retrieve(
                features.low.float(), settings.memories, modality=scan.modality if scan.modality in known else None
            ).features
        with autocast(self.device, self.dtype):
            conditioned = features._replace(low=self.model.condition(features.low, recalled))
            decoded = self.model.decode(conditioned, to_tensors(rows), multimask)
        return decoded.logits.float().cpu(), decoded.iou.float().cpu(), decoded.object_score.float().cpu()

    def _features(self, scan: Scan, frame: int, views: list[View], window: Window, neighbours: int) -> Features:
        """Features of one frame through several views, one row each, from the cache where possible."""
        frames = self._clip(scan, frame, neighbours)
        keys = [(id(scan), tuple(frames), window, view) for view in views]
        missing = list(dict.fromkeys(k for k in keys if k not in self._cache))
        if missing:
            looked = {f: as_tensor(window.apply(scan.frame(f))) for f in dict.fromkeys(frames)}
            for key in missing:  # one by one: the same numbers whatever else is asked
                clip = torch.stack([three_channels(sample(looked[f], key[3])) for f in frames])
                clip = ((clip - self._mean) / self._std)[None].to(self.device)
                with autocast(self.device, self.dtype):
                    encoded = self.model.encode(clip)
                middle = self._middle(len(frames))
                self._cache[key] = (scan, encoded.select(slice(middle, middle + 1)))
        found = [self._cache[key][1] for key in keys]
        for key in keys:
            self._cache.move_to_end(key)
        while len(self._cache) > max(CACHED_VIEWS, len(keys)):
            self._cache.popitem(last=False)
        return Features(*(torch.cat(level) for level in zip(*found, strict=True)))

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

    def _load_memory(self, path: Path) -> SelectiveMemory:
        return SelectiveMemory.load(path, fingerprint=self.fingerprint)

    def _provenance(self, prompts: Prompts, window: Window, settings: Settings, seconds: float) -> dict[str, Any]:
        from samed2 import __version__

        return {
            "model": self.name,
            "weights": self.fingerprint,
            "version": __version__,
            "device": str(self.device),
            "precision": str(self.dtype or torch.float32).removeprefix("torch."),
            "window": window.to_dict(),
            "prompts": prompts.to_json(),
            "settings": asdict(settings),
            "memory_entries": len(self.memory) if self.memory is not None and settings.memory else 0,
            "seconds": round(seconds, 4),
        }
