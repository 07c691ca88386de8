# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import pickle
import shutil

import numpy as np
import pytest
import soundfile

from wav2vec2_eval import audio, librispeech
from wav2vec2_eval import model_folder as models
from wav2vec2_eval.errors import SuiteError

from conftest import ORDER, SPEECH, make_tree, noise, write_utterance


def write_hub_copy(root, speech, config="clean", split="test"):
    """A local copy of the hub's data set, with its schema and layout; returns `root`.

    Its other split cannot be read, so whoever fetches more than is asked for fails.
    """
    import pyarrow
    import pyarrow.parquet

    rows = []
    for utterance_id in ORDER:
        speaker, chapter, _ = utterance_id.split("-")
        path = speech / "test-clean" / speaker / chapter / f"{utterance_id}.flac"
        rows.append(
            {
                "file": path.name,
                "audio": {"bytes": path.read_bytes(), "path": path.name},
                "text": SPEECH[utterance_id][1],
                "speaker_id": int(speaker),
                "chapter_id": int(chapter),
                "id": utterance_id,
            }
        )
    folder = root / config / split
    folder.mkdir(parents=True)
    for shard in range(2):
        table = pyarrow.Table.from_pylist(rows[shard * 3 : shard * 3 + 3])
        pyarrow.parquet.write_table(table, folder / f"{shard:04d}.parquet")
    (root / config / "train.100").mkdir()
    (root / config / "train.100/0000.parquet").write_text("not to be read")
    (root / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {config}\n"
        f"  data_files:\n  - split: {split}\n    path: {config}/{split}/*.parquet\n"
        f"  - split: train.100\n    path: {config}/train.100/*.parquet\n"
        "dataset_info:\n"
        f"- config_name: {config}\n  features:\n"
        "  - name: file\n    dtype: string\n"
        "  - name: audio\n    dtype:\n      audio:\n        sampling_rate: 16000\n"
        "  - name: text\n    dtype: string\n"
        "  - name: speaker_id\n    dtype: int64\n  - name: chapter_id\n    dtype: int64\n"
        "  - name: id\n    dtype: string\n---\n"
    )
    return root


@pytest.fixture
def hub_copy(tmp_path, speech, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return write_hub_copy(tmp_path / "librispeech_asr", speech)


def test_a_tree_is_ordered_by_numbers(speech):
    dataset = librispeech.open_dataset("clean", str(speech))
    assert dataset.ids == ORDER
    assert dataset.texts == [SPEECH[utterance_id][1] for utterance_id in ORDER]
    for index, utterance_id in enumerate(ORDER):
        waveform = dataset.waveform(index)
        assert (waveform.dtype, waveform.shape) == (np.float32, (SPEECH[utterance_id][0],))


def test_the_folder_around_the_tree_will_do(tmp_path):
    make_tree(tmp_path / "LibriSpeech")
    assert librispeech.open_dataset("clean", str(tmp_path)).ids == ORDER


def test_hub_and_tree_are_the_same(hub_copy, speech):
    tree, hub = librispeech.open_dataset("clean", str(speech)), librispeech.open_dataset("clean", str(hub_copy))
    assert list(hub.ids) == tree.ids
    assert list(hub.texts) == tree.texts
    for index in range(len(tree.ids)):
        assert hub.waveform(index).tobytes() == tree.waveform(index).tobytes()


def test_the_hub_gives_the_files_of_one_split(hub_copy):
    """A local folder stands in for the hub id: both have the README that tells configurations and splits."""
    dataset = librispeech.HubDataset(str(hub_copy), librispeech.SPLITS["clean"], files=None)
    assert list(dataset.ids) == ORDER


@pytest.mark.parametrize(
    ("layout", "found"),
    [
        ("clean/test/0000.parquet", True),
        ("clean/test-00000-of-00001.parquet", True),
        ("data/clean/test/0000.parquet", True),
        ("clean/train.100/0000.parquet", False),
        ("other/test/0000.parquet", False),
        ("0000.parquet", False),
    ],
)
def test_which_files_of_a_local_copy_are_read(hub_copy, tmp_path, layout, found):
    path = tmp_path / "copy" / layout
    path.parent.mkdir(parents=True)
    shutil.copy(hub_copy / "clean/test/0000.parquet", path)
    if found:
        assert list(librispeech.open_dataset("clean", str(tmp_path / "copy")).ids) == ORDER[:3]
    else:
        with pytest.raises(
            SuiteError, match=r"or the hub's parquet files as in clean/test/0000\.parquet, found neither"
        ):
            librispeech.open_dataset("clean", str(tmp_path / "copy"))


def test_hub_failures_name_id_endpoint_and_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(SuiteError) as error:
        librispeech.open_dataset("other")
    for part in ("openslr/librispeech_asr (other, test)", "https://mirror.example", "--dataset_path"):
        assert part in str(error.value)


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_limit(hub_copy, speech, limit):
    for root in (speech, hub_copy):
        dataset = librispeech.open_dataset("clean", str(root), limit)
        assert (list(dataset.ids), len(dataset.texts)) == (ORDER[:limit], min(limit, len(ORDER)))


def test_datasets_can_be_sent_to_workers(hub_copy, speech):
    for root in (speech, hub_copy):
        dataset = librispeech.open_dataset("clean", str(root))
        copy = pickle.loads(pickle.dumps(dataset))
        assert copy.waveform(2).tobytes() == dataset.waveform(2).tobytes()


def test_samples_are_those_of_the_file(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768] * 100, np.int16)
    write_utterance(tmp_path / "test-clean", "1-2-3", samples, "A")
    waveform = librispeech.open_dataset("clean", str(tmp_path)).waveform(0)
    assert np.array_equal(waveform, samples / np.float32(32768))


