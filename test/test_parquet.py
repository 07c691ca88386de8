# SPDX-License-Identifier: Apache-2.0
"""Proves that parquet files give the utterances of a LibriSpeech tree, row by row, and that broken files are named."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys

import pyarrow
import pytest
from pyarrow import parquet

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.parquet import ParquetFiles

from conftest import BARE_ENVIRONMENT, ORDER, ROOT, SPEECH

AUDIO = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


@pytest.fixture
def flac(speech):
    """The bytes of an utterance of 400 samples."""
    return (speech / "test-clean/121/70/121-70-0000.flac").read_bytes()


def write(path, ids, texts, audio, kind=AUDIO, **options):
    """Write a parquet file; returns its path. Lists become columns of strings and of the type `kind`."""

    def column(values, type_of_list):
        return pyarrow.array(values, type_of_list) if isinstance(values, list) else values

    columns = {
        "id": column(ids, pyarrow.string()),
        "text": column(texts, pyarrow.string()),
        "audio": column(audio, kind),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def write_speech(folder, speech, files=2, **options):
    """The utterances of SPEECH, as `files` parquet files in a folder of the hub's layout; returns their paths."""
    paths = []
    for number in range(files):
        ids = ORDER[number * len(ORDER) // files : (number + 1) * len(ORDER) // files]
        flacs = ["{0}/{1}/{0}-{1}-{2}.flac".format(*utterance_id.split("-")) for utterance_id in ids]
        audio = [{"bytes": (speech / "test-clean" / name).read_bytes(), "path": name} for name in flacs]
        path = folder / f"clean/test/{number:04d}.parquet"
        paths.append(write(path, ids, [SPEECH[utterance_id][1] for utterance_id in ids], audio, **options))
    return paths


@pytest.mark.parametrize("files", [1, 2, 5, 9])
@pytest.mark.parametrize("options", [{}, {"row_group_size": 1}, {"row_group_size": 2, "write_statistics": False}])
def test_files_and_tree_are_the_same(tmp_path, speech, files, options):
    """Nine files: some have no rows."""
    write_speech(tmp_path, speech, files, **options)
    tree, copy = open_dataset("clean", str(speech)), open_dataset("clean", str(tmp_path))
    assert (list(copy.ids), list(copy.texts)) == (list(tree.ids), list(tree.texts))
    for index in (0, 1, 2, 3, 4, 0, 4, 2, 3, 1):  # in any order
        assert copy.waveform(index).tobytes() == tree.waveform(index).tobytes()
        assert copy.texts[index] == tree.texts[index]


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_a_limit_cuts_the_files(tmp_path, speech, limit):
    write_speech(tmp_path, speech)
    dataset = open_dataset("clean", str(tmp_path), limit)
    assert list(dataset.ids) == ORDER[:limit]
    assert len(dataset) == len(dataset.texts) == len(list(dataset.texts)) == len(ORDER[:limit])


def test_files_can_be_sent_to_worker_processes(tmp_path, speech):
    write_speech(tmp_path, speech)
    dataset = open_dataset("clean", str(tmp_path))
    expected = dataset.waveform(2).tobytes(), dataset.texts[2]  # its files are open now
    copy = pickle.loads(pickle.dumps(dataset))
    assert (copy.waveform(2).tobytes(), copy.texts[2]) == expected


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pyarrow.array([7, 8]), ["A", "B"]),
        (pyarrow.array(["7", "8"], pyarrow.large_string()), pyarrow.array(["A", "B"], pyarrow.large_string())),
        (pyarrow.array(["7", "8"]).dictionary_encode(), pyarrow.array(["A", "B"]).dictionary_encode()),
    ],
)
@pytest.mark.parametrize("kind", [AUDIO, pyarrow.struct([("bytes", pyarrow.large_binary())])])
def test_other_types_of_strings_and_bytes_are_read(tmp_path, flac, ids, texts, kind):
    audio = pyarrow.array([{"bytes": flac}] * 2, kind)
    dataset = ParquetFiles([write(tmp_path / "x.parquet", ids, texts, audio)])
    assert (list(dataset.ids), list(dataset.texts), len(dataset.waveform(1))) == (["7", "8"], ["A", "B"], 400)
    assert [dataset.num_samples(index) for index in dataset.sample(1)] == [400]


