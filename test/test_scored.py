# SPDX-License-Identifier: Apache-2.0
"""Proves the lines of an utterance in the table and in the JSON lines, and that they are read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import scored
from wav2vec2_eval.files.file_list import Source
from wav2vec2_eval.files.scored import Transcript
from wav2vec2_eval.files.utterances import Utterance
from wav2vec2_eval.speech.ctc import Symbols
from wav2vec2_eval.speech.wer import WordErrors
from wav2vec2_eval.speech.words import Word

PAIRS = [
    (Utterance("0", "61-1-0", 40_000, "Colour, B"), "color B"),
    (Utterance("1", "a b", 16_000, None), "WHO KNOWS"),
    (Utterance("2", "c", 400, ""), "X"),
    (Utterance("3", "d", 400, ""), ""),
]
FIRST = ["key", "utterance_id", "wer", "substitutions", "deletions", "insertions", "words", "reference", "hypothesis"]


def items(normalize_text="none"):
    return list(scored.score([Transcript(*pair, pure_s=0.25) for pair in PAIRS], normalize_text))


def test_the_table_names_its_columns():
    assert scored.format_header() == "\t".join([*FIRST, "cer"]) + "\n"
    more = ["cer", "normalized_wer_basic", "normalized_cer_basic"]
    assert scored.format_header("basic") == "\t".join([*FIRST, *more]) + "\n"


def test_the_table_has_a_row_for_each_utterance():
    rows = [scored.format_row(item, "english")[:-1].split("\t") for item in items("english")]
    assert rows[0] == ["0", "61-1-0", "0.5", "1", "0", "0", "2", "Colour, B", "color B", str(3 / 9), "0.0", "0.0"]
    assert rows[1] == ["1", "a b", "", "", "", "", "", "", "WHO KNOWS", "", "", ""]
    assert rows[2] == ["2", "c", "inf", "0", "0", "1", "0", "", "X", "inf", "inf", "inf"]
    assert rows[3] == ["3", "d", "0.0", "0", "0", "0", "0", "", "", "0.0", "0.0", "0.0"]
    assert [len(scored.format_row(item).split("\t")) for item in items()] == [10] * 4


def test_the_json_begins_as_the_manifests_of_the_leaderboard():
    lines = [scored.format_json(item) for item in items()]
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert all(line.endswith("}\n") and line.count("\n") == 1 for line in lines)
    assert found[0] == {
        **{"audio_filepath": "61-1-0", "duration": 2.5, "time": 0.25, "text": "Colour, B", "pred_text": "color B"},
        **{"key": "0", "id": "61-1-0", "wer": 0.5, "cer": 3 / 9},
    }
    assert list(found[0])[:5] == ["audio_filepath", "duration", "time", "text", "pred_text"]
    assert [(each["text"], each["wer"], each["cer"]) for each in found[1:]] == [
        (None, None, None),
        ("", None, None),  # JSON has no infinity
        ("", 0, 0),
    ]


def test_times_that_are_not_known_are_left_out():
    (item,) = scored.score([Transcript(*PAIRS[0])])
    assert not {"time", "words"} & json.loads(scored.format_json(item)).keys()


def test_words_have_their_times():
    word = Word("COLOR", 0.1, 0.42, 0.9)
    (item,) = scored.score([Transcript(*PAIRS[1], words=[word])])
    assert json.loads(scored.format_json(item))["words"] == [
        {"text": "COLOR", "start_s": 0.1, "end_s": 0.42, "confidence": 0.9}
    ]


@pytest.mark.parametrize("word_times", [False, True])
def test_logits_become_a_transcript(word_times):
    symbols, ids = Symbols(("<pad>", "|", "A", "B")), [2, 2, 0, 1, 3]
    found = scored.transcribe(Utterance("0", "x", 2_000, "A"), np.eye(4)[ids] * 9, symbols, "here", word_times)
    assert found.text == "A B"
    times = [("A", 0.0, 0.04), ("B", 0.08, 0.1)] if word_times else None
    assert (None if found.words is None else [word[:3] for word in found.words]) == times
    with pytest.raises(SuiteError, match="here: expected finite logits"):
        scored.transcribe(found.utterance, np.full((5, 4), np.nan), symbols, "here", word_times)


def test_normalized_rates_are_named_after_their_normalizer():
    found = json.loads(scored.format_json(items("english")[0], "english"))
    assert (found["normalized_wer_english"], found["normalized_cer_english"], found["wer"]) == (0, 0, 0.5)
    assert json.loads(scored.format_json(items("english")[1], "english"))["normalized_wer_english"] is None


def read(folder, text, described=None):
    (folder / "utterance_scores.tsv").write_text(text, encoding="utf-8")
    if described is not None:
        (folder / "utterances.jsonl").write_text(described, encoding="utf-8")
    return list(scored.read_scored(Source(folder)))


@pytest.mark.parametrize("normalize_text", ["none", "basic"])
@pytest.mark.parametrize("has_lengths", [True, False])
def test_what_was_written_is_read_back(tmp_path, normalize_text, has_lengths):
    """Without utterances.jsonl, as in a folder of the first release, lengths and times are not known."""
    written = items(normalize_text)
    text = scored.format_header(normalize_text) + "".join(scored.format_row(each, normalize_text) for each in written)
    described = "".join(scored.format_json(each, normalize_text) for each in written)
    assert read(tmp_path, text, described if has_lengths else None) == [
        scored.Row(
            utterance.key,
            utterance.utterance_id,
            utterance.text or "",
            hypothesis,
            None if each.raw is None else each.raw.words,
            utterance.num_samples if has_lengths else None,
            0.25 if has_lengths else None,
        )
        for (utterance, hypothesis), each in zip(PAIRS, written)
    ]


def test_a_table_of_an_older_version_is_read_too(tmp_path):
    (row,) = read(tmp_path, "\t".join(FIRST) + "\n0\tx\t0.5\t1\t0\t0\t2\tA B\tA X\n")
    assert (row.errors, row.reference, row.hypothesis) == (WordErrors(1, 0, 0, 2), "A B", "A X")


@pytest.mark.parametrize("text", ["", "header\n0\tx\n", "a\tb\n"])
def test_another_table_is_refused(tmp_path, text):
    with pytest.raises(SuiteError, match="expected the columns key, utterance_id, "):
        read(tmp_path, text)


ROW = "0\tx\t0\t0\t0\t0\t1\tA\tA"
JSON_LINE = '{"id": "x", "duration": 1.0, "time": 0.5}'


@pytest.mark.parametrize(
    ("row", "described"),
    [
        ("0", None),
        ("", None),
        ("0\tx\t1\t1\t1", None),
        ("0\tx\t1\t1\t\t0\t1\tA\tB", None),
        ("0\tx\t1\t1\tx\t0\t1\tA\tB", None),
        ("0\tx\t1\t-1\t0\t0\t1\tA\tB", None),
        (f"0\tx\t1\t{10**20}\t0\t0\t1\tA\tB", None),
        (ROW, JSON_LINE.replace("1.0", "1e300")),
        (ROW, "not JSON"),
        (ROW, ""),
        (ROW, JSON_LINE.replace("x", "y")),
        (ROW, JSON_LINE.replace("1.0", "null")),
        (ROW, JSON_LINE.replace("0.5", '"fast"')),
        (ROW, JSON_LINE.replace("1.0", "-1")),
        (ROW, JSON_LINE.replace("1.0", "NaN")),
        (ROW, JSON_LINE.replace("0.5", "Infinity")),
        (ROW, "[" * 100_000),
        (ROW, f"{JSON_LINE}\n{JSON_LINE}"),
    ],
)
def test_damaged_rows_are_refused(tmp_path, row, described):
    with pytest.raises(SuiteError, match=r"expected what the scoring writes|expected as many utterances as"):
        read(tmp_path, scored.format_header() + row + "\n", described)
