"""The report and the comparison page of runs made by hand."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests.evaluate.made_results import TASKS, make_rows, save_results
from tests.generated import disc

from samed2.errors import InputError
from samed2.evaluate.keep import ANSWERS
from samed2.evaluate.report import words, write_comparison, write_report
from samed2.evaluate.report.compare_page import as_dict, compare_runs, differing_settings, names_of, paired
from samed2.evaluate.report.differing import differing_pictures
from samed2.evaluate.report.figures import INK, MODEL, new_figure, to_svg
from samed2.evaluate.report.gallery import task_pictures
from samed2.evaluate.report.page import warnings
from samed2.evaluate.report.pictures import ANSWER, PROMPT, TILE, TRUTH, crop_around, draw_case
from samed2.evaluate.report.plots import smooth_median
from samed2.evaluate.results import Results
from samed2.evaluate.rows import row_id


class Page(HTMLParser):
    """What a page refers to and which identifiers it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.sources.append(str(value))
            if name == "id":
                self.ids.append(str(value))


def check(path: Path) -> tuple[str, Page]:
    """The page's text, after it was seen to be whole and to need nothing but itself."""
    text = path.read_text(encoding="utf-8")
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))  # every element closed, every attribute quoted
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert not re.search(r"https?:|url\((?!#)|@import", text)
    assert len(set(page.ids)) == len(page.ids)
    assert {source[1:] for source in page.sources if source.startswith("#")} <= set(page.ids)
    return text, page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = make_rows()
    rows += [{**rows[0], "case": "gone", "status": "failed", "reason": "InputError: cut off"}]
    rows += [{**rows[0], "case": "none", "status": "skipped", "reason": "the object is absent"}]
    return save_results(tmp_path_factory.mktemp("run"), rows)


def test_report_says_what_was_measured(folder: Path) -> None:
    text, page = check(write_report(folder))
    results = Results.load(folder)
    for key in ("macro_dice", "case_dice", "macro_nsd", "case_nsd"):
        assert f"{results.summary[key]:.3f}" in text
        low, high = results.summary[f"{key}_ci"]
        assert f"{low:.3f} to {high:.3f}" in text
    for name, found in results.baselines.items():
        assert f"<td>{name}" in text
        assert f"{found['macro_dice']:.3f}" in text
    for task, found in results.tasks.items():
        assert f"<h3>{task}</h3>" in text
        assert f"{found['dice']:.3f}" in text
    for said in ("One box per component, tight", "1 box", "w" * 64, "d" * 64, "samed2 1.2.3", "<td>7</td>"):
        assert said in text
    assert "spots/gone, disc: InputError: cut off" in text
    assert "spots/none, disc: the object is absent" in text
    assert page.tags.count("img") == 3 * len(TASKS)
    assert page.tags.count("svg") == 3


def test_same_run_same_page(tmp_path: Path) -> None:
    rows = make_rows(1)
    first, second = (write_report(save_results(tmp_path / name, rows)) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_names_are_escaped(tmp_path: Path) -> None:
    rows = make_rows(3)
    for row in rows:
        row["notes"] = "<script>alert(1)</script> & more"
    text, _ = check(write_report(save_results(tmp_path, rows, model='<img src="x">"&')))
    assert "&lt;script&gt;" in text


def test_page_without_confidence_steps_or_pictures(tmp_path: Path) -> None:
    rows = [{**row, "predicted_iou": float("nan"), "true_iou": float("nan")} for row in make_rows(3)]
    save_results(tmp_path, rows)
    (tmp_path / "masks" / "index.json").unlink()
    text, page = check(write_report(tmp_path))
    assert "img" not in page.tags
    assert "kept no pictures" in text
    assert "Does the model know" not in text
    assert "after each interaction" not in text


def test_page_with_steps_and_one_case(tmp_path: Path) -> None:
    save_results(tmp_path, make_rows(1, steps=3), protocol="clicks:3")
    text, _ = check(write_report(tmp_path))
    assert "after each interaction" in text


@pytest.mark.parametrize(
    ("config", "shift", "said"),
    [({"select": "oracle"}, 0.0, "upper bound"), ({}, 0.0, ""), ({}, "worse", "has a higher macro Dice")],
)
def test_warnings(tmp_path: Path, config: dict[str, Any], shift: object, said: str) -> None:
    rows = make_rows(3)
    if shift == "worse":
        rows = [{**row, "baseline_ellipse_dice": 0.99} for row in rows]
    found = warnings(Results.load(save_results(tmp_path, rows, **config)))
    assert [said in line for line in found] == ([True] if said else [])


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: (f / "results.json").unlink(), "not found"),
        (lambda f: (f / "results.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "masks" / "index.json").write_text("[{}]"), "index.json"),
        (lambda f: (f / "masks" / "index.json").write_text("7"), "index.json"),
        (lambda f: _change_entry(f, image="../results.json"), "holds a folder"),
    ],
)
def test_damaged_run_is_refused(tmp_path: Path, break_it: Any, said: str) -> None:
    folder = save_results(tmp_path / "r", make_rows(2))
    break_it(folder)
    with pytest.raises(InputError, match=said) as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


