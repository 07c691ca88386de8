# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates with their counts, by jiwer. Pure functions.

A character error rate counts the blanks between words as characters, as `jiwer.process_characters` does, and not those
around a text.
"""

from __future__ import annotations

import heapq
import importlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from ..errors import SuiteError

if TYPE_CHECKING:
    import jiwer

Item = TypeVar("Item")


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
        return rate(self.errors, self.words)


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
        return rate(self.errors, self.characters)


class Errors(NamedTuple):
    """Both counts of the same texts."""

    words: WordErrors
    characters: CharacterErrors


class Edit(NamedTuple):
    """A part of an alignment: words in a row that are right, or wrong in the same way."""

    kind: str  # equal, substitute, delete or insert
    reference: tuple[str, ...]  # no words where some are inserted
    hypothesis: tuple[str, ...]  # no words where some are deleted

    @property
    def errors(self) -> int:
        return 0 if self.kind == "equal" else max(len(self.reference), len(self.hypothesis))


NO_ERRORS = Errors(WordErrors(0, 0, 0, 0), CharacterErrors(0, 0, 0, 0))  # where sums begin


class Worst(Generic[Item]):
    """Collects the up to `count` utterances with errors: highest WER first, then most errors, then the earlier one."""

    def __init__(self, count: int = 10) -> None:
        self._count = count
        self._seen = 0
        self._heap: list[tuple[float, int, int, Item]] = []  # no two have been seen at the same place

    def add(self, wer: float, errors: int, item: Item) -> None:
        self._seen += 1
        if errors:
            heapq.heappush(self._heap, (wer, errors, -self._seen, item))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    def items(self) -> list[Item]:
        return [item for *_, item in sorted(self._heap, reverse=True)]


def check_installed() -> None:
    """Raise ModuleNotFoundError if jiwer is missing: before hours of inference, and not after them."""
    importlib.import_module("jiwer")


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[WordErrors]:
    """Align each reference with the hypothesis at its position. Raises ValueError for unequal lengths."""
    import jiwer

    alignments = jiwer.process_words(list(references), list(hypotheses)).alignments
    return [WordErrors(*_count(chunks)) for chunks in alignments]


def align_words(references: Sequence[str], hypotheses: Sequence[str]) -> list[list[Edit]]:
    """What turns each reference into the hypothesis at its position. Raises ValueError for unequal lengths."""
    import jiwer

    found = jiwer.process_words(list(references), list(hypotheses))
    return [
        [
            Edit(
                chunk.type,
                tuple(reference[chunk.ref_start_idx : chunk.ref_end_idx]),
                tuple(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]),
            )
            for chunk in chunks
        ]
        for reference, hypothesis, chunks in zip(found.references, found.hypotheses, found.alignments)
    ]


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


def rate(errors: int, length: int) -> float:
    """Errors per word or character; of nothing 0 without an error, and infinite with one."""
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
