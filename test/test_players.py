# SPDX-License-Identifier: Apache-2.0
"""Proves which recordings of the worst utterances can be played, and that they are those recordings."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.report import players

from conftest import ORDER, SPEECH

RUN = Run("pyacl_infer.py", data=Run(which_dataset="clean"))


def worst_of(*ids, seconds=1.0):
    return {"worst": [{"id": each, "seconds": seconds} for each in ids]}


def test_the_worst_of_each_column_come_in_turn(speech):
    columns = [worst_of(ORDER[0], ORDER[1]), {}, worst_of(ORDER[2], ORDER[0])]
    found = players.read_players(str(speech), RUN, columns)
    assert list(found) == [ORDER[0], ORDER[2], ORDER[1]]
    for name, flac in found.items():
        samples, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
        speaker, chapter, _ = name.split("-")
        expected, _ = soundfile.read(speech / "test-clean" / speaker / chapter / f"{name}.flac", dtype="float32")
        assert (rate, len(samples)) == (16_000, SPEECH[name][0])
        assert np.array_equal(samples, expected)


def test_no_more_are_read_than_a_page_may_have(speech, monkeypatch):
    monkeypatch.setattr(players, "MOST_PLAYERS", 2)
    assert list(players.read_players(str(speech), RUN, [worst_of(*ORDER)])) == ORDER[:2]


def test_a_long_recording_is_not_played(speech):
    assert players.read_players(str(speech), RUN, [worst_of(ORDER[0], seconds=61.0)]) == {}


def test_nothing_is_wrong(speech):
    assert players.read_players(str(speech), RUN, [{}]) == {}


@pytest.mark.parametrize(
    ("run", "name", "message"),
    [
        (RUN, "1-2-3", "expected the data set of the results, but utterance 1-2-3 is not in it"),
        (Run("x.py"), ORDER[0], "the results do not say of which data set they are"),
        (Run("x.py", data=Run(which_dataset="other")), ORDER[0], "expected a folder test-other"),
    ],
)
def test_another_data_set_is_refused(speech, run, name, message):
    with pytest.raises(SuiteError, match=message):
        players.read_players(str(speech), run, [worst_of(name)])


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(SuiteError, match="expected a LibriSpeech folder, found none"):
        players.read_players(str(tmp_path / "none"), RUN, [worst_of(ORDER[0])])