def test_a_path_counts_from_the_current_folder(tmp_path, flac, monkeypatch):
    (tmp_path / "a.flac").write_bytes(flac)
    audio = [{"bytes": None, "path": name} for name in ("a.flac", str(tmp_path / "a.flac"), "b.flac", "pipe", "a\0b")]
    os.mkfifo(tmp_path / "pipe")
    dataset = ParquetFiles([write(tmp_path / "x.parquet", list("12345"), list("ABCDE"), audio)])
    monkeypatch.chdir(tmp_path)
    assert len(dataset.waveform(0)) == len(dataset.waveform(1)) == 400
    for index, message in ((2, "cannot be read"), (3, "expected a regular file"), (4, "cannot be read")):
        with pytest.raises(SuiteError, match=rf"x\.parquet: {index + 1}: {message}"):
            dataset.waveform(index)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": ["A", None]}, "expected a text .* for utterance 2, found None"),
        ({"texts": pyarrow.array([1, 2])}, "found text of int64"),
        ({"texts": pyarrow.nulls(2)}, "found text of null"),
        ({"texts": ["A", "B\0"]}, "expected a text .* for utterance 2"),
        ({"ids": ["1", None]}, "expected an utterance id .* found None"),
        ({"ids": pyarrow.array([1, None])}, "expected an utterance id .* found None"),
        ({"ids": pyarrow.array([1.0, 2.0])}, "found id of double"),
        ({"ids": ["1", "2\n3"]}, r"expected an utterance id .* found '2\\n3'"),
        ({"ids": ["1", "2\u2028"]}, "expected an utterance id without"),
        ({"ids": ["1", ""]}, "expected an utterance id without"),
        ({"ids": ["1", "1"]}, "utterance 1 is there twice"),
        ({"audio": [{"bytes": b"", "path": None}, None]}, "2: expected audio as bytes or a path, found neither"),
        ({"audio": pyarrow.array([[0.5], [0.5]])}, "found audio of list<"),
        ({"audio": pyarrow.array(["a.flac", "b.flac"])}, "found audio of string"),
        ({"audio": pyarrow.array([b"fLaC", b"fLaC"])}, "found audio of binary"),
        ({"audio": pyarrow.array([{"array": [0.5], "sampling_rate": 16_000}] * 2)}, "found audio of struct<array"),
        ({"audio": pyarrow.array([{"bytes": [1, 2], "path": "a"}] * 2)}, "found audio of struct<bytes: list"),
        ({"audio": pyarrow.nulls(2)}, "found audio of null"),
    ],
)
def test_unusable_columns_are_refused_when_the_files_are_opened(tmp_path, flac, changes, message):
    """A good file comes first, and the bad one is named."""
    good = {"bytes": flac, "path": "x.flac"}
    write(tmp_path / "clean/test/0.parquet", ["8", "9"], ["A", "B"], [good, good])
    columns = {"ids": ["1", "2"], "texts": ["A", "B"], "audio": [good, good], **changes}
    path = write(tmp_path / "clean/test/1.parquet", **columns)
    with pytest.raises(SuiteError, match=message) as error:
        open_dataset("clean", str(tmp_path))
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [AUDIO, pyarrow.struct([("bytes", pyarrow.binary())])])
def test_audio_of_neither_bytes_nor_path_is_refused_when_it_is_read(tmp_path, flac, kind):
    """To see it earlier, all audio would have to be read."""
    path = write(tmp_path / "x.parquet", ["1", "2"], ["A", "B"], [{"bytes": flac}, {"bytes": None}], kind)
    dataset = ParquetFiles([path])
    assert len(dataset.waveform(0)) == 400
    with pytest.raises(SuiteError, match=r"x\.parquet: 2: expected audio as bytes or a path, found neither"):
        dataset.waveform(1)


def test_checksums_are_verified(tmp_path, speech):
    """pyarrow writes them on request. Without them, a damaged text is a text."""
    path = write_speech(tmp_path, speech, 1, write_page_checksum=True, use_dictionary=False, compression="none")[0]
    path.write_bytes(path.read_bytes().replace(b"CURTAIN", b"CURTAIM"))
    with pytest.raises(SuiteError, match=rf"^{path}: cannot be read as a parquet file"):
        open_dataset("clean", str(tmp_path))


