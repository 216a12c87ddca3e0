"""Parameter counts of the published sizes, part by part."""

from __future__ import annotations

import pytest
from benchmarks.parameters import PARTS, TOTAL_MILLIONS, WANTED, count


@pytest.mark.parametrize("size", list(WANTED))
def test_published_sizes_have_the_published_parameters(size: str) -> None:
    found = count(size)
    assert {part: found[part] for part in PARTS} == WANTED[size]
    assert found["total"] / 1e6 == pytest.approx(TOTAL_MILLIONS[size], abs=0.006)


def test_version_2_0_has_no_pointer_time() -> None:
    old = count("small", "2.0")
    assert old["pointer time"] == 0
    assert old["total"] / 1e6 == pytest.approx(46.044, abs=0.0006)


def test_adapters_of_the_released_size() -> None:
    assert count("small", "2.0")["adapters"] == 861_472
