"""Closed surfaces of objects in RAS+ millimetres: binary STL (a file per object) and OBJ (a group per object)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samed2.errors import InputError
from samed2.io.atomic import together
from samed2.io.segmentation import Segmentation, SegmentedObject
from samed2.io.writers import Job, register_writer

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("points", "<f4", (3, 3)), ("attribute", "<u2")])


@register_writer("stl", (".stl",))
def write_stl(job: Job) -> list[Path]:
    """NAME.stl, or NAME_OBJECT.stl for each of several objects; those found nowhere have no file.

    Raises:
        InputError: nothing was found, so there is no surface.
    """
    segmentation = job.stored
    found = _present(job, segmentation)
    targets = [job.path] if len(segmentation.objects) == 1 else _names(job.path, found)
    with together(targets) as temporaries:
        for temporary, entry in zip(temporaries, found, strict=True):
            points, faces = surface(segmentation, entry.id)
            _save_stl(temporary, points, faces, entry, _unit(segmentation))
    return targets


@register_writer("obj", (".obj",))
def write_obj(job: Job) -> list[Path]:
    """One Wavefront file, an `o` group per object with its colour at the vertices; those found nowhere have none.

    Raises:
        InputError: nothing was found, so there is no surface.
    """
    segmentation = job.stored
    found = _present(job, segmentation)
    with together([job.path]) as (temporary,), open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        handle.write(f"# SAMed-2 surfaces, unit {_unit(segmentation)}\n# SPACE=RAS\n")
        first = 1
        for entry in found:
            points, faces = surface(segmentation, entry.id)
            color = " ".join(f"{part / 255:.4f}" for part in entry.color or (255, 255, 255))
            handle.write(f"o {_word(entry)}\n")
            handle.writelines(f"v {x:.5f} {y:.5f} {z:.5f} {color}\n" for x, y, z in points)
            handle.writelines(f"f {a} {b} {c}\n" for a, b, c in faces + first)
            first += len(points)
    return [job.path]


def surface(segmentation: Segmentation, object_id: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (n, 3) in RAS+ mm and triangles (m, 3) of an object, closed at the border, normals outwards.

    The surface runs half-way between voxels inside and outside (marching cubes, Lewiner et al. 2003).
    """
    from skimage.measure import marching_cubes

    low, block = _cut_out(segmentation.labels, object_id)
    values = np.pad(block, 1).astype(np.float32)
    points, faces, _, _ = marching_cubes(values, 0.5, gradient_direction="ascent", allow_degenerate=False)
    vertices = segmentation.to_mm(points.astype(np.float64) + (low - 1))
    faces = faces.astype(np.int64)
    corners = vertices[faces] - vertices.mean(axis=0)
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()
    return vertices, faces if volume > 0 else faces[:, ::-1]


def _cut_out(labels: NDArray[Any], object_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The first voxel of an object's bounding box and the mask in it; frame by frame, to spare memory."""
    shown = [(frame, picture == object_id) for frame, picture in enumerate(labels) if (picture == object_id).any()]
    rows = np.flatnonzero(np.any([mask.any(axis=1) for _, mask in shown], axis=0))
    columns = np.flatnonzero(np.any([mask.any(axis=0) for _, mask in shown], axis=0))
    first, last = shown[0][0], shown[-1][0]
    block = np.zeros((last - first + 1, rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1), dtype=bool)
    for frame, mask in shown:
        block[frame - first] = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.array([first, rows[0], columns[0]]), block


def _present(job: Job, segmentation: Segmentation) -> list[SegmentedObject]:
    counts = segmentation.pixel_counts().sum(axis=0)
    found = [entry for entry, count in zip(segmentation.objects, counts, strict=True) if count]
    if not found:
        raise InputError(f"{job.path}: no object was found, so there is no surface to write; write json instead")
    return found


def _unit(segmentation: Segmentation) -> str:
    return "mm" if segmentation.geometry.known else "pixel"


def _names(path: Path, objects: list[SegmentedObject]) -> list[Path]:
    """NAME_OBJECT.stl with names that every system can hold, the id added where two would be the same."""
    ending = path.suffix
    words = [_word(entry) for entry in objects]
    lower = [word.lower() for word in words]
    unique = [
        word if lower.count(word.lower()) == 1 else f"{word}_{entry.id}"
        for word, entry in zip(words, objects, strict=True)
    ]
    if len({word.lower() for word in unique}) < len(unique):
        unique = [f"{entry.id}_{word}" for word, entry in zip(words, objects, strict=True)]
    return [path.with_name(f"{path.name[: -len(ending)]}_{word}{ending}") for word in unique]


def _word(entry: SegmentedObject) -> str:
    return re.sub(r"[^\w-]+", "_", entry.label).strip("_")[:60] or f"object_{entry.id}"


def _save_stl(
    path: Path, points: NDArray[np.float64], faces: NDArray[np.int64], entry: SegmentedObject, unit: str
) -> None:
    """Binary STL: 80 bytes of text, the number of triangles, 50 bytes each; `SPACE=RAS` is read by 3D Slicer."""
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    table = np.zeros(len(faces), dtype=_TRIANGLE)
    table["normal"] = normals / np.where(lengths > 0, lengths, 1.0)
    table["points"] = corners
    header = f"SAMed-2 SPACE=RAS unit={unit} {_word(entry)}".encode("ascii", "replace")[:80].ljust(80)
    with open(path, "wb") as handle:
        handle.write(header + np.uint32(len(faces)).astype("<u4").tobytes())
        handle.write(table.tobytes())
