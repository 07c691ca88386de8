# SPDX-License-Identifier: Apache-2.0
"""Proves that tables and folders of a user's recordings are read as they are meant, or refused in one line."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.base import SourceFormat
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.recording_table import Columns

from conftest import noise

USUAL = Columns()
A, B = ("a.wav", "That man."), ("sub/b c.flac", "")


def make(folder: Path, *names: str, rate: int = 16_000, channels: int = 1, seconds: float = 0.5) -> Path:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples = noise(int(rate * seconds), seed)
        kind = {".opus": "OGG"}.get(Path(name).suffix.lower())
        soundfile.write(folder / name, np.repeat(samples[:, None], channels, 1), rate, format=kind)
    return folder


def table(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def opened(path: Path, columns: Columns = USUAL, **options):
    return open_dataset("custom", str(path), columns=columns, **options)


@pytest.fixture
def audio(tmp_path):
    return make(tmp_path / "audio", "a.wav", "sub/b c.flac")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'file_name,transcription\na.wav,That man.\n"sub/b c.flac",\n'),
        ("t.csv", "\ufefffile_name, transcription\r\na.wav, That man.\r\nsub/b c.flac,\r\n"),
        ("T.CSV", 'file;text\n"a.wav";"That man."\n\nsub/b c.flac;""'),
        ("t.csv", "path\tsentence\na.wav\tThat man.\nsub/b c.flac\t \n"),
        ("t.tsv", "client_id\tpath\tsentence\tup_votes\nx\ta.wav\tThat man.\t2\nx\tsub/b c.flac\t\t1\n"),
        ("t.tsv", 'path\tsentence\na.wav\t"That man."\nsub/b c.flac\t\n'),
        (
            "t.jsonl",
            '{"audio_filepath": "a.wav", "duration": 0.5, "text": "That man.", "offset": 0}\n'
            '{"audio_filepath": "sub/b c.flac", "text": null}\n',
        ),
        (
            "t.json",
            '\ufeff{"audio_filepath": "sub/../a.wav", "text": "That man."}\n\n{"audio_filepath": "sub/b c.flac"}',
        ),
        ("metadata.jsonl", '{"file_name": "a.wav", "transcription": "That man."}\n{"file_name": "sub/b c.flac"}\n'),
    ],
)
def test_tables_in_use_are_read(audio, name, content):
    path = table(audio, name, content)
    found = opened(path)
    assert [text.strip() if text else text for text in found.texts] == ["That man.", None]
    assert [Path(name).name for name in found.ids] == ["a.wav", "b c.flac"]
    assert len(found.waveform(1)) == 8_000
    again = pickle.loads(pickle.dumps(found))  # worker processes get copies
    np.testing.assert_array_equal(again.waveform(0), found.waveform(0))
    assert list(again.texts) == list(found.texts)
    if name.startswith("metadata"):
        assert list(opened(audio).texts) == list(found.texts)


@pytest.mark.parametrize("duration", ["0.5", "0.45", "0.9", "", "?", "nan"])
def test_a_duration_that_is_that_of_the_file_says_nothing(audio, duration):
    assert len(opened(table(audio, "t.csv", f"file,duration\na.wav,{duration}\n")).waveform(0)) == 8_000


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_part_of_a_recording_is_refused(tmp_path, name):
    """NeMo reads as many seconds as its table says, and the text is that of these seconds."""
    make(tmp_path, "a.wav", seconds=3)
    content = {"t.csv": "file,duration\na.wav,1.0\n", "t.jsonl": '{"audio_filepath": "a.wav", "duration": 1.0}'}[name]
    found = opened(table(tmp_path, name, content))
    for read in (found.waveform, lambda index: list(found.blocks(index))):
        with pytest.raises(SuiteError, match=r"a\.wav: the table's duration is 1 s, the file has 3\.00 s"):
            read(0)


def test_an_offset_in_a_csv_is_refused(audio):
    with pytest.raises(SuiteError, match=r"line 2: expected whole recordings, found the offset '1\.5'"):
        opened(table(audio, "t.csv", "file,offset\na.wav,1.5\n"))


def test_a_name_that_no_file_system_takes_is_a_missing_file(audio):
    with pytest.raises(SuiteError, match="1 of 1 audio files are missing"):
        opened(table(audio, "t.csv", f"file,text\n{'x' * 300}.wav,A\n"))


def test_a_quote_in_a_tsv_is_a_quote(audio):
    """Common Voice writes them so; a reader of CSV would take the next lines for one field."""
    found = opened(table(audio, "t.tsv", 'path\tsentence\na.wav\t"Stop" he said "now"\nsub/b c.flac\tsix" high\n'))
    assert list(found.texts) == ['"Stop" he said "now"', 'six" high']


def test_the_audio_of_common_voice_lies_in_clips(tmp_path):
    make(tmp_path / "clips", "x.wav")
    found = opened(table(tmp_path, "test.tsv", "path\tsentence\nx.wav\tHello\n"))
    assert len(found.waveform(0)) == 8_000


def test_other_columns_are_named_by_the_user(audio):
    path = table(audio, "t.csv", "wav,words,text\na.wav,One,Two\n")
    assert list(opened(path, Columns("wav", "words")).texts) == ["One"]
    assert list(opened(path, Columns("wav")).texts) == ["Two"]


def test_a_table_without_a_column_of_texts_has_none(audio):
    assert list(opened(table(audio, "t.csv", "file\na.wav\n")).texts) == [None]


def test_limit_reads_no_further(audio):
    path = table(audio, "t.csv", "file,text\na.wav,A\nbroken\n")
    assert len(opened(path, limit=1)) == 1


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("t.csv", "", USUAL, r"t\.csv: expected recordings, found none"),
        ("t.csv", "file,text\n", USUAL, "expected recordings, found none"),
        ("t.csv", "a.wav,Hello\n", USUAL, "expected recordings, found none"),
        ("t.csv", "a.wav,Hello\nb.wav,You\n", USUAL, r"names a column file_name, .* found the columns a\.wav, Hello"),
        ("t.csv", "file,text\na.wav,Hello, you\n", USUAL, r"line 2: expected 2 fields as in the first line, found 3"),
        ("t.csv", "file,text\na.wav\n", USUAL, r"line 2: expected 2 fields as in the first line, found 1"),
        ("t.csv", 'file,text\na.wav,"Hello\nsub/b c.flac,You\n', USUAL, r"not a row of the table"),
        ("t.csv", 'file,text\n"a.wav"x,Hello\n', USUAL, r"line 2: not a row of the table"),
        ("t.csv", "file,text,file\na.wav,x,y\n", USUAL, r"line 1: expected columns of different names"),
        (
            "t.csv",
            "file,path,text\na.wav,a.wav,x\n",
            USUAL,
            r"has the columns path and file; choose one by --audio_column",
        ),
        ("t.csv", "file,sentence,text\na.wav,a,x\n", USUAL, r"has the columns text and sentence; .* --text_column"),
        ("t.csv", "file,text\na.wav,x\n", Columns("wav"), r"--audio_column=wav: .*t\.csv has the columns file, text"),
        ("t.csv", "file,text\na.wav,x\n", Columns(None, "said"), r"--text_column=said: .* has the columns file, text"),
        (
            "t.jsonl",
            '{"file": "a.wav", "text": "x"}',
            Columns(None, "said"),
            r"--text_column=said: .* has no text in it",
        ),
        ("t.csv", "file,text\n,x\n", USUAL, r"line 2: expected the path of an audio file as file, found ''"),
        ("t.csv", "file,text\nmissing.wav,x\n", USUAL, r"1 of 1 audio files are missing, first missing\.wav"),
        ("t.csv", "file,text\na.wav,x\na.wav,y\n", USUAL, r"utterance a\.wav is there twice \(row 1 and row 2\)"),
        ("t.csv", "file,text\na.wav,x\x01\n", USUAL, r"line 2: expected a text without control characters"),
        ("t.csv", b"file,text\na.wav,\xff\n", USUAL, r"t\.csv: expected UTF-8 text"),
        ("t.csv", "file,text\na.wav,x\n".encode("utf-16"), USUAL, r"t\.csv: expected UTF-8 text"),
        ("t.jsonl", "[1]\n", USUAL, r"line 1: expected one JSON object per line, found '\[1\]'"),
        ("t.jsonl", '{"file": "a.wav"}\n{"file": \n', USUAL, r"line 2: expected one JSON object per line"),
        ("t.jsonl", '{"file": "a.wav", "text": 5}\n', USUAL, r"line 1: expected a text as text, found 5"),
        ("t.jsonl", '{"file": 5}\n', USUAL, r"line 1: expected the path of an audio file as file, found 5"),
        (
            "t.json",
            '{"audio_filepath": "a.wav", "offset": 1.5}',
            USUAL,
            r"line 1: expected whole recordings, found the offset 1\.5",
        ),
        ("t.xlsx", "PK", USUAL, r"t\.xlsx: expected a table, \.csv, \.tsv, \.jsonl, \.json, or a folder of audio"),
    ],
)
def test_other_tables_are_refused(audio, name, content, columns, message):
    with pytest.raises(SuiteError, match=message) as error:
        opened(table(audio, name, content), columns)
    assert "\n" not in str(error.value)


def test_files_may_be_missing_if_the_user_says_so(audio):
    path = table(audio, "t.csv", "file,text\nmissing.wav,x\na.wav,y\n")
    found = opened(path, may_lack_files=True)
    assert list(found.ids) == ["missing.wav", "a.wav"]
    with pytest.raises(SuiteError, match=r"missing\.wav: cannot be read"):
        found.waveform(0)


def test_a_folder_without_a_table_is_read_by_name(tmp_path):
    make(tmp_path, "b.wav", "a/2.FLAC", "a/10.ogg")
    make(tmp_path, "c.mp3", "._c.mp3")
    (tmp_path / "notes.txt").write_text("x")
    found = opened(tmp_path)
    assert list(found.ids) == ["a/10.ogg", "a/2.FLAC", "b.wav", "c.mp3"]
    assert set(found.texts) == {None}
    for columns in (Columns("wav"), Columns(None, "text")):
        with pytest.raises(SuiteError, match=r"expected a table, found none .* name it metadata\.csv"):
            opened(tmp_path, columns)


def test_audio_that_libsndfile_cannot_read_is_not_left_out_silently(tmp_path):
    make(tmp_path, "a.wav")
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x18ftypM4A ")
    found = opened(tmp_path)
    with pytest.raises(SuiteError, match=r"b\.m4a: cannot be decoded .* convert it, for example by ffmpeg"):
        found.waveform(list(found.ids).index("b.m4a"))


@pytest.mark.parametrize("names", [[], ["metadata.csv", "metadata.jsonl"]])
def test_an_unclear_folder_is_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SuiteError, match=r"holds metadata\.csv and metadata\.jsonl|expected audio files or a table"):
        opened(tmp_path)


@pytest.mark.parametrize("path", [None, "nowhere"])
def test_a_custom_set_needs_a_path(path, tmp_path):
    with pytest.raises(SuiteError, match="expected a table or a folder of recordings"):
        open_dataset("custom", None if path is None else str(tmp_path / path))


def test_columns_are_for_tables_only(speech):
    with pytest.raises(SuiteError, match="only --which_dataset=custom has a table"):
        open_dataset("clean", str(speech), columns=Columns("a"))


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_flac_of_any_width_becomes_float32(tmp_path, subtype, rate):
    samples = np.stack([noise(rate)] * 2, 1)
    soundfile.write(tmp_path / "a.flac", samples, rate, subtype=subtype)
    waveform = opened(tmp_path).waveform(0)
    assert (waveform.dtype, waveform.shape) == (np.float32, (16_000,))


def test_a_file_that_says_nothing_about_itself_is_refused(audio):
    (audio / "x.raw").write_bytes(bytes(100))
    with pytest.raises(SuiteError, match=r"x\.raw: cannot be decoded .* convert it"):
        opened(table(audio, "t.csv", "file\nx.raw\n")).waveform(0)


def test_a_rate_that_no_recording_has_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(20_000), 1)
    with pytest.raises(SuiteError, match=r"a\.wav: its header says 1 Hz"):
        opened(tmp_path).waveform(0)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_with_a_damaged_byte_is_refused(tmp_path, subtype):
    """libsndfile leaves the damaged part out, and would give another part twice."""
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(200_000).clip(-1, 1), 48_000, format="OGG", subtype=subtype)
    content = path.read_bytes()
    found = opened(tmp_path)
    assert abs(len(found.waveform(0)) - 200_000 / 3) <= 1
    for position in np.random.default_rng(0).integers(0, len(content), 30):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(position % 8)
        path.write_bytes(damaged)
        with pytest.raises(SuiteError, match=r"^a\.ogg: "):
            found.waveform(0)
    path.write_bytes(content + content)
    with pytest.raises(SuiteError, match="its length is not what its header says"):
        found.waveform(0)


@pytest.mark.parametrize(
    ("name", "rate", "channels"), [("a.wav", 44_100, 2), ("a.flac", 8_000, 1), ("a.mp3", 48_000, 2)]
)
def test_recordings_become_16_khz_mono(tmp_path, name, rate, channels):
    """A sine keeps its frequency and its height, and the average of the channels is taken."""
    seconds = np.arange(2 * rate) / rate
    left = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    soundfile.write(tmp_path / name, np.stack([left, 0 * left], 1)[:, :channels], rate)
    found = opened(tmp_path)
    assert found.source_format(0) == SourceFormat(rate, channels)
    waveform = found.waveform(0)
    assert (waveform.dtype, abs(len(waveform) - 32_000) <= 1) == (np.float32, True)
    assert abs(found.num_samples(0) - 32_000) <= 1
    expected = 0.5 / channels * np.sin(2 * np.pi * 440 * np.arange(len(waveform)) / 16_000)
    assert np.abs(waveform - expected)[800:-800].max() < (0.02 if name.endswith("mp3") else 1e-3)


def test_resampling_is_that_of_soxr_whatever_the_blocks(tmp_path, monkeypatch):
    import soxr

    samples = noise(200_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 22_050, subtype="FLOAT")
    expected = soxr.resample(samples, 22_050, 16_000, "HQ")
    np.testing.assert_array_equal(opened(tmp_path).waveform(0), expected)
    monkeypatch.setattr("wav2vec2_eval.sources.audio_file._BLOCK", 10_007)
    np.testing.assert_array_equal(np.concatenate(list(opened(tmp_path).blocks(0))), expected)


def test_16_khz_mono_is_not_changed(tmp_path):
    """The same tensors as from a LibriSpeech tree."""
    samples = (noise(20_000) * 32_767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    np.testing.assert_array_equal(opened(tmp_path).waveform(0), samples / np.float32(32_768))


def _unsized_wav(content: bytes) -> bytes:
    """As ffmpeg writes it into a pipe."""
    data = content.index(b"data") + 4
    return content[:4] + b"\xff" * 4 + content[8:data] + b"\xff" * 4 + content[data + 4 :]


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(20_000), 16_000, format="WAV")
    (tmp_path / "a.wav").write_bytes(_unsized_wav(buffer.getvalue()))
    assert len(opened(tmp_path).waveform(0)) == 20_000


@pytest.mark.parametrize(("kind", "lost"), [("RIFX", 2_000), ("RIFX", 2), ("WAV", 1), ("RF64", 1)])
def test_a_wav_that_lost_little_is_refused(tmp_path, kind, lost):
    endian = "BIG" if kind == "RIFX" else None
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(30_000), 16_000, format=kind.replace("RIFX", "WAV"), endian=endian)
    assert path.read_bytes()[:4] == {"WAV": b"RIFF"}.get(kind, kind.encode())
    found = opened(tmp_path)
    assert len(found.waveform(0)) == 30_000
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(SuiteError, match="its length is not what its header says"):
        found.waveform(0)


FORMATS = ["MP3", "OGG", "AIFF", "CAF", "AU", "W64", "RF64", "WAV", "WAVEX", "FLAC", "NIST"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_was_cut_is_refused_in_every_format(tmp_path, kind, capfd):
    """libsndfile takes most of them for shorter ones; its decoder of MP3 would print, too."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([noise(30_000)] * 2, 1), 44_100, format=kind)
    found = opened(tmp_path)
    assert abs(len(found.waveform(0)) - 30_000 * 160 / 441) <= 1
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(SuiteError, match=r"^a\.wav: .*(copy the file again|convert it)"):
        found.waveform(0)
    assert capfd.readouterr().err == ""


def test_jsonl_lines_of_json_dumps_are_read(tmp_path):
    make(tmp_path, "ä ö.wav")
    path = table(tmp_path, "t.jsonl", json.dumps({"file": "ä ö.wav", "text": "ÄÖ\u2028X"}) + "\n")
    assert list(opened(path).ids) == ["ä ö.wav"]
