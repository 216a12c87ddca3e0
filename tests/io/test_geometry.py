"""Voxels and millimetres."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samed2.errors import InputError
from samed2.io import Geometry


def oblique(seed: int) -> np.ndarray:
    """An affine with turned axes and unequal spacing."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.2, 6, size=3)
    affine[:3, 3] = rng.uniform(-300, 300, size=3)
    return affine


def test_unknown_is_the_identity() -> None:
    geometry = Geometry.unknown()
    assert not geometry.known
    assert np.array_equal(geometry.affine, np.eye(4))
    assert geometry.spacing == (1, 1, 1)


def test_from_spacing_is_axial_as_displayed() -> None:
    geometry = Geometry.from_spacing((5, 0.5, 0.25), origin=(10, 20, 30))
    assert geometry.known
    assert geometry.spacing == (5, 0.5, 0.25)
    assert geometry.voxel_volume == pytest.approx(5 * 0.5 * 0.25)
    # one frame up is towards the head, one row down to the back, one column right to the patient's left
    assert np.allclose(geometry.to_mm([1, 0, 0]), (10, 20, 35))
    assert np.allclose(geometry.to_mm([0, 1, 0]), (10, 19.5, 30))
    assert np.allclose(geometry.to_mm([0, 0, 1]), (9.75, 20, 30))


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), voxel=st.tuples(*[st.integers(-500, 500)] * 3))
def test_there_and_back(seed: int, voxel: tuple[int, int, int]) -> None:
    affine = oblique(seed)
    geometry = Geometry.from_xyz(affine)
    frame, y, x = voxel
    assert np.allclose(geometry.to_mm(voxel), (affine @ [x, y, frame, 1])[:3])
    assert np.allclose(geometry.to_voxel(geometry.to_mm(voxel)), voxel, atol=1e-6)
    assert np.allclose(geometry.to_xyz(), affine)
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    assert np.allclose(geometry.spacing, lengths[::-1])


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.eye(3), "shape"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.zeros((4, 4)), "last row"),
        (np.diag([1.0, 0, 1, 1]), "invertible"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
    ],
)
def test_bad_affines(affine: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Geometry(affine)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, -1, 1), (1, np.nan, 1)])
def test_bad_spacing(spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="spacing"):
        Geometry.from_spacing(spacing)


def test_affine_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Geometry.unknown().affine[0, 0] = 2
