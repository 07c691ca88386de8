# SPDX-License-Identifier: Apache-2.0
"""Proves that word errors are counted as jiwer counts them, and summed over a set."""

from __future__ import annotations

import random

import jiwer
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech import wer
from wav2vec2_eval.speech.wer import WordErrors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("A B C", "A B C", WordErrors(0, 0, 0, 3)),
        ("A B C", "A X C", WordErrors(1, 0, 0, 3)),
        ("A B C", "A C", WordErrors(0, 1, 0, 3)),
        ("A B", "A X B Y", WordErrors(0, 0, 2, 2)),
        ("A B C", "", WordErrors(0, 3, 0, 3)),
        ("A  B ", " A B", WordErrors(0, 0, 0, 2)),
    ],
)
def test_word_errors_are_counted_by_kind(reference, hypothesis, expected):
    assert wer.word_errors([reference], [hypothesis]) == [expected]


def test_the_total_equals_that_of_jiwer():
    generator = random.Random(0)
    words = ["A", "B", "C", "D"]
    references = [" ".join(generator.choices(words, k=generator.randint(1, 9))) for _ in range(200)]
    hypotheses = [" ".join(generator.choices(words, k=generator.randint(0, 9))) for _ in references]
    score = wer.total(wer.word_errors(references, hypotheses))
    expected = jiwer.process_words(references, hypotheses)
    num_words = sum(len(reference.split()) for reference in references)
    assert score == (expected.substitutions, expected.deletions, expected.insertions, num_words)
    assert score.wer == pytest.approx(expected.wer, rel=1e-12)


def test_an_empty_reference_among_others_has_an_infinite_wer():
    scores = wer.word_errors(["", "A B"], ["X", "A B"])
    assert scores[0].wer == float("inf")
    assert wer.total(scores).wer == 0.5


@pytest.mark.parametrize("references", [[], [""], [" "]])
def test_nothing_to_score_is_refused(references):
    with pytest.raises(SuiteError, match="found none"):
        wer.total(wer.word_errors(references, references))


def test_lists_of_unequal_lengths_are_refused():
    with pytest.raises(ValueError):
        wer.word_errors(["A", "B"], ["A"])


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("A B C", "A X C", [("equal", "A", "A"), ("substitute", "B", "X"), ("equal", "C", "C")]),
        ("A B C", "A C", [("equal", "A", "A"), ("delete", "B", ""), ("equal", "C", "C")]),
        ("A B", "A B Y Z", [("equal", "A B", "A B"), ("insert", "", "Y Z")]),
        ("A B C", "", [("delete", "A B C", "")]),
        ("", "A B", [("insert", "", "A B")]),
        ("A", " A", [("equal", "A", "A")]),
    ],
)
def test_edits_turn_the_reference_into_the_hypothesis(reference, hypothesis, expected):
    (edits,) = wer.align_words([reference], [hypothesis])
    assert [(edit.kind, " ".join(edit.reference), " ".join(edit.hypothesis)) for edit in edits] == expected
    assert sum(edit.errors for edit in edits) == wer.word_errors([reference], [hypothesis])[0].errors


def test_the_worst_have_the_highest_wer_and_then_the_most_errors():
    errors = {
        "right": WordErrors(0, 0, 0, 5),
        "long": WordErrors(2, 0, 0, 4),
        "short": WordErrors(1, 0, 0, 2),
        "later": WordErrors(1, 0, 0, 2),
        "wrong": WordErrors(0, 1, 0, 1),
    }
    for count, expected in ((10, ["wrong", "long", "short", "later"]), (1, ["wrong"]), (3, ["wrong", "long", "short"])):
        worst = wer.Worst(count)
        for key, each in errors.items():
            worst.add(each.wer, each.errors, key)
        assert worst.items() == expected
