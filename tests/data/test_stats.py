"""Statistics: counted by hand on invented cases, drawn the same each time, on a page that needs nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from tests.generated import disc

from samed2.data import open_cases
from samed2.data.cases import Case, LoadedCase, MaskArrays
from samed2.data.frames import frame_table
from samed2.data.stats import Example, collect_stats
from samed2.data.stats_page import write_stats
from samed2.data.stats_plots import CONTOUR, GAP, TILE, draw_plots, draw_sheet
from samed2.errors import InputError
from samed2.io import Geometry, Scan


def block(case: Case) -> LoadedCase:
    """A volume of 4 frames of 20 x 40: 100 inside an object of 10 x 8 on frames 1 and 2, 0 elsewhere."""
    mask = np.zeros((4, 20, 40), bool)
    mask[1:3, 5:15, 0:8] = True
    empty = np.zeros_like(mask)
    scan = Scan.from_array(
        np.where(mask, 100, 0).astype(np.int16),
        kind="volume",
        geometry=Geometry.from_spacing((3, 0.5, 0.5)) if case.name != "unknown" else None,
    )
    return LoadedCase(case, scan, MaskArrays({"block": mask, "ghost": empty}))


def invented() -> list[Case]:
    return [
        Case("made", "ct", name, "volume", ("block", "ghost"), patient, split, reader=block)
        for name, patient, split in (("a", "p1", "train"), ("b", "p1", "train"), ("unknown", "p2", "val"))
    ]


def test_counted_by_hand():
    stats = collect_stats(frame_table(invented()))
    (row,) = stats.datasets
    assert (row["cases"], row["patients"], row["frames"], row["frames_with_objects"]) == (3, 2, 12, 6)
    assert row["splits"] == {"train": 2, "val": 1} and row["objects"] == ["block", "ghost"]
    assert row["height"] == [20, 20, 20] and row["width"] == [40, 40, 40] and row["depth"] == [4, 4, 4]
    assert row["spacing_known"] == 2 and row["spacing_mm"] == [3, 0.5, 0.5] and row["dtype"] == "int16"
    assert row["intensities"] == {"p0": 0, "p1": 0, "p50": 0, "p99": 100, "p100": 100}
    block_row, ghost = stats.tasks
    assert block_row["task"] == "made/block" and (block_row["cases"], block_row["cases_with"]) == (3, 3)
    assert block_row["frames"] == 6 and block_row["pixels"] == [80, 80, 80] and block_row["share"] == [0.1, 0.1, 0.1]
    diameter = 2 * np.sqrt(80 / np.pi)
    assert block_row["diameter_px"] == pytest.approx([diameter] * 3, rel=1e-4)
    assert block_row["diameter_mm"] == pytest.approx([diameter / 2] * 3, rel=1e-4)
    assert (block_row["parts"], block_row["at_border"], block_row["looked_at"]) == (1, 1, 3)
    assert block_row["contrast"] == pytest.approx(100 / np.std([100] * 80 + [0] * 720), rel=1e-4)
    assert (ghost["cases"], ghost["cases_with"], ghost["frames"]) == (3, 0, 0)
    assert ghost["share"] is None and ghost["contrast"] is None and stats.examples["made/ghost"] == []


@pytest.mark.parametrize("count, wanted", [(1, ["a"]), (2, ["a", "unknown"]), (9, ["a", "b", "unknown"])])
def test_examples_are_spread_over_the_cases(count, wanted):
    stats = collect_stats(frame_table(invented()), examples=count)
    assert [e.case for e in stats.examples["made/block"]] == wanted
    assert all(e.frame == 2 and e.mask.sum() == 80 for e in stats.examples["made/block"])


@pytest.fixture(scope="module")
def table(folder):
    return frame_table(open_cases(folder))


def test_pages_are_the_same_each_time(table, tmp_path):
    hashes = []
    for name in ("one", "two"):
        written = write_stats(collect_stats(table, 4), tmp_path / name, "made")
        assert all(path.is_file() for path in written)
        hashes.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in written})
    assert hashes[0] == hashes[1]
    assert {"index.html", "stats.json", "areas.png", "cases.png", "spots-dot.png"} <= set(hashes[0])


def test_the_page_needs_nothing_else(table, tmp_path):
    *_, page = write_stats(collect_stats(table, 2), tmp_path / "s", "<made> & more")
    text = page.read_text()
    assert "&lt;made&gt; &amp; more" in text and "<made>" not in text
    assert not re.search(r"""(src|href)=["'](?!data:image/|#)""", text) and "http" not in text
    assert text.count("data:image/jpeg") == 4 and "spots/dot" in text
    assert json.loads((tmp_path / "s" / "stats.json").read_text())["tasks"]


def test_plots_are_pictures(table):
    plots = draw_plots(collect_stats(table, 2))
    assert set(plots) == {"cases", "areas", "area-histograms", "size-histograms", "intensities"}
    for data in plots.values():
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        assert picture.std() > 5


def test_nothing_at_all():
    stats = collect_stats(frame_table([]))
    assert (stats.datasets, stats.tasks, draw_plots(stats)) == ([], [], {})


def test_a_task_without_a_frame_is_drawn():
    stats = collect_stats(frame_table(invented()))
    assert len(draw_plots(stats)) == 5


@pytest.mark.parametrize("shape, radius", [((300, 400), 60), ((300, 400), 8), ((2000, 1500), 1), ((40, 30), 6)])
def test_the_outline_lies_around_the_object(shape, radius):
    cy, cx = shape[0] // 3, shape[1] // 2
    mask = disc(shape, cy, cx, radius)
    sheet = np.asarray(draw_sheet([Example("a/b", "case", 0, np.full(shape, 90, np.uint8), mask)]))
    ys, xs = np.nonzero((sheet[GAP : GAP + TILE, GAP : GAP + TILE] == CONTOUR).all(axis=2))
    scale = TILE / max(shape)
    top = (TILE - round(shape[0] * scale)) // 2, (TILE - round(shape[1] * scale)) // 2
    distance = np.hypot(ys - top[0] - cy * scale, xs - top[1] - cx * scale)
    assert len(ys) >= 4
    assert np.abs(distance - radius * scale).max() < max(2.0, 0.05 * TILE)


def test_large_objects_are_shown_bare_too():
    sheet = np.asarray(draw_sheet([Example("a/b", "c", 0, np.full((50, 50), 9, np.uint8), disc((50, 50), 25, 25, 20))]))
    marked = (sheet == CONTOUR).all(axis=2)
    assert marked[: GAP + TILE].any() and not marked[GAP + TILE :].any()


def test_long_names_and_colour_fit():
    shown = np.zeros((20, 30, 3), np.uint8)
    examples = [Example("a/b", "n" * 200, 7, shown, disc((20, 30), 9, 9, 4), stack=True) for _ in range(8)]
    assert draw_sheet(examples).size == (6 * (TILE + GAP) + GAP, draw_sheet(examples).size[1])


def test_a_file_is_no_folder(table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made a folder"):
        write_stats(collect_stats(table, 1), tmp_path / "file", "made")
