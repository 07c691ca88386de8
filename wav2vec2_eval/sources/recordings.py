# SPDX-License-Identifier: Apache-2.0
"""A user's own recordings: a table that names audio files, or a folder of audio files.

Any format that libsndfile reads, any sampling rate and any number of channels: channels are averaged, and other rates
than 16 kHz are resampled by soxr.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import SuiteError
from ..speech.audio import SAMPLE_RATE
from .audio_file import AudioFile
from .base import Dataset, SourceFormat, check_unique, check_utterance, walk
from .packed import PackedStrings
from .recording_table import TABLES, USUAL_COLUMNS, Columns, Row, read_table

_METADATA = tuple(f"metadata{suffix}" for suffix in TABLES)  # a table in a folder of audio

# What libsndfile reads, and what users may take for audio that it reads: a file must not be left out silently.
_AUDIO = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64"),
    *(".rf64", ".sph", ".nist", ".wave", ".voc", ".htk", ".paf", ".svx", ".iff", ".ircam", ".sf", ".pvf", ".wve"),
    *(".m4a", ".m4b", ".mp2", ".mp4", ".aac", ".ac3", ".wma", ".webm", ".amr", ".3gp", ".mov", ".mka", ".mkv", ".avi"),
)
_ROUNDED_S, _ROUNDED = 0.5, 0.05  # a duration may be this much shorter than the file: seconds, and share
_CLIPS = "clips"  # the folder of the audio beside Common Voice's tables


class Recordings(Dataset):
    """The recordings of `rows`, whose paths count from `folder`. A recording's id is its path as the table has it."""

    def __init__(self, folder: Path, rows: Iterable[Row], limit: int | None = None) -> None:
        self._folder = folder
        self.ids, texts, has_text = PackedStrings(), PackedStrings(), array("b")
        self._durations_s = array("d")  # as the table says; infinite if it says nothing
        self._opened, self._format = -1, SourceFormat(0, 0)  # of the recording that was opened last
        for row in islice(rows, limit):
            check_utterance(row.audio, row.text or "", row.where)
            self.ids.append(row.audio)
            texts.append(row.text or "")
            has_text.append(row.text is not None)
            self._durations_s.append(math.inf if row.duration_s is None else row.duration_s)
        check_unique(self.ids, lambda index: f"row {index + 1}")
        self.texts = _Texts(texts, has_text)

    def check_files(self) -> None:
        """Raise SuiteError if files are missing: before any work, and not in the midst of it."""
        missing = [name for name in self.ids if not _exists(self._path(name))]
        if missing:
            raise SuiteError(
                f"{self._folder}: {len(missing)} of {len(self)} audio files are missing, first {missing[0]}; paths "
                f"count from the table's folder; --skip_unusable leaves such recordings out"
            )

    def _path(self, name: str) -> Path:
        path = self._folder / name
        return self._folder / _CLIPS / name if not _exists(path) and (self._folder / _CLIPS).is_dir() else path

    def _open(self, index: int) -> AudioFile:
        name, duration_s = self.ids[index], self._durations_s[index]
        file = AudioFile(self._path(name), name, strict=False)
        found_s = file.num_samples / file.rate
        if found_s - duration_s > max(_ROUNDED_S, _ROUNDED * found_s):
            file.close()
            raise SuiteError(
                f"{name}: the table's duration is {duration_s:g} s, the file has {found_s:.2f} s; cut the recording, "
                f"because files are read as a whole"
            )
        self._opened, self._format = index, SourceFormat(file.rate, file.channels)
        return file

    def source_format(self, index: int) -> SourceFormat:
        if index != self._opened:
            self._open(index).close()
        return self._format

    def num_samples(self, index: int) -> int:
        with self._open(index) as file:
            num_samples: int = -(-file.num_samples * SAMPLE_RATE // file.rate)
        return num_samples

    def waveform(self, index: int) -> np.ndarray:
        with self._open(index) as file:
            file.check_length()
            return np.concatenate([np.empty(0, np.float32), *_as_model_input(file)])

    def blocks(self, index: int) -> Iterator[np.ndarray]:
        with self._open(index) as file:
            yield from _as_model_input(file)


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises an error for a name that is too long)


class _Texts(Sequence["str | None"]):
    """Texts, of which some are not known."""

    def __init__(self, texts: PackedStrings, has_text: Sequence[int]) -> None:
        self._texts, self._has_text = texts, has_text

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> str | None:  # type: ignore[override]  # slices are left out
        return self._texts[index] if self._has_text[index] else None


def _as_model_input(file: AudioFile) -> Iterator[np.ndarray]:
    """(T,) float32 blocks at 16 kHz: the average of the channels, resampled."""
    mono = (sum(block.T) / np.float32(file.channels) if file.channels > 1 else block[:, 0] for block in file.blocks())
    return mono if file.rate == SAMPLE_RATE else _resampled(mono, file.rate)


def _resampled(blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def open_recordings(path: Path, columns: Columns, limit: int | None = None, may_lack_files: bool = False) -> Recordings:
    """The recordings of a table, or of a folder: those that its table says, or else all audio files in it, by name.

    Raises SuiteError if there are none, or if files are missing, unless it `may_lack_files`.
    """
    if path.is_file():
        if path.suffix.lower() not in TABLES:
            raise SuiteError(f"{path}: expected a table, {', '.join(TABLES)}, or a folder of audio; see --dataset_path")
        table = path
    else:
        tables = [path / name for name in _METADATA if (path / name).is_file()]
        if len(tables) > 1:
            raise SuiteError(f"{path}: holds {' and '.join(each.name for each in tables)}; give one by --dataset_path")
        if not tables:
            return _folder(path, columns, limit)
        (table,) = tables
    recordings = Recordings(table.parent, read_table(table, columns), limit)
    if not len(recordings):
        raise SuiteError(f"{table}: expected recordings, found none below the first line; see --dataset_path")
    if columns.text is not None and not any(text is not None for text in recordings.texts):
        raise SuiteError(f"--text_column={columns.text}: {table} has no text in it")
    if not may_lack_files:
        recordings.check_files()
    return recordings


def _folder(root: Path, columns: Columns, limit: int | None) -> Recordings:
    if columns != USUAL_COLUMNS:
        raise SuiteError(
            f"--audio_column and --text_column: expected a table, found none in {root}; give it by --dataset_path, or "
            f"name it {_METADATA[0]}"
        )
    found = sorted(str(Path(folder, name).relative_to(root)) for folder, names in walk(root, *_AUDIO) for name in names)
    if not found:
        raise SuiteError(f"{root}: expected audio files or a table {_METADATA[0]}, found none; see --dataset_path")
    return Recordings(root, (Row(name, None, str(root)) for name in found), limit)
