# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page that needs nothing else: no network, no script, no file beside it.

The page shows what summary.json holds, and leaves out what summary.json lacks. The layout is in page.html.j2.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..speech.totals import HIGH, LOW
from .figures import (
    COMPARED,
    DIFFERENCE,
    GROUPS,
    IMPROVEMENT,
    RATIO,
    THIN_SPACE,
    TIMES,
    UNKNOWN,
    Figure,
    describe,
    show,
)
from .pictures import MARKERS, draw

MOST_PLAYERS = 10
MOST_AUDIO = 1_500_000  # bytes of FLAC: in the page, as text, they take a third more, and the page stays below 3 MB
MOST_TEXT, MOST_OF_PART = 4000, 600  # characters of an utterance's edits that are shown, and of one of them


def render(summary: Mapping[str, Any], players: Mapping[str, bytes] | None = None) -> str:
    """The page as text.

    `summary` is the content of summary.json, `players` are recordings as FLAC by the id of their utterance: the first
    of them are put into the page, as many as MOST_PLAYERS and MOST_AUDIO allow.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = summary.get("figures", {})
    titles = list(figures)
    recordings = _recordings(players or {})
    return environment.get_template("page.html.j2").render(
        data_set=summary.get("data set", "not known"),
        amount=_amount(figures),
        runs=[_run(summary, title, place, recordings) for place, title in enumerate(titles)],
        groups=_groups(summary),
        differing=_conditions(summary, summary.get("differing conditions", ())) if len(titles) > 1 else [],
        pictures=[
            [{"svg": Markup(picture.svg), "of": picture} for picture in pictures]
            for _, pictures in groupby(draw(summary), key=lambda picture: picture.group)
        ],
        num_colors=len(MARKERS),
        texts=summary.get("texts", "as they are"),
        places={title: place for place, title in enumerate(titles)},
        glossary=_glossary(summary),
        made_on=summary.get("made on", {}),
        has_ratios=bool(summary.get("ratios")),
    )


def _recordings(players: Mapping[str, bytes]) -> dict[str, tuple[str, str]]:
    """An anchor and the recording as a data: URI by the id of the utterance."""
    found: dict[str, tuple[str, str]] = {}
    room = MOST_AUDIO
    for utterance_id, flac in players.items():
        if len(found) < MOST_PLAYERS and len(flac) <= room:
            uri = f"data:audio/flac;base64,{base64.b64encode(flac).decode()}"
            found[utterance_id] = (f"recording-{len(found)}", uri)
            room -= len(flac)
    return found


def _labels(columns: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(label for column in columns for label in column))


def _shown(label: str) -> str:
    """A label without the unit that its figures are shown with."""
    return label.removesuffix(" (ms)")


def _anchor(label: str) -> str:
    return "about-" + "".join(character if character.isalnum() else "-" for character in label)


def _amount(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How much data the figures are of: texts such as `52 utterances`, without what the runs do not agree on."""
    found = []
    for label in ("utterances", "chunks", "words"):
        values = {column[label] for column in figures.values() if label in column}
        if len(values) == 1:
            found.append(f"{show(list(values))[0]} {label}")
    return found


