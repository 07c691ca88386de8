# SPDX-License-Identifier: Apache-2.0
"""The scores of a whole set: sums over its utterances, and the figures of `wer.txt`."""

from __future__ import annotations

import re
from collections import Counter

from . import wer
from .bootstrap import wer_interval
from .normalization import NONE
from .wer import NO_ERRORS, Errors, WordErrors

LOW, HIGH = "WER 95% low", "WER 95% high"  # labels
# The figures that a report shows, with the numbers of words and errors.
RATE = re.compile(rf"WER|CER|{LOW}|{HIGH}|normalized (?:WER|CER) \(\w+\)")


class Totals:
    """Sums of all utterances. Memory does not grow with their number."""

    def __init__(self, normalize_text: str = NONE) -> None:
        self._normalize_text = normalize_text
        self.scored = 0
        self.unscored = 0  # utterances without a reference
        self.raw = NO_ERRORS
        self.normalized = NO_ERRORS
        self._pairs: Counter[tuple[int, int]] = Counter()

    def add(self, raw: Errors | None, normalized: Errors | None = None) -> None:
        """Take in an utterance; `raw` is None if it has no reference."""
        if raw is None:
            self.unscored += 1
            return
        self.scored += 1
        self.raw = wer.add(self.raw, raw)
        self._pairs[raw.words.errors, raw.words.words] += 1
        if normalized is not None:
            self.normalized = wer.add(self.normalized, normalized)

    @property
    def words(self) -> WordErrors:
        """The word errors of all. Raises SuiteError if there is no reference word."""
        return wer.total([self.raw.words])

    def more(self) -> dict[str, float]:
        """The figures of `wer.txt` after those of the word errors: label -> number.

        A set whose references have no word after normalisation has no normalised figures, and a single utterance has no
        interval. Raises SuiteError if there is no reference word.
        """
        wer.total([self.raw.words])  # otherwise there is nothing to resample
        characters, interval, choice = self.raw.characters, wer_interval(self._pairs), self._normalize_text
        figures: dict[str, float] = {} if interval is None else {LOW: interval.low, HIGH: interval.high}
        figures |= {"CER": characters.cer, "character errors": characters.errors, "characters": characters.characters}
        if self.normalized.words.words:
            figures |= {
                f"normalized WER ({choice})": self.normalized.words.wer,
                f"normalized CER ({choice})": self.normalized.characters.cer,
                f"normalized errors ({choice})": self.normalized.words.errors,
                f"normalized words ({choice})": self.normalized.words.words,
            }
        return {**figures, "scored utterances": self.scored, "unscored utterances": self.unscored}
