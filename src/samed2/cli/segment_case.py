"""One case of a batch: from its file and prompts to masks on its grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samed2.errors import InputError

if TYPE_CHECKING:
    from samed2.io import Scan, Segmentation
    from samed2.predict import Predictor
    from samed2.prompts.volumes import CasePrompts

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Sought:
    """Objects to find without prompts: by name the task that the memory knows them from; `frame`: look at it alone."""

    tasks: dict[str, str]
    frame: int | None


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


def frames_of(scan: Scan, given: CasePrompts | Sought, method: Method) -> int:
    """Return about how many frames will be segmented."""
    if isinstance(given, Sought):
        from samed2.predict.find import LOOKS

        looks = scan.num_frames if given.frame is None else 1
        follows = method.propagate is not None and scan.num_frames > 1
        return min(looks, LOOKS) + scan.num_frames if follows else looks
    if method.propagate is not None and len(given.spans) < len(given.prompts.objects):
        return scan.num_frames
    prompted = given.prompts.frames()
    ends = [end for span in given.spans.values() for end in span]
    return max([*prompted, *ends]) - min([*prompted, *ends]) + 1 if ends else len(prompted)


def segment_case(
    predictor: Predictor,
    scan: Scan,
    given: CasePrompts | Sought,
    method: Method,
    progress: Progress,
    journal: Path | None = None,
) -> Segmentation:
    """Segment a scan, with a journal where objects are followed.

    Raises:
        InputError: as `Predictor.segment` and `Predictor.find`.
    """
    how: dict[str, Any] = {"window": method.window, "propagate": method.propagate, **method.settings}
    how |= {"progress": progress, "journal": journal}
    if isinstance(given, Sought):
        return predictor.find(scan, given.tasks, frame=given.frame, **how)
    return predictor.segment(scan, given.prompts, spans=given.spans, **how)


def checked(scan: Scan, given: CasePrompts | Sought, method: Method) -> CasePrompts | Sought:
    """Check prompts and window against the scan, before any work is done.

    Raises:
        InputError: they do not fit.
    """
    from samed2.io import resolve_window

    if not isinstance(given, Sought):
        given.prompts.validate(scan)
    elif given.frame is not None and given.frame >= scan.num_frames:
        raise InputError(f"{scan.label}: --frame {given.frame}: there are frames 0 to {scan.num_frames - 1}")
    resolve_window(scan, method.window)
    return given