def test_text_that_is_no_utf8_is_refused(tmp_path, flac):
    texts = pyarrow.array([b"A", b"\xff"]).view(pyarrow.string())  # without a look at the bytes
    path = write(tmp_path / "x.parquet", ["1", "2"], texts, [{"bytes": flac}] * 2)
    with pytest.raises(SuiteError, match=r"x\.parquet: cannot be read as a parquet file \(UnicodeDecodeError"):
        ParquetFiles([path])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"x",
        lambda content: b"PAR1" + bytes(99) + b"PAR1",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:4] + bytes(2_000) + content[2_004:],  # the first pages
        lambda content: content.replace(b"id", b"ix"),
        lambda content: content[:-8] + b"\xff\xff\xff\x7f" + content[-4:],
    ],
)
def test_a_broken_file_beside_good_ones_is_named(tmp_path, speech, damage):
    path = write_speech(tmp_path, speech)[1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SuiteError, match=rf"^{path}: ") as error:
        dataset = open_dataset("clean", str(tmp_path))
        for index in range(len(dataset)):
            dataset.waveform(index)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_shrinks_after_opening_is_refused(tmp_path, flac):
    ids = [str(index) for index in range(100)]
    path = write(tmp_path / "x.parquet", ids, ids, [{"bytes": flac}] * 100)
    dataset = ParquetFiles([path])
    write(path, ["0"], ["0"], [{"bytes": flac}])
    for read in (dataset.waveform, dataset.texts.__getitem__):
        with pytest.raises(SuiteError, match=r"x\.parquet: cannot be read as a parquet file"):
            read(99)


def test_files_without_utterances_are_refused(tmp_path):
    with pytest.raises(SuiteError, match=r"x\.parquet: expected utterances, found none in 1 files"):
        ParquetFiles([write(tmp_path / "x.parquet", [], [], [])])


@pytest.mark.parametrize("missing", [0, 1])
def test_a_download_that_is_not_complete_is_refused(tmp_path, speech, missing):
    for number, path in enumerate(write_speech(tmp_path, speech, 2)):
        path.rename(tmp_path / f"clean/test-0000{number}-of-00002.parquet")
    assert list(open_dataset("clean", str(tmp_path)).ids) == ORDER
    (tmp_path / f"clean/test-0000{missing}-of-00002.parquet").unlink()
    with pytest.raises(SuiteError, match=rf"clean/test-0000{missing}-of-00002\.parquet: no such file, but "):
        open_dataset("clean", str(tmp_path))


@pytest.mark.parametrize(
    ("layout", "found"),
    [
        ("clean/test/0000.parquet", True),
        ("clean/test-00000-of-00001.parquet", True),
        ("data/clean/test/0000.parquet", True),
        ("all/test.clean/0000.parquet", True),
        ("all/test.clean-00000-of-00001.parquet", True),
        ("all/test.other/0000.parquet", False),
        ("clean/test.clean/0000.parquet", False),
        ("clean/test/.0000.parquet", False),
        ("clean/train.100/0000.parquet", False),
        ("other/test/0000.parquet", False),
        ("0000.parquet", False),
    ],
)
def test_which_files_of_a_copy_are_read(tmp_path, speech, layout, found):
    path = tmp_path / "copy" / layout
    path.parent.mkdir(parents=True)
    write_speech(tmp_path, speech, 1)[0].rename(path)
    if found:
        assert list(open_dataset("clean", str(tmp_path / "copy")).ids) == ORDER
    else:
        there = "" if path.name.startswith(".") else f", but {layout}"
        message = f"or the hub's parquet files as in clean/test/0000.parquet, found neither{there}; see"
        with pytest.raises(SuiteError, match=re.escape(message)):
            open_dataset("clean", str(tmp_path / "copy"))


def test_the_files_of_a_configuration_come_before_those_of_all(tmp_path, speech):
    for layout in ("clean/test/0000.parquet", "all/test.clean/0000.parquet"):
        path = tmp_path / "copy" / layout
        path.parent.mkdir(parents=True)
        write_speech(tmp_path, speech, 1)[0].rename(path)
    assert list(open_dataset("clean", str(tmp_path / "copy")).ids) == ORDER


def write_cache(root, speech, revisions=("aaa", "bbb"), main=None):
    """openslr/librispeech_asr as the hub's client keeps it: each revision has other utterances; returns its folder."""
    repository = root / "datasets--openslr--librispeech_asr"
    (repository / "blobs").mkdir(parents=True)
    for number, revision in enumerate(revisions):
        written = write_speech(root / "download", speech, 2)[number]
        blob = written.rename(repository / f"blobs/{number:064x}")  # a blob has no suffix
        path = repository / f"snapshots/{revision}/clean/test/0000.parquet"
        path.parent.mkdir(parents=True)
        path.symlink_to(os.path.relpath(blob, path.parent))
    if main is not None:
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(main)
    shutil.rmtree(root / "download")
    return repository


