"""What is in the cases of a folder, and what looks wrong, before anything is trained on them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from samed2.data.cases import Case, LoadedCase
from samed2.data.outline import case_contrast, doubtful
from samed2.data.sampling import MIN_PIXELS
from samed2.errors import InputError
from samed2.io import resolve_window

FEW, LEAST = 10, 4  # cases below which results vary much, and below which none can be kept apart
MOST = 0.7  # share of the frame from which a mask may be the background
CT_AIR, CT_BONE = -900, 300  # a volume with values below and above these looks like Hounsfield units


@dataclass(frozen=True)
class CaseFacts:
    """One case that can be loaded.

    Attributes:
        shape: (frames, height, width); spacing: millimetres along them, or None.
        values: lowest and highest intensity.
        digest: equal for cases with equal pixels.
        pixels: object -> pixels on each frame that shows it, most on one frame first.
        contrasts: object that is shown -> contrast across its outline, see `samed2.data.outline`.
    """

    case: Case
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    channels: int
    dtype: str
    values: tuple[float, float]
    digest: str
    pixels: dict[str, tuple[int, ...]]
    warnings: tuple[str, ...] = ()
    contrasts: dict[str, float] = field(default_factory=dict)


@dataclass
class Report:
    """Facts of all cases, (case, why) of those that cannot be used, and what should be told."""

    facts: list[CaseFacts] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def objects(self) -> list[str]:
        """All tasks "DATASET/OBJECT" looked for, in order."""
        return list(dict.fromkeys(fact.case.task(name) for fact in self.facts for name in fact.pixels))

    @property
    def duplicates(self) -> list[list[Case]]:
        """Cases with the same pixels."""
        groups: dict[str, list[Case]] = defaultdict(list)
        for fact in self.facts:
            groups[fact.digest].append(fact.case)
        return [group for group in groups.values() if len(group) > 1]

    @property
    def doubtful(self) -> list[tuple[Case, str]]:
        """(case, object) whose outline has far less contrast than is usual for the object, by object."""
        found = []
        for task in self.objects:
            own = [
                (fact.case, name, contrast)
                for fact in self.facts
                for name, contrast in fact.contrasts.items()
                if fact.case.task(name) == task
            ]
            found += [own[place][:2] for place in doubtful([contrast for *_, contrast in own])]
        return found


def check_cases(cases: Iterable[Case]) -> Report:
    """Load every case, one after the other, and look at all of its pixels.

    Raises:
        InputError: no case can be used, or nothing is labelled in any of them.
    """
    report = Report()
    for case in cases:
        try:
            report.facts.append(facts_of(case.load()))
        except InputError as error:
            report.failed.append((case.name, str(error)))
    if not report.facts:
        first = f"; the first, {report.failed[0][0]}: {report.failed[0][1]}" if report.failed else ""
        raise InputError(f"data: none of {len(report.failed)} cases can be used{first}")
    if not any(max(pixels, default=0) >= MIN_PIXELS for fact in report.facts for pixels in fact.pixels.values()):
        raise InputError(
            f"data: no object has {MIN_PIXELS} pixels on any frame; check the label files and their values"
        )
    report.warnings += _warnings(report)
    return report


def facts_of(loaded: LoadedCase) -> CaseFacts:
    """Look at a case."""
    scan, masks = loaded.scan, loaded.masks
    digest = hashlib.sha256(f"{scan.shape}{scan.channels}{scan.dtype}".encode())
    lows, highs = [], []
    for index in range(scan.num_frames):
        frame = scan.frame(index)
        digest.update(np.ascontiguousarray(frame).tobytes())
        lows.append(float(np.nanmin(frame)))
        highs.append(float(np.nanmax(frame)))
    pixels, contrasts = {}, {}
    window = resolve_window(scan)
    for name in masks.names:
        counts = np.array([np.count_nonzero(masks.on_frame(name, index)) for index in range(masks.shape[0])])
        pixels[name] = tuple(sorted((int(count) for count in counts if count), reverse=True))
        if (large := np.flatnonzero(counts >= MIN_PIXELS)).size:
            contrasts[name] = case_contrast(loaded, name, large, window)
    geometry = scan.geometry
    return CaseFacts(
        loaded.case,
        scan.shape,
        tuple(round(float(step), 4) for step in geometry.spacing) if geometry.known else None,  # type: ignore[arg-type]
        scan.channels,
        str(scan.dtype),
        (min(lows), max(highs)),
        digest.hexdigest(),
        pixels,
        tuple(scan.warnings),
        contrasts,
    )


def looks_like_ct(facts: Sequence[CaseFacts]) -> bool:
    """Whether the volumes of unknown modality have the values of Hounsfield units."""
    unknown = [one for one in facts if one.case.modality == "unknown" and one.case.kind == "volume"]
    return bool(unknown) and all(
        not one.dtype.startswith("uint8") and one.values[0] <= CT_AIR and one.values[1] >= CT_BONE for one in unknown
    )


def _warnings(report: Report) -> list[str]:
    facts = report.facts
    found = []
    if len(facts) < LEAST:
        found.append(f"only {len(facts)} cases: none is kept for validation, so nobody knows whether training helped")
    elif len(facts) < FEW:
        found.append(f"only {len(facts)} cases: results will depend much on which ones; 10 and more are better")
    for group in report.duplicates[:5]:
        names = ", ".join(case.name for case in group[:4])
        splits = {case.split for case in group if case.split}
        leak = f" and lie in {' and '.join(sorted(splits))}: a leak" if len(splits) > 1 else ": they stay in one split"
        found.append(f"{len(group)} cases have the same pixels ({names}){leak}")
    if len(report.duplicates) > 5:
        found.append(f"{len(report.duplicates)} groups of cases have the same pixels")
    empty = [fact.case.name for fact in facts if not any(fact.pixels.values())]
    if empty:
        found.append(f"{len(empty)} of {len(facts)} cases have no object at all ({_some(empty)}): are they meant so?")
    flat = [fact.case.name for fact in facts if fact.values[0] == fact.values[1]]
    if flat:
        found.append(f"{len(flat)} images have one value everywhere ({_some(flat)})")
    found += _object_warnings(report)
    doubts = report.doubtful
    for name in dict.fromkeys(name for _, name in doubts):
        own = [case.name for case, other in doubts if other == name]
        every = sum(name in fact.contrasts for fact in facts)
        found.append(f"{name}: {len(own)} of {every} outlines hardly follow the image ({_some(own)}): are they right?")
    colours = Counter("RGB" if fact.channels == 3 else "grey" for fact in facts)
    depths = Counter("8 bits" if fact.dtype == "uint8" else "more bits" for fact in facts)
    for kinds in (kinds for kinds in (colours, depths) if len(kinds) > 1):
        several = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        found.append(f"images differ in kind: {several}; is it one data set?")
    found += [f"{fact.case.name}: {fact.warnings[0]}" for fact in facts if fact.warnings][:5]
    return found


def _object_warnings(report: Report) -> list[str]:
    found, nowhere = [], []
    for task in report.objects:
        own = [fact for fact in report.facts if any(fact.case.task(name) == task for name in fact.pixels)]
        sizes = [_pixels(fact, task) for fact in own]
        there = [several[0] for several in sizes if several]
        name = task.split("/", 1)[1]
        if not there:
            nowhere.append(name)
            continue
        if len(there) < 3 and len(own) >= FEW:
            found.append(f"{name}: only in {len(there)} of {len(own)} cases")
        if max(there) < MIN_PIXELS:
            found.append(f"{name}: never has {MIN_PIXELS} pixels on a frame, too few to learn from")
        shares = [
            several[0] / (fact.shape[1] * fact.shape[2]) for fact, several in zip(own, sizes, strict=True) if several
        ]
        if median(shares) > MOST:
            found.append(
                f"{name}: covers {median(shares):.0%} of the frame; if that is the background, invert the masks"
            )
    return found


def _pixels(fact: CaseFacts, task: str) -> tuple[int, ...]:
    return next(pixels for name, pixels in fact.pixels.items() if fact.case.task(name) == task)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
