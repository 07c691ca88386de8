# SPDX-License-Identifier: Apache-2.0
"""Proves that transcripts for sclite hold text and ids that sclite cannot take for something else."""

from __future__ import annotations

import pytest

from wav2vec2_eval.files.trn import UtteranceIds, format_trn
from wav2vec2_eval.files.utterances import Utterance


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("HELLO WORLD", "HELLO WORLD (61-1-0)\n"),
        ("", "(61-1-0)\n"),
        ("AND/OR it's <b> -", "AND/OR it's <b> - (61-1-0)\n"),
        ("{ a / b } @", "\uff5b a / b \uff5d \uff20 (61-1-0)\n"),
        ("(uh) a;b ;; \\", "\uff08uh\uff09 a\uff1bb \uff1b\uff1b \uff3c (61-1-0)\n"),
        ("你好 É", "你好 É (61-1-0)\n"),
    ],
)
def test_a_line_has_the_words_and_the_id(text, line):
    assert format_trn(text, "61-1-0") == line


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["61-1-0", "61-1-1"], ["61-1-0", "61-1-1"]),
        (["a b", "c(2).wav"], ["a_b", "c_2_.wav"]),
        (["a b", "a_b", "a(b", "c"], ["a_b", "a_b_1", "a_b_2", "c"]),
        (["x", "x", "x_1"], ["x", "x_1", "x_1_2"]),  # ids of another tool
        (["", "\u00a0"], ["0", "_"]),
    ],
)
def test_each_utterance_has_an_id_of_its_own(ids, expected):
    make_id = UtteranceIds()
    assert [make_id(Utterance(str(key), each, 400, "A")) for key, each in enumerate(ids)] == expected
