# SPDX-License-Identifier: Apache-2.0
"""Proves that a LibriSpeech tree is read in the order of its ids, and that an inconsistent tree is refused."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.choose import open_dataset

from conftest import ORDER, SPEECH, make_tree, noise, write_utterance


def test_a_tree_is_ordered_by_numbers(speech):
    dataset = open_dataset("clean", str(speech))
    assert dataset.ids == ORDER
    assert dataset.texts == [SPEECH[utterance_id][1] for utterance_id in ORDER]
    for index, utterance_id in enumerate(ORDER):
        waveform = dataset.waveform(index)
        assert (waveform.dtype, waveform.shape) == (np.float32, (SPEECH[utterance_id][0],))


def test_the_folder_around_the_tree_is_accepted(tmp_path):
    make_tree(tmp_path / "LibriSpeech")
    assert open_dataset("clean", str(tmp_path)).ids == ORDER


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_a_limit_cuts_the_tree(speech, limit):
    dataset = open_dataset("clean", str(speech), limit)
    assert (dataset.ids, len(dataset), len(dataset.texts)) == (ORDER[:limit], len(ORDER[:limit]), len(ORDER[:limit]))


def test_a_tree_can_be_sent_to_worker_processes(speech):
    dataset = open_dataset("clean", str(speech))
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.waveform(2).tobytes() == dataset.waveform(2).tobytes()


def test_samples_are_those_of_the_file(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768] * 100, np.int16)
    write_utterance(tmp_path / "test-clean", "1-2-3", samples, "A")
    waveform = open_dataset("clean", str(tmp_path)).waveform(0)
    assert np.array_equal(waveform, samples / np.float32(32768))


def test_links_are_followed(speech, tmp_path):
    for name in ("61", "121"):
        (tmp_path / "test-clean").mkdir(exist_ok=True)
        (tmp_path / "test-clean" / name).symlink_to(speech / "test-clean" / name)
    assert open_dataset("clean", str(tmp_path)).ids == ORDER


def test_broken_audio_is_refused_with_its_path(tmp_path):
    path = write_utterance(tmp_path / "test-clean", "1-2-3", noise(400), "A")
    path.write_bytes(b"")
    with pytest.raises(SuiteError, match=f"{path}: cannot be decoded"):
        open_dataset("clean", str(tmp_path)).waveform(0)


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(SuiteError, match="expected a LibriSpeech folder, found none"):
        open_dataset("clean", str(tmp_path / "none"))
    with pytest.raises(SuiteError, match="expected a folder test-other"):
        open_dataset("other", str(tmp_path))
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(SuiteError, match="found no audio"):
        open_dataset("validation", str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "1-2.trans.txt").unlink(), "2 of 2 utterances lack a transcript, first 1-2-3"),
        (lambda f: (f / "1-2.trans.txt").write_text("1-2-4 B"), "1 of 2 utterances lack a transcript, first 1-2-3"),
        (lambda f: (f / "1-2-3.flac").unlink(), "1 of 2 utterances lack an audio file, first 1-2-3"),
        (lambda f: (f / "1-2.trans.txt").write_text("1-2-3 A\n1-2-3 B\n"), "a second transcript of 1-2-3"),
        (lambda f: (f / "1-2.trans.txt").write_bytes(b"1-2-3 \xff"), "UTF-8"),
        (lambda f: (f / "1-2.trans.txt").write_text("first A\n1-2-4 B"), "first: expected an id"),
        (lambda f: shutil.copytree(f, f.parent / "3"), "1-2-[34] is there twice"),
    ],
)
def test_inconsistent_trees_are_refused(tmp_path, change, message):
    for utterance_id in ("1-2-3", "1-2-4"):
        write_utterance(tmp_path / "test-clean", utterance_id, noise(400), "A")
    change(tmp_path / "test-clean/1/2")
    with pytest.raises(SuiteError, match=message):
        open_dataset("clean", str(tmp_path))
