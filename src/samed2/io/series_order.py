"""Slices put in order: by place along their normal, by time where there is no place; every oddity becomes a warning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.series_fields import Plane, number, short, whole
from samed2.io.series_headers import Slice
from samed2.io.series_runs import Run, choose_run, even_runs, offsets

SAME_PLACE = 1e-3  # mm along the normal
UNEVEN = 0.1  # of the usual distance: how far a slice may lie from its place on an even grid
TILT = 0.25  # degrees between the stack and the slices' normal that count as a tilted gantry


@dataclass
class Stack:
    """Slices in order and where they lie.

    `affine` maps (frame, y, x, 1) to LPS+ mm (None: unknown). `positions` (T, 3) are the LPS+ mm of each slice's
    first pixel; where `even` is False they and the affine differ: the affine runs evenly from the first to the last.
    """

    slices: list[Slice]
    affine: NDArray[np.float64] | None = None
    positions: NDArray[np.float64] | None = None
    even: bool = True
    in_time: bool = False
    notes: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


def put_in_order(slices: list[Slice], label: str, time: int | None = None, run: int | None = None) -> Stack:
    """A stack of slices that share size, spacing and direction.

    Args:
        time: which of several images at each place.
        run: which of the runs of even spacing, `Stack.runs` of the whole; all slices when None.

    Raises:
        InputError: several images at each place and no `time`, or a `time` or `run` that does not exist.
    """
    if any(one.plane is None for one in slices):
        if run is not None:
            raise InputError(f"{label}: its images do not say where they lie, got run {run}; leave the run out")
        return _without_place(slices, label, time)
    normal = _plane(slices[0]).normal
    places = np.array([float(_plane(one).origin @ normal) for one in slices])
    groups: list[list[Slice]] = []
    last = -np.inf
    for index in np.argsort(places, kind="stable"):
        if places[index] - last > SAME_PLACE:
            groups.append([])
            last = places[index]
        groups[-1].append(slices[index])
    groups = [sorted(group, key=lambda one: one.order) for group in groups]
    notes: list[str] = []
    if len(groups) == 1 and len(slices) > 1 and _different(slices) and run is None:
        return _in_time(groups[0], label, time)
    chosen = _one_each(groups, label, time, notes)
    if run is not None:
        part = choose_run(_runs(chosen), run, label)
        chosen = chosen[part.start : part.stop]
    return _placed(chosen, normal, label, notes)


def _runs(slices: list[Slice]) -> list[Run]:
    plane = _plane(slices[0])
    return even_runs(np.stack([_plane(one).origin for one in slices]), UNEVEN, min(plane.spacing) / 2)


def _plane(one: Slice) -> Plane:
    if one.plane is None:
        raise InputError(f"{one.entry}: does not say where it lies")
    return one.plane


def _different(slices: list[Slice]) -> bool:
    """Whether they are different images, not copies of one file."""
    return len({(short(one.header.get("SOPInstanceUID")) or one.entry, one.frame) for one in slices}) > 1


def _without_place(slices: list[Slice], label: str, time: int | None) -> Stack:
    ordered = sorted(slices, key=lambda one: (whole(one.header.get("InstanceNumber"), 0), one.entry, one.frame))
    _no_time(label, time)
    notes = []
    if len({one.entry for one in ordered}) > 1:
        notes.append(f"{label}: its images do not say where they lie, they are in the order of their numbers")
    return Stack(ordered, in_time=True, notes=notes)


def _in_time(slices: list[Slice], label: str, time: int | None) -> Stack:
    """All images lie at one place: they follow each other in time."""
    _no_time(label, time)
    plane = _plane(slices[0])
    step = plane.normal * (slices[0].thickness or 1.0)
    affine = _affine(step, plane, plane.origin)
    return Stack(slices, affine, np.stack([_plane(one).origin for one in slices]), in_time=True)


def _no_time(label: str, time: int | None) -> None:
    if time is not None:
        raise InputError(f"{label}: its images are frames in time already, got time {time}; leave time out")


def _one_each(groups: list[list[Slice]], label: str, time: int | None, notes: list[str]) -> list[Slice]:
    """One slice a place: the chosen time point, or the first of images that are there twice."""
    counts = {len(group) for group in groups}
    points = counts.pop() if len(counts) == 1 else 1
    if points > 1 and not all(_different(group) for group in groups):
        points = 1
    if time is not None and not 0 <= time < points:
        raise InputError(f"{label}: has {points} time points, got time {time}; wanted 0 to {points - 1}")
    if points > 1:
        if time is None:
            raise InputError(
                f"{label}: has {points} images at each of its {len(groups)} places (time points, echoes or parts of "
                f"the signal), wanted one; choose with time 0 to {points - 1}"
            )
        return [group[time] for group in groups]
    twice = [group for group in groups if len(group) > 1]
    if twice:
        left_out = sum(len(group) - 1 for group in twice)
        notes.append(
            f"{label}: {left_out} slices lie where another lies already and are left out, "
            f"such as {twice[0][1]} (at the place of {twice[0][0]})"
        )
    return [group[0] for group in groups]


def _placed(slices: list[Slice], normal: NDArray[np.float64], label: str, notes: list[str]) -> Stack:
    origins = np.stack([_plane(one).origin for one in slices])
    plane = _plane(slices[0])
    if len(slices) == 1:
        gap = abs(number(slices[0].header.get("SpacingBetweenSlices"), 0.0))
        step = normal * (gap if 0 < gap < np.inf else slices[0].thickness or 1.0)
        return Stack(slices, _affine(step, plane, plane.origin), origins, notes=notes)
    step, along, sideways = offsets(origins)
    usual = float(np.linalg.norm(step))
    even = True
    if np.abs(along).max() > UNEVEN * usual:
        even = False
        notes.append(_uneven(slices, origins @ (step / usual), float(np.abs(along).max()), label))
    if sideways.max() > min(plane.spacing) / 2:
        even = False
        notes.append(f"{label}: slices are shifted sideways by up to {sideways.max():.3g} mm, places in mm are off")
    angle = float(np.degrees(np.arccos(np.clip(step @ normal / usual, -1, 1))))
    if angle > TILT:
        notes.append(
            f"{label}: slices are tilted by {angle:.3g} degrees against their stack (gantry tilt); "
            "the affine is sheared, formats without shear cannot hold it"
        )
    thick = Counter(round(one.thickness, 3) for one in slices if one.thickness)
    if len(thick) > 1:
        listed = ", ".join(f"{value:g} mm ({count} slices)" for value, count in sorted(thick.items())[:6])
        notes.append(f"{label}: slice thickness changes: {listed}")
    runs = [] if even else _runs(slices)
    return Stack(slices, _affine(step, plane, origins[0]), origins, even, notes=notes, runs=runs)


def _uneven(slices: list[Slice], places: NDArray[np.float64], off: float, label: str) -> str:
    gaps = np.diff(places)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    missing = np.rint(gaps / usual) - 1
    holes = np.flatnonzero((missing >= 1) & (np.abs(gaps / usual - missing - 1) < 0.05))
    rest = np.delete(gaps, holes)
    tail = f"the affine spaces them evenly, places in mm are off by up to {off:.3g} mm"
    if len(holes) and np.abs(rest - usual).max(initial=0.0) < 0.05 * usual:
        index = int(holes[0])
        return (
            f"{label}: {int(missing[holes].sum())} slices are missing; the first gap of {gaps[index]:.4g} mm is "
            f"between {slices[index]} and {slices[index + 1]}; {tail}"
        )
    listed = Counter(f"{gap:.4g} mm" for gap in gaps)
    shown = ", ".join(f"{text} ({count} times)" for text, count in listed.most_common(4))
    more = ", ..." if len(listed) > 4 else ""
    return f"{label}: slices are not evenly spaced: {shown}{more}; {tail}"


def _affine(step: NDArray[np.float64], plane: Plane, origin: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3] = np.stack([step, plane.down, plane.right, origin], axis=1)
    return affine