def _change_entry(folder: Path, **values: Any) -> None:
    path = folder / "masks" / "index.json"
    entries = json.loads(path.read_text())
    entries[0] |= values
    path.write_text(json.dumps(entries))


def test_damaged_picture_is_left_out_and_said(tmp_path: Path) -> None:
    folder = save_results(tmp_path, make_rows(3))
    name = json.loads((folder / "masks" / "index.json").read_text())[0]["image"]
    (folder / "masks" / name).write_bytes(b"no picture")
    groups, notes = task_pictures(Results.load(folder))
    assert sum(len(group["entries"]) for group in groups) == 3 * len(TASKS) - 1
    assert len(notes) == 1 and "no picture" in notes[0]


@pytest.mark.parametrize(
    ("boxes", "shape", "expected"),
    [
        ([], (40, 50), (0, 0, 40, 50)),
        ([(10, 10, 30, 30)], (100, 100), (3, 3, 37, 37)),  # 20 * 1.7 = 34 around (20, 20)
        ([(0, 0, 20, 20)], (100, 100), (0, 0, 34, 34)),  # moved inside
        ([(10, 10, 12, 12)], (100, 100), (0, 0, 24, 24)),  # at least 24
        ([(0, 0, 30, 90)], (30, 100), (0, 0, 30, 100)),
        ([(10, 10, 20, 20), (60, 60, 70, 70)], (200, 200), (0, 0, 102, 102)),
    ],
)
def test_crop_around(boxes: list[Any], shape: tuple[int, int], expected: tuple[int, ...]) -> None:
    masks = []
    for y0, x0, y1, x1 in boxes:
        masks.append(np.zeros(shape, bool))
        masks[-1][y0:y1, x0:x1] = True
    assert crop_around(masks, shape) == expected


def _has(panel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(panel.astype(int) - colour).max(axis=2) < 25).any())


def test_picture_shows_outlines_and_prompts_where_they_belong() -> None:
    truth, answer = disc((60, 60), 25, 25, 12), disc((60, 60), 35, 35, 12)
    image = np.full((60, 60), 90, np.uint8)
    plain = np.asarray(draw_case(image, truth, [answer]))
    assert plain.shape == (TILE, 2 * TILE + 3, 3)
    left, right = plain[:, :TILE], plain[:, TILE + 3 :]
    assert not _has(left, TRUTH) and not _has(left, ANSWER)
    assert _has(right, TRUTH) and _has(right, ANSWER)
    half = TILE // 2  # the truth lies to the upper left of the answer
    assert not _has(right[half + 40 :, half + 40 :], TRUTH)
    assert not _has(right[: half - 60, : half - 60], ANSWER)
    assert not _has(right, PROMPT)
    prompted = np.asarray(draw_case(image, truth, [answer], [(13, 13, 37, 37)], [(25, 25, True)]))
    assert _has(prompted[:, TILE + 3 :], PROMPT) and not _has(prompted[:, :TILE], PROMPT)
    two = draw_case(np.dstack([image] * 3), truth, [answer, truth])
    assert two.size == (3 * TILE + 6, TILE)


def test_picture_of_empty_masks() -> None:
    empty = np.zeros((30, 50), bool)
    assert draw_case(np.zeros((30, 50), np.uint8), empty, [empty]).size[0] == 2 * TILE + 3


