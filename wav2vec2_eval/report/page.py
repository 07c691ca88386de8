# SPDX-License-Identifier: Apache-2.0
"""The page: one HTML file without scripts and without anything from the network, made from what summary.json holds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..speech.totals import HIGH, LOW
from . import pictures
from .pictures import TIME_PARTS, column_class

TEMPLATE = "page.html.j2"
NO_PLAYERS: Mapping[str, bytes] = MappingProxyType({})
NONE = "\N{EN DASH}"  # there is no such number
TIMES = "\N{MULTIPLICATION SIGN}"
_MANY = 10_000  # from here on, digits are grouped

# The meaning of each row of the table, by the beginning of its label.
MEANINGS = {
    "WER": "Word error rate: substituted, deleted and inserted words, divided by the words of the references. The "
    "interval is where 95 % of 10,000 bootstrap replicates lie, which draw the utterances anew.",
    "CER": "Character error rate, with the blanks between words as characters.",
    "normalized": "The same after the normalizer in brackets has been applied to references and hypotheses.",
    "substitutions": "Words of the references for which another word was recognised.",
    "deletions": "Words of the references for which nothing was recognised.",
    "insertions": "Words that were recognised, and are not in the references.",
    "words": "Words in the references.",
    "scored utterances": "Utterances that have a reference.",
    "utterances": "Utterances that were inferred.",
    "chunks": "Inferences: long recordings are cut into overlapping chunks.",
    "time per utterance": "The mean time of the execution alone, without reading and writing, after the warm-up.",
    "p50": "Half of the inferences after the warm-up took at most this long. With several at once: from start to end.",
    "p90": "Nine of ten inferences took at most this long.",
    "p99": "99 of 100 inferences took at most this long.",
    "utterances/s per card": "1000 divided by the time per utterance, times the chips of one card.",
    "RTFx": "Seconds of speech per second of execution, after the warm-up.",
    "wall RTFx": "Seconds of speech per second of the whole run, with reading, waiting and writing.",
    "difference": "The WER of the column minus that of the reference, in percentage points, on the same utterances. If "
    "its interval holds 0, the difference may be chance. The probability of improvement is the share of replicates in "
    "which the column has fewer errors than the reference; ties count half.",
}


class Cell(NamedTuple):
    """A number of the table."""

    text: str
    note: str = ""  # below, in small type
    ratio: str = ""  # to the reference, in small type


class Row(NamedTuple):
    """A row of the table."""

    label: str
    meaning: str
    cells: list[Cell]


class Picture(NamedTuple):
    """A picture, and its numbers."""

    title: str
    explained: str
    svg: str
    heads: list[str]
    rows: list[list[str]]


def render(summary: Mapping[str, Any], players: Mapping[str, bytes] = NO_PLAYERS) -> str:
    """The HTML of a summary. `players`: utterance id -> FLAC, of the utterances that can be played."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number)
    columns = list(summary["figures"])
    details = {title: summary["details"].get(title, {}) for title in columns}
    return environment.get_template(TEMPLATE).render(
        summary=summary,
        columns=[
            (title, column_class(position), sentence(summary["figures"][title]))
            for position, title in enumerate(columns)
        ],
        heading=heading(summary),
        rows=table_rows(summary),
        pictures=draw(summary, columns, details),
        details=details,
        parts=[part.removesuffix(" (s)") for part in TIME_PARTS],
        players={name: base64.b64encode(flac).decode() for name, flac in players.items()},
        places={name: place for place, name in enumerate(players, start=1)},
        owners=owners(details),
    )


def percent(rate: float | None) -> str:
    """A rate as percent; a rate that is infinite has no number."""
    return "∞" if rate is None else f"{100 * rate:.2f} %"


def number(value: float) -> str:
    """A number as a reader wants it: four digits of a small one, one after the point of a large one."""
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= _MANY else str(value)
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 1
    return f"{value:.{digits}f}"


def heading(summary: Mapping[str, Any]) -> str:
    """The size of the data set."""
    first = next(iter(summary["figures"].values()))
    sizes = [f"{number(first['utterances'])} utterances"]
    if "words" in first:
        sizes.append(f"{number(first['words'])} words")
    return ", ".join(sizes)


def owners(details: Mapping[str, Any]) -> dict[str, str]:
    """The first column that has an utterance among its worst: its player is there, and others lead to it."""
    found: dict[str, str] = {}
    for title, each in details.items():
        for worst in each.get("worst", ()):
            found.setdefault(worst["id"], title)
    return found


def sentence(figures: Mapping[str, float]) -> str:
    """The result of a column in one line."""
    parts = []
    if "WER" in figures:
        errors = sum(figures[name] for name in ("substitutions", "deletions", "insertions"))
        parts.append(f"WER {percent(figures['WER'])} ({number(errors)} of {number(figures['words'])} words)")
    if "RTFx" in figures:
        parts.append(f"RTFx {number(figures['RTFx'])}")
    parts += [
        f"{name.split()[0]} {number(value)} ms"
        for name, value in figures.items()
        if name.startswith(("p50 latency", "p99 latency"))
    ]
    return ", ".join(parts)


def table_rows(summary: Mapping[str, Any]) -> list[Row]:
    """The rows of the table: each label that a column has, with the ratio to the reference in small type."""
    figures, ratios = summary["figures"], summary.get("ratios", {})
    labels = dict.fromkeys(label for column in figures.values() for label in column)
    rows = []
    for label in labels:
        if label in (LOW, HIGH):
            continue
        cells = []
        for title, column in figures.items():
            if label not in column:
                cells.append(Cell(NONE))
                continue
            is_rate = label.partition(" ")[0] in ("WER", "CER", "normalized")
            note = ratio = ""
            if label == "WER" and LOW in column and HIGH in column:
                note = f"95 %: {100 * column[LOW]:.2f} to {100 * column[HIGH]:.2f}"
            if label in ratios.get(title, {}):
                ratio = f"{TIMES} {number(ratios[title][label])}"
            cells.append(Cell(percent(column[label]) if is_rate else number(column[label]), note, ratio))
        rows.append(Row(label, meaning(label), cells))
        if label == "WER" and summary.get("comparisons"):
            rows.append(_difference(summary))
    return rows


