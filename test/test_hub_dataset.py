# SPDX-License-Identifier: Apache-2.0
"""Proves that the hub's parquet files give the utterances of a LibriSpeech tree, and that only one split is read."""

from __future__ import annotations

import pickle
import shutil

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.hub_dataset import HubDataset
from wav2vec2_eval.sources.splits import SPLITS

from conftest import ORDER, SPEECH, make_tree


def write_hub_copy(root, speech, config="clean", split="test"):
    """Write a local copy of the hub's data set, with its schema and layout; returns `root`.

    The copy's other split cannot be read, so code that reads more than the split it needs fails.
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
def hub_cache(tmp_path, monkeypatch):
    """The datasets library writes its cache into the test's folder."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def hub_copy(tmp_path, speech, hub_cache):
    return write_hub_copy(tmp_path / "librispeech_asr", speech)


def test_hub_and_tree_are_the_same(hub_copy, speech):
    tree, hub = open_dataset("clean", str(speech)), open_dataset("clean", str(hub_copy))
    assert list(hub.ids) == tree.ids
    assert list(hub.texts) == tree.texts
    for index in range(len(tree.ids)):
        assert hub.waveform(index).tobytes() == tree.waveform(index).tobytes()


def test_the_hub_gives_the_files_of_one_split(hub_copy):
    """A local folder stands for the hub id: both have the README that names configurations and splits."""
    dataset = HubDataset(str(hub_copy), SPLITS["clean"], files=None)
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
        assert list(open_dataset("clean", str(tmp_path / "copy")).ids) == ORDER[:3]
    else:
        with pytest.raises(
            SuiteError, match=r"or the hub's parquet files as in clean/test/0000\.parquet, found neither"
        ):
            open_dataset("clean", str(tmp_path / "copy"))


def test_a_hub_failure_names_id_endpoint_and_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(SuiteError) as error:
        open_dataset("other")
    for part in ("openslr/librispeech_asr (other, test)", "https://mirror.example", "--dataset_path"):
        assert part in str(error.value)


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_a_limit_cuts_the_hubs_data_set(hub_copy, limit):
    dataset = open_dataset("clean", str(hub_copy), limit)
    assert list(dataset.ids) == ORDER[:limit]
    assert len(dataset) == len(dataset.texts) == len(ORDER[:limit])


def test_the_hubs_data_set_can_be_sent_to_worker_processes(hub_copy):
    dataset = open_dataset("clean", str(hub_copy))
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.waveform(2).tobytes() == dataset.waveform(2).tobytes()


def test_broken_audio_is_refused_with_its_id(tmp_path, hub_cache):
    """Only the broken utterance is refused: audio is decoded when it is asked for."""
    tree = make_tree(tmp_path / "tree")
    (tree / "test-clean/61/70968/61-70968-0010.flac").write_bytes(b"RIFF nonsense")
    dataset = open_dataset("clean", str(write_hub_copy(tmp_path / "copy", tree)))
    assert len(dataset.waveform(ORDER.index("61-70968-0009"))) == SPEECH["61-70968-0009"][0]
    with pytest.raises(SuiteError, match=r"^61-70968-0010: cannot be decoded"):
        dataset.waveform(ORDER.index("61-70968-0010"))


def test_a_broken_copy_of_the_hubs_files_is_not_reported_as_a_hub_failure(tmp_path):
    (tmp_path / "clean/test").mkdir(parents=True)
    (tmp_path / "clean/test/0.parquet").write_text("x")
    with pytest.raises(SuiteError, match="cannot be read as a copy of the hub's data set"):
        open_dataset("clean", str(tmp_path))
