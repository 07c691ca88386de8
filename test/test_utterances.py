# SPDX-License-Identifier: Apache-2.0
"""Proves that utterances.tsv is read as it was written, and that anything else is refused."""

from __future__ import annotations

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import utterances
from wav2vec2_eval.files.utterances import Utterance


def test_utterances_are_read_as_they_were_written(tmp_path):
    known = [
        Utterance("0", "61-70968-0000", 78_480, "HE BEGAN"),
        Utterance("1", "x", 400, ""),
        Utterance("2", "clip.wav", 400, None),  # not scored
    ]
    path = tmp_path / "utterances.tsv"
    path.write_text("".join(map(utterances.format_utterance, known)))
    assert list(dict(utterances.read_utterances(path)).values()) == known


def test_the_text_of_an_utterance_stays_on_one_line():
    text = utterances.format_utterance(utterances.new_utterance("0", "x", 400, "TWO\tWORDS\nMORE  BLANKS\u2028LINES"))
    assert text == "0\tx\t400\tTWO WORDS MORE BLANKS LINES\n"


@pytest.mark.parametrize(
    "line",
    [
        *("0\tx\t400", "0\tx\tmany\tA", "0\tx\t400\tA\tB", "0\tx\t400\tA\tno reference", "0\tx\t400\t\t"),
        *("../0\tx\t400\tA", "a\tx\t1\tA\na\tx\t1\tA"),
    ],
)
def test_read_utterances_refuses(tmp_path, line):
    path = tmp_path / "utterances.tsv"
    path.write_text(f"{line}\n")
    with pytest.raises(SuiteError):
        utterances.read_utterances(path).check()
