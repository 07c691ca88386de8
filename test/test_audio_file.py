# SPDX-License-Identifier: Apache-2.0
"""Proves that audio is decoded sample by sample, and that damaged, cut and other audio is refused with its name."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import soundfile

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.audio_file import decode

from conftest import noise


def flac(num_samples=20_000, rate=16_000, channels=1):
    buffer = io.BytesIO()
    samples = np.repeat(noise(num_samples)[:, None], channels, axis=1)
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def damaged(content, position):
    """Nine bytes from `position` on are inverted."""
    inverted = bytes(byte ^ 0xFF for byte in content[position : position + 9])
    return content[:position] + inverted + content[position + 9 :]


def with_header_length(num_samples):
    """A FLAC file with this number of samples in its header. An encoder that writes into a pipe leaves 0 there."""
    content = bytearray(flac())
    # The fields follow "fLaC" and the header of the block: sample rate, channels, width, then 36 bits of length.
    fields = int.from_bytes(content[18:26], "big")
    content[18:26] = (fields >> 36 << 36 | num_samples).to_bytes(8, "big")
    return bytes(content)


def test_a_file_and_its_content_decode_to_the_samples_written(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768] * 100, np.int16)
    path = tmp_path / "x.flac"
    soundfile.write(path, samples, 16_000, subtype="PCM_16")
    for source in (path, io.BytesIO(path.read_bytes())):
        waveform = decode(source, "x")
        assert waveform.dtype == np.float32
        assert np.array_equal(waveform, samples / np.float32(32768))


def encoded(kind, subtype):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(20_000), 16_000, format=kind, subtype=subtype)
    return buffer.getvalue()


def test_a_file_without_md5_is_decoded():
    """Some encoders make none."""
    content = flac()
    assert len(decode(io.BytesIO(content[:26] + bytes(16) + content[42:]), "x")) == 20_000


OTHERS = [
    *(("FLAC", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")),
    *(("OGG", subtype) for subtype in ("VORBIS", "OPUS")),
]


@pytest.mark.parametrize(("kind", "subtype"), OTHERS)
def test_other_formats_are_decoded(tmp_path, kind, subtype):
    content = encoded(kind, subtype)
    expected = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    assert len(expected) == 20_000
    (tmp_path / "x").write_bytes(content)
    for source in (io.BytesIO(content), tmp_path / "x"):
        waveform = decode(source, "x")
        assert np.array_equal(waveform, expected) and waveform.dtype == np.float32


@pytest.mark.parametrize(("kind", "subtype"), OTHERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(kind, subtype, share):
    """libsndfile takes a cut WAV or Ogg file for a shorter one."""
    content = encoded(kind, subtype)
    with pytest.raises(SuiteError):
        decode(io.BytesIO(content[: int(share * len(content))]), "x")


def test_a_wav_file_whose_header_says_too_little_is_refused():
    content = encoded("WAV", "PCM_16")
    assert content[36:40] == b"data"
    for changes in ({40: 20_000}, {4: 20_036}, {4: 20_036, 40: 20_000}, {40: 2**32 - 1}):
        changed = bytearray(content)
        for position, number in changes.items():
            changed[position : position + 4] = number.to_bytes(4, "little")
        with pytest.raises(SuiteError, match="its length is not what its header says"):
            decode(io.BytesIO(changed), "x")


def test_a_24_bit_file_whose_header_says_too_little_is_refused():
    content = bytearray(encoded("FLAC", "PCM_24"))
    fields = int.from_bytes(content[18:26], "big")
    content[18:26] = (fields >> 36 << 36 | 5_000).to_bytes(8, "big")
    with pytest.raises(SuiteError, match="MD5 of its header"):
        decode(io.BytesIO(content), "x")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -40_000])
def test_samples_that_are_no_audio_are_refused(value):
    buffer = io.BytesIO()
    samples = noise(1_000).astype(np.float32)
    samples[500] = value
    soundfile.write(buffer, samples, 16_000, format="WAV", subtype="FLOAT")
    buffer.seek(0)
    with pytest.raises(SuiteError, match="expected samples between -1 and 1, found"):
        decode(buffer, "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (flac(rate=8_000), "expected 16000 Hz mono, found 8000 Hz with 1 channels"),
        (flac(channels=2), "expected 16000 Hz mono, found 16000 Hz with 2 channels"),
        (b"", "cannot be decoded"),
        (b"RIFF nonsense", "its length is not what its header says"),
        (encoded("MP3", "MPEG_LAYER_III"), "cannot be decoded .expected FLAC, WAV or Ogg"),
        (encoded("MP3", "MPEG_LAYER_III")[:2_000] + bytes(2_000), "cannot be decoded .expected FLAC, WAV or Ogg"),
        (flac()[:5_000], "cannot be decoded|expected 20000 samples"),
        (flac()[:-3], "cannot be decoded|expected 20000 samples"),
        (damaged(flac(), 5_000), "cannot be decoded"),
        (damaged(flac(), 20_000), "cannot be decoded"),
        (with_header_length(0), "its header says"),
        (with_header_length(2**36 - 1), "its header says"),
        *((with_header_length(num_samples), "MD5 of its header") for num_samples in (1, 4_096, 19_999)),
        (damaged(flac(), 30), "MD5 of its header"),
    ],
)
def test_unusable_audio_is_refused_with_its_name(tmp_path, content, message, capfd):
    path = tmp_path / "x.flac"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(SuiteError, match=f"^1-2-3: .*({message})"):
            decode(source, "1-2-3")
    assert capfd.readouterr() == ("", "")  # the decoder of MP3 prints what it thinks of damaged files


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "expected a regular file"),
        (os.mkfifo, "expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a regular file"),
        (lambda path: path.symlink_to("x.flac"), "cannot be read"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path, make, message):
    """Opening a named pipe would wait for its writer."""
    make(tmp_path / "x.flac")
    with pytest.raises(SuiteError, match=f"^1-2-3: {message}"):
        decode(tmp_path / "x.flac", "1-2-3")


def test_a_file_cut_between_two_blocks_is_refused(tmp_path):
    """FLAC blocks start with a sync code. A file that is cut there decodes without an error."""
    content = flac()
    path = tmp_path / "x.flac"
    starts = [position for position in range(100, len(content)) if content[position : position + 2] == b"\xff\xf8"]
    assert starts
    for start in starts:
        path.write_bytes(content[:start])
        with pytest.raises(SuiteError, match=r"cannot be decoded|expected 20000 samples"):
            decode(path, "1-2-3")


def test_fewer_samples_than_the_header_says_are_refused(monkeypatch):
    """Some versions of libsndfile return the samples before a cut without an error."""

    def cut(self, frames, dtype, always_2d):
        return np.zeros((19_999, 1), dtype)

    monkeypatch.setattr(soundfile.SoundFile, "read", cut)
    with pytest.raises(SuiteError, match=r"^x: expected 20000 samples, found 19999; copy the file again"):
        decode(io.BytesIO(flac()), "x")
