# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech as openslr.org packs it: a tree of FLAC files with transcripts beside them. WAV files will do, too.

The training set has 281,241 utterances. So the tree is kept as an index of about 60 bytes for each: a path is put
together, and a text is read, when it is asked for.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import SuiteError
from .audio_file import decode, header_samples
from .base import Dataset, check_unique, check_utterance, walk
from .packed import PackedStrings

_UTTERANCE_ID = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,18})", re.ASCII)  # speaker, chapter, utterance
_AUDIO, _TRANSCRIPTS = (".flac", ".wav"), ".trans.txt"  # in any case
_SEPARATOR = re.compile(r"[ \t]+")  # between an id and its text
_BYTE_ORDER_MARK = "\ufeff"  # some editors begin a file with it
_BLOCK_BYTES = 1 << 16


class LibriSpeechTree(Dataset):
    """`<speaker>/<chapter>/<id>.flac` with `<speaker>-<chapter>.trans.txt`, ordered by the three numbers of the id.

    The audio may be `.wav` as well.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        audio, transcripts = _Index(), _Index()
        suffixes: dict[str, int] = {}  # of audio files, without the dot, as they are written -> number
        for parent, names in walk(folder, *_AUDIO, _TRANSCRIPTS):
            parts = [name.rpartition(".") for name in names if name.lower().endswith(_AUDIO)]
            audio.add(parent, ((stem, suffixes.setdefault(suffix, len(suffixes))) for stem, _, suffix in parts))
            for path in (f"{parent}/{name}" for name in names if name.lower().endswith(_TRANSCRIPTS)):
                transcripts.add(path, _read_ids(path))
        if not len(audio.ids):
            raise SuiteError(
                f"{folder}: expected <speaker>/<chapter>/*.flac or *.wav, found no audio; see --dataset_path"
            )
        check_unique(audio.ids, audio.where)
        check_unique(transcripts.ids, transcripts.where, "the transcript of")
        rows = _match(folder, audio.ids, transcripts.ids)
        order = _natural_order(audio.ids)[:limit]
        self.ids = PackedStrings(audio.ids[index] for index in order)
        self.texts = _Transcripts(self.ids, transcripts, rows[order])
        self._folders = audio.places
        self._folder = np.frombuffer(audio.place, np.int32)[order]
        self._suffixes = list(suffixes)
        self._suffix = np.frombuffer(audio.start, np.int64)[order].astype(np.int8)

    def waveform(self, index: int) -> np.ndarray:
        path = self._path(index)
        return decode(Path(path), path)

    def num_samples(self, index: int) -> int:
        path = self._path(index)
        return header_samples(Path(path), path)

    def _path(self, index: int) -> str:
        return f"{self._folders[self._folder[index]]}/{self.ids[index]}.{self._suffixes[self._suffix[index]]}"


class _Index:
    """Ids, and where each was found: in which folder or file, and there from which byte on, or with which suffix."""

    def __init__(self) -> None:
        self.ids, self.places = PackedStrings(), PackedStrings()
        self.place, self.start = array("i"), array("q")

    def add(self, place: str, found: Iterable[tuple[str, int]]) -> None:
        number = len(self.places)
        self.places.append(place)
        for utterance_id, start in found:
            self.ids.append(utterance_id)
            self.place.append(number)
            self.start.append(start)

    def where(self, index: int) -> str:
        return self.places[self.place[index]]


class _Transcripts(Sequence[str]):
    """The texts of `ids`, read from their files when they are asked for; `rows` are their positions in `found`."""

    def __init__(self, ids: PackedStrings, found: _Index, rows: np.ndarray) -> None:
        self._ids = ids
        self._paths = found.places
        self._path = np.frombuffer(found.place, np.int32)[rows]
        self._start = np.frombuffer(found.start, np.int64)[rows]
        # The part of a file that was read last. Neighbours in the data set are neighbours in their file.
        self._block, self._block_path, self._block_start = b"", -1, 0

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # slices are left out
        utterance_id, number, start = self._ids[index], self._path[index], int(self._start[index])
        path = self._paths[number]
        position = start - self._block_start
        if number != self._block_path or not 0 <= position < len(self._block):
            with Path(path).open("rb") as file:
                file.seek(start)
                self._block = file.read(_BLOCK_BYTES) + file.readline()  # whole lines
            self._block_path, self._block_start, position = number, start, 0
        end = self._block.find(b"\n", position)
        found, text = _read_line(path, self._block[position : end if end >= 0 else None])
        if found != utterance_id:
            raise SuiteError(f"{path}: changed while it was in use, {utterance_id} has moved; run this again")
        return text


def _read_ids(path: str) -> Iterator[tuple[str, int]]:
    """The ids of a .trans.txt, each with the byte at which its line starts. Checks the texts, too."""
    start = 0
    with Path(path).open("rb") as file:
        for line in file:
            if line.strip():
                utterance_id, text = _read_line(path, line)
                check_utterance(utterance_id, text, path)
                yield utterance_id, start
            start += len(line)


def _read_line(path: str, line: bytes) -> tuple[str, str]:
    try:
        fields = _SEPARATOR.split(line.decode("utf-8").removeprefix(_BYTE_ORDER_MARK).strip(), maxsplit=1)
    except UnicodeDecodeError:
        raise SuiteError(f"{path}: expected UTF-8 text, found other bytes; copy the file again") from None
    return fields[0], "".join(fields[1:])


def _match(folder: Path, audio: PackedStrings, transcripts: PackedStrings) -> np.ndarray:
    """(n,) int64: the position in `transcripts` of each id in `audio`. Raises SuiteError if either lacks one."""
    hashes, other_hashes = audio.hashes(), transcripts.hashes()
    order, other_order = np.argsort(hashes), np.argsort(other_hashes)
    # Two ids of one hash would exchange their texts. _Transcripts looks at the id in the line, and would tell.
    if np.array_equal(hashes[order], other_hashes[other_order]):
        rows = np.empty_like(order)
        rows[order] = other_order
        return rows
    _natural_order(transcripts)  # a malformed id is the better message
    for what, found, wanted in (("a transcript", transcripts, audio), ("an audio file", audio, transcripts)):
        missing = sorted(set(wanted).difference(found))
        if missing:
            raise SuiteError(
                f"{folder}: {len(missing)} of {len(wanted)} utterances lack {what}, first {missing[0]}; "
                f"complete the tree"
            )
    raise AssertionError("equal sets of ids have equal hashes")


def _natural_order(ids: PackedStrings) -> np.ndarray:
    """(n,) int64: the ids' positions, by their three numbers. Raises SuiteError for an id of another form."""
    numbers = array("q")
    for utterance_id in ids:
        match = _UTTERANCE_ID.fullmatch(utterance_id)
        if not match:
            raise SuiteError(
                f"{utterance_id!r:.100}: expected an id <speaker>-<chapter>-<utterance> of numbers; rename audio and "
                f"transcript"
            )
        numbers.extend(map(int, match.groups()))
    speaker, chapter, utterance = np.frombuffer(numbers, np.int64).reshape(-1, 3).T
    return np.lexsort((utterance, chapter, speaker))  # the last one is the first key
