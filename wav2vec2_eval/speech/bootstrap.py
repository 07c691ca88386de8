# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of word error rates, by resampling utterances. Pure functions; numpy only.

M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004: a
replicate draws as many utterances as there are, with replacement, and has a WER of its own. The interval holds the
middle 95 % of the replicates' WERs. (Kaldi's compute-wer-bootci resamples alike, but takes the mean and 1.96 standard
deviations.)

The sums of a replicate depend only on how often each distinct pair of numbers (errors, words) is drawn. That is
multinomial, so nothing here grows with the number of utterances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

REPLICATES = 10_000
SEED = 2004  # the same utterances have the same interval
_ENDS = (2.5, 97.5)  # percent of the replicates
_BLOCK = 1 << 21  # numbers that are drawn at once: 16 MiB

Counts = Mapping[tuple[int, int], int]  # (errors, words) of an utterance -> how many utterances have them


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


class Comparison(NamedTuple):
    """The WER of a first system minus that of a second one, on the same utterances."""

    difference: float
    interval: Interval
    improvement: float  # the share of replicates in which the first system has fewer errors; a tie is one half


def wer_interval(counts: Counts, replicates: int = REPLICATES, seed: int = SEED) -> Interval | None:
    """The interval of the WER of these utterances; None for fewer than two, whose spread nobody knows.

    Replicates without a reference word have no WER, and are left out. Expects a reference word in `counts`.
    """
    if sum(counts.values()) < 2:
        return None
    errors, words = _resample(counts, replicates, seed)
    return _interval(errors / words)


def compare(counts: Counts, replicates: int = REPLICATES, seed: int = SEED) -> Comparison | None:
    """Compare two systems, paired: a replicate has the same utterances for both. None for fewer than two utterances.

    `counts` has pairs (errors of the first minus errors of the second, words). Expects a reference word in it.
    """
    if sum(counts.values()) < 2:
        return None
    more, words = _resample(counts, replicates, seed)
    difference = sum(pair[0] * count for pair, count in counts.items()) / sum(
        pair[1] * count for pair, count in counts.items()
    )
    improvement = float(np.mean(more < 0) + np.mean(more == 0) / 2)
    return Comparison(difference, _interval(more / words), improvement)


def _resample(counts: Counts, replicates: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The sums of both numbers in each replicate that has a word, each (R,) int64."""
    # Sorted, so that the order of the utterances changes nothing; frequent pairs first, because a draw ends early then.
    pairs = sorted(counts, key=lambda pair: (-counts[pair], pair))
    numbers = np.array([counts[pair] for pair in pairs], np.int64)
    num_utterances = int(numbers.sum())
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(pairs))
    sums = np.concatenate(
        [
            generator.multinomial(num_utterances, numbers / num_utterances, size=min(rows, replicates - start))
            @ np.array(pairs, np.int64)
            for start in range(0, replicates, rows)
        ]
    )
    errors, words = sums[sums[:, 1] > 0].T
    return errors, words


def _interval(rates: np.ndarray) -> Interval:
    low, high = np.percentile(rates, _ENDS)
    return Interval(float(low), float(high))
