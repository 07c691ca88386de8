# SPDX-License-Identifier: Apache-2.0
"""Proves which files say when words were said, and that they replace those of an earlier run and no file of a user."""

from __future__ import annotations

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.file_list import Source, read_list
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.word_times import remove_word_times, writing_word_times
from wav2vec2_eval.speech.words import Word

HELLO = [Word("HELLO", 1.24, 1.6, 0.5), Word("WORLD", 1.8, 3.1, 1.0)]
OTHERS = {"files.tsv", ".wav2vec2_eval.lock", "wer.txt"}


def write(folder, spoken, publish=True):
    """The words of some keys, as in a run that scores: `wer.txt` is removed before they are published."""
    with output_folder(folder) as out, writing_word_times(out) as times:
        for key, found in spoken.items():
            times.add(key, f"my_clip_{key}", found)
        if publish:
            out.remove("wer.txt")
            times.publish()
            out.write_text("wer.txt", "")


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_the_words_of_all_utterances_stand_in_one_file_and_the_captions_of_each_in_its_own(tmp_path):
    write(tmp_path, {"0": HELLO, "b.1": [], "1": HELLO[:1]})
    assert (tmp_path / "words.ctm").read_text() == (
        "my_clip_0 A 1.240 0.360 HELLO 0.500\n"
        "my_clip_0 A 1.800 1.300 WORLD 1.000\n"
        "my_clip_1 A 1.240 0.360 HELLO 0.500\n"
    )
    assert (tmp_path / "0.srt").read_text() == "1\n00:00:01,240 --> 00:00:03,100\nHELLO WORLD\n\n"
    assert (tmp_path / "1.srt").read_text() == "1\n00:00:01,240 --> 00:00:01,600\nHELLO\n\n"
    assert (tmp_path / "b.1.srt").read_text() == ""
    assert names(tmp_path) == OTHERS | {"words.ctm", "0.srt", "1.srt", "b.1.srt"}
    source = Source(tmp_path)
    for name in source.list:
        source.read(name)


@pytest.mark.parametrize("spoken", [{}, {"0": []}])
def test_without_words_the_files_are_empty(tmp_path, spoken):
    write(tmp_path, spoken)
    assert names(tmp_path) == OTHERS | {"words.ctm", *(f"{key}.srt" for key in spoken)}
    assert (tmp_path / "words.ctm").read_bytes() == b""


def test_word_times_replace_those_of_an_earlier_run(tmp_path):
    write(tmp_path, {"0": HELLO, "1": HELLO, "old": HELLO})
    (tmp_path / "mine.srt").write_text("mine")
    write(tmp_path, {"1": HELLO[:1], "2": HELLO})
    assert names(tmp_path) == OTHERS | {"words.ctm", "1.srt", "2.srt", "mine.srt"}
    assert set(read_list(tmp_path)) == {"words.ctm", "1.srt", "2.srt", "wer.txt"}
    assert (tmp_path / "1.srt").read_text().endswith("HELLO\n\n")
    assert (tmp_path / "mine.srt").read_text() == "mine"
    Source(tmp_path).read("1.srt")


def test_word_times_can_be_removed(tmp_path):
    write(tmp_path, {"0": HELLO})
    (tmp_path / "mine.srt").write_text("mine")
    for _ in range(2):  # the second time there are none
        with output_folder(tmp_path) as out:
            remove_word_times(out)
        assert names(tmp_path) == OTHERS | {"mine.srt"}
        assert set(read_list(tmp_path)) == {"wer.txt"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".wav2vec2_eval.lock"}


def test_a_run_that_fails_leaves_the_earlier_word_times(tmp_path):
    write(tmp_path, {"0": HELLO, "1": HELLO})
    before = contents(tmp_path)
    with pytest.raises(AttributeError):
        write(tmp_path, {"0": [], "2": HELLO, "3": [None]})
    assert contents(tmp_path) == before
    write(tmp_path, {"0": []}, publish=False)
    assert contents(tmp_path) == before


FOREIGN = {
    "a file of the user for captions": lambda folder: (folder / "1.srt").write_text("mine"),
    "a file of the user for the words": lambda folder: replaced(folder, "words.ctm").write_text("mine"),
    "a link for earlier captions": lambda folder: replaced(folder, "0.srt", recorded=True).symlink_to("wer.txt"),
    "a folder for earlier captions": lambda folder: replaced(folder, "0.srt", recorded=True).mkdir(),
}


def replaced(folder, name, recorded=False):
    """The free place of a file, which the list of files may still have."""
    if recorded:
        (folder / name).unlink()
    else:
        with output_folder(folder) as out:
            out.remove(name)
    return folder / name


@pytest.mark.parametrize("what", FOREIGN)
def test_what_no_script_wrote_is_not_replaced(tmp_path, what):
    write(tmp_path, {"0": HELLO})
    FOREIGN[what](tmp_path)
    before = names(tmp_path)
    with pytest.raises(SuiteError, match=r"no script wrote this file|expected a regular file"):
        write(tmp_path, {"1": HELLO})
    assert names(tmp_path) == before
    assert (tmp_path / "wer.txt").exists()