def test_boxes_of_baselines_are_not_drawn_as_prompts(tmp_path: Path) -> None:
    """Where the model got points, the boxes kept beside them were the baselines' own."""
    images = []
    for boxes in (0, 1):
        rows = [{**row, "boxes": boxes, "points": 1} for row in make_rows(2)]
        groups, _ = task_pictures(Results.load(save_results(tmp_path / str(boxes), rows)))
        images.append([entry["uri"] for group in groups for entry in group["entries"]])
    assert len(images[0]) == len(images[1]) > 0
    assert all(a != b for a, b in zip(*images, strict=True))


def test_smooth_median() -> None:
    rng = np.random.default_rng(0)
    size = 10 ** rng.uniform(1, 4, 300)
    x, flat = smooth_median(size, np.full(300, 0.7))
    assert np.allclose(flat[np.isfinite(flat)], 0.7)
    _, rising = smooth_median(size, np.log10(size) / 4)
    assert (np.diff(rising) >= 0).all() and rising[-1] - rising[0] > 0.5
    shuffled = rng.permutation(300)
    score = rng.uniform(0, 1, 300)
    assert np.array_equal(smooth_median(size, score)[1], smooth_median(size[shuffled], score[shuffled])[1])
    spoiled = np.append(score, np.nan)
    assert np.array_equal(smooth_median(np.append(size, 50), spoiled)[1], smooth_median(size, score)[1])
    assert np.isnan(smooth_median(np.array([10.0, 1000.0]), np.array([0.1, 0.9]))[1]).all()
    assert smooth_median(np.zeros(3), np.ones(3))[0].size == 0
    assert x.min() == pytest.approx(size.min())


def test_svg_takes_the_pages_colours_and_own_names() -> None:
    figure, (ax,) = new_figure(3, 2)
    ax.scatter([1, 2], [1, 2], color=MODEL)
    ax.set_xlabel("<b> & c")
    text = to_svg(figure, "one", 'a "plot"')
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == 'a "plot"'
    assert "var(--model)" in text and MODEL not in text and INK not in text
    assert "font-family" not in text and "xmlns" not in text
    assert all(found.startswith("one-") for found in re.findall(r'id="([^"]+)"', text))
    assert all(found.startswith("one-") for found in re.findall(r"(?:url\(|href=\")#([\w-]+)", text))
    assert "".join(root.itertext()).count("<b> & c") == 1


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (words.number, 0.12345, "0.123"),
        (words.number, None, "–"),
        (words.number, float("nan"), "–"),
        (words.signed, 0.5, "+0.500"),
        (words.signed, -0.5, "-0.500"),
        (words.interval, [0.1, 0.2], "0.100 to 0.200"),
        (words.interval, (float("nan"), 0.2), ""),
        (words.interval, None, ""),
        (words.p_value, 0.0001, "<0.001"),
        (words.p_value, 0.04, "0.040"),
        (words.p_value, float("nan"), "–"),
        (words.seconds, 0.0123, "12 ms"),
        (words.seconds, 3.21, "3.2 s"),
        (words.seconds, 600, "10.0 min"),
        (words.seconds, None, "–"),
        (words.slices_words, "all", "all frames with the object"),
        (words.slices_words, "middle:4", "the 4 frames next to the middle of the object"),
    ],
)
def test_words(function: Any, value: Any, expected: str) -> None:
    assert function(value) == expected


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    tmp_path = tmp_path_factory.mktemp("two")
    a = save_results(tmp_path / "a", make_rows(9, seed=1, shift=0.1))
    b = save_results(tmp_path / "b", make_rows(9, seed=2), model="sam2:tiny")
    return a, b


def test_comparison_page(two: tuple[Path, Path], tmp_path: Path) -> None:
    text, page = check(write_comparison(*two, tmp_path / "c.html"))
    found = compare_runs(*(Results.load(folder) for folder in two))
    assert found.macro > 0
    assert f"+{found.macro:.3f}" in text
    for task, part in found.tasks.items():
        assert task in text and f"{part.p_holm:.3f}"[:4] in text
    assert "A: nano" in text and "B: sam2:tiny" in text
    assert page.tags.count("svg") == 2
    assert 'class="warn"' not in text
    told = as_dict(found, *(Results.load(folder) for folder in two))
    assert json.loads(json.dumps(told, allow_nan=False))["macro"] == pytest.approx(found.macro)


