# SPDX-License-Identifier: Apache-2.0
"""The pictures of the report's page: SVG by matplotlib, each with the numbers that it shows.

Colours, fonts and dark mode belong to the page's style sheet. matplotlib therefore draws in colours that stand for
variables of CSS, and writes text as text. A run has the same colour and the same marker in all pictures.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

if "MPLCONFIGDIR" not in os.environ:  # else matplotlib would keep a list of fonts below HOME
    os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="wav2vec2_eval-")
    atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from matplotlib.transforms import ScaledTranslation

from ..speech.totals import HIGH, LOW
from .figures import MINUS, show

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it says that it looks for fonts

MARKERS = "os^DvPX*"  # of the runs, in order; the page's style sheet has as many colours, and the page these shapes
MOST_POINTS = 12_000  # in all panels of a picture
_WIDTH = 400  # points, which are pixels where the page shows the picture in its own size
_LONGEST_NAME = 44  # characters

# Colours that stand for variables of CSS: `_as_part_of_page` replaces them.
_TEXT, _MUTED, _LINE = "#fe0001", "#fe0002", "#fe0003"
_RUN = "#fe01{:02x}"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # the same numbers give the same text
    "text.parse_math": False,  # a $ in a title is a $
    "font.size": 12,
    "axes.labelsize": 11.5,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "text.color": _TEXT,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "hatch.linewidth": 1.1,
}


@dataclass(frozen=True)
class Numbers:
    """What a picture shows as a table: rows of texts, or tab-separated `lines` where the numbers are many."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]] = ()
    lines: str = ""


@dataclass(frozen=True)
class Picture:
    """`svg` is an element of HTML. `runs` are those that its legend names; none where the picture names them itself."""

    group: str  # one of GROUPS: the page shows pictures of a group below each other
    name: str  # an id in the page
    title: str
    description: str
    svg: str
    numbers: Sequence[Numbers]
    runs: Sequence[str] = field(default=())


def draw(summary: Mapping[str, Any]) -> list[Picture]:
    """Every picture for which the summary has numbers. `summary.json` is described in docs/files.md."""
    titles = list(summary.get("figures", {}))
    details = {title: summary.get("details", {}).get(title, {}) for title in titles}

    def of_each(name: str) -> dict[str, Any]:
        return {title: details[title][name] for title in titles if details[title].get(name)}

    points = {title: each for title, each in of_each("latency by length").items() if each.get("points")}
    counts = {title: each for title, each in of_each("latency histogram").items() if any(each.get("counts", ()))}
    times = {title: each for title, each in of_each("time").items() if each.get("wall (s)")}
    drawn = (
        _wer_by_length(titles, of_each("WER by length")),
        _wer_by_speaker(titles, of_each("WER by speaker")),
        _latency_by_length(titles, points),
        _latency_histogram(titles, counts, summary["figures"] if titles else {}),
        _rtfx(titles, summary.get("figures", {})),
        _time(titles, times),
    )
    return [replace(each, svg=_as_part_of_page(each.svg, each.name)) for each in drawn if each is not None]


def _wer_by_length(titles: Sequence[str], runs: Mapping[str, Any]) -> Picture | None:
    bins = sorted({(row["from (s)"], row["to (s)"]) for rows in runs.values() for row in rows})
    finite = [row["WER"] for rows in runs.values() for row in rows if row.get("WER") is not None]
    if not finite:
        return None
    with _drawing(270) as (drawing, svg):
        axes = drawing.add_subplot()
        for place, (title, rows) in enumerate(runs.items()):
            style = _style(titles, title)
            shift = 0.6 * ((place + 0.5) / len(runs) - 0.5)
            for row in rows:
                if row.get("WER") is None:
                    continue
                x, y = bins.index((row["from (s)"], row["to (s)"])) + shift, 100 * row["WER"]
                if row.get(LOW) is not None and row.get(HIGH) is not None:
                    axes.plot([x, x], [100 * row[LOW], 100 * row[HIGH]], color=style["color"], linewidth=1.4)
                axes.plot([x], [y], markersize=7.5, clip_on=False, **style)
        axes.set_xticks(range(len(bins)), [_range(*each) for each in bins])
        if len(bins) > 7:
            axes.tick_params("x", rotation=60)
        axes.set_xlim(-0.6, len(bins) - 0.4)
        axes.set_ylim(bottom=0)
        axes.set(xlabel="length of the utterance (s)", ylabel="WER (%)")
        axes.grid(axis="y")
    header = ("length (s)", "WER", "95 % low", "95 % high", "errors", "words", "utterances")
    return Picture(
        "accuracy",
        "wer-by-length",
        "WER by the length of the utterances",
        "The WER of the utterances in each range of lengths, with its 95 % interval as a vertical line.",
        svg[0],
        [
            Numbers(
                title,
                header,
                _columns(
                    [_range(row["from (s)"], row["to (s)"]) for row in rows],
                    show([row.get("WER") for row in rows], "%"),
                    *(_column(rows, name, "%") for name in (LOW, HIGH)),
                    *(_column(rows, name) for name in ("errors", "words", "utterances")),
                ),
            )
            for title, rows in runs.items()
        ],
        list(runs),
    )


