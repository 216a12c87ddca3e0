"""SAM-2's streaming memory: what an object leaves behind on the frames of a volume or video, and reading it.

A `Track` holds, for one object, the traces of prompted frames and of recent frames. `read` turns the tracks of
several objects into the memory tokens of one call to `SAMed2Model.condition`. Source: SAM-2's video predictor as in
transformers' `Sam2VideoModel`, written anew for many objects at once and for memory that stays flat in length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from samed2.nn.model import SAMed2Model


class Trace(NamedTuple):
    """What one frame leaves behind for one object: feature (M, h, w), pointer (d,)."""

    feature: Tensor
    pointer: Tensor


class Tokens(NamedTuple):
    """Memory of N objects for `SAMed2Model.condition`, all of one structure.

    memory, memory_position: (N, k, M, h, w). pointers, pointer_position: (N, P, M) or None. counts: for how many maps
    each of the k speaks, None for one each.
    """

    memory: Tensor
    memory_position: Tensor
    pointers: Tensor | None
    pointer_position: Tensor | None
    counts: list[float] | None


@dataclass
class Track:
    """The traces of one object by frame. Only as many recent ones are kept as can still be read."""

    prompted: dict[int, Trace] = field(default_factory=dict)
    recent: dict[int, Trace] = field(default_factory=dict)

    def write(self, frame: int, trace: Trace, *, prompted: bool, reach: int) -> None:
        """Keep the trace of a frame; of unprompted frames those within `reach` of it stay."""
        if prompted:
            self.prompted[frame] = trace
            self.recent.pop(frame, None)
            return
        self.recent[frame] = trace
        for old in [f for f in self.recent if abs(f - frame) > reach]:
            del self.recent[old]

    def features(self, frame: int, reverse: bool, slots: int, limit: int) -> list[tuple[int, Tensor]]:
        """(offset, feature) of the chosen prompted frames (offset 0) and of up to `slots` - 1 frames before."""
        chosen = closest(frame, list(self.prompted), limit)
        found = [(0, self.prompted[f].feature) for f in chosen]
        step = -1 if reverse else 1
        for offset in range(slots - 1, 0, -1):
            before = frame - step * offset
            trace = self.recent.get(before)
            if trace is None and before not in chosen:
                trace = self.prompted.get(before)
            if trace is not None:
                found.append((offset, trace.feature))
        return found

    def pointers(self, frame: int, reverse: bool, reach: int) -> list[tuple[int, Tensor]]:
        """(distance, pointer) of prompted frames already passed and of up to `reach` - 1 frames before."""
        step = -1 if reverse else 1
        found = [((frame - f) * step, t.pointer) for f, t in self.prompted.items() if (frame - f) * step >= 0]
        for offset in range(1, reach):
            trace = self.recent.get(frame - step * offset)
            if trace is not None:
                found.append((offset, trace.pointer))
        return found


def closest(frame: int, prompted: Sequence[int], limit: int) -> list[int]:
    """The prompted frames to read: the nearest before, the nearest from `frame` on, then the nearest of the rest."""
    if limit < 0 or len(prompted) <= limit:
        return list(prompted)
    before = max((f for f in prompted if f < frame), default=None)
    after = min((f for f in prompted if f >= frame), default=None)
    chosen = [f for f in (before, after) if f is not None]
    rest = sorted((f for f in prompted if f not in chosen), key=lambda f: abs(f - frame))
    return chosen + rest[: limit - len(chosen)]


def structure(
    model: SAMed2Model, track: Track, frame: int, reverse: bool, total: int, recent: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """What tells whether two tracks can be `read` together: the offsets of their features and pointers, and for how
    many frames a recent one speaks."""
    features, pointers, count = _sources(model, track, frame, reverse, total, recent)
    return tuple(o for o, _ in features), tuple(o for o, _ in pointers), count


def read(
    model: SAMed2Model,
    tracks: Sequence[Track],
    frame: int,
    reverse: bool,
    total: int,
    recent: int | None = None,
) -> Tokens | None:
    """The memory tokens of tracks of one structure, None where nothing is known yet.

    Args:
        frame: about to be looked at. reverse: frames are visited from last to first.
        total: frames of the whole scan, by which distances of pointers are scaled.
        recent: features of at most so many frames before are read, beside those of prompted ones, and speak for all
            that are left out; None reads as many as the model was made for (6). Pointers are all read.
    """
    sources = [_sources(model, track, frame, reverse, total, recent) for track in tracks]
    features, pointers, count = sources[0]
    if not features:
        return None
    counts = None if count == 1 else [count if offset else 1.0 for offset, _ in features]
    memory = torch.stack([torch.stack([feature for _, feature in found]) for found, _, _ in sources])
    place = model.memory_position(memory.shape[-2:])[0]  # [m, h, w]
    times = model.memory_temporal_positional_encoding[[offset - 1 for offset, _ in features]]  # [k, 1, 1, m]
    position = (place + times.reshape(len(features), -1, 1, 1)).expand_as(memory)
    if not pointers or pointers[0][1].shape[-1] % model.mem_dim:  # pointers are cut into tokens as wide as the memory
        return Tokens(memory, position, None, None, counts)
    stacked = torch.stack([torch.stack([pointer for _, pointer in found]) for _, found, _ in sources])  # [n, p, d]
    splits = stacked.shape[-1] // model.mem_dim
    tokens = stacked.reshape(len(tracks), -1, model.mem_dim)
    code = _pointer_code(model, [offset for offset, _ in pointers], stacked.shape[-1], total)
    code = code.repeat_interleave(splits, dim=0).expand(len(tracks), -1, -1)
    return Tokens(memory, position, tokens, code, counts)


def reach(model: SAMed2Model) -> int:
    """How many frames back a trace can still be read."""
    return max(int(model.num_maskmem) - 1, int(model.config.max_object_pointers_in_encoder) - 1)


def _sources(
    model: SAMed2Model, track: Track, frame: int, reverse: bool, total: int, recent: int | None
) -> tuple[list[tuple[int, Tensor]], list[tuple[int, Tensor]], float]:
    """Features and pointers by offset, and for how many recent frames each of those whose features are read speaks."""
    config, slots = model.config, int(model.num_maskmem)
    known = track.features(frame, reverse, slots, int(config.max_cond_frame_num))
    features = known if recent is None else [found for found in known if found[0] <= recent]
    all_recent, read_recent = (sum(offset > 0 for offset, _ in some) for some in (known, features))
    pointers = track.pointers(frame, reverse, min(total, int(config.max_object_pointers_in_encoder)))
    return features, pointers, all_recent / read_recent if read_recent else 1.0


def _pointer_code(model: SAMed2Model, offsets: list[int], dim: int, total: int) -> Tensor:
    """The code of distances in time, (P, M): a sine code, projected; zero where the model has none."""
    weight = model.memory_temporal_positional_encoding
    if not model.config.enable_temporal_pos_encoding_for_object_pointers:
        return weight.new_zeros(len(offsets), model.mem_dim)
    most = max(min(total, int(model.config.max_object_pointers_in_encoder)) - 1, 1)
    scaled = torch.tensor(offsets, device=weight.device, dtype=torch.float32) / most
    half = dim // 2
    wavelength = 10000 ** (2 * (torch.arange(half, device=weight.device) // 2) / half)
    angles = scaled[:, None] / wavelength
    code = torch.cat([angles.sin(), angles.cos()], dim=-1).to(weight.dtype)
    return model.temporal_positional_encoding_projection_layer(code)
