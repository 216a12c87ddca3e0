"""Figures as inline SVG that takes its colours from the page, so that it is readable in light and in dark."""

from __future__ import annotations

import base64
import html
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is drawn with -> the page's variable. The values are the light theme's own (base.css.j2 has both themes).
INK, MUTED, GRID = "#1b1f26", "#68717d", "#dde2e8"
MODEL, OTHER, SURFACE = "#1c6dc9", "#c4541c", "#fdfdfe"
BASELINE_COLOURS = ("#0a8a74", "#8a5bb0", "#a97a00", "#b0436e")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    MODEL: "--model",
    OTHER: "--other",
    SURFACE: "--surface",
    **{colour: f"--baseline-{number}" for number, colour in enumerate(BASELINE_COLOURS)},
}
MOST_MARKS = 4000  # above it, dots are drawn as one picture inside the figure
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "samed2",  # the same figure gets the same identifiers in every run
    "svg.image_inline": True,
}


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A transparent figure (inches) in the report's style with one row of axes; not known to pyplot."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), facecolor="none", layout="constrained")
        axes = [figure.add_subplot(1, columns, number + 1) for number in range(columns)]
        for ax in axes:
            ax.grid(True)
    return figure, axes


def to_png(figure: Figure) -> bytes:
    """The figure as PNG on white, for viewing outside the page."""
    import matplotlib

    handle = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(handle, format="png", dpi=110, facecolor="white")
    return handle.getvalue()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element whose colours are the page's and whose identifiers start with `name`."""
    import matplotlib

    handle = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(handle, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = handle.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(
        r'\s(?:xmlns(?::\w+)?|version)="[^"]*"|\sfont-family: [^;"]*;|\stransform="rotate\(-0 [^"]*"', "", text
    )
    text = re.sub(r'\b(id="|xlink:href="#)', lambda found: found[1].removeprefix("xlink:") + f"{name}-", text)
    text = text.replace("url(#", f"url(#{name}-").replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    opening = f'<svg role="img" aria-label="{html.escape(description)}" class="figure" '
    return text.replace("<svg ", opening, 1).strip()


def image_uri(data: bytes, kind: str) -> str:
    """Bytes of a picture as the `data:` address an `<img>` can show."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def add_legend(ax: Axes, columns: int = 1, outside: bool = True, first: str = "") -> None:
    """A legend without frame in the page's colours, above the axes or in their upper left; `first` names what leads."""
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda place: labels[place] != first)
    owner: Any = ax.figure if outside else ax
    owner.legend(
        [handles[place] for place in order],
        [labels[place] for place in order],
        loc="outside upper left" if outside else "upper left",
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        columnspacing=1.3,
        handletextpad=0.4,
        borderaxespad=0.2,
    )


def unit_axis(axis: Any, label: str) -> None:
    """Ticks of an axis (`ax.xaxis`) that runs from 0 to 1."""
    axis.set_ticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axis.set_label_text(label)
