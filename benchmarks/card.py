r"""The pictures of a model card, out of finished evaluations: worst cases, calibration, training.

    python benchmarks/card.py R/{test,external}/{box-jitter-0.05,point,clicks-5,propagate,memory-only-16} \
      --show mr_acdc em_axonmyelin ct_openkbp microscopy_dsb2018 --out docs/images/nano \
      --log docs/training/nano-{boxes,streams,recall,follow,prompts,fourth,long,fifth,clips,sixth,sixth-end}.jsonl \
      docs/training/nano-{upright,upright-boxes,upright-boxes-2,upright-clicks,seventh,seventh-end}.jsonl \
      docs/training/nano-eighth{-parts,-all,-boxes,-mean,}.jsonl \
      docs/training/nano-ninth-{parts,all,mean,muon,boxes,follow}.jsonl docs/training/nano.jsonl

Several logs are drawn one after another. Cases are shown of those data sets only that `--show` names: their licence
must allow it. The card's tables are printed by benchmarks/tables.py.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console

from samed2.evaluate.report.figures import BASELINE_COLOURS, MUTED, add_legend, new_figure, to_png, unit_axis
from samed2.evaluate.report.gallery import given_prompts, kept_entries, read_entry
from samed2.evaluate.report.pictures import draw_case
from samed2.evaluate.report.plots import calibration_plot
from samed2.evaluate.results import Results
from samed2.io.atomic import atomic_path

WIDTH, COLUMNS = 420, 2
SERIES = ("val/box", "val/point", "val/stream", "val/carried")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of results")
    parser.add_argument("--log", nargs="+", type=Path, default=[], help="log.jsonl of training runs, in order")
    parser.add_argument("--show", nargs="*", default=[], help="data sets whose cases may be shown")
    parser.add_argument("--worst", type=int, default=12, help="how many of the worst cases are shown")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [Results.load(folder) for folder in options.runs]
    written = {"calibration.png": calibration(runs)}
    if sheet := failures(runs, options.show, options.worst):
        written["failures.jpg"] = sheet
    if options.log:
        written["curves.png"] = curves(options.log)
    for name, data in written.items():
        with atomic_path(options.out / name) as path:
            Path(path).write_bytes(data)
        Console(stderr=True).print(f"wrote {options.out / name}")


def calibration(runs: list[Results]) -> bytes:
    """Predicted against true IoU, all runs together."""
    frames = [run.frame() for run in runs]
    predicted, true = (np.concatenate([f[c].to_numpy(float) for f in frames]) for c in ("predicted_iou", "true_iou"))
    return to_png(calibration_plot(predicted, true))


def failures(runs: list[Results], shown: list[str], count: int) -> bytes | None:
    """The worst kept cases, at most one of a task and run; the image, then the truth dashed and the answer."""
    found: list[tuple[float, Results, dict[str, Any]]] = []
    for run in runs:
        if run.folder is None:
            continue
        for entry in given_prompts(kept_entries(run.folder), run.rows):
            if entry["rank"] == "worst" and entry["dataset"] in shown:
                found.append((float(entry["dice"]), run, entry))
    found.sort(key=lambda one: one[0])
    tiles = [tile(run, entry) for _, run, entry in found[:count]]
    if not tiles:
        return None
    height = max(t.height for t in tiles)
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + 8), rows * (height + 8)), "white")
    for place, picture in enumerate(tiles):
        sheet.paste(picture, ((place % COLUMNS) * (WIDTH + 8), (place // COLUMNS) * (height + 8)))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def tile(run: Results, entry: dict[str, Any]) -> Image.Image:
    """One case with its title."""
    assert run.folder is not None
    image, truth, answer = read_entry(run.folder, entry)
    drawn = draw_case(image, truth, [answer], entry["boxes"], entry["points"])
    drawn = drawn.resize((WIDTH, max(1, round(WIDTH * drawn.height / drawn.width))))
    out = Image.new("RGB", (WIDTH, drawn.height + 18), "white")
    out.paste(drawn, (0, 18))
    title = f"{entry['task']}, {run.config['protocol']}: Dice {float(entry['dice']):.2f}"
    ImageDraw.Draw(out).text((2, 3), title, fill="black")
    return out


def curves(logs: list[Path]) -> bytes:
    """Validation Dice by kind of question and training loss over the steps of some runs, one after another."""
    figure, (ax, losses) = new_figure(8.2, 3.4, columns=2)
    before, labels = 0, dict(zip(SERIES, BASELINE_COLOURS, strict=True))
    for log in logs:
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        for name, colour in labels.items():
            points = [(before + row["step"], row[name]) for row in rows if name in row]
            if points:
                known = name in {line.get_gid() for line in ax.lines}
                label = None if known else name.removeprefix("val/")
                ax.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, label=label, gid=name)
        trained = [(before + row["step"], row["loss"]) for row in rows if "loss" in row]
        losses.plot(*zip(*trained, strict=True), color=MUTED, linewidth=1)
        before += max(row["step"] for row in rows)
        for one in (ax, losses):
            one.axvline(before, color=MUTED, linewidth=0.5, linestyle=":")
    for one in (ax, losses):
        one.set_xlabel("steps, thousands")
        one.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:g}")
    ax.set_xlim(losses.get_xlim())
    unit_axis(ax.yaxis, "Dice on val")
    add_legend(ax, outside=False)
    losses.set_ylabel("training loss")
    return to_png(figure)


if __name__ == "__main__":
    main()
