# SPDX-License-Identifier: Apache-2.0
"""Proves that the figures of a set are totals, as jiwer and whisper_normalizer count them."""

from __future__ import annotations

import random

import jiwer
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.scored import Transcript, score
from wav2vec2_eval.files.utterances import Utterance
from wav2vec2_eval.speech.totals import Totals

WORDS = ("uh", "colour", "color", "it's", "It is", "Twenty", "20", "floor.", "FLOOR", "a", "won't")


def totals(pairs, normalize_text="none"):
    found = Totals(normalize_text)
    numbered = enumerate(pairs)
    transcripts = (Transcript(Utterance(str(key), "x", 400, text), hypothesis) for key, (text, hypothesis) in numbered)
    for item in score(transcripts, normalize_text):
        found.add(item.raw, item.normalized)
    return found


def random_pairs(count):
    generator = random.Random(5)
    texts = [[" ".join(generator.choices(WORDS, k=generator.randint(0, 6))) for _ in range(count)] for _ in range(2)]
    return list(zip(*texts))


def test_the_figures_are_those_of_jiwer():
    pairs = random_pairs(700)
    found = totals(pairs)
    words, characters = jiwer.process_words(*map(list, zip(*pairs))), jiwer.process_characters(*map(list, zip(*pairs)))
    figures = found.more()
    assert found.words.wer == pytest.approx(words.wer, rel=1e-12)
    assert figures["CER"] == pytest.approx(characters.cer, rel=1e-12)
    assert figures["character errors"] == characters.substitutions + characters.deletions + characters.insertions
    assert figures["characters"] == sum(len(reference) for reference, _ in pairs)
    assert figures["WER 95% low"] < found.words.wer < figures["WER 95% high"]
    assert (figures["scored utterances"], figures["unscored utterances"]) == (700, 0)
    assert not [label for label in figures if label.startswith("normalized")]


def test_normalized_figures_are_those_of_the_normalized_texts():
    pairs, normalize = random_pairs(700), EnglishTextNormalizer()
    found = totals(pairs, "english")
    normalized = [(normalize(reference), normalize(hypothesis)) for reference, hypothesis in pairs]
    assert any(reference and not other for (reference, _), (other, _) in zip(pairs, normalized)), "a poor test"
    words = jiwer.process_words(*map(list, zip(*normalized)))
    figures = found.more()
    assert figures["normalized WER (english)"] == pytest.approx(words.wer, rel=1e-12) != found.words.wer
    assert figures["normalized CER (english)"] == pytest.approx(
        jiwer.process_characters(*map(list, zip(*normalized))).cer, rel=1e-12
    )
    assert found.words == totals(pairs).words  # the raw figures stay


def test_utterances_without_a_reference_never_enter_a_sum():
    pairs = random_pairs(60)
    mixed = [each for pair in pairs for each in (pair, (None, "a hypothesis of many words"))]
    found, expected = totals(mixed, "english"), totals(pairs, "english")
    assert found.words == expected.words
    assert found.more() == {**expected.more(), "unscored utterances": 60}


@pytest.mark.parametrize("hypothesis", ["", "uh", "a word"])
def test_references_of_which_a_normalizer_leaves_nothing_have_no_normalized_figures(hypothesis):
    figures = totals([("uh", hypothesis), ("Uh.", "uh")], "english").more()
    assert not [label for label in figures if label.startswith("normalized")]
    assert figures["CER"] >= 0


def test_words_where_normalisation_leaves_none_are_insertions():
    figures = totals([("uh", "well then"), ("a b c d", "a b c d")], "english").more()
    assert figures["normalized WER (english)"] == 0.5
    assert figures["normalized words (english)"] == 4


def test_a_single_utterance_has_no_interval():
    assert not [label for label in totals([("A B", "A")]).more() if "95%" in label]


@pytest.mark.parametrize("pairs", [[], [("", "A")], [(None, "A")], [("", ""), (None, "A")]])
def test_nothing_to_score_is_refused(pairs):
    with pytest.raises(SuiteError, match="found none"):
        totals(pairs).more()
