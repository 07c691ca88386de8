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
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.recording_table import Columns

from conftest import ORDER, SPEECH

RUN = Run("pyacl_infer.py", data=Run(which_dataset="clean"))


def worst_of(*ids, seconds=None):
    """Those of the tree have their own lengths."""
    lengths = {each: SPEECH[each][0] / 16_000 if each in SPEECH else 1.0 for each in ids}
    return {"worst": [{"id": each, "seconds": seconds or lengths[each]} for each in ids]}


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


def test_other_recordings_under_the_same_ids_are_refused(speech):
    with pytest.raises(SuiteError, match=r"expected 2 s of speech in utterance 61-123-0000, .* found 2\.08506 s"):
        players.read_players(str(speech), RUN, [worst_of(ORDER[0], seconds=2.0)])


def test_a_custom_table_has_columns(speech, tmp_path):
    path = next(speech.glob("test-clean/61/123/*.flac"))
    table = tmp_path / "t.csv"
    table.write_text(f"sound,said\n{path},A\n")
    run = Run("x.py", data=Run(which_dataset="custom"))
    (name,) = open_dataset("custom", str(table), columns=Columns("sound", "said")).ids
    seconds = SPEECH[ORDER[0]][0] / 16_000
    found = players.read_players(str(table), run, [worst_of(name, seconds=seconds)], Columns("sound", "said"))
    assert list(found) == [name]
    with pytest.raises(SuiteError, match="see --audio_column"):
        players.read_players(str(table), run, [worst_of(name, seconds=seconds)])
