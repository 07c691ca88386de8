# SPDX-License-Identifier: Apache-2.0
"""Proves that a LibriSpeech tree is read in the order of its ids, and that an inconsistent tree is refused."""

from __future__ import annotations

import os
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
import soundfile

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.choose import open_dataset

from conftest import ORDER, SPEECH, make_tree, noise, write_utterance


def test_a_tree_is_ordered_by_numbers(speech):
    dataset = open_dataset("clean", str(speech))
    assert list(dataset.ids) == ORDER
    assert list(dataset.texts) == [SPEECH[utterance_id][1] for utterance_id in ORDER]
    for index, utterance_id in enumerate(ORDER):
        waveform = dataset.waveform(index)
        assert (waveform.dtype, waveform.shape) == (np.float32, (SPEECH[utterance_id][0],))


def test_the_folder_around_the_tree_is_accepted(tmp_path):
    make_tree(tmp_path / "LibriSpeech")
    assert list(open_dataset("clean", str(tmp_path)).ids) == ORDER


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_a_limit_cuts_the_tree(speech, limit):
    dataset = open_dataset("clean", str(speech), limit)
    assert list(dataset.ids) == ORDER[:limit]
    assert list(dataset.texts) == [SPEECH[utterance_id][1] for utterance_id in ORDER[:limit]]
    assert len(dataset) == len(ORDER[:limit])


def test_a_tree_can_be_sent_to_worker_processes(speech):
    dataset = open_dataset("clean", str(speech))
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.waveform(2).tobytes() == dataset.waveform(2).tobytes()
    assert (list(copy.ids), list(copy.texts)) == (list(dataset.ids), list(dataset.texts))


def test_samples_are_those_of_the_file(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768] * 100, np.int16)
    write_utterance(tmp_path / "test-clean", "1-2-3", samples, "A")
    waveform = open_dataset("clean", str(tmp_path)).waveform(0)
    assert np.array_equal(waveform, samples / np.float32(32768))


def test_links_are_followed(speech, tmp_path):
    for name in ("61", "121"):
        (tmp_path / "test-clean").mkdir(exist_ok=True)
        (tmp_path / "test-clean" / name).symlink_to(speech / "test-clean" / name)
    assert list(open_dataset("clean", str(tmp_path)).ids) == ORDER


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


def rewrite(content):
    return lambda folder: (folder / "1-2.trans.txt").write_bytes(content)


def replaced(name, make):
    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "1-2.trans.txt").unlink(), "2 of 2 utterances lack a transcript, first 1-2-3"),
        (rewrite(b"1-2-4 B"), "1 of 2 utterances lack a transcript, first 1-2-3"),
        (lambda f: (f / "1-2-3.flac").unlink(), "1 of 2 utterances lack an audio file, first 1-2-3"),
        (lambda f: (f / "1-2-3.flac").rename(f / "1-2-03.flac"), "1 of 2 utterances lack a transcript, first 1-2-03"),
        (rewrite(b"1-2-3 A\n1-2-3 B\n"), "the transcript of 1-2-3 is there twice"),
        (lambda f: shutil.copy(f / "1-2.trans.txt", f.parent), "the transcript of 1-2-[34] is there twice"),
        (rewrite(b"1-2-3 \xff"), "1-2.trans.txt: expected UTF-8"),
        (rewrite(b"1-2-3 A\xff\n1-2-4 B\n"), "1-2.trans.txt: expected UTF-8"),
        (rewrite(b"1-2-3 A\0\n1-2-4 B\n"), "1-2.trans.txt: expected a text .* for utterance 1-2-3"),
        (rewrite(b"first A\n1-2-4 B"), "'first': expected an id"),
        (rewrite(b"1-2-3\vA\n1-2-4 B"), "1-2.trans.txt: expected an utterance id without tabs"),
        (lambda f: shutil.copy(f / "1-2-3.flac", f / "1-2-3.wav"), "utterance 1-2-3 is there twice"),
        (lambda f: (f / "x.flac").touch(), "1 of 3 utterances lack a transcript, first x"),
        (rewrite(b"1-2-3 A\n1-2-4 B\n1-2-" + b"5" * 5000), "'1-2-5{90,}: expected an id"),
        (lambda f: shutil.copytree(f, f.parent / "3"), r"1-2-[34] is there twice \(.*/1/2 and .*/1/3\)"),
        (replaced("1-2-3.flac", os.mkfifo), "1-2-3.flac: expected a regular file"),
        (replaced("1-2-3.flac", lambda path: path.symlink_to("gone")), "1-2-3.flac: cannot be read"),
        (replaced("1-2.trans.txt", os.mkfifo), "1-2.trans.txt: expected a regular file"),
    ],
)
def test_inconsistent_trees_are_refused(tmp_path, change, message):
    for utterance_id in ("1-2-3", "1-2-4"):
        write_utterance(tmp_path / "test-clean", utterance_id, noise(400), "A")
    change(tmp_path / "test-clean/1/2")
    with pytest.raises(SuiteError, match=message) as error:
        open_dataset("clean", str(tmp_path))
    assert len(str(error.value).splitlines()) == 1


