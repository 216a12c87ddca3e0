"""Unevenly spaced series cut into runs of even spacing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.dicom_made import STEP, enhanced, pixels, position, write_series
from tests.io.dicom_points import labelled, same_place, seg_points

from samed2.errors import InputError
from samed2.io import read, write
from samed2.io.series_runs import even_runs, split_choice

CASES: dict[str, tuple[list[float], list[tuple[int, int, float]]]] = {
    "even": ([0, 1, 2, 3], [(0, 4, 1)]),
    "a gap": ([0, 1, 2, 4, 5], [(0, 3, 1), (3, 5, 1)]),
    "thicker": ([0, 1, 2, 3, 5, 7, 9], [(0, 4, 1), (4, 7, 2)]),
    "overlap between": ([0, 4, 8, 12, 13, 20, 27, 34], [(0, 4, 4), (4, 8, 7)]),
    "an odd first": ([0, 5, 9, 13, 17], [(0, 1, 0), (1, 5, 4)]),
    "an odd last": ([0, 4, 8, 12, 50], [(0, 4, 4), (4, 5, 0)]),
    "all different": ([0, 1, 3, 7, 15], [(0, 2, 1), (2, 4, 4), (4, 5, 0)]),
    "alone": ([3], [(0, 1, 0)]),
    "jitter": ([0, 1.02, 1.99, 3.01, 9, 10], [(0, 4, 1.00333), (4, 6, 1)]),
}


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("way", [(0, 0, 1), (0.6, 0, 0.8)])
def test_runs(name: str, way: tuple[float, float, float]) -> None:
    places, expected = CASES[name]
    runs = even_runs(np.outer(places, way), 0.1, 0.3)
    assert [(run.start, run.stop) for run in runs] == [(start, stop) for start, stop, _ in expected]
    assert np.allclose([run.step for run in runs], [step for *_, step in expected], atol=1e-4)


def test_every_slice_is_in_one_run_and_runs_are_even() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        gaps = draw.choice([1.0, 1.04, 2.0, 5.0], draw.integers(1, 60))
        origins = np.outer(np.concatenate([[0], np.cumsum(gaps)]), (0, 0, 1)) + draw.normal(
            0, 0.005, (len(gaps) + 1, 3)
        )
        runs = even_runs(origins, 0.1, 0.3)
        assert [index for run in runs for index in range(run.start, run.stop)] == list(range(len(origins)))
        for run in runs:
            line = origins[run.start : run.stop, 2]
            assert np.abs(line - np.linspace(line[0], line[-1], len(line))).max() <= 0.1 * max(run.step, 1e-9) + 1e-9


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0:1", ("0", 1)), ("1.2.3/1:0", ("1.2.3/1", 0)), ("1.2.3", ("1.2.3", None)), (2, (2, None)), (None, (None, None)),
     ("0:", ("0:", None)), ("0:-1", ("0:-1", None))],
)  # fmt: skip
def test_what_chooses_a_run(given: Any, expected: Any) -> None:
    assert split_choice(given) == expected


@pytest.mark.parametrize("kind", ["series", "enhanced"])
def test_a_run_is_read_and_written_as_an_even_scan(tmp_path: Path, kind: str) -> None:
    places = [0, 1, 2, 3.5, 5.5, 7.5, 9.5]
    if kind == "series":
        write_series(tmp_path / "in", places)
        path, stored = tmp_path / "in", pixels(7)
    else:
        path = tmp_path / "in.dcm"
        stored = enhanced(path, places)
    whole = read(path)
    runs = whole.properties["even_runs"]
    assert [(run["series"], run["slices"], run["spacing_mm"]) for run in runs] == [
        ("0:0", 3, STEP),
        ("0:1", 4, 2 * STEP),
    ]
    assert "even runs, each may be read alone (series): 0:0 (3 slices every 2.5 mm), 0:1 (4" in whole.warnings[-1]
    json.dumps(whole.properties)
    for run, (start, stop) in zip(runs, [(0, 3), (3, 7)], strict=True):
        scan = read(path, series=run["series"])
        assert (scan.num_frames, scan.properties["evenly_spaced"], scan.warnings) == (stop - start, True, [])
        assert np.isclose(scan.geometry.spacing[0], run["spacing_mm"])
        assert np.array_equal(scan.frames(), whole.frames()[start:stop]) and len(stored) == 7
        for frame in range(scan.num_frames):
            assert np.allclose(scan.geometry.to_mm([frame, 0, 0]) * (-1, -1, 1), position(places[start + frame]))
        result = labelled(scan)
        (seg,) = write(result, tmp_path / "a_seg.dcm")
        assert same_place(seg_points(seg, 1), scan.geometry.to_mm(np.argwhere(result.mask(300))) * (-1, -1, 1))


@pytest.mark.parametrize(
    ("series", "words"),
    [("0:2", "make 2 even runs, got run 2; wanted 0 to 1"), ("1:0", "has no series '1'"), (":0", "has no series ''")],
)
def test_runs_that_do_not_exist(tmp_path: Path, series: str, words: str) -> None:
    write_series(tmp_path, [0, 1, 2, 4, 5])
    with pytest.raises(InputError, match=words):
        read(tmp_path, series=series)


def test_images_without_a_place_have_no_runs(tmp_path: Path) -> None:
    write_series(tmp_path, 3, ImagePositionPatient=None)
    with pytest.raises(InputError, match="do not say where they lie, got run 0"):
        read(tmp_path, series="0:0")


@pytest.mark.needs_data
def test_the_two_halves_of_the_real_head(data_dir: Path) -> None:
    folder = data_dir / "dicom" / "ct_head" / "GE"
    whole = read(folder)
    assert [(run["slices"], run["spacing_mm"]) for run in whole.properties["even_runs"]] == [(8, 4.22), (8, 7.38)]
    for number, thickness in enumerate((4, 7)):
        scan = read(folder, series=f"0:{number}")
        assert scan.num_frames == 8 and scan.properties["evenly_spaced"]
        assert [note for note in scan.warnings if "tilted" not in note] == [], thickness
