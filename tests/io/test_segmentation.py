"""What a segmentation promises."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from samed2.errors import InputError
from samed2.io import Geometry, Segmentation, SegmentedObject, Window, palette_color

LABELS = np.zeros((2, 4, 5), np.uint8)
LABELS[0, :2, :3] = 1
LABELS[1, 3, 4] = 2


def make(**options: object) -> Segmentation:
    objects = [SegmentedObject(1, "liver", confidence={0: 0.9}, present={0: True}), SegmentedObject(2)]
    return Segmentation(LABELS, objects, **options)  # type: ignore[arg-type]


def test_masks_by_id_and_name() -> None:
    result = make()
    assert result.shape == (2, 4, 5)
    assert np.array_equal(result.mask("liver"), LABELS == 1)
    assert np.array_equal(result.mask(2), LABELS == 2)
    assert result.frames_with_labels() == [0, 1]
    assert result.object(2).label == "object 2"
    for key in ("spleen", 3, 0):
        with pytest.raises(InputError, match=r"unknown; the objects are 1 \(liver\), 2 \(object 2\)"):
            result.mask(key)


@pytest.mark.parametrize(
    ("geometry", "shape", "expected"),
    [
        (Geometry.unknown(), (2, 4, 5), (6, None, None)),
        (Geometry.from_spacing((5, 0.5, 0.4)), (2, 4, 5), (6, None, 6 * 5 * 0.5 * 0.4 / 1000)),
        (Geometry.from_spacing((5, 0.5, 0.4)), (1, 4, 5), (6, 6 * 0.5 * 0.4, None)),
    ],
)
def test_sizes(geometry: Geometry, shape: tuple[int, ...], expected: tuple) -> None:
    entry = Segmentation(LABELS[: shape[0]], [SegmentedObject(1), SegmentedObject(2)], geometry).to_dict()["objects"][0]
    assert entry["area_px"] == expected[0]
    assert entry["area_mm2"] == (None if expected[1] is None else pytest.approx(expected[1]))
    assert entry["volume_ml"] == (None if expected[2] is None else pytest.approx(expected[2]))


def test_description_is_json_whatever_the_provenance_holds() -> None:
    provenance = {
        "window": Window(0, 1),
        "path": Path("a") / "b.png",
        "score": np.float32(0.5),
        "bad": float("nan"),
        "array": np.arange(3),
        3: (1, {2}),
    }
    result = make(provenance=provenance, scan_name="x")
    result.objects[0].confidence[1] = np.float32("nan")
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["provenance"]["window"] == {"low": 0, "high": 1, "source": "manual"}
    assert data["provenance"]["path"] == "a/b.png"
    assert data["provenance"]["score"] == 0.5
    assert data["provenance"]["bad"] is None
    assert data["provenance"]["array"] == [0, 1, 2]
    assert data["provenance"]["3"] == [1, [2]]
    assert data["objects"][0]["confidence"] == {"0": 0.9, "1": None}
    assert data["objects"][0]["present"] == {"0": True}
    assert (data["scan"], data["shape"], data["format"]) == ("x", [2, 4, 5], "samed2-segmentation")


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (LABELS.astype(np.int64), np.uint8),
        (LABELS.astype(bool), np.uint8),
        (LABELS.astype(np.int32) * 300, np.uint16),
        (LABELS[0], np.uint8),
    ],
)
def test_label_types(labels: np.ndarray, dtype: type) -> None:
    ids = [int(value) for value in np.unique(labels) if value]
    result = Segmentation(labels, [SegmentedObject(value) for value in ids])
    assert result.labels.dtype == dtype
    assert result.labels.ndim == 3


@pytest.mark.parametrize(
    ("labels", "ids", "words"),
    [
        (LABELS, [1], "value 2 belongs to no object"),
        (LABELS, [1, 2, 2], "twice"),
        (LABELS.astype(float), [1, 2], "float64"),
        (LABELS.astype(int) - 1, [1], "-1"),
        (LABELS.astype(int) * 50_000, [1], "65535"),
        (LABELS[None], [1, 2], "shape"),
        (np.zeros((0, 4, 5), np.uint8), [], "shape"),
    ],
)
def test_refused(labels: np.ndarray, ids: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Segmentation(labels, [SegmentedObject(value) for value in ids])


@pytest.mark.parametrize("object_id", [0, -1, 65_536])
def test_bad_ids(object_id: int) -> None:
    with pytest.raises(InputError, match="object id"):
        SegmentedObject(object_id)


def test_colours_can_be_told_apart() -> None:
    colors = [palette_color(i) for i in range(1, 31)]
    for first, second in combinations(colors[:12], 2):
        assert np.linalg.norm(np.subtract(first, second)) > 50
    assert len(set(colors)) == 30
    for color in colors:
        assert max(color) >= 150
        assert all(0 <= part <= 255 for part in color)
    assert palette_color(0) == (0, 0, 0)
    assert SegmentedObject(3).color == palette_color(3)
    assert SegmentedObject(3, color=(1, 2, 3)).color == (1, 2, 3)