def _wer_by_speaker(titles: Sequence[str], runs: Mapping[str, Any]) -> Picture | None:
    rates = {title: {row["speaker"]: row.get("WER") for row in rows} for title, rows in runs.items()}
    speakers = list(dict.fromkeys(speaker for each in rates.values() for speaker in each))
    if not any(rate is not None for each in rates.values() for rate in each.values()):
        return None
    with _drawing(56 + max(16, 8 + 4 * len(rates)) * max(3, len(speakers))) as (drawing, svg):
        axes = drawing.add_subplot()
        for run, (title, each) in enumerate(rates.items()):
            shift = 0.5 * ((run + 0.5) / len(rates) - 0.5)  # equal rates are seen beside each other
            known = [(place + shift, each[name]) for place, name in enumerate(speakers) if each.get(name) is not None]
            if known:
                places, values = zip(*known)
                axes.plot(
                    [100 * value for value in values], places, markersize=7, clip_on=False, **_style(titles, title)
                )
        axes.set_yticks(range(len(speakers)), [_shorten(speaker, 16) for speaker in speakers])
        axes.set_ylim(len(speakers) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.margins(x=0.05)
        axes.set(xlabel="WER (%)", ylabel="speaker")
        axes.grid(axis="both")
    header = ("speaker", "WER", "errors", "words", "utterances")
    return Picture(
        "accuracy",
        "wer-by-speaker",
        "WER by speaker",
        "The speakers with the highest WER of the run that others are compared with.",
        svg[0],
        [
            Numbers(
                title,
                header,
                _columns(
                    [row["speaker"] for row in rows],
                    show([row.get("WER") for row in rows], "%"),
                    *(_column(rows, name) for name in header[2:]),
                ),
            )
            for title, rows in runs.items()
        ],
        list(runs),
    )


def _latency_by_length(titles: Sequence[str], runs: Mapping[str, Any]) -> Picture | None:
    if not runs:
        return None
    longest = max(x for each in runs.values() for x, _ in each["points"])
    with _panels(titles, list(runs), 96, share_y=True) as (panels, svg):
        highest = [max(y for _, y in each["points"]) for each in runs.values()]
        lowest = min(y for each in runs.values() for _, y in each["points"])
        panels[0].set_ylim(0, 1.08 * max(highest) or 1)
        if lowest > 0 and max(highest) > 4 * min(highest):  # else the faster run would be a line at the bottom
            _make_logarithmic(panels, "y", lowest, max(highest), (1, 3))
            panels[0].set_ylim(lowest / 1.4, 1.4 * max(highest))
        for axes, (title, each) in zip(panels, runs.items()):
            step = -(-len(each["points"]) * len(runs) // MOST_POINTS)  # 1 unless the runs are many
            for gear in each.get("gears (s)", ()):
                if gear <= 1.1 * longest:
                    axes.axvline(gear, color=_LINE, linewidth=0.9, zorder=0)
            _add_dots(axes, each["points"][::step], _style(titles, title)["color"])
            axes.set_xlim(0, 1.03 * longest or 1)
        panels[-1].set_xlabel("length of the speech in it (s)")
        panels[0].figure.supylabel(_with_scale("latency (ms)", panels[0].get_yscale()), fontsize=11.5, color=_MUTED)
    of = " or ".join(dict.fromkeys(str(each.get("latency of", "an utterance")) for each in runs.values()))
    with_gears = any(each.get("gears (s)") for each in runs.values())
    return Picture(
        "latency",
        "latency-by-length",
        "Latency against length",
        f"A dot is {of}."
        + (" A vertical line is a gear: a length to which shorter ones are padded." if with_gears else ""),
        svg[0],
        [
            Numbers(
                f"{title}: {len(each['points']):,} of {each.get('of', len(each['points'])):,}",
                ("length (s)", "latency (ms)"),
                lines="\n".join(f"{x:.2f}\t{show([y])[0]}" for x, y in each["points"]),
            )
            for title, each in runs.items()
        ],
    )


def _latency_histogram(titles: Sequence[str], runs: Mapping[str, Any], figures: Mapping[str, Any]) -> Picture | None:
    if not runs:
        return None
    with _panels(titles, list(runs), 74, share_y=False) as (panels, svg):
        edges = [edge for each in runs.values() for edge in each["edges (ms)"]]
        if 0 < 12 * min(edges) < max(edges):
            _make_logarithmic(panels, "x", min(edges), max(edges), (1, 2, 5))
        for axes, (title, each) in zip(panels, runs.items()):
            color = _style(titles, title)["color"]
            axes.stairs(each["counts"], each["edges (ms)"], fill=True, facecolor=color, edgecolor="none", alpha=0.35)
            axes.stairs(each["counts"], each["edges (ms)"], edgecolor=color, linewidth=1.3)
            axes.set_ylim(0, 1.18 * max(each["counts"]))
            axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            for place, (name, value) in enumerate(_percentiles(figures.get(title, {}))):
                axes.axvline(value, color=_TEXT, linewidth=0.9, linestyle=(0, (3, 2)))
                _annotate(axes, name, value, 1, (2, -9 - 10 * (place % 2)), xycoords=("data", "axes fraction"))
        panels[-1].set_xlabel(_with_scale("latency (ms)", panels[0].get_xscale()))
        panels[0].figure.supylabel("number", fontsize=11.5, color=_MUTED)
    return Picture(
        "latency",
        "latency-histogram",
        "How often which latency",
        "How many latencies are in each range. Dashed lines are the percentiles of the table.",
        svg[0],
        [
            Numbers(
                title,
                ("from (ms)", "to (ms)", "number"),
                _columns(
                    *(show(column) for column in zip(*pairwise(each["edges (ms)"]))),
                    show(each["counts"]),
                ),
            )
            for title, each in runs.items()
        ],
    )


def _rtfx(titles: Sequence[str], figures: Mapping[str, Any]) -> Picture | None:
    names = ("RTFx", "wall RTFx")
    runs = {title: {name: figures[title][name] for name in names if figures[title].get(name)} for title in titles}
    runs = {title: each for title, each in runs.items() if each}
    if not runs:
        return None
    longest = max(value for each in runs.values() for value in each.values())
    with _bars(titles, list(runs), 48) as (axes, svg):
        for place, (title, each) in enumerate(runs.items()):
            color = _style(titles, title)["color"]
            for name, y, fill in (("RTFx", place, True), ("wall RTFx", place + 0.3, False)):
                if name in each:
                    axes.barh(y, each[name], 0.26, facecolor=color if fill else "none", edgecolor=color, linewidth=1.2)
                    text = show([each[name]])[0] + ("" if fill else " wall")
                    _annotate(axes, text, each[name], y, (4, -3.5), color=_TEXT)
        axes.set_xlim(0, 1.2 * longest)
        axes.set_xlabel("RTFx (seconds of speech per second)")
    return Picture(
        "throughput",
        "rtfx",
        "RTFx",
        "Seconds of speech per second of computing (filled), and per second of the whole run (outlined, wall RTFx).",
        svg[0],
        [Numbers("", ("run", *names), _columns(list(runs), *(_column(runs.values(), name) for name in names)))],
    )


_PARTS = ("computing (s)", "waiting for inputs (s)", "waiting for writing (s)")
_HATCHES = (None, "////", "xxxx", "")  # of the parts, and of the rest; dots would be a hundred times as much text


def _time(titles: Sequence[str], runs: Mapping[str, Any]) -> Picture | None:
    if not runs:
        return None
    with _bars(titles, list(runs), 42) as (axes, svg):
        for place, (title, each) in enumerate(runs.items()):
            parts = [each.get(part) or 0.0 for part in _PARTS]
            start, color = 0.0, _style(titles, title)["color"]
            for part, hatch in zip([*parts, max(0.0, each["wall (s)"] - sum(parts))], _HATCHES):
                axes.barh(place + 0.1, part, 0.4, left=start, **_part_style(hatch, color))
                start += part
        longest = max(max(each["wall (s)"], sum(each.get(name, 0) for name in _PARTS)) for each in runs.values())
        axes.set_xlim(0, 1.02 * longest)
        axes.set_xlabel("wall time of the run (s)")
        names = [*(part.removesuffix(" (s)") for part in _PARTS), "the rest"]
        axes.figure.legend(
            [Patch(**_part_style(hatch, _MUTED)) for hatch in _HATCHES], names, loc="outside upper left", ncols=2
        )
    names = list(dict.fromkeys(name for each in runs.values() for name in each))
    return Picture(
        "throughput",
        "time",
        "What the time went into",
        "The parts of each run's wall time. Other threads read and write meanwhile; the run waits if they are late. "
        "With several executions at once, waiting and computing may overlap.",
        svg[0],
        [
            Numbers(
                "",
                ("run", *names),
                _columns(list(runs), *(_column(runs.values(), name) for name in names)),
            )
        ],
    )


def _part_style(hatch: str | None, color: str) -> dict[str, Any]:
    return {"facecolor": color if hatch is None else "none", "edgecolor": color, "hatch": hatch, "linewidth": 1}


def _column(rows: Iterable[Mapping[str, Any]], name: str, unit: str = "") -> list[str]:
    """A cell for each row, empty where it lacks the number."""
    return show([row.get(name, "") for row in rows], unit)


def _range(low: float, high: float) -> str:
    return f"{low:g}\N{EN DASH}{high:g}"


def _percentiles(figures: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Those of the latency, with short names such as `p50`."""
    return [(label.split()[0], value) for label, value in figures.items() if re.match(r"p\d+ latency", label)]


def _annotate(axes: Axes, text: str, x: float, y: float, offset: tuple[float, float], **style: Any) -> None:
    axes.annotate(text, (x, y), **{"xytext": offset, "textcoords": "offset points", "fontsize": 10.5, **style})


def _columns(*columns: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*columns, strict=True))


def _style(titles: Sequence[str], title: str) -> dict[str, Any]:
    place = titles.index(title) % len(MARKERS)
    return {"color": _RUN.format(place), "marker": MARKERS[place], "markeredgewidth": 0, "linestyle": "none"}


def _shorten(text: str, longest: int = _LONGEST_NAME) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _add_dots(axes: Axes, points: Sequence[Sequence[float]], color: str) -> None:
    """One path for all points: an element each would be ten times larger.

    Round ends make dots of lines that are hardly longer than 0: matplotlib leaves out those of length 0.
    """
    hardly = 6e-5 * max(x for x, _ in points)
    vertices = [vertex for x, y in points for vertex in ((x, y), (x + hardly, y))]
    codes = [Path.MOVETO, Path.LINETO] * len(points)
    style: dict[str, Any] = {
        "facecolor": "none",
        "edgecolor": color,
        "linewidth": 3,
        "capstyle": "round",
        "alpha": 0.75,
    }
    axes.add_patch(PathPatch(Path(vertices, codes), snap=False, **style))
    axes.autoscale_view()


def _make_logarithmic(panels: Sequence[Axes], axis: str, low: float, high: float, subs: Sequence[float]) -> None:
    """A logarithmic axis with labels at 1, 10, 100 and their multiples by `subs`: at all of them if these are few."""
    for axes in panels:
        (axes.set_yscale if axis == "y" else axes.set_xscale)("log")
        each = axes.yaxis if axis == "y" else axes.xaxis
        each.set_major_locator(LogLocator(subs=subs if high < 300 * low else (1,)))
        each.set_major_formatter(FuncFormatter(_tick))
        each.set_minor_locator(NullLocator())


def _tick(value: float, _: Any) -> str:
    return f"{value:,.10g}".replace("-", MINUS)


def _with_scale(label: str, scale: str) -> str:
    return f"{label}, logarithmic" if scale == "log" else label


def _add_name(axes: Axes, titles: Sequence[str], title: str, x: float, y: float, in_data: bool) -> None:
    """The title of a run behind its marker."""
    within = axes.get_yaxis_transform() if in_data else axes.transAxes
    scale = axes.figure.dpi_scale_trans
    axes.plot(
        [x], [y], markersize=7.5, clip_on=False, **_style(titles, title),
        transform=within + ScaledTranslation(4 / 72, 9 / 72, scale),
    )  # fmt: skip
    axes.text(x, y, _shorten(title), transform=within + ScaledTranslation(12 / 72, 5.5 / 72, scale))


@contextmanager
def _drawing(height: float) -> Iterator[tuple[Drawing, list[str]]]:
    """A figure to draw in; afterwards the list holds its SVG."""
    svg: list[str] = []
    defaults: dict[Any, Any] = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    defaults.update(_STYLE)
    with mpl.rc_context(defaults), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has other fonts
        drawing = Drawing(figsize=(_WIDTH / 72, height / 72), layout="constrained", facecolor="none")
        yield drawing, svg
        for axes in drawing.axes:
            axes.set_facecolor("none")
            for axis in (axes.xaxis, axes.yaxis):
                if isinstance(axis.get_major_formatter(), ScalarFormatter):
                    axis.set_major_formatter(FuncFormatter(_tick))
        file = io.StringIO()
        drawing.savefig(file, format="svg", metadata={"Date": None})
    svg.append(file.getvalue())


@contextmanager
def _panels(
    titles: Sequence[str], shown: Sequence[str], height: float, share_y: bool
) -> Iterator[tuple[list[Axes], list[str]]]:
    """A panel for each run, one below the other, with common axes."""
    height *= 1 if len(shown) <= 4 else 0.65
    with _drawing(48 + (height + 18) * len(shown)) as (drawing, svg):
        grid = drawing.subplots(len(shown), sharex=True, sharey=share_y, squeeze=False)
        panels = [row[0] for row in grid]
        for axes, title in zip(panels, shown):
            _add_name(axes, titles, title, 0, 1, in_data=False)
            axes.grid(axis="y")
        yield panels, svg


@contextmanager
def _bars(titles: Sequence[str], shown: Sequence[str], height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Axes with a row for each run, its title above its bars."""
    with _drawing(62 + height * len(shown)) as (drawing, svg):
        axes = drawing.add_subplot()
        axes.set_ylim(len(shown) - 0.5, -0.55)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        for place, title in enumerate(shown):
            _add_name(axes, titles, title, 0, place - 0.12, in_data=True)
        yield axes, svg


def _as_part_of_page(svg: str, picture: str) -> str:
    """matplotlib's file as an element of HTML, with the page's colours and fonts, and with ids of its own."""
    svg = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style .*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )
    svg = re.sub(r"<[^>]+>", lambda tag: _page_tag(tag[0], picture), svg)
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None  # matplotlib always writes it
    opening = f'<svg viewBox="0 0 {size[1]} {size[2]}" role="img" aria-labelledby="{picture}-title {picture}-about">'
    return opening + svg[svg.index(">") + 1 :].strip()


def _page_tag(tag: str, picture: str) -> str:
    tag = re.sub(r"#fe01([0-9a-f]{2})", lambda match: f"var(--run-{int(match[1], 16)})", tag)
    for color, variable in ((_TEXT, "text"), (_MUTED, "muted"), (_LINE, "line")):
        tag = tag.replace(color, f"var(--{variable})")
    tag = re.sub(r" transform=\"rotate\(-0 [^\"]*\"|font-family: [^;\"]*; ", "", tag)
    tag = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]*", r"font-size: \2px", tag)
    tag = re.sub(r'((?: id|href)="#?|url\(#)([\w-])', rf"\1{picture}-\2", tag)
    tag = re.sub(r"-?\d+\.\d\d+", lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), tag)
    return re.sub(r"M (\S+) (\S+)\s+L \1 \2(?=[\s\"])", r"M\1 \2h0", tag)  # the dots
