# SPDX-License-Identifier: Apache-2.0
"""Proves that confidence intervals cover the true WER as often as they say, and equal plain resampling."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from wav2vec2_eval.speech import bootstrap
from wav2vec2_eval.speech.bootstrap import Interval, compare, wer_interval


def draw(generator, count):
    """Errors and words of utterances of a system whose WER is 10 %, with good and bad speakers."""
    words = generator.choice((2, 6, 12, 25), count)
    rates = np.where(generator.random(count) < 0.5, 0.02, 0.18)
    return np.stack([generator.binomial(words, rates), words], axis=1)


def counted(pairs):
    return Counter(map(tuple, np.asarray(pairs).tolist()))


def resampled(pairs, replicates, seed):
    """The same by drawing utterances one by one: the WER of each replicate."""
    generator = np.random.default_rng(seed)
    pairs = np.asarray(pairs)
    sums = np.array([pairs[generator.integers(0, len(pairs), len(pairs))].sum(axis=0) for _ in range(replicates)])
    return sums[:, 0] / sums[:, 1]


def test_the_interval_covers_the_true_wer_in_95_percent_of_many_sets():
    generator = np.random.default_rng(14)
    sets, covered = 800, 0
    for _ in range(sets):
        low, high = wer_interval(counted(draw(generator, 150)), replicates=500)
        covered += low <= 0.1 <= high
    assert 0.93 <= covered / sets <= 0.97


def test_the_paired_interval_covers_the_true_difference():
    """Both systems make the same errors, and the first one some more: 1 % of the words."""
    generator = np.random.default_rng(15)
    sets, covered = 800, 0
    for _ in range(sets):
        words = generator.choice((2, 6, 12, 25), 150)
        more = generator.binomial(words, 0.03) - generator.binomial(words, 0.02)
        found = compare(counted(np.stack([more, words], axis=1)), replicates=500)
        covered += found.interval.low <= 0.01 <= found.interval.high
    assert 0.93 <= covered / sets <= 0.97


@pytest.mark.parametrize("count", [5, 60, 400])
def test_the_interval_is_that_of_plain_resampling(count):
    pairs = draw(np.random.default_rng(count), count)
    low, high = np.percentile(resampled(pairs, 4_000, 1), (2.5, 97.5))
    spread = high - low
    assert wer_interval(counted(pairs)) == pytest.approx((low, high), abs=0.06 * spread)


def test_few_utterances_have_the_interval_of_all_possible_replicates():
    pairs = [(0, 4), (1, 2), (3, 3)]
    every = [np.sum(chosen, axis=0) for chosen in itertools.product(pairs, repeat=3)]
    low, high = np.percentile(np.repeat([errors / words for errors, words in every], 1_000), (2.5, 97.5))
    assert wer_interval(counted(pairs)) == pytest.approx((low, high))


def test_neither_order_nor_memory_changes_the_interval(monkeypatch):
    pairs = draw(np.random.default_rng(3), 300)
    known = wer_interval(counted(pairs))
    assert wer_interval(counted(pairs[::-1])) == known == wer_interval(counted(pairs))
    monkeypatch.setattr(bootstrap, "_BLOCK", 1_000)
    assert wer_interval(counted(pairs)) == known
    assert wer_interval(counted(pairs), seed=1) != known


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, None),
        ({(1, 4): 1}, None),  # nobody knows the spread of a single one
        ({(1, 4): 2}, Interval(0.25, 0.25)),
        ({(0, 4): 9}, Interval(0, 0)),
        ({(0, 0): 1, (1, 4): 1}, Interval(0.25, 0.25)),  # a replicate without a word has no WER
        ({(2, 0): 1, (1, 4): 1}, Interval(0.25, 0.75)),  # words where there are none are errors
        ({(9, 3): 5}, Interval(3, 3)),
    ],
)
def test_small_sets_have_a_defined_interval(counts, expected):
    assert wer_interval(counts) == expected


def test_a_long_set_has_an_interval_in_bounded_memory():
    counts = {(errors, words): 1 + 10 * words for words in range(1, 60) for errors in range(min(words, 12))}
    assert sum(counts.values()) > 150_000
    low, high = wer_interval(counts)
    wer = sum(errors * count for (errors, _), count in counts.items())
    wer /= sum(words * count for (_, words), count in counts.items())
    assert low < wer < high < low + 0.005


def test_a_system_compared_with_itself_is_no_improvement():
    pairs = draw(np.random.default_rng(0), 50)
    same = np.stack([np.zeros(50, int), pairs[:, 1]], axis=1)
    assert compare(counted(same)) == (0, Interval(0, 0), 0.5)
    assert compare({(0, 3): 1}) is None


@pytest.mark.parametrize(("sign", "improvement"), [(-1, 1), (1, 0)])
def test_fewer_errors_in_every_utterance_are_an_improvement(sign, improvement):
    found = compare({(sign, 10): 20, (2 * sign, 30): 5})
    assert found.difference == sign * 30 / 350
    assert found.improvement == improvement
    assert found.interval.low <= found.difference <= found.interval.high


def test_both_systems_share_the_probability_of_improvement():
    counts = {(-1, 10): 6, (1, 12): 5, (0, 8): 40}
    turned = {(-more, words): count for (more, words), count in counts.items()}
    found, other = compare(counts), compare(turned)
    assert 0.5 < found.improvement < 0.9
    assert found.improvement + other.improvement == pytest.approx(1, abs=0.02)
    assert found.interval == pytest.approx((-other.interval.high, -other.interval.low), abs=0.002)
