"""OUT/index.html: every case with its picture, those to look at first on top. One file: no network, no script."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from samed2.io.atomic import atomic_write
from samed2.predict.annotate.files import THUMBS
from samed2.predict.annotate.state import STATUSES, Entry

INDEX = "index.html"

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1c1f24; --soft: #667; --line: #d8dce2; --card: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14161a; --text: #e8eaee; --soft: #9aa; --line: #333842; --card: #1d2026; }
}
body { margin: 0 auto; max-width: 1500px; padding: 1.2rem; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; }
p { margin: .2rem 0 .8rem; color: var(--soft); }
.filter { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .6rem 0 1rem; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: .9rem; }
.case { border: 1px solid var(--line); border-radius: 8px; overflow: hidden; background: var(--card); }
.case img { display: block; width: 100%; height: 230px; object-fit: contain; background: #16181c; }
.case div { padding: .5rem .7rem .6rem; }
.name { font-weight: 600; overflow-wrap: anywhere; }
.badge { display: inline-block; border-radius: 4px; padding: 0 .4rem; color: #fff; font-size: .85rem; }
.open { background: #6b7280; } .proposed { background: #b45309; }
.corrected { background: #1d4ed8; } .confirmed { background: #15803d; }
.bar { display: block; height: 5px; border-radius: 3px; background: var(--line); margin: .4rem 0; }
.bar i { display: block; height: 5px; border-radius: 3px; background: #b45309; }
.small { display: block; font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
.error { color: #c62828; }
@media (prefers-color-scheme: dark) { .error { color: #ff8a80; } }
$rules
</style>
</head>
<body>
<h1>$title</h1>
<p>$lead</p>
<div class="filter">$filter</div>
<div class="cases">
$cards
</div>
</body>
</html>
""")


def write(out: Path, folder: str, task: str, cases: Mapping[str, Entry], known: int) -> Path:
    """Write the page into `out`; `cases` in the order in which they are shown, `known` entries are in the memory.

    Raises:
        InputError: it cannot be written.
    """
    counts = Counter(entry.status for entry in cases.values())
    failed = sum(bool(entry.error) for entry in cases.values())
    lead = f"{len(cases)} cases, {counts['confirmed']} confirmed, {known} entries of this task in the memory."
    if failed:
        lead += f" {failed} could not be done at the last try."
    if not known:
        lead += " The memory knows nothing of the task yet: cases need prompts first."
    text = _PAGE.substitute(
        title=escape(f"{task}: {folder}"),
        lead=escape(lead),
        rules=" ".join(f"body:has(#hide-{s}:not(:checked)) .is-{s} {{ display: none; }}" for s in STATUSES),
        filter="".join(
            f'<label><input type="checkbox" id="hide-{s}" checked> {s} ({counts[s]})</label>' for s in STATUSES
        ),
        cards="\n".join(_card(out, name, entry) for name, entry in cases.items()),
    )
    return atomic_write(out / INDEX, text)


def _card(out: Path, name: str, entry: Entry) -> str:
    lines = [f'<span class="name">{escape(name)}</span><br><span class="badge {entry.status}">{entry.status}</span>']
    if entry.uncertainty is not None:
        percent = f"{100 * min(max(entry.uncertainty, 0.0), 1.0):.0f}"
        lines.append(f' uncertainty {entry.uncertainty:.2f}<span class="bar"><i style="width:{percent}%"></i></span>')
    lines += [f'<span class="small">{escape(fact)}</span>' for fact in _facts(entry)]
    if entry.error:
        lines.append(f'<span class="small error">{escape(entry.error)}</span>')
    return f'<div class="case is-{entry.status}">{_picture(out, name, entry)}<div>{"".join(lines)}</div></div>'


def _facts(entry: Entry) -> list[str]:
    facts = []
    if entry.shape:
        frames, height, width = entry.shape
        facts.append(f"{width} x {height} px" + (f", {frames} frames" if frames > 1 else ""))
    if entry.box:
        frame, *corners = entry.box
        where = f" on frame {frame}" if len(entry.shape) == 3 and entry.shape[0] > 1 else ""
        facts.append(f"{entry.area} px, box {','.join(map(str, corners))}{where}")
    elif entry.mask:
        facts.append("nothing was found")
    if entry.status == "confirmed":
        facts.append(f"{entry.remembered} entries in the memory")
    return facts + entry.notes[:3]


def _picture(out: Path, name: str, entry: Entry) -> str:
    """The thumbnail, inside the page, with a link to the overlay beside it; nothing where there is none."""
    thumbs = [file for file in entry.files if file.startswith(f"{THUMBS}/")]
    overlays = [file for file in entry.files if file.endswith("_overlay.png")]
    try:
        data = base64.b64encode((out / thumbs[0]).read_bytes()).decode("ascii")
    except (IndexError, OSError):
        return ""
    image = f'<img alt="{escape(name)}" src="data:image/jpeg;base64,{data}">'
    return f'<a href="{escape(quote(overlays[0]))}">{image}</a>' if overlays else image
