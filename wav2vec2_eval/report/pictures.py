# SPDX-License-Identifier: Apache-2.0
"""The pictures of the page, as SVG: drawn by matplotlib, coloured by the page's style sheet, in light and in dark.

Each function takes what summary.json holds, by the title of the column, and returns the text of an `<svg>` element.
Text stays text, in the page's own font. Columns differ by colour and by marker.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..speech.totals import HIGH, LOW

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Columns = Mapping[str, Any]  # of each column that has it, by its title

MOST_COLUMNS = 8  # with colours of their own; then they begin again
MOST_POINTS = 4000  # in one picture: more would make the page large, and show no more
_MARKERS = "osD^vPX*"
_WIDTH, _HEIGHT = 5.4, 3.0  # inches of 72 points: the width of a phone, so that text can be read there

# matplotlib draws in these colours, which mean "the page's colour": `_finish` replaces them.
_INK, _LINE = "#010203", "#040506"
_PARTS = ("#0708a0", "#0708a1", "#0708a2", "#0708a3")  # of the time
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wav2vec2_eval",  # the same numbers give the same text
    "font.size": 9,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "text.color": _INK,
    "text.parse_math": False,  # a title with a $ is no formula
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.edgecolor": _LINE,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
# What a part of the time is called, and its place among the colours.
TIME_PARTS = ("computing (s)", "waiting for inputs (s)", "waiting for writing (s)", "the rest (s)")


def column_class(position: int) -> str:
    """The name of a column's colour in the style sheet."""
    return f"c{position % MOST_COLUMNS}"


def wer_by_length(columns: Columns, order: Sequence[str], name: str) -> str:
    """WER with its interval over the length of the utterances."""
    with _picture(name) as (figure, text):
        axes = figure.subplots()
        for position, title, bars in _each(columns, order):
            shift = 0.5 + _shift(position, len(order))
            known = [bar for bar in bars if bar["WER"] is not None]
            x = [bar["from (s)"] + (bar["to (s)"] - bar["from (s)"]) * shift for bar in known]
            y = np.array([100 * bar["WER"] for bar in known])
            ends = np.array([[100 * bar.get(LOW, bar["WER"]), 100 * bar.get(HIGH, bar["WER"])] for bar in known])
            below_above = np.abs(ends.reshape(-1, 2) - y[:, None]).T
            style: dict[str, Any] = {"color": _colour(position), "marker": _marker(position)}
            axes.errorbar(x, y, below_above, label=title, linestyle="none", markersize=5, linewidth=1.2, **style)
        _name_axes(axes, "length of the utterances (s)", "WER (%)")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
    return text()


def wer_by_speaker(columns: Columns, order: Sequence[str], name: str) -> str:
    """WER of each speaker, in the order of the first column."""
    speakers = list(dict.fromkeys(each["speaker"] for bars in columns.values() for each in bars))
    with _picture(name, height=max(1.6, 0.7 + (0.1 + 0.05 * len(columns)) * len(speakers))) as (figure, text):
        axes = figure.subplots()
        for position, title, bars in _each(columns, order):
            known = [each for each in bars if each["WER"] is not None]
            axes.plot(
                [100 * each["WER"] for each in known],
                [speakers.index(each["speaker"]) + _shift(position, len(order)) for each in known],
                label=title,
                linestyle="none",
                marker=_marker(position),
                markersize=4.5,
                color=_colour(position),
                clip_on=False,  # at 0 %, too
            )
        axes.set_yticks(range(len(speakers)), speakers)
        axes.set_ylim(len(speakers) - 0.5, -0.5)
        axes.set_xlim(left=0)
        _name_axes(axes, "WER (%)", "speaker")
        axes.grid(axis="both")
    return text()


def latency_by_length(columns: Columns, order: Sequence[str], name: str) -> str:
    """The latency of inferences over the length of their speech; lines mark the gears."""
    with _picture(name) as (figure, text):
        axes = figure.subplots()
        longest = max((x for each in columns.values() for x, _ in each["points"]), default=0)
        gears = sorted({gear for each in columns.values() for gear in each.get("gears (s)", ())})
        for gear in gears:
            axes.axvline(gear, color=_LINE, linewidth=0.6, linestyle=(0, (2, 2)))
        most = max(1, MOST_POINTS // max(1, len(columns)))
        for position, title, each in _each(columns, order):
            points = each["points"]
            at = np.linspace(0, len(points) - 1, min(most, len(points))).round().astype(int)
            x, y = np.array(points)[at].T if points else ([], [])
            style: dict[str, Any] = {"marker": _marker(position), "markersize": 3.6, "markeredgewidth": 0}
            axes.plot(x, y, label=title, linestyle="none", color=_colour(position), alpha=0.6, **style)
        axes.set_xlim(0, longest * 1.03 or 1)
        axes.set_ylim(bottom=0)
        gears_too = "; dashed: the gears" if gears else ""
        _name_axes(axes, f"speech in the inference (s){gears_too}", "latency (ms)")
    return text()


def latency_histogram(columns: Columns, order: Sequence[str], name: str) -> str:
    """How many inferences took how long."""
    with _picture(name) as (figure, text):
        axes = figure.subplots()
        for position, title, each in _each(columns, order):
            style: dict[str, Any] = {"color": _colour(position), "linewidth": 1.4}
            axes.stairs(each["counts"], each["edges (ms)"], label=title, linestyle=_dashes(position), **style)
        if all(each["edges (ms)"][0] > 0 for each in columns.values()):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0)
        _name_axes(axes, "latency (ms), logarithmic", "inferences")
        axes.grid(axis="y")
    return text()


