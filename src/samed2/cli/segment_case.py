"""One case of a batch: from its file and prompts to masks on its grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samed2.io import Scan, Segmentation, Window
    from samed2.predict import Predictor
    from samed2.predict.results import ObjectPrediction
    from samed2.predict.settings import Settings
    from samed2.prompts.volumes import CasePrompts

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Reading:
    """How files are read: options of `samed2.io.read`, and what images of a folder are frames of."""

    modality: str | None = None
    series: str | None = None
    axis: str | None = None
    time: int | None = None
    stack: str | None = None

    def open(self, path: Path) -> Scan:
        """Return a case as a scan.

        Raises:
            InputError: it cannot be read in this way.
        """
        from samed2.io import read
        from samed2.io.slicing import along

        scan = read(path, modality=self.modality, time=self.time, series=self.series)
        if self.stack == "volume" and scan.properties.get("reader") == "images":
            scan.kind = "volume"
        return scan if self.axis is None else along(scan, self.axis)


@dataclass(frozen=True)
class Method:
    """How a scan is segmented: the window's name, the direction to propagate in, fields of `Settings`."""

    window: str | None
    propagate: str | None
    settings: dict[str, Any]


def frames_of(scan: Scan, given: CasePrompts, method: Method) -> int:
    """Return about how many frames will be segmented."""
    if method.propagate is not None and len(given.spans) < len(given.prompts.objects):
        return scan.num_frames
    prompted = given.prompts.frames()
    ends = [end for span in given.spans.values() for end in span]
    return max([*prompted, *ends]) - min([*prompted, *ends]) + 1 if ends else len(prompted)


def segment_case(
    predictor: Predictor, scan: Scan, given: CasePrompts, method: Method, progress: Progress
) -> Segmentation:
    """Segment a scan; objects with a span are followed through their slices, and found nowhere else.

    Raises:
        InputError: as `Predictor.segment`.
    """
    direction: Any = method.propagate
    if not given.spans:
        return predictor.segment(
            scan, given.prompts, window=method.window, propagate=direction, progress=progress, **method.settings
        )
    from samed2.io import resolve_window
    from samed2.predict.settings import settings_from

    window, settings = resolve_window(scan, method.window), settings_from(method.settings)
    start = time.perf_counter()
    result = _collect(scan, given, _within(predictor, scan, given, window, settings, method.propagate), progress)
    result.provenance = {
        **predictor.describe(window, settings),
        "prompts": given.prompts.to_json(),
        "spans": {str(i): list(span) for i, span in given.spans.items()},
        "propagate": direction or "both",
        "seconds": round(time.perf_counter() - start, 4),
    }
    return result


def _within(
    predictor: Predictor, scan: Scan, given: CasePrompts, window: Window, settings: Settings, direction: str | None
) -> Iterator[tuple[int, list[ObjectPrediction]]]:
    """(frame, predictions) as `propagate` gives them, each object on the frames that it may lie on."""
    from samed2.predict.propagation import propagate
    from samed2.predict.tracking import Tracking

    prompts, allowed = given.prompts.validate(scan), {}
    for object_id, entry in prompts.objects.items():
        if object_id in given.spans:
            first, last = given.spans[object_id]
            allowed[object_id] = set(range(first, last + 1))
        else:  # only looked at where it is prompted, unless everything is to be followed
            allowed[object_id] = set(range(scan.num_frames)) if direction else set(entry.frames())
    frames = set().union(*allowed.values())
    way: Any = direction or "both"
    limits = (min(frames), max(frames))
    for frame, found in propagate(
        predictor.engine, scan, prompts, window, settings, Tracking(), predictor.memory, way, limits
    ):
        kept = [one for one in found if frame in allowed[one.id]]
        if kept:
            yield frame, kept


def _collect(
    scan: Scan, given: CasePrompts, answers: Iterable[tuple[int, list[ObjectPrediction]]], progress: Progress
) -> Segmentation:
    """Predictions frame by frame as one label map on the scan's grid."""
    import numpy as np

    from samed2.io import Segmentation, SegmentedObject
    from samed2.predict.results import label_map

    objects = {i: SegmentedObject(i, entry.name) for i, entry in given.prompts.objects.items()}
    labels = np.zeros(scan.shape, np.uint16 if max(objects) > 255 else np.uint8)
    for frame, found in answers:
        labels[frame] = label_map(found, labels.dtype)
        for entry in found:
            objects[entry.id].confidence[frame] = round(entry.confidence, 4)
            objects[entry.id].present[frame] = bool(entry.mask.any()) and entry.object_score > 0
        progress(frame)
    return Segmentation(labels, list(objects.values()), scan.geometry, {}, scan.name, scan.properties)


def checked(scan: Scan, given: CasePrompts, method: Method) -> CasePrompts:
    """Check prompts and window against the scan, before any work is done.

    Raises:
        InputError: they do not fit.
    """
    from samed2.io import resolve_window

    given.prompts.validate(scan)
    resolve_window(scan, method.window)
    return given