def test_comparison_of_other_settings_warns(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = save_results(tmp_path / "o", make_rows(9, seed=2), protocol="point", seed=1)
    runs = Results.load(two[0]), Results.load(other)
    assert differing_settings(*runs) == [
        "protocol differs: A has 'box', B has 'point'.",
        "seed differs: A has 7, B has 1.",
    ]
    assert names_of(*runs) == ("nano, box", "nano, point")  # the same model twice is told apart by the protocol


@pytest.mark.parametrize("metric", ["dice", "hd95"])
def test_the_better_side(two: tuple[Path, Path], tmp_path: Path, metric: str) -> None:
    """A has the higher Dice and the lower HD95: both pages say that A is better."""
    a, b = (Results.load(folder) for folder in two)
    found = compare_runs(a, b, metric)
    assert found.verdict() == "a"
    text, _ = check(write_comparison(*two, tmp_path / "c.html", metric))
    counts = re.search(r"A better: (\d+)", text), re.search(r"B better: (\d+)", text)
    assert counts[0] and counts[1] and int(counts[0][1]) > int(counts[1][1])
    side = re.search(r"(?:← )?A better: nano(?: →)?", text)
    assert side and side[0].endswith("→") == (metric == "dice")


def test_pairs_are_ordered_and_symmetric(two: tuple[Path, Path]) -> None:
    a, b = (Results.load(folder) for folder in two)
    pairs, turned = paired(a, b, "dice"), paired(b, a, "dice")
    assert len(pairs) == 27
    assert (np.diff(pairs["difference"].abs()) <= 0).all()
    assert np.allclose(pairs["difference"], -turned["difference"])


def test_nothing_in_common(two: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [{**row, "case": f"other{row['case']}"} for row in make_rows(9)]
    other = save_results(tmp_path / "o", rows)
    with pytest.raises(InputError, match="in common"):
        write_comparison(two[0], other, tmp_path / "c.html")
    with pytest.raises(InputError, match="metric"):
        write_comparison(*two, tmp_path / "c.html", "beauty")


def test_kept_answers_and_data_give_more_pictures(tmp_path: Path) -> None:
    """Objects without a kept picture are drawn from kept answers and the data."""
    from tests.generated import make_folder

    from samed2.data.convert.folder import folder_cases

    cases = folder_cases(make_folder(tmp_path / "data"), ["val"])
    rows = [row for row in make_rows(1) if row["task"] == "spots/disc"]
    case = next(c for c in cases if c.dataset == "spots")
    folders = []
    for number in range(2):
        named = [{**row, "case": case.name, "dice": row["dice"] - 0.2 * number} for row in rows]
        folder = save_results(tmp_path / str(number), named)
        (folder / "masks" / "index.json").unlink()
        (folder / "masks" / ANSWERS).mkdir()
        about = PngImagePlugin.PngInfo()
        about.add_text("about", json.dumps({"frame": 0, "boxes": [], "points": []}))
        answer = Image.fromarray(np.array(case.load().masks["disc"][0]))
        answer.save(folder / "masks" / ANSWERS / f"{row_id(named[0])}.png", pnginfo=about)
        folders.append(folder)
    runs = Results.load(folders[0]), Results.load(folders[1])
    pairs = paired(*runs, "dice").to_dict("records")
    without, notes = differing_pictures(*runs, pairs, 5)
    assert without == [] and len(notes) == 1
    pictures, notes = differing_pictures(*runs, pairs, 5, cases)
    assert len(pictures) == 1 and notes == []
    assert case.name in pictures[0]["caption"]


def test_a_speck_in_a_large_frame_can_be_drawn():
    from samed2.evaluate.report.pictures import _draw_prompts, _with_inset

    panel = Image.new("RGB", (200, 200))
    shown = _with_inset(panel, np.zeros((2000, 3000), np.uint8), (10, 20, 16, 26))
    assert shown.size == (200, 200) and np.asarray(shown).max() == 255
    _draw_prompts(panel, (0, 0, 2000, 2000), [(5.0, 5.0, 7.0, 7.0)], [])
    assert np.asarray(panel).any()