def rtfx_bars(columns: Columns, order: Sequence[str], name: str) -> str:
    """RTFx of each column, and that of the whole run."""
    shown = [title for title in order if title in columns]
    with _picture(name, height=0.8 + 0.45 * len(shown), legend=False) as (figure, text):
        axes = figure.subplots()
        longest = max(value for each in columns.values() for value in each.values())
        for row, title in enumerate(shown):
            position = order.index(title)
            for shift, label, alpha in ((-0.18, "RTFx", 1.0), (0.18, "wall RTFx", 0.45)):
                value = columns[title].get(label)
                if value is not None:
                    axes.barh(row + shift, value, 0.34, color=_colour(position), alpha=alpha, linewidth=0)
                    axes.text(value + longest * 0.01, row + shift, f"{value:.1f}", va="center", fontsize=8)
        axes.set_yticks(range(len(shown)), [_cut(title) for title in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, longest * 1.1)
        axes.set_xlabel("seconds of speech per second (below: of the whole run)")
        axes.grid(axis="x")
    return text()


def time_bars(columns: Columns, order: Sequence[str], name: str) -> str:
    """What the wall time of each run went into, in percent."""
    shown = [title for title in order if title in columns]
    with _picture(name, height=0.95 + 0.35 * len(shown), legend_columns=4) as (figure, text):
        axes = figure.subplots()
        for row, title in enumerate(shown):
            left = 0.0
            for place, part in enumerate(TIME_PARTS):
                share = 100 * columns[title].get(part, 0.0) / columns[title]["wall (s)"]
                label = part.removesuffix(" (s)") if row == 0 else None
                axes.barh(row, share, 0.6, left, color=_PARTS[place], label=label, linewidth=0)
                left += share
        axes.set_yticks(range(len(shown)), [_cut(title) for title in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, None)
        axes.set_xlabel("% of the run's wall time")
    return text()


def _each(columns: Columns, order: Sequence[str]) -> Iterator[tuple[int, str, Any]]:
    """The columns that are there, with their places among all, which decide their colours."""
    for position, title in enumerate(order):
        if title in columns:
            yield position, title, columns[title]


def _colour(position: int) -> str:
    return f"#0a0b0{position % MOST_COLUMNS}"


def _shift(position: int, number: int) -> float:
    """How far a column's point stands beside the middle, so that none hides another: less than half of a place."""
    return 0.6 * (position - (number - 1) / 2) / number


def _marker(position: int) -> str:
    return _MARKERS[position % len(_MARKERS)]


def _dashes(position: int) -> Any:
    return ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))[position % 4]


def _cut(title: str) -> str:
    return title if len(title) <= 30 else f"{title[:29]}…"


def _name_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


@contextmanager
def _picture(
    name: str, height: float = _HEIGHT, legend: bool = True, legend_columns: int = 2
) -> Iterator[tuple[Figure, Callable[[], str]]]:
    """A figure, and the function that gives its text when the block has ended. `name` describes it to a reader."""
    written: list[str] = []
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, lambda: written[0]
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if legend and handles:
            rows = -(-len(handles) // legend_columns)
            figure.set_figheight(height + 0.2 * rows)
            names = [_cut(label) for label in labels]
            figure.legend(handles, names, loc="outside upper left", ncols=legend_columns, fontsize=8.5)
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # matplotlib's font lacks it; the page's may have it
            figure.savefig(file, format="svg", metadata=_NO_METADATA)
    written.append(_finish(file.getvalue(), name))


def _finish(svg: str, name: str) -> str:
    """Only the `<svg>` element, with the page's colours and font, ids of its own, and a name for screen readers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = svg.replace(_INK, "var(--ink)").replace(_LINE, "var(--line)")
    for place, colour in enumerate(_PARTS):
        svg = svg.replace(colour, f"var(--p{place})")
    svg = re.sub(r"#0a0b0([0-7])", r"var(--c\1)", svg)
    prefix = re.sub(r"\W", "", name)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head = f'<svg class="picture" role="img" aria-label="{name}" viewBox="0 0 {width} {height}"'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{head} {names}>{svg[svg.index('>') + 1 :]}".strip()
