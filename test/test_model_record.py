# SPDX-License-Identifier: Apache-2.0
"""Proves that a model's record is read as it was written, that others are refused, and that two must agree."""

from __future__ import annotations

import json

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.model_record import ModelRecord, agreed, format_record, parse_record
from wav2vec2_eval.speech.ctc import Symbols
from wav2vec2_eval.speech.feature_extractor import FeatureExtractor

RECORD = ModelRecord("a/b", FeatureExtractor(), Symbols(("<pad>", "|", "E", "T")))


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        ModelRecord("", FeatureExtractor(False, 1.5), Symbols(("你", "\u2028", "x"), "x", None, "", True, True)),
    ],
)
def test_a_record_is_read_as_it_was_written(record):
    assert parse_record(format_record(record), "here") == record


OTHERS: list[object] = [None, 1, [], {}]


def changed(part: str | None, **fields: object) -> str:
    content = json.loads(format_record(RECORD))
    (content[part] if part else content).update(fields)
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", "[" * 200_000, '"\\ud800"', "1" * 5_000),
        *(changed(None, **{name: value}) for name in json.loads(format_record(RECORD)) for value in OTHERS),
        changed("symbols", table=["<pad>", 1]),
        changed("symbols", table=[]),
        changed("symbols", table=5),
        changed("symbols", blank="x"),
        changed("symbols", blank=None),
        changed("symbols", word_delimiter=1),
        changed("symbols", lower_case=1),
        changed("symbols", phonemes=1),
        changed("symbols", new=1),
        changed("feature_extractor", padding_value="0"),
        changed("feature_extractor", padding_value=float("inf")),
        changed("feature_extractor", padding_value=True),
        changed("feature_extractor", padding_value=10**400),
        changed("feature_extractor", do_normalize=0),
        changed("feature_extractor", new=1),
    ],
    ids=lambda text: text[:60],
)
def test_anything_else_is_refused(text):
    with pytest.raises(SuiteError, match="here: expected what this suite knows of a model"):
        parse_record(text, "here")


@pytest.mark.parametrize(
    ("found", "expected"),
    [({}, None), ({"a": None}, None), ({"a": RECORD, "b": None}, RECORD), ({"a": None, "b": RECORD}, RECORD)],
)
def test_the_record_that_is_known_counts(found, expected):
    assert agreed(found) == expected


def test_one_model_may_have_several_names():
    assert agreed({"a": RECORD, "b": RECORD._replace(name="/data/b")}) == RECORD


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            RECORD._replace(symbols=Symbols(("<pad>", "|", "T", "E"))),
            r"the symbols of a/b has table = 4 symbols, number 2 is 'E', that of c table = 4 symbols, number 2 is 'T'",
        ),
        (RECORD._replace(symbols=Symbols(("<pad>", "|", "E"))), "3 symbols, number 3 is None"),
        (RECORD._replace(symbols=RECORD.symbols._replace(lower_case=True)), "lower_case = True"),
        (RECORD._replace(extractor=FeatureExtractor(False)), "feature extractor of a/b has do_normalize = True, that"),
    ],
)
def test_records_that_differ_are_shown(other, message):
    with pytest.raises(SuiteError, match=f"data and model are not of one model: .*{message}"):
        agreed({"data": RECORD, "nothing": None, "model": other._replace(name="c")})


def test_only_the_record_of_a_phoneme_model_differs_from_those_of_older_versions():
    """Older versions refuse keys that they do not know."""
    assert "phonemes" not in format_record(RECORD)
    phonemes = RECORD._replace(symbols=RECORD.symbols._replace(phonemes=True))
    assert parse_record(format_record(phonemes), "here") == phonemes != RECORD
    with pytest.raises(SuiteError, match=r"has phonemes = False, that of .* phonemes = True"):
        agreed({"a": RECORD, "b": phonemes})