def test_links_are_followed(speech, tmp_path):
    for name in ("61", "121"):
        (tmp_path / "test-clean").mkdir(exist_ok=True)
        (tmp_path / "test-clean" / name).symlink_to(speech / "test-clean" / name)
    assert librispeech.open_dataset("clean", str(tmp_path)).ids == ORDER


def test_a_broken_copy_of_the_hubs_files_is_no_hub_failure(tmp_path):
    (tmp_path / "clean/test").mkdir(parents=True)
    (tmp_path / "clean/test/0.parquet").write_text("x")
    with pytest.raises(SuiteError, match="cannot be read as a copy of the hub's data set"):
        librispeech.open_dataset("clean", str(tmp_path))


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(SuiteError, match="expected a LibriSpeech folder, found none"):
        librispeech.open_dataset("clean", str(tmp_path / "none"))
    with pytest.raises(SuiteError, match="expected a folder test-other"):
        librispeech.open_dataset("other", str(tmp_path))
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(SuiteError, match="found no audio"):
        librispeech.open_dataset("validation", str(tmp_path))


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
def test_inconsistent_trees(tmp_path, change, message):
    for utterance_id in ("1-2-3", "1-2-4"):
        write_utterance(tmp_path / "test-clean", utterance_id, noise(400), "A")
    change(tmp_path / "test-clean/1/2")
    with pytest.raises(SuiteError, match=message):
        librispeech.open_dataset("clean", str(tmp_path))


def flac(num_samples=20_000, rate=16_000, channels=1):
    buffer = io.BytesIO()
    samples = np.repeat(noise(num_samples)[:, None], channels, axis=1)
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def damaged(content, position):
    return (
        content[:position] + bytes(byte ^ 0xFF for byte in content[position : position + 9]) + content[position + 9 :]
    )


def with_header_length(num_samples):
    """A FLAC file whose header gives this number of samples, 0 for "not known", as encoders into a pipe write it."""
    content = bytearray(flac())
    fields = int.from_bytes(
        content[18:26], "big"
    )  # behind "fLaC" and the block's header: rates, then 36 bits of length
    content[18:26] = (fields >> 36 << 36 | num_samples).to_bytes(8, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (flac(rate=8_000), "expected 16000 Hz mono, found 8000 Hz with 1 channels"),
        (flac(channels=2), "expected 16000 Hz mono, found 16000 Hz with 2 channels"),
        (b"", "cannot be decoded"),
        (b"RIFF nonsense", "cannot be decoded"),
        (flac()[:5_000], "cannot be decoded|expected 20000 samples"),
        (flac()[:-3], "cannot be decoded|expected 20000 samples"),
        (damaged(flac(), 5_000), "cannot be decoded"),
        (damaged(flac(), 20_000), "cannot be decoded"),
        (with_header_length(0), "its header says"),
        (with_header_length(2**36 - 1), "its header says"),
    ],
)
def test_unusable_audio(tmp_path, content, message):
    path = write_utterance(tmp_path / "test-clean", "1-2-3", noise(400), "A")
    path.write_bytes(content)
    dataset = librispeech.open_dataset("clean", str(tmp_path))
    with pytest.raises(SuiteError, match=f"1-2-3.*({message})"):
        dataset.waveform(0)


def test_a_file_cut_between_two_blocks_is_noticed(tmp_path):
    """FLAC blocks start with a sync code, so a cut there leaves a file that decodes without an error."""
    content = flac()
    path = write_utterance(tmp_path / "test-clean", "1-2-3", noise(400), "A")
    starts = [position for position in range(100, len(content)) if content[position : position + 2] == b"\xff\xf8"]
    assert starts
    for start in starts:
        path.write_bytes(content[:start])
        with pytest.raises(SuiteError, match=r"cannot be decoded|expected 20000 samples"):
            librispeech.open_dataset("clean", str(tmp_path)).waveform(0)


def test_model_input(speech, model_folder):
    dataset = librispeech.open_dataset("clean", str(speech))
    extractor = models.feature_extractor(str(model_folder))
    num_samples, samples = librispeech.model_input(dataset, 0, extractor, audio.GEARS)
    assert (num_samples, samples.shape, samples.dtype) == (33_361, (1, 40_000), np.float32)
    assert abs(samples[0, :num_samples].mean()) < 1e-5
    assert abs(samples[0, :num_samples].std() - 1) < 1e-4
    assert not samples[0, num_samples:].any()
    with pytest.raises(SuiteError, match="61-123-0000: 33361 samples are longer than the last gear, 20000"):
        librispeech.model_input(dataset, 0, extractor, (10_000, 20_000))