@pytest.mark.parametrize(("main", "expected"), [("aaa", ORDER[:2]), ("bbb\n", ORDER[2:])])
def test_one_revision_of_the_hubs_cache_is_read(tmp_path, speech, main, expected):
    repository = write_cache(tmp_path, speech, main=main)
    assert list(open_dataset("clean", str(repository)).ids) == expected
    assert list(open_dataset("clean", str(repository / "snapshots/bbb")).ids) == ORDER[2:]


def test_the_only_revision_needs_no_name(tmp_path, speech):
    repository = write_cache(tmp_path, speech, ["aaa"])
    for folder in (repository, repository / "snapshots", tmp_path):
        assert list(open_dataset("clean", str(folder)).ids) == ORDER[:2]


def test_a_tree_may_have_a_folder_named_snapshots(speech, tmp_path):
    shutil.copytree(speech, tmp_path, dirs_exist_ok=True)
    for name in "ab":
        (tmp_path / "snapshots" / name).mkdir(parents=True)
    assert list(open_dataset("clean", str(tmp_path)).ids) == ORDER


def test_two_revisions_are_never_mixed(tmp_path, speech, monkeypatch):
    repository = write_cache(tmp_path, speech)
    with pytest.raises(SuiteError, match=r"expected one revision in snapshots, .* found 2 \(aaa, bbb\)"):
        open_dataset("clean", str(repository))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("aaa")  # says nothing of a folder above or below
    monkeypatch.chdir(repository / "snapshots")
    for folder in (tmp_path, repository / "snapshots", "."):
        with pytest.raises(SuiteError, match=r"expected one copy of the data set, found 2: .*/aaa, .*/bbb; give the"):
            open_dataset("clean", str(folder))


def test_a_copy_beside_the_hubs_cache_is_not_mixed_with_it(tmp_path, speech):
    write_cache(tmp_path, speech, ["aaa"])
    write_speech(tmp_path, speech, 2)[0].unlink()
    with pytest.raises(SuiteError, match=f"expected one copy of the data set, found 2: {tmp_path}, .*/aaa; give the"):
        open_dataset("clean", str(tmp_path))


def test_broken_audio_is_refused_with_its_file_and_id(tmp_path, flac):
    path = write(tmp_path / "x.parquet", ["1", "2"], ["A", "B"], [{"bytes": flac}, {"bytes": b"RIFF nonsense"}])
    dataset = ParquetFiles([path])
    assert len(dataset.waveform(0)) == 400
    with pytest.raises(SuiteError, match=rf"^{path}: 2: its length is not what its header says"):
        dataset.waveform(1)


def run_elsewhere(program, folder):
    """What a program prints, which reads the data set in `folder` with HOME in folder/home. It must not fail."""
    (folder / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={**BARE_ENVIRONMENT, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_reading_writes_nothing_and_needs_no_datasets_library(tmp_path, speech):
    write_speech(tmp_path, speech)
    program = (
        "import sys; sys.modules['datasets'] = None\n"
        "from wav2vec2_eval.sources.choose import open_dataset\n"
        "dataset = open_dataset('clean', sys.argv[1])\n"
        "print(sum(len(dataset.waveform(index)) for index in range(len(dataset))))"
    )
    assert int(run_elsewhere(program, tmp_path)) == sum(num_samples for num_samples, _ in SPEECH.values())
    assert not list((tmp_path / "home").rglob("*"))


def test_a_large_row_group_is_read_bit_by_bit(tmp_path, flac):
    """A row group may hold the whole data set. Its audio takes no more memory than a few rows."""
    count, content = 600, flac + os.urandom(100_000)
    ids = [str(index) for index in range(count)]
    small_pages = {"use_dictionary": False, "write_batch_size": 8}  # as from writers that keep to the usual page size
    path = write(tmp_path / "clean/test/0.parquet", ids, ids, [{"bytes": content}] * count, **small_pages)
    assert parquet.ParquetFile(path).num_row_groups == 1
    program = (
        "import os, sys; from pathlib import Path\n"
        "from wav2vec2_eval.sources.choose import open_dataset\n"
        "import wav2vec2_eval.sources.parquet\n"
        "memory = lambda: int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')\n"
        "before = memory()\n"
        "dataset = open_dataset('clean', sys.argv[1])\n"
        "print(max(memory() for index in range(len(dataset)) if len(dataset.waveform(index))) - before)"
    )
    assert int(run_elsewhere(program, tmp_path)) < count * len(content) / 2
