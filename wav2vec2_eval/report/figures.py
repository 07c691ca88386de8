# SPDX-License-Identifier: Apache-2.0
"""What the figures of the report mean, and how they are shown: their units, groups, decimals and signs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

INFINITE, UNKNOWN = "∞", "\N{EN DASH}"
MINUS, THIN_SPACE = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"
GROUPS = ("accuracy", "latency", "throughput", "amount")


class Figure(NamedTuple):
    """A row of the table. `unit` is part of each of its cells; `note` stands below its label."""

    group: str  # one of GROUPS
    unit: str  # "%": the value is a rate
    note: str
    meaning: str


# How a run differs from the reference, in summary.json.
COMPARED = ("WER difference", "WER difference 95% low", "WER difference 95% high", "probability of improvement")
# The first expression that matches a label describes it; a meaning may refer to its groups.
_FIGURES = {
    r"WER": Figure(
        "accuracy",
        "%",
        "95 % interval",
        "Word error rate: the substituted, deleted and inserted words, divided by the words of the references. It can "
        "exceed 100 %. In small type, its 95 % interval: other utterances of this kind would give another rate, and "
        "the interval says how far that is likely to be from this one. It is found by drawing utterances anew "
        "(bootstrap).",
    ),
    r"CER": Figure(
        "accuracy", "%", "", "Character error rate: the same as WER, counted in characters instead of words."
    ),
    r"normalized (WER|CER).*": Figure(
        "accuracy",
        "%",
        "",
        "The rate after both texts were normalized in the way that stands in brackets: differences of case, "
        "punctuation and spelling that the normalizer removes are no errors.",
    ),
    r"substitutions": Figure("accuracy", "", "", "Words of the references in whose place another word was recognised."),
    r"deletions": Figure("accuracy", "", "", "Words of the references in whose place nothing was recognised."),
    r"insertions": Figure("accuracy", "", "", "Recognised words that have no counterpart in the references."),
    r"p(\d+) latency of a chunk.*": Figure(
        "latency", "ms", "", r"\1 % of the chunks took at most this time to compute."
    ),
    r"p(\d+) latency.*": Figure(
        "latency",
        "ms",
        "",
        r"\1 % of the utterances took at most this time to compute, from the start of the execution to its end. "
        "Reading, waiting and writing are not part of it.",
    ),
    r"time per utterance.*": Figure(
        "latency",
        "ms",
        "mean",
        "The time of computing, divided by the utterances; the warm-up is left out. Where several utterances are "
        "computed at once it is less than their latency.",
    ),
    r"utterances/s per card": Figure(
        "throughput",
        "/s",
        "",
        "The utterances that one card computes in a second: the inverse of the time per utterance, times the chips on "
        "a card.",
    ),
    r"RTFx": Figure("throughput", "", "speech / computing", "Seconds of speech for each second of computing."),
    r"wall RTFx": Figure(
        "throughput",
        "",
        "speech / wall time",
        "Seconds of speech for each second of the whole run, with reading, waiting and writing.",
    ),
    r"words": Figure("amount", "", "in the references", "The words of all references: what WER is divided by."),
    r"scored utterances": Figure("amount", "", "", "Utterances that have a reference. Others are timed, not scored."),
    r"utterances": Figure("amount", "", "", "The recordings of the data set that were recognised."),
    r"chunks": Figure("amount", "", "", "The inferences: long recordings are cut into chunks."),
}
DIFFERENCE = Figure(
    "accuracy",
    "points",
    "95 % interval",
    "The WER of the run minus that of the reference, in percentage points, both on the same utterances. In small type, "
    "its 95 % interval: if it contains 0, these utterances do not show which of the two is better.",
)
IMPROVEMENT = Figure(
    "accuracy",
    "",
    "over the reference",
    "How often the run has the lower WER when the utterances are drawn anew, the same for both (paired bootstrap): a "
    "number between 0 and 1.",
)
RATIO = Figure(
    "throughput", "", "", "The figure of the run divided by that of the reference, in small type beside the figure."
)


def describe(label: str) -> Figure:
    """The figure with this label; one without a meaning if the label is not known."""
    for pattern, figure in _FIGURES.items():
        if match := re.fullmatch(pattern, label):
            return figure._replace(meaning=match.expand(figure.meaning))
    unit = "%" if re.search(r"\b(WER|CER)\b", label) else "ms" if label.endswith("(ms)") else ""
    return Figure("latency" if unit == "ms" else "accuracy" if unit == "%" else "amount", unit, "", "")


def show(values: Sequence[Any], unit: str = "", signed: bool = False) -> list[str]:
    """Numbers with as many decimals as the smallest of them needs, so that they line up; texts stay as they are.

    A rate is in percent with two decimals, other fractions have at least three digits. None is shown as infinite,
    because in summary.json an infinite rate is null.
    """
    scale = 100 if unit in ("%", "points") else 1
    numbers = [value * scale for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    decimals = 2 if scale == 100 else 0 if all(isinstance(each, int) for each in numbers) else _decimals(numbers)
    return [_show(value, scale, decimals, unit, signed) for value in values]


def _decimals(numbers: Sequence[float]) -> int:
    smallest = min((abs(number) for number in numbers if number), default=1.0)
    return 0 if smallest >= 1000 else min(6, max(1, 2 - math.floor(math.log10(smallest))))


def _show(value: Any, scale: int, decimals: int, unit: str, signed: bool) -> str:
    if value is None or value == math.inf:
        return INFINITE
    if not isinstance(value, (int, float)):
        return str(value)
    if math.isnan(value):
        return UNKNOWN
    rounded = round(value * scale, decimals) or 0.0  # no sign before 0
    text = f"{rounded:{'+' if signed and rounded else ''},.{decimals}f}".replace("-", MINUS)
    return f"{text}{THIN_SPACE}{unit}" if unit else text
