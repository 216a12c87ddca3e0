"""A found pair, opened: the scan lazily, its labels at once, everything checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.data.cases import Case, LoadedCase
from samed2.data.convert.files import HowToRead, LabelFile, check_fit, cropped, open_image, open_labels
from samed2.data.convert.values import Rule, RuledMasks, check_extent, check_values, whole_numbers
from samed2.errors import InputError
from samed2.io import Scan

Part = tuple[NDArray[Any], Rule]  # labels (T, H, W) and which of them are meant


@dataclass(frozen=True)
class Plan:
    """How one case is read.

    Attributes:
        images: one file, or one for each frame.
        labels: for each file of `images`, object -> its label files.
        rules: object -> which values it has.
        crop: (y0, x0, y1, x1) of the images that the labels show.
    """

    images: tuple[Path, ...]
    labels: tuple[Mapping[str, tuple[Path, ...]], ...]
    rules: Mapping[str, Rule]
    image_how: HowToRead = field(default_factory=HowToRead)
    label_how: HowToRead = field(default_factory=HowToRead)
    crop: tuple[int, int, int, int] | None = None
    background: tuple[int, ...] | None = None
    ignore_other_labels: bool = False
    ignore_geometry: bool = False
    allow_empty: bool = False


def load_pair(plan: Plan, case: Case) -> LoadedCase:
    """Read a case that `pairs` or `released` found.

    Raises:
        InputError: a file cannot be read, sizes or geometry differ, unknown label values, nothing or everything is
            labelled.
    """
    scan = open_image(plan.images[0], plan.image_how) if len(plan.images) == 1 else _stack(plan)
    if case.kind == "image" and scan.num_frames != 1:
        raise InputError(f"{scan.label}: has {scan.num_frames} frames, {case.dataset} should hold single images")
    uncropped = scan.shape[1:]
    if plan.crop is not None:
        scan = cropped(scan, plan.crop)
    scan.name, scan.modality, scan.kind = case.name, case.modality, case.kind
    parts = [_frame_labels(plan, case, scan, index, uncropped) for index in range(len(plan.images))]
    masks = RuledMasks(parts[0]) if len(parts) == 1 else RuledMasks(_joined(case, parts))
    check_extent(masks, case.label, plan.allow_empty)
    return LoadedCase(case, scan, masks)


def _stack(plan: Plan) -> Scan:
    first = open_image(plan.images[0], plan.image_how)
    return Scan(_Stack(plan.images, first), name=plan.images[0].parent.name, path=plan.images[0].parent)


class _Stack:
    """One file for each frame; `files` tells them, so that a store can keep their bytes."""

    def __init__(self, paths: tuple[Path, ...], first: Scan) -> None:
        if first.num_frames != 1:
            raise InputError(f"{paths[0]}: has {first.num_frames} frames, wanted one for each file of a stack")
        self.files = paths
        self.dtype: np.dtype[Any] = first.dtype
        self.shape = (len(paths), first.height, first.width, first.channels)

    def read(self, index: int) -> NDArray[Any]:
        scan = open_image(self.files[index])
        frame = scan.frame(0)
        if self.shape[3] == 3 and frame.ndim == 2:  # a colour video may have grey frames
            frame = np.repeat(frame[..., None], 3, axis=-1)
        wanted = self.shape[1:] if self.shape[3] == 3 else self.shape[1:3]
        if scan.num_frames != 1 or frame.shape != wanted or frame.dtype != self.dtype:
            raise InputError(
                f"{self.files[index]}: is {frame.shape} {frame.dtype}, the first frame {self.files[0].name} is "
                f"{wanted} {self.dtype}; wanted the same for all frames of a case"
            )
        return frame


def _frame_labels(plan: Plan, case: Case, scan: Scan, index: int, uncropped: tuple[int, int]) -> dict[str, list[Part]]:
    """The label arrays and settled rules of one image file, checked; a label of the uncropped size is cropped too."""
    users: dict[Path, list[str]] = {}
    for name in case.objects:
        for path in plan.labels[index][name]:
            users.setdefault(path, []).append(name)
    shape = scan.shape if len(plan.images) == 1 else (1, *scan.shape[1:])
    files: dict[Path, LabelFile] = {}
    for path, names in users.items():
        label = open_labels(path, plan.label_how)
        if plan.crop is not None and label.values.shape[1:] == uncropped:
            y0, x0, y1, x1 = plan.crop
            label = replace(label, values=label.values[:, y0:y1, x0:x1])
        check_fit(plan.images[index], shape, scan.geometry, label, plan.ignore_geometry)
        rules = [plan.rules[name] for name in names]
        if any(rule.listed for rule in rules):
            label = replace(label, values=whole_numbers(label.values, path))
            if not plan.ignore_other_labels:
                check_values(label.values, rules, plan.background, path)
        files[path] = label
    return {
        name: [
            (files[path].values, plan.rules[name].settle(files[path].values, files[path].lossy))
            for path in plan.labels[index][name]
        ]
        for name in case.objects
    }


def _joined(case: Case, parts: list[dict[str, list[Part]]]) -> dict[str, list[Part]]:
    """The masks of a stack: one bool (T, H, W) array for each object."""
    picked = Rule(compare=">", limit=0)
    return {
        name: [(np.concatenate([RuledMasks({name: part[name]})[name] for part in parts]), picked)]
        for name in case.objects
    }
