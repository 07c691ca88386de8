# SPDX-License-Identifier: Apache-2.0
"""Word error rate with its counts, by jiwer. Pure functions."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import SuiteError

if TYPE_CHECKING:
    import jiwer


class WordErrors(NamedTuple):
    """Word-level alignment counts of one utterance, or of many."""

    substitutions: int
    deletions: int
    insertions: int
    words: int  # in the reference

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Errors per reference word; infinite for a hypothesis with words and a reference without."""
        if self.words:
            return self.errors / self.words
        return float("inf") if self.errors else 0.0


def check_installed() -> None:
    """Raise ModuleNotFoundError if jiwer is missing: before hours of inference, and not after them."""
    importlib.import_module("jiwer")


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[WordErrors]:
    """Align each reference with the hypothesis at its position. Raises ValueError for unequal lengths."""
    import jiwer

    return [_count(chunks) for chunks in jiwer.process_words(list(references), list(hypotheses)).alignments]


def total(scores: Iterable[WordErrors]) -> WordErrors:
    """Sum the counts. WER over a set is all errors by all words, not a mean of rates.

    Raises SuiteError if there is no reference word: the WER of nothing is no number.
    """
    sums = WordErrors(*map(sum, zip(*scores)))
    if not sums.words:
        raise SuiteError("expected reference words to score, found none in all utterances")
    return sums


def _count(chunks: list[jiwer.AlignmentChunk]) -> WordErrors:
    counts = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in chunks:
        is_insertion = chunk.type == "insert"
        counts[chunk.type] += (
            chunk.hyp_end_idx - chunk.hyp_start_idx if is_insertion else chunk.ref_end_idx - chunk.ref_start_idx
        )
    words = counts["equal"] + counts["substitute"] + counts["delete"]
    return WordErrors(counts["substitute"], counts["delete"], counts["insert"], words)
