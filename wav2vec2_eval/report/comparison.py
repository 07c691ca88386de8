# SPDX-License-Identifier: Apache-2.0
"""Comparing the columns: are they of the same utterances, their ratios, and the paired differences of their WERs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from ..errors import SuiteError
from ..files.file_list import Source
from ..files.names import SCORES_NAME, WER_NAME
from ..files.scored import Row, read_scored
from ..speech.bootstrap import Comparison, compare
from ..speech.totals import HIGH, LOW
from .details import count
from .results import Results
from .utterances import Utterances, digest

_NO_RATIOS = (LOW, HIGH, "words", "scored utterances", "utterances", "chunks")


def check_sums(results: Results, utterances: Utterances) -> None:
    """Raise SuiteError unless the whole set has as many errors and words as its utterances have together."""
    scored = utterances.words >= 0
    sums = {"errors": int(utterances.errors[scored].sum()), "words": int(utterances.words[scored].sum())}
    figures = results.figures
    if "words" in figures:
        errors = figures["substitutions"] + figures["deletions"] + figures["insertions"]
        found = {"errors": errors, "words": figures["words"]}
        if found != sums or abs(figures["WER"] * sums["words"] - errors) > 1e-6 * (1 + errors):
            raise SuiteError(
                f"{results.source.folder}: {WER_NAME} says WER {figures['WER']}, {found}, but {SCORES_NAME} has "
                f"{sums}; run the scoring again"
            )


def check_comparable(
    all_titles: Sequence[str], all_results: Sequence[Results], every: Sequence[Utterances | None]
) -> None:
    """Raise SuiteError, with what differs, unless all columns are of the same utterances, with the same references."""
    columns = list(zip(all_titles, all_results, every))
    known = [column for column in columns if column[2] is not None]
    for comparable in (columns, known):
        for other in comparable[1:]:
            _check_pair(comparable[0], other)


def _check_pair(first: tuple[str, Results, Utterances | None], second: tuple[str, Results, Utterances | None]) -> None:
    (title, results, ours), (other_title, other_results, theirs) = first, second
    between = f"{title} and {other_title} cannot be compared: "
    if ours is not None and theirs is not None and not _are_same(ours, theirs):
        difference = _difference(results.source, other_results.source)
        raise SuiteError(f"{between}{difference}; run both on the same data set")
    for name in ("utterances", "words"):
        one, other = (each.figures.get(name) for each in (results, other_results))
        if one != other:
            raise SuiteError(
                f"{between}{results.source.folder} has {_shown(one)} {name}, {other_results.source.folder} has "
                f"{_shown(other)}; run both on the same data set"
            )


def _are_same(ours: Utterances, theirs: Utterances) -> bool:
    """Whether both have the same ids and references, and the same lengths where these are known."""
    if not np.array_equal(ours.digests, theirs.digests):
        return False
    known = (ours.num_samples >= 0) & (theirs.num_samples >= 0)
    return np.array_equal(ours.num_samples[known], theirs.num_samples[known])


def _shown(number: float | None) -> str:
    return "no" if number is None else str(number)


def _difference(first: Source, second: Source) -> str:
    """The first utterance in which two folders differ."""
    for number, (one, other) in enumerate(zip_longest(read_scored(first), read_scored(second)), start=1):
        if one is not None and other is not None and digest(one) == digest(other):
            lengths = one.num_samples, other.num_samples
            if None in lengths or len(set(lengths)) == 1:
                continue
            samples = f"{lengths[0]} samples in {first.folder} and {lengths[1]} in {second.folder}"
            return f"utterance {number} is {one.utterance_id}, which has {samples}"
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
