# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates with their counts, by jiwer. Pure functions.

A character error rate counts the blanks between words as characters, as `jiwer.process_characters` does, and not those
around a text.
"""

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
        return _rate(self.errors, self.words)


class CharacterErrors(NamedTuple):
    """Character-level alignment counts of one utterance, or of many."""

    substitutions: int
    deletions: int
    insertions: int
    characters: int  # in the reference

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def cer(self) -> float:
        """Errors per reference character; infinite for a hypothesis with characters and a reference without."""
        return _rate(self.errors, self.characters)


class Errors(NamedTuple):
    """Both counts of the same texts."""

    words: WordErrors
    characters: CharacterErrors


NO_ERRORS = Errors(WordErrors(0, 0, 0, 0), CharacterErrors(0, 0, 0, 0))  # where sums begin


def check_installed() -> None:
    """Raise ModuleNotFoundError if jiwer is missing: before hours of inference, and not after them."""
    importlib.import_module("jiwer")


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[WordErrors]:
    """Align each reference with the hypothesis at its position. Raises ValueError for unequal lengths."""
    import jiwer

    alignments = jiwer.process_words(list(references), list(hypotheses)).alignments
    return [WordErrors(*_count(chunks)) for chunks in alignments]


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[CharacterErrors]:
    """The same for the characters."""
    import jiwer

    alignments = jiwer.process_characters(list(references), list(hypotheses)).alignments
    return [CharacterErrors(*_count(chunks)) for chunks in alignments]


def text_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[Errors]:
    """Both counts of each reference with the hypothesis at its position. Raises ValueError for unequal lengths."""
    return list(map(Errors, word_errors(references, hypotheses), character_errors(references, hypotheses)))


def add(first: Errors, second: Errors) -> Errors:
    """The counts of both."""
    return Errors(
        WordErrors(*map(sum, zip(first.words, second.words))),
        CharacterErrors(*map(sum, zip(first.characters, second.characters))),
    )


def total(scores: Iterable[WordErrors]) -> WordErrors:
    """Sum the counts. WER over a set is all errors by all words, not a mean of rates.

    Raises SuiteError if there is no reference word: the WER of nothing is no number.
    """
    sums = WordErrors(*map(sum, zip(*scores)))
    if not sums.words:
        raise SuiteError("expected reference words to score, found none in all utterances")
    return sums


def _rate(errors: int, length: int) -> float:
    if length:
        return errors / length
    return float("inf") if errors else 0.0


def _count(chunks: list[jiwer.AlignmentChunk]) -> tuple[int, int, int, int]:
    """Substitutions, deletions, insertions, and the length of the reference."""
    counts = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in chunks:
        is_insertion = chunk.type == "insert"
        counts[chunk.type] += (
            chunk.hyp_end_idx - chunk.hyp_start_idx if is_insertion else chunk.ref_end_idx - chunk.ref_start_idx
        )
    length = counts["equal"] + counts["substitute"] + counts["delete"]
    return counts["substitute"], counts["delete"], counts["insert"], length