def convert_to_wav(folder):
    for path in folder.glob("*.flac"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path.with_suffix(".wav"), samples, rate, subtype="PCM_16")
        path.unlink()


def write_capitals(folder):
    for path in (*folder.glob("*.flac"), *folder.glob("*.txt")):
        path.rename(folder / f"{path.name[:3]}{path.name[3:].upper()}")


def copy_by_macos(folder):
    for path in list(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(bytes.fromhex("0005160700020000") + b"\xff\xfe")
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "1-2-3.flac", folder / ".hidden")


@pytest.mark.parametrize(
    "change",
    [
        convert_to_wav,
        write_capitals,
        copy_by_macos,
        rewrite(b"\xef\xbb\xbf1-2-3 A B\n1-2-4 C\n"),
        rewrite(b"1-2-3\tA B\r\n1-2-4 \t C\r\n"),
    ],
)
def test_trees_as_they_are_on_disks(tmp_path, change):
    for seed, (utterance_id, text) in enumerate({"1-2-3": "A B", "1-2-4": "C"}.items()):
        write_utterance(tmp_path / "test-clean", utterance_id, noise(400 + seed, seed), text)
    expected = open_dataset("clean", str(tmp_path))
    waveforms = [expected.waveform(index) for index in range(2)]
    change(tmp_path / "test-clean/1/2")
    for path in (tmp_path, tmp_path / "test-clean"):
        dataset = open_dataset("clean", str(path))
        assert (list(dataset.ids), list(dataset.texts)) == (["1-2-3", "1-2-4"], ["A B", "C"])
        assert [np.array_equal(dataset.waveform(index), waveforms[index]) for index in range(2)] == [True, True]


def test_the_folder_of_another_split_is_refused(speech):
    with pytest.raises(SuiteError, match="expected a folder test-other"):
        open_dataset("other", str(speech / "test-clean"))


def test_links_that_loop_or_meet_do_not_change_the_tree(speech, tmp_path):
    shutil.copytree(speech, tmp_path, dirs_exist_ok=True)
    for name in ("loop", "61/loop", "61/123/loop"):
        (tmp_path / "test-clean" / name).symlink_to(tmp_path / "test-clean")
    (tmp_path / "test-clean/1").symlink_to(tmp_path / "test-clean/121")
    dataset = open_dataset("clean", str(tmp_path))
    assert list(dataset.ids) == ORDER
    assert len(dataset.waveform(3)) == SPEECH[ORDER[3]][0]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n \n"])
def test_texts_are_read_in_any_order(tmp_path, newline):
    """Long texts, so that a file is read in several parts; the files' lines are in another order than the ids."""
    texts = {
        f"7-8-{number}": f"ÄÖ\u00a0\u2028 {number} {'WORD ' * (number % 7 * 3000)}".strip() for number in range(50)
    }
    folder = tmp_path / "test-clean"
    folder.mkdir()
    for name, part in (("7-8.trans.txt", sorted(texts)[::2]), ("more.trans.txt", sorted(texts)[1::2])):
        lines = newline.join(f"{utterance_id} {texts[utterance_id]}" for utterance_id in part)
        (folder / name).write_bytes(lines.encode())
    for utterance_id in texts:
        (folder / f"{utterance_id}.flac").touch()
    dataset = open_dataset("clean", str(tmp_path))
    assert list(dataset.ids) == list(texts)
    order = np.random.default_rng(0).permutation(50)
    assert [dataset.texts[index] for index in order] == [texts[dataset.ids[index]] for index in order]
    assert list(dataset.texts) == list(texts.values())


def test_transcripts_that_change_after_opening_are_refused(tmp_path):
    write_utterance(tmp_path / "test-clean", "1-2-3", noise(400), "A")
    dataset = open_dataset("clean", str(tmp_path))
    (tmp_path / "test-clean/1/2/1-2.trans.txt").write_text("1-2-4 B\n1-2-3 A")
    with pytest.raises(SuiteError, match=r"1-2\.trans\.txt: changed while it was in use, 1-2-3 has moved"):
        dataset.texts[0]


def test_a_large_tree_takes_little_memory(tmp_path):
    """At most 200 bytes for an utterance, while it is opened, too: the training set has 281,241."""
    count = 20_000
    for chapter in range(count // 400):
        folder = tmp_path / f"test-clean/{chapter % 7}/{chapter}"
        folder.mkdir(parents=True)
        ids = [f"{chapter % 7}-{chapter}-{number:04d}" for number in range(400)]
        (folder / "x.trans.txt").write_text("".join(f"{utterance_id} {'WORD ' * 40}\n" for utterance_id in ids))
        for utterance_id in ids:
            os.mknod(folder / f"{utterance_id}.flac")
    tracemalloc.start()
    try:
        dataset = open_dataset("clean", str(tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(dataset), dataset.ids[400], dataset.texts[-1][:5]) == (count, "0-7-0000", "WORD ")
    assert peak / count < 200
    assert len(pickle.dumps(dataset)) / count < 80  # every worker process gets a copy
