# SPDX-License-Identifier: Apache-2.0
"""Proves that the hub's data set has the utterances of a LibriSpeech tree, and that only one split is downloaded."""

from __future__ import annotations

import pickle

import pyarrow
import pytest
from pyarrow import parquet

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.hub_dataset import HubDataset
from wav2vec2_eval.sources.splits import SPLITS

from conftest import ORDER, SPEECH, make_tree


@pytest.fixture(autouse=True)
def hub_cache(tmp_path, monkeypatch):
    """The datasets library writes its cache into the test's folder."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def rows_of(tree):
    """The rows of the hub's data set, with its columns."""
    rows = []
    for utterance_id in ORDER:
        speaker, chapter, _ = utterance_id.split("-")
        path = tree / "test-clean" / speaker / chapter / f"{utterance_id}.flac"
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
    return rows


def open_hub(root, rows, limit=None, config="clean", split="test"):
    """Write a folder in the hub's layout and open it.

    It stands for the hub id: both have the README that names configurations and splits. The other split cannot be
    read, so code that reads more than the split it needs fails.
    """
    folder = root / config / split
    folder.mkdir(parents=True)
    for shard in range(2):
        table = pyarrow.Table.from_pylist(rows[shard * 3 : shard * 3 + 3])
        parquet.write_table(table, folder / f"{shard:04d}.parquet")
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
    return HubDataset(str(root), SPLITS["clean"], limit)


def test_hub_and_tree_are_the_same(tmp_path, speech):
    tree, hub = open_dataset("clean", str(speech)), open_hub(tmp_path / "hub", rows_of(speech))
    assert list(hub.ids) == list(tree.ids)
    assert list(hub.texts) == list(tree.texts)
    for index in range(len(tree)):
        assert hub.waveform(index).tobytes() == tree.waveform(index).tobytes()
        assert hub.num_samples(index) == len(hub.waveform(index))


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_a_limit_cuts_the_hubs_data_set(tmp_path, speech, limit):
    dataset = open_hub(tmp_path / "hub", rows_of(speech), limit)
    assert list(dataset.ids) == ORDER[:limit]
    assert len(dataset) == len(dataset.texts) == len(ORDER[:limit])


def test_the_hubs_data_set_can_be_sent_to_worker_processes(tmp_path, speech):
    dataset = open_hub(tmp_path / "hub", rows_of(speech))
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.waveform(2).tobytes() == dataset.waveform(2).tobytes()
    assert (copy.ids[2], copy.texts[2]) == (dataset.ids[2], dataset.texts[2])


def test_broken_audio_is_refused_with_its_id(tmp_path):
    """Only the broken utterance is refused: audio is decoded when it is asked for."""
    tree = make_tree(tmp_path / "tree")
    (tree / "test-clean/61/70968/61-70968-0010.flac").write_bytes(b"RIFF nonsense")
    dataset = open_hub(tmp_path / "hub", rows_of(tree))
    assert len(dataset.waveform(ORDER.index("61-70968-0009"))) == SPEECH["61-70968-0009"][0]
    with pytest.raises(SuiteError, match=r"^61-70968-0010: its length is not what its header says"):
        dataset.waveform(ORDER.index("61-70968-0010"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("text", None, f"expected a text .* for utterance {ORDER[1]}, found None"),
        ("id", None, "expected an utterance id .* found None"),
        ("id", "a\nb", r"expected an utterance id .* found 'a\\nb'"),
        ("id", ORDER[0], f"utterance {ORDER[0]} is there twice"),
        ("audio", None, f"{ORDER[1]}: expected audio as bytes or a path, found neither"),
        ("audio", {"bytes": None, "path": None}, f"{ORDER[1]}: expected audio as bytes or a path, found neither"),
    ],
)
def test_unusable_rows_are_refused(tmp_path, speech, column, value, message):
    rows = rows_of(speech)
    rows[1][column] = value
    with pytest.raises(SuiteError, match=message):
        open_hub(tmp_path / "hub", rows).waveform(1)


@pytest.mark.parametrize("column", ["text", "id", "audio"])
def test_missing_columns_are_refused_in_one_line(tmp_path, speech, column, capfd):
    rows = [{name: value for name, value in row.items() if name != column} for row in rows_of(speech)]
    with pytest.raises(SuiteError, match=r"hub \(clean, test\): ") as error:
        open_hub(tmp_path / "hub", rows)
    assert len(str(error.value).splitlines()) == 1
    assert capfd.readouterr().err == ""


def test_a_hub_failure_names_id_endpoint_and_remedy(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    with pytest.raises(SuiteError) as error:
        open_dataset("other")
    for part in ("openslr/librispeech_asr (other, test)", "https://mirror.example", "--dataset_path"):
        assert part in str(error.value)
