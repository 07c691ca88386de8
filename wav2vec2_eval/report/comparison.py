# SPDX-License-Identifier: Apache-2.0
"""Comparing the columns: are they of the same utterances, their ratios, and the paired differences of their WERs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from ..errors import SuiteError
from ..files.file_list import Source
from ..files.scored import Row, read_scored
from ..speech.bootstrap import Comparison, compare
from ..speech.totals import HIGH, LOW
from .details import count
from .results import Results
from .utterances import Utterances, digest

_NO_RATIOS = (LOW, HIGH, "words", "scored utterances", "utterances", "chunks")


def check_comparable(
    all_titles: Sequence[str], all_results: Sequence[Results], every: Sequence[Utterances | None]
) -> None:
    """Raise SuiteError, with what differs, unless all columns are of the same utterances, with the same references."""
    columns = list(zip(all_titles, all_results, every))
    (first_title, first, ours), *others = columns
    for title, results, theirs in others:
        between = f"{first_title} and {title} cannot be compared: "
        if ours is not None and theirs is not None and not np.array_equal(ours.digests, theirs.digests):
            difference = _difference(first.source, results.source)
            raise SuiteError(f"{between}{difference}; run both on the same data set")
        for name in ("utterances", "words"):
            one, other = (each.figures.get(name) for each in (first, results))
            if one != other:
                raise SuiteError(
                    f"{between}{first.source.folder} has {_shown(one)} {name}, {results.source.folder} has "
                    f"{_shown(other)}; run both on the same data set"
                )


def _shown(number: float | None) -> str:
    return "no" if number is None else str(number)


def _difference(first: Source, second: Source) -> str:
    """The first utterance in which two folders differ."""
    for number, (one, other) in enumerate(zip_longest(read_scored(first), read_scored(second)), start=1):
        if one is not None and other is not None and digest(one) == digest(other):
            continue
        at = f"utterance {number} is "
        if one is None or other is None or one.utterance_id != other.utterance_id:
            return f"{at}{_name(one)} in {first.folder} and {_name(other)} in {second.folder}"
        texts = f"{_text(one)} in {first.folder} and {_text(other)} in {second.folder}"
        return f"{at}{one.utterance_id}, whose reference is {texts}"
    return "their utterances differ"


def _name(row: Row | None) -> str:
    return "missing" if row is None else row.utterance_id


def _text(row: Row) -> str:
    return "not known" if row.errors is None else f"{row.reference!r:.100}"


def compare_wer(run: Utterances | None, reference: Utterances | None) -> Comparison | None:
    """The WER of a run minus that of the reference; None if their utterances are not known, or too few have a text."""
    if run is None or reference is None:
        return None
    scored = (run.words >= 0) & (reference.words >= 0)
    words = run.words[scored]
    return compare(count((run.errors - reference.errors)[scored], words)) if words.any() else None


def ratios(run: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """The figures of a run divided by those of the reference, without equal counts and the ends of intervals."""
    return {
        name: value / reference[name] for name, value in run.items() if reference.get(name) and name not in _NO_RATIOS
    }


def without_other_normalizers(columns: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The columns, without the rows of a normaliser that not all of them have."""
    in_all = set.intersection(*map(set, columns))
    return [
        {name: value for name, value in column.items() if name in in_all or not name.startswith("normalized")}
        for column in columns
    ]
