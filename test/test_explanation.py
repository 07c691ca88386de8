# SPDX-License-Identifier: Apache-2.0
"""Proves which lines explain a bad WER: letters in another case, and characters that the model cannot write."""

from __future__ import annotations

import pytest

from wav2vec2_eval.speech import explanation, wer
from wav2vec2_eval.speech.ctc import Symbols

UPPER = Symbols(("<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"))
LOWER = UPPER._replace(table=tuple(symbol if len(symbol) > 1 else symbol.lower() for symbol in UPPER.table))
CASE = "WER would be {} instead of {} if case were ignored; see --normalize_text"
LACKING = "the references have {} that the model cannot write: {}  (in {} utterances)"


def lines(pairs, symbols=UPPER, normalized=False):
    found = explanation.Explanation(symbols)
    errors = wer.word_errors(*zip(*pairs))
    for pair, each in zip(pairs, errors):
        found.add(*pair, each)
    return list(found.lines(wer.total(errors), normalized))


@pytest.mark.parametrize(
    ("pairs", "symbols", "expected"),
    [
        ([("HELLO WORLD", "HELLO WORD")], UPPER, []),
        ([("HELLO WORLD", "hello world")], LOWER, [CASE.format("0.0000", "1.0000")]),
        ([("HELLO WORLD", "hello word"), ("YES", "yes")], LOWER, [CASE.format("0.3333", "1.0000")]),
        # "so So" for "So so": an alignment of its own.
        ([("So so", "so So"), ("A B", "A B")], None, [CASE.format("0.0000", "0.5000")]),
        (
            [("That man painted the floor.", "THAT MAN PAINTED THE FLOOR"), ("YES", "YES")],
            UPPER,
            [CASE.format("0.1667", "0.8333"), LACKING.format("1 character", ".", "1 of 2")],
        ),
        (
            [("A, B.", "A B"), ("C, D? -", "C D"), ("E", "E")],
            UPPER,
            [LACKING.format("4 characters", ", - . ?", "2 of 3")],
        ),
        ([("CAFÉ", "CAFE")], UPPER, [LACKING.format("1 character", "É", "1 of 1")]),
        ([("E\u0301 \u200b", "E")], UPPER, [LACKING.format("2 characters", "U+0301 U+200B", "1 of 1")]),
        # The s of <s> is no letter, and neither is the p of <pad>.
        ([("SP", "SP")], Symbols(("<pad>", "<s>", "|", "A")), [LACKING.format("2 characters", "P S", "1 of 1")]),
        ([("A|B", "A B")], UPPER, [LACKING.format("1 character", "|", "1 of 1")]),
        ([("a", "a")], UPPER._replace(lower_case=True), []),
        ([("A.", "A")], None, []),
        ([("ß", "SS"), ("A", "A")], UPPER, [CASE.format("0.0000", "0.5000")]),
    ],
)
def test_a_bad_figure_is_explained(pairs, symbols, expected):
    assert lines(pairs, symbols) == expected


def test_who_has_chosen_a_normalizer_gets_no_advice():
    assert lines([("A", "a")], normalized=True) == [CASE.format("0.0000", "1.0000").partition(";")[0]]


def test_many_characters_are_cut_short():
    (line,) = lines([("".join(map(chr, range(0x4E00, 0x4E64))), "A")])
    assert line.startswith("the references have 100 characters that the model cannot write: 一 丁")
    assert line.endswith(" …  (in 1 of 1 utterances)") and len(line) < 150


@pytest.mark.parametrize(
    "pair", [("HELLO WORLD", "HELLO WORD"), ("a b", "a c"), ("A b", "A b"), ("你好", "你"), ("A", "")]
)
def test_nothing_is_aligned_again_where_case_changes_nothing(pair, monkeypatch):
    monkeypatch.setattr(explanation, "word_errors", None)
    assert lines([pair], symbols=None) == []