def _difference(summary: Mapping[str, Any]) -> Row:
    cells = []
    for title in summary["figures"]:
        found = summary["comparisons"].get(title)
        if title == summary["reference"]:
            cells.append(Cell("reference"))
        elif found is None:
            cells.append(Cell(NONE))
        else:
            difference, low, high, improvement = found.values()
            interval = f"95 %: {100 * low:+.2f} to {100 * high:+.2f}"
            cells.append(Cell(f"{100 * difference:+.2f}", f"{interval}, better with p = {improvement:.3f}"))
    return Row("WER difference (points)", MEANINGS["difference"], cells)


def meaning(label: str) -> str:
    """What a row's figures mean."""
    return next((text for beginning, text in MEANINGS.items() if label.startswith(beginning)), "")


def draw(summary: Mapping[str, Any], order: Sequence[str], details: Mapping[str, Any]) -> list[Picture]:
    """All pictures for which a column has numbers."""

    def having(name: str) -> dict[str, Any]:
        return {title: each[name] for title, each in details.items() if each.get(name)}

    found = []

    def add(
        title: str,
        explained: str,
        columns: Mapping[str, Any],
        picture: Callable[[Mapping[str, Any], Sequence[str], str], str],
        heads: Sequence[str],
        rows: Callable[[Any], list[list[str]]],
    ) -> None:
        if columns:
            numbers = [[name, *row] for name, each in columns.items() for row in rows(each)]
            found.append(Picture(title, explained, picture(columns, order, title), ["", *heads], numbers))

    by_length = {
        title: bars for title, bars in having("WER by length").items() if any(b["WER"] is not None for b in bars)
    }
    speakers = {
        title: bars for title, bars in having("WER by speaker").items() if any(b["WER"] is not None for b in bars)
    }
    speed = {
        title: {label: column[label] for label in ("RTFx", "wall RTFx") if label in column}
        for title, column in summary["figures"].items()
        if "RTFx" in column
    }
    times = {title: time_parts(each) for title, each in having("time").items() if each["wall (s)"] > 0}
    add(
        "WER by length",
        "Points: the WER of the utterances of similar lengths. Lines: where it would be with other utterances (95 %).",
        by_length,
        pictures.wer_by_length,
        ["length (s)", "utterances", "words", "errors", "WER", "95 %"],
        lambda bars: [[f"{bar['from (s)']:g} to {bar['to (s)']:g}", *_counts(bar), _interval(bar)] for bar in bars],
    )
    add(
        "WER by speaker",
        "The speakers with the highest WER of each column, up to 40.",
        speakers,
        pictures.wer_by_speaker,
        ["speaker", "utterances", "words", "errors", "WER"],
        lambda bars: [[bar["speaker"], *_counts(bar)] for bar in bars],
    )
    add(
        "Latency by length",
        "Each point is an inference. With gears, an utterance takes as long as the gear to which it is padded.",
        having("latency by length"),
        pictures.latency_by_length,
        ["inferences", "shown at most", "longest (s)", "gears (s)"],
        lambda each: [
            [
                number(each["of"]),
                number(len(each["points"])),
                number(max((x for x, _ in each["points"]), default=0.0)),
                ", ".join(f"{gear:g}" for gear in each.get("gears (s)", [])) or "none",
            ]
        ],
    )
    add(
        "Latencies",
        "How many inferences took how long. The steps have equal ratios, so that slow ones are visible, too.",
        having("latency histogram"),
        pictures.latency_histogram,
        ["latency (ms)", "inferences"],
        lambda each: [
            [f"{number(low)} to {number(high)}", number(count)]
            for low, high, count in zip(each["edges (ms)"], each["edges (ms)"][1:], each["counts"])
            if count
        ],
    )
    add(
        "Speed",
        "RTFx: seconds of speech per second.",
        speed,
        pictures.rtfx_bars,
        ["RTFx", "wall RTFx"],
        lambda each: [[number(each["RTFx"]), number(each["wall RTFx"]) if "wall RTFx" in each else NONE]],
    )
    add(
        "What the time went into",
        "Computing is the model alone. Inputs are read and results written in other threads meanwhile; only what the "
        "model had to wait for them is shown. With several executions at once, the shares may overlap.",
        times,
        pictures.time_bars,
        [*TIME_PARTS, "reading (s)", "writing (s)", "wall (s)"],
        lambda each: [
            [
                number(each[part]) if part in each else NONE
                for part in (*TIME_PARTS, "reading (s)", "writing (s)", "wall (s)")
            ]
        ],
    )
    return found


def time_parts(times: Mapping[str, float]) -> dict[str, float]:
    """The shares of a run's time, with what is left of it."""
    known = sum(times.get(part, 0.0) for part in TIME_PARTS[:-1])
    return {**times, TIME_PARTS[-1]: max(0.0, times["wall (s)"] - known)}


def _counts(bar: Mapping[str, Any]) -> list[str]:
    return [*(number(bar[name]) for name in ("utterances", "words", "errors")), percent(bar["WER"])]


def _interval(bar: Mapping[str, Any]) -> str:
    return f"{100 * bar[LOW]:.2f} to {100 * bar[HIGH]:.2f}" if LOW in bar else NONE
