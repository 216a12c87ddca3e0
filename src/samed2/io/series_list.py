"""Which image series lie in a folder, an archive or a list of files, and the choice of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samed2.errors import InputError
from samed2.io.series_fields import short, whole
from samed2.io.series_files import Entry
from samed2.io.series_headers import Slice, is_image, read_header, series_uid, slices_of

SAME_AXES = 2e-3  # of direction cosines, among slices of one stack
SAME_SPACING = 1e-3  # relative
_SIDE = ("RTDOSE", "RTIMAGE", "REG")  # images that come along with others
_LISTED = 12


@dataclass(eq=False)
class Series:
    """Slices of one SeriesInstanceUID that share size, spacing and direction.

    `part` is 0 unless one UID holds several of these (a localizer among axial slices, say).
    """

    uid: str
    slices: list[Slice] = field(default_factory=list)
    part: int = 0
    parts: int = 1
    index: int = 0

    @property
    def id(self) -> str:
        """What `series=` takes, besides the index."""
        return self.uid if self.parts == 1 else f"{self.uid}/{self.part}"

    @property
    def modality(self) -> str:
        return short(self.slices[0].header.get("Modality")) or "?"

    @property
    def description(self) -> str:
        return short(self.slices[0].header.get("SeriesDescription"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able facts."""
        rows, columns, _ = self.slices[0].size
        return {
            "index": self.index,
            "id": self.id,
            "modality": self.modality,
            "description": self.description,
            "number": whole(self.slices[0].header.get("SeriesNumber"), 0),
            "images": len(self.slices),
            "files": len({one.entry for one in self.slices}),
            "rows": rows,
            "columns": columns,
            "folder": self.slices[0].entry.folder,
        }

    def __str__(self) -> str:
        rows, columns, _ = self.slices[0].size
        name = f' "{self.description}"' if self.description else ""
        part = f" part {self.part}" if self.parts > 1 else ""
        uid = self.uid if len(self.uid) <= 16 else f"...{self.uid[-12:]}"
        return f"{self.index}: {self.modality}{name}{part} {len(self.slices)} x {rows} x {columns} ({uid or 'no UID'})"


@dataclass
class Found:
    """The image series among some files, and what else was there."""

    series: list[Series]
    others: list[str] = field(default_factory=list)  # SOP classes' names of DICOM files that are no images
    notes: list[str] = field(default_factory=list)


def find_series(entries: Iterable[Entry], label: object) -> Found:
    """Read the headers and sort the slices into series, by the first file's order.

    Files that cannot be read are told in the notes; when none can, the first one's error is raised.
    """
    by_uid: dict[str, list[Slice]] = {}
    others: list[str] = []
    problems: list[InputError] = []
    for entry in entries:
        try:
            header = read_header(entry)
            if not is_image(header):
                others.append(_what_else(entry, header))
                continue
            slices = slices_of(entry, header)
            by_uid.setdefault(series_uid(header), []).extend(slices)
        except InputError as error:
            problems.append(error)
        except Exception as error:  # a damaged field shows up where it is used
            from samed2.io.checks import one_line

            problems.append(InputError(f"{entry}: its DICOM header is damaged ({one_line(error)})"))
    if not by_uid and problems:
        raise problems[0]
    found = Found([part for uid, several in by_uid.items() for part in _parts(uid, several)], others)
    for index, one in enumerate(found.series):
        one.index = index
    if problems:
        found.notes.append(f"{label}: {len(problems)} files cannot be read and are left out, such as {problems[0]}")
    return found


def _what_else(entry: Entry, header: Any) -> str:
    """What a file is that has no image.

    Raises:
        InputError: it should have one.
    """
    kind = header.get("SOPClassUID") or getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID")
    name = str(getattr(kind, "name", "") or short(header.get("Modality")) or "DICOM without an image")
    if name.endswith("Image Storage"):
        raise InputError(f"{entry}: is cut off or damaged, it is a {name} without size")
    return name


def _parts(uid: str, slices: list[Slice]) -> list[Series]:
    parts: list[Series] = []
    for one in slices:
        for part in parts:
            if _alike(part.slices[0], one):
                part.slices.append(one)
                break
        else:
            parts.append(Series(uid, [one], part=len(parts)))
    for part in parts:
        part.parts = len(parts)
    return parts


def _alike(one: Slice, other: Slice) -> bool:
    """Whether two slices can belong to one block."""
    if one.size != other.size or (one.plane is None) != (other.plane is None):
        return False
    if one.plane is None or other.plane is None:
        return True
    return bool(
        np.abs(one.plane.axes - other.plane.axes).max() <= SAME_AXES
        and np.allclose(one.plane.spacing, other.plane.spacing, rtol=SAME_SPACING, atol=0)
    )


def choose(found: Found, label: object, series: str | int | None) -> Series:
    """The series that is asked for, or the only one; images that only come along with others do not count.

    Raises:
        InputError: none, several and no choice, or no such series; it lists what is there.
    """
    if not found.series:
        held = f" (it holds {', '.join(sorted(set(found.others))[:4])})" if found.others else ""
        raise InputError(f"{label}: holds no DICOM images{held}; give the folder of an image series")
    if series is not None:
        return _named(found, label, series)
    main = [one for one in found.series if one.modality not in _SIDE] or found.series
    if len(main) == 1:
        return main[0]
    raise InputError(f"{label}: {_why_several(main)}; choose one by number or UID (series): {_listing(found)}")


def _why_several(main: list[Series]) -> str:
    if len({one.uid for one in main}) == 1:
        planes = [one.slices[0].plane for one in main]
        sizes = {one.slices[0].size for one in main}
        kind = "sizes" if len(sizes) > 1 else "directions or spacings" if all(planes) else "kinds, some without a place"
        return f"holds slices of {len(main)} different {kind} under one UID"
    return f"holds {len(main)} series"


def _named(found: Found, label: object, series: str | int) -> Series:
    text = str(series).strip()
    if text.isdigit() and len(text) < 6:
        if int(text) < len(found.series):
            return found.series[int(text)]
    else:
        matches = [one for one in found.series if text in (one.id, one.uid)]
        matches = matches or [one for one in found.series if text and (one.uid.endswith(text))]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(f"{label}: series {text} fits {len(matches)}, choose one by number: {_listing(found)}")
    raise InputError(f"{label}: has no series {_shown(text)}, wanted one of {_listing(found)}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 70 else text[:67] + "...")


def _listing(found: Found) -> str:
    shown = "; ".join(str(one) for one in found.series[:_LISTED])
    return shown if len(found.series) <= _LISTED else f"{shown}; and {len(found.series) - _LISTED} more"
