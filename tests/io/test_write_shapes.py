"""GeoJSON, meshes, measurements and films: shapes whose answers are known."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.measure import points_in_poly

from samed2.errors import InputError
from samed2.io import (
    Geometry,
    Scan,
    Segmentation,
    SegmentedObject,
    write,
    write_geojson,
    write_measures,
    write_mesh,
    write_video,
)
from samed2.io.outlines import signed_area

assert write_geojson and write_measures and write_mesh and write_video  # importing registers them


def filled(ring: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return points_in_poly(np.c_[rows.ravel(), columns.ravel()], ring).reshape(shape)


def test_geojson(tmp_path: Path) -> None:
    labels = np.zeros((2, 12, 15), np.uint16)
    labels[0, 1:9, 2:10] = 300
    labels[0, 3:6, 4:7] = 0
    labels[0, 4, 5] = 300  # an island in the hole
    labels[1, 0, 0], labels[1, 1, 1] = 5, 5  # touch at a corner
    entries = [SegmentedObject(300, 'a "β"\n', confidence={0: 0.5}), SegmentedObject(5), SegmentedObject(6, "none")]
    result = Segmentation(labels, entries, Geometry.from_spacing((1, 0.5, 0.25)))
    (path,) = write(result, tmp_path / "a.geojson")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["type"] == "FeatureCollection"
    assert data["coordinates"]["unit"] == "pixel"
    assert [entry["name"] for entry in data["objects"]] == ['a "β"\n', "", "none"]
    assert [f["properties"]["object_id"] for f in data["features"]] == [300, 300, 5, 5]
    assert [len(f["geometry"]["coordinates"]) for f in data["features"]] == [2, 1, 1, 1]
    assert [f["properties"]["area_px"] for f in data["features"]] == [64 - 9, 1, 1, 1]
    assert data["features"][0]["properties"]["area_mm2"] == 55 * 0.125
    assert data["features"][0]["properties"]["confidence"] == 0.5
    found = np.zeros_like(labels)
    for feature in data["features"]:
        mask = np.zeros(labels.shape[1:], bool)
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            points = np.array(ring[:-1])[:, ::-1]
            assert (signed_area(points) > 0) == (number == 0), "RFC 7946: outer rings counter-clockwise"
            mask ^= filled(points - 0.5, mask.shape)
        found[feature["properties"]["frame"]][mask] = feature["properties"]["object_id"]
    assert np.array_equal(found, labels)


def ball(spacing: tuple[float, float, float] = (2.0, 1.0, 0.5), radius: float = 9.0) -> Segmentation:
    """A ball cut by the border of the scan, with a hollow, and a single voxel."""
    shape = (14, 24, 60)
    points = np.stack(np.indices(shape), -1) * spacing
    distance = np.linalg.norm(points - np.array([10.0, 6.0, 14.0]), axis=-1)
    labels = ((distance < radius) & (distance > 3)).astype(np.uint8)
    labels[13, 23, 59] = 2
    geometry = Geometry.from_spacing(spacing, (7, -8, 9))
    return Segmentation(labels, [SegmentedObject(1, "ball"), SegmentedObject(2), SegmentedObject(3, "none")], geometry)


def read_stl(path: Path) -> np.ndarray:
    data = path.read_bytes()
    count = int.from_bytes(data[80:84], "little")
    assert len(data) == 84 + 50 * count
    kind = np.dtype([("normal", "<f4", 3), ("points", "<f4", (3, 3)), ("rest", "<u2")])
    return np.frombuffer(data, kind, offset=84)


def read_obj(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, list[Any]] = {}
    points: list[list[float]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *rest = line.split()
        if word == "o":
            name = rest[0]
            found[name] = []
        elif word == "v":
            points.append([float(value) for value in rest[:3]])
        elif word == "f":
            found[name].append([points[int(index) - 1] for index in rest])
    return {name: np.array(faces) for name, faces in found.items()}


def volume(triangles: np.ndarray) -> float:
    first, second, third = (triangles[:, i].astype(float) - triangles[0, 0].astype(float) for i in range(3))
    return float(np.einsum("ij,ij->i", first, np.cross(second, third)).sum() / 6)


def check_surface(triangles: np.ndarray, result: Segmentation, value: int) -> None:
    ends = np.argwhere(result.labels == value)
    box = np.array([ends.min(axis=0) - 0.5, ends.max(axis=0) + 0.5])
    corners = result.geometry.to_mm(box)
    assert np.allclose(triangles.reshape(-1, 3).min(axis=0), corners.min(axis=0), atol=1e-3)
    assert np.allclose(triangles.reshape(-1, 3).max(axis=0), corners.max(axis=0), atol=1e-3)
    _, index = np.unique(triangles.reshape(-1, 3).round(3), axis=0, return_inverse=True)
    edges = Counter((int(a), int(b)) for t in index.reshape(-1, 3) for a, b in zip(t, np.roll(t, -1), strict=True))
    assert all(edges[b, a] == count for (a, b), count in edges.items()), "closed, all triangles turned alike"
    assert volume(triangles) > 0, "normals point outwards"


@pytest.mark.parametrize("mirror", [1, -1])
def test_meshes(tmp_path: Path, mirror: int) -> None:
    result = ball()
    result.geometry = Geometry(result.geometry.affine @ np.diag([1, 1, mirror, 1.0]))
    written = write(result, tmp_path / "a.stl")
    assert [path.name for path in written] == ["a_ball.stl", "a_object_2.stl"]
    assert not written[0].read_bytes().startswith(b"solid")
    groups = read_obj(write(result, tmp_path / "a.obj")[0])
    assert list(groups) == ["ball", "object_2"]
    for value, path, name in ((1, written[0], "ball"), (2, written[1], "object_2")):
        table = read_stl(path)
        check_surface(table["points"], result, value)
        check_surface(groups[name], result, value)
        first, second, third = (table["points"][:, i] for i in range(3))
        normals = np.cross(second - first, third - first)
        assert np.allclose(table["normal"] * np.linalg.norm(normals, axis=1, keepdims=True), normals, atol=1e-4)
    voxels = (result.labels == 1).sum() * result.geometry.voxel_volume
    assert volume(read_stl(written[0])["points"]) == pytest.approx(voxels, rel=0.03)


def test_names_of_meshes(tmp_path: Path) -> None:
    labels = np.arange(4, dtype=np.uint8).reshape(1, 1, 4)
    result = Segmentation(labels, [SegmentedObject(1, "A/b"), SegmentedObject(2, "a b"), SegmentedObject(3, "../c")])
    names = [path.name for path in write(result, tmp_path / "x.stl")]
    assert names == ["x_A_b_1.stl", "x_a_b_2.stl", "x_c.stl"]


def test_no_surface_of_nothing(tmp_path: Path) -> None:
    for name in ("a.stl", "a.obj"):
        with pytest.raises(InputError, match="no object was found"):
            write(nothing(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def nothing() -> Segmentation:
    return Segmentation(np.zeros((2, 3, 3), np.uint8), [SegmentedObject(1)])


def measured(labels: np.ndarray, geometry: Geometry | None = None, **options: Any) -> dict[str, Any]:
    entry = SegmentedObject(1, **options)
    return write_measures.measure(Segmentation(labels, [entry], geometry or Geometry.unknown()), entry)


@pytest.mark.parametrize("turned", [False, True])
def test_diameters(turned: bool) -> None:
    """A rectangle of 40 x 10 mm and a disc of 30 mm, straight and on a turned grid."""
    geometry = Geometry.from_spacing((3, 0.5, 0.25))
    if turned:
        turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
        affine = geometry.affine.copy()
        affine[:3, :3] = turn @ affine[:3, :3]
        geometry = Geometry(affine)
    labels = np.zeros((2, 100, 200), np.uint8)
    labels[0, 10:30, 20:180] = 1
    row = measured(labels, geometry)
    assert row["diameter"] == pytest.approx(math.hypot(40, 10), abs=0.5)
    assert row["short_axis"] == pytest.approx(2 * 40 * 10 / math.hypot(40, 10) / 2 * 1, rel=0.1)
    assert row["largest_area"] == pytest.approx(400)
    y, x = np.mgrid[:100, :200]
    labels[1] = np.hypot((y - 50) * 0.5, (x - 100) * 0.25) < 15
    labels[0] = 0
    row = measured(labels, geometry)
    assert (row["diameter"], row["short_axis"]) == (pytest.approx(30, abs=0.6), pytest.approx(30, abs=0.8))
    assert (row["diameter_frame"], row["largest_area_frame"], row["frames"]) == (1, 1, 1)


def test_the_longest_line_stays_within_one_part() -> None:
    labels = np.zeros((1, 10, 100), np.uint8)
    labels[0, 2:4, 0:6], labels[0, 2:4, 90:94] = 1, 1
    assert measured(labels)["diameter"] == pytest.approx(math.hypot(6, 1), abs=0.1)


def test_places_and_sizes() -> None:
    labels = np.zeros((4, 10, 12), np.uint8)
    labels[1:3, 2:6, 3:5] = 1
    row = measured(labels, Geometry.from_spacing((5, 2, 1), (10, 20, 30)))
    assert row["box"] == [1, 2, 3, 3, 6, 5]
    assert row["volume_ml"] == pytest.approx(16 * 10 / 1000)
    assert row["centroid_mm"] == pytest.approx([10 - 3.5, 20 - 7, 30 + 7.5])
    assert row["extent_mm"] == pytest.approx([10 - 4.5, 20 - 11, 30 + 2.5, 10 - 2.5, 20 - 3, 30 + 12.5])
    assert (row["voxels"], row["frames"], row["unit"]) == (16, 2, "mm")
    row = measured(labels)
    assert (row["unit"], row["volume_ml"], row["centroid_mm"]) == ("px", None, [None] * 3)
    assert row["largest_area"] == 8


def test_tables(tmp_path: Path) -> None:
    labels = np.zeros((3, 8, 9), np.uint8)
    labels[1, 2:5, 3:7] = 1
    entries = [
        SegmentedObject(1, 'a,"β"\nx', confidence={0: 0.1, 1: 0.6, 2: float("nan")}),
        SegmentedObject(2, "none", confidence={0: 0.25, 1: 0.75}),
    ]
    result = Segmentation(labels, entries, Geometry.from_spacing((1, 1, 1)), scan_name="s")
    (path,) = write(result, tmp_path / "a.csv")
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["object"] for row in rows] == ['a,"β"\nx', "none"]
    assert [float(row["mean_confidence"]) for row in rows] == [0.6, 0.5]
    assert (rows[0]["box_y0"], rows[0]["box_x1"], rows[1]["diameter"]) == ("2", "7", "")
    (path,) = write(result, tmp_path / "a_measures.json")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["objects"][0]["volume_ml"] == pytest.approx(0.012)
    assert data["objects"][1]["voxels"] == 0
    assert write(result, tmp_path / "b.json") and "format" in json.loads((tmp_path / "b.json").read_text())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
@pytest.mark.parametrize("fps", [None, 25.0, 29.97])
def test_films(tmp_path: Path, suffix: str, fps: float | None) -> None:
    import av

    labels = np.zeros((7, 21, 33), np.uint8)
    labels[2:5, 5:16, 4:16] = 1
    scan = Scan.from_array(np.zeros(labels.shape, np.int16), kind="video")
    if fps:
        scan.properties["fps"] = fps
    (path,) = write(Segmentation(labels, [SegmentedObject(1)]), tmp_path / f"a{suffix}", scan=scan)
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        assert float(stream.average_rate) == pytest.approx(fps or 10, rel=0.01)
    assert len(pictures) == 7
    height, width = pictures[0].shape[:2]
    assert (height % 2, width % 2, width) == (0, 0, 384)
    centre = [picture[int(10.5 / 21 * height), int(10 / 33 * width)].max() > 40 for picture in pictures]
    assert centre == [2 <= index < 5 for index in range(7)]


def test_a_film_needs_the_scan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the scan"):
        write(nothing(), tmp_path / "a.mp4")