def _groups(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table: groups of rows, each with a cell for every run."""
    figures, ratios = summary.get("figures", {}), summary.get("ratios", {})
    rows: dict[str, list[Any]] = {group: [] for group in GROUPS}
    for label in _labels(figures.values()):
        if label in (LOW, HIGH):
            continue  # below the WER
        figure = describe(label)
        cells = _cells(figures.values(), label, figure.unit)
        small = [_interval(column, "%") if label == "WER" else "" for column in figures.values()]
        divided = [ratios.get(title, {}).get(label) for title in figures]
        times = ["" if ratio is None else f"{TIMES}{ratio:,.3f}" for ratio in divided]
        rows[figure.group].append(_row(label, figure, zip(cells, small, times)))
        if label == "WER" and summary.get("comparisons"):
            rows[figure.group] += _comparison_rows(summary, figures)
    return [{"name": name, "rows": each} for name, each in rows.items() if each]


def _row(label: str, figure: Figure, cells: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    return {"label": _shown(label), "anchor": _anchor(label), "note": figure.note, "cells": list(cells)}


def _cells(columns: Iterable[Mapping[str, Any]], label: str, unit: str, signed: bool = False) -> list[str]:
    """A cell for each column, empty where it lacks the label."""
    return show([column.get(label, "") for column in columns], unit, signed)


def _interval(column: Mapping[str, Any], unit: str, labels: tuple[str, str] = (LOW, HIGH), signed: bool = False) -> str:
    if not all(isinstance(column.get(label), (int, float)) for label in labels):
        return ""
    low, high = (text.partition(THIN_SPACE)[0] for text in show([column[label] for label in labels], unit, signed))
    return f"{low} to {high}{THIN_SPACE if unit else ''}{unit}"


def _comparison_rows(summary: Mapping[str, Any], figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = [summary["comparisons"].get(title, {}) for title in figures]
    difference, low, high, improvement = COMPARED
    differences = _cells(columns, difference, "points", signed=True)
    intervals = [_interval(column, "points", (low, high), signed=True) for column in columns]
    probabilities = [f"{column[improvement]:.3f}" if improvement in column else "" for column in columns]
    return [
        _row(difference, DIFFERENCE, [(*cell, "") for cell in zip(differences, intervals)]),
        _row(improvement, IMPROVEMENT, [(cell, "", "") for cell in probabilities]),
    ]


def _conditions(summary: Mapping[str, Any], labels: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Rows of conditions, each with a text for every run."""
    columns = [summary.get("conditions", {}).get(title, {}) for title in summary.get("figures", {})]
    return [(label, [str(column.get(label, UNKNOWN)) for column in columns]) for label in labels]


def _run(summary: Mapping[str, Any], title: str, place: int, recordings: dict[str, tuple[str, str]]) -> dict[str, Any]:
    details = summary.get("details", {}).get(title, {})
    return {
        "title": title,
        "place": place,
        "is_reference": title == summary.get("reference"),
        "result": _result(summary["figures"][title]),
        "verdict": _verdict(summary, title),
        "conditions": list(summary.get("conditions", {}).get(title, {}).items()),
        "confusions": details.get("confusions") or [],
        "worst": [_utterance(each, recordings) for each in details.get("worst") or []],
    }


def _result(figures: Mapping[str, Any]) -> list[str]:
    """The parts of the sentence that sums up a run."""
    parts = []
    if "WER" in figures:
        of = f" of {show([figures['words']])[0]} words" if "words" in figures else ""
        interval = _interval(figures, "%")
        parts.append(f"WER {show([figures['WER']], '%')[0]}{of}{f' (95 % interval {interval})' if interval else ''}")
    parts += [f"{label} {show([figures[label]])[0]}" for label in ("RTFx", "wall RTFx") if label in figures]
    for label in figures:
        if label.startswith(("p50 latency", "p99 latency")):
            parts.append(f"{label.removesuffix(' (ms)')} {show([figures[label]], 'ms')[0]}")
    return parts


def _verdict(summary: Mapping[str, Any], title: str) -> str:
    """What the paired interval says about a run and the reference."""
    difference, low, high, _ = COMPARED
    found = summary.get("comparisons", {}).get(title, {})
    if not all(isinstance(found.get(label), (int, float)) for label in (difference, low, high)):
        return ""
    if found[low] == found[high] == 0:
        says = "no difference in any sample of the utterances"
    elif found[low] <= 0 <= found[high]:
        says = "these utterances do not show which of the two is better"
    else:
        says = "fewer errors than the reference" if found[difference] < 0 else "more errors than the reference"
    interval = _interval(found, "points", (low, high), signed=True)
    shown = show([found[difference]], "points", signed=True)[0]
    return f"WER {shown} against {summary['reference']} (95 % interval {interval}): {says}"


def _utterance(utterance: Mapping[str, Any], recordings: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """One of the worst utterances. The page holds its recording once: afterwards `recordings` has its anchor alone."""
    utterance_id, seconds = str(utterance["id"]), utterance.get("seconds")
    anchor, recording = recordings.get(utterance_id, ("", ""))
    if recording:
        recordings[utterance_id] = (anchor, "")
    return {
        "id": utterance_id,
        "about": [
            f"WER {show([utterance.get('WER')], '%')[0]}",
            f"{utterance['errors']:,} errors in {utterance['words']:,} words",
            *([] if seconds is None else [show([seconds], "s")[0]]),
        ],
        "edits": _shorten(utterance.get("edits") or ()),
        "anchor": anchor,
        "recording": recording,
    }


def _shorten(edits: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The edits of an utterance, without most of long texts: those of an hour would make the page too large."""
    shown: list[tuple[str, ...]] = []
    room = MOST_TEXT
    for kind, *texts in edits:
        cut = [_cut(text) for text in texts]
        room -= sum(map(len, cut))
        if room < 0:
            return [*shown, ("equal", f"… and {len(edits) - len(shown)} more parts", "")]
        shown.append((kind, *cut))
    return shown


def _cut(text: str) -> str:
    left_out, half = len(text) - MOST_OF_PART, MOST_OF_PART // 2
    return text if left_out <= 0 else f"{text[:half]} … {left_out:,} characters … {text[-half:]}"


def _glossary(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Id, label and meaning of what the table shows."""
    labels = [label for label in _labels(summary.get("figures", {}).values()) if label not in (LOW, HIGH)]
    entries = [(label, describe(label)) for label in labels]
    if summary.get("comparisons"):
        entries += [(COMPARED[0], DIFFERENCE), (COMPARED[-1], IMPROVEMENT)]
    if summary.get("ratios"):
        entries.append((f"ratio ({TIMES})", RATIO))
    return [(_anchor(label), _shown(label), figure.meaning) for label, figure in entries if figure.meaning]
