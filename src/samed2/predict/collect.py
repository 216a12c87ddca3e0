"""Predictions frame by frame, put together as one segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from samed2.io import Scan, Segmentation, SegmentedObject
from samed2.io.scratch import empty_labels, passed
from samed2.predict.results import ObjectPrediction, label_map
from samed2.prompts import Prompts


def collect(
    scan: Scan,
    prompts: Prompts,
    answers: Iterable[tuple[int, list[ObjectPrediction]]],
    progress: Callable[[int], None] | None = None,
) -> Segmentation:
    """Label map, confidence and presence of the objects of `prompts` on the scan's grid; provenance is left empty.

    Args:
        answers: (frame, predictions), at least one prediction each; where objects overlap, see `label_map`.
        progress: called with the number of each finished frame.
    """
    objects = {i: SegmentedObject(i, entry.name) for i, entry in prompts.objects.items()}
    labels = empty_labels(scan.shape, "uint16" if max(objects, default=0) > 255 else "uint8")
    for number, (frame, found) in enumerate(answers):
        labels[frame] = label_map(found, labels.dtype)
        passed(labels, number)
        for entry in found:
            objects[entry.id].confidence[frame] = round(entry.confidence, 4)
            objects[entry.id].present[frame] = bool(entry.mask.any()) and entry.object_score > 0
        if progress is not None:
            progress(frame)
    return Segmentation(labels, list(objects.values()), scan.geometry, {}, scan.name, scan.properties)
