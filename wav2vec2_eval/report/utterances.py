# SPDX-License-Identifier: Apache-2.0
"""The utterances of a scored folder, in one pass: what comparisons and pictures need of each, and the worst of all."""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, zip_longest
from typing import NamedTuple

import numpy as np

from ..errors import SuiteError
from ..files.file_list import Source
from ..files.names import SCORES_NAME
from ..files.scored import Row, normalize_both, one_blank, read_scored
from ..sources.splits import CUSTOM
from ..speech import wer
from ..speech.normalization import NONE, normalizer
from ..speech.wer import Edit

_TOGETHER = 500  # utterances that are aligned at once
_LIBRISPEECH_ID = re.compile(r"([1-9]\d{0,17})-\d+-\d+", re.ASCII)
NUM_WORST, NUM_CONFUSIONS = 10, 20


class Judged(NamedTuple):
    """An utterance, and how its texts, normalised if a normaliser was chosen, differ."""

    row: Row
    words: int  # in the reference; -1: there is no reference
    edits: list[Edit]  # empty if the texts are equal

    @property
    def errors(self) -> int:
        return -1 if self.words < 0 else sum(edit.errors for edit in self.edits)

    @property
    def wer(self) -> float:
        return wer.rate(self.errors, self.words)


class Confusion(NamedTuple):
    """What was said, and what was recognised instead: a word each; empty for an insertion, or a deletion."""

    reference: str
    hypothesis: str
    number: int  # how often


class Utterances(NamedTuple):
    """Every utterance of a folder, in order: N of them. Numbers that are not known are -1."""

    digests: np.ndarray  # (N,) uint32, of id and reference
    num_samples: np.ndarray  # (N,) int64
    pure_s: np.ndarray  # (N,) float64
    errors: np.ndarray  # (N,) int64, of the texts as they are
    words: np.ndarray  # (N,) int64
    judged_errors: np.ndarray  # (N,) int64, of the normalised texts if a normaliser was chosen
    judged_words: np.ndarray  # (N,) int64
    speakers: np.ndarray | None  # (N,) int64, if all ids are like those of LibriSpeech
    confusions: list[Confusion]  # most frequent first
    worst: list[Judged]  # highest WER first

    def __len__(self) -> int:
        return len(self.digests)


def digest(row: Row) -> int:
    """A checksum of an utterance's id and reference."""
    reference = "\1" if row.errors is None else row.reference
    return zlib.crc32(f"{row.utterance_id}\t{reference}".encode())


def read_utterances(source: Source, normalize_text: str = NONE) -> Utterances:
    """Read the files of scores. Memory grows by some 60 bytes per utterance, 8 per wrong word, and the distinct words.

    The errors of `judged_errors`, `confusions` and `worst` are those of texts that `normalize_text` has normalised.

    Raises SuiteError if they are damaged.
    """
    normalize = normalizer(normalize_text)
    data = source.run and source.run.of_data.which_dataset
    digests, num_samples, speakers = array("I"), array("q"), array("q")
    pure_s = array("d")
    errors, words, judged_errors, judged_words = (array("q") for _ in range(4))
    confused, worst = _Confused(), wer.Worst[Judged](NUM_WORST)
    has_speakers = data != CUSTOM  # ids of others may look alike, and mean a date
    for judged in _judge(read_scored(source), normalize):
        row, found = judged.row, judged.errors
        if normalize is None and row.errors is not None and found != row.errors.errors:
            raise SuiteError(
                f"{source.folder / SCORES_NAME}: expected {found} errors of utterance {row.utterance_id}, as "
                f"its texts have, found {row.errors.errors}; run the scoring again"
            )
        digests.append(digest(row))
        num_samples.append(-1 if row.num_samples is None else row.num_samples)
        pure_s.append(-1 if row.pure_s is None else row.pure_s)
        errors.append(-1 if row.errors is None else row.errors.errors)
        words.append(-1 if row.errors is None else row.errors.words)
        judged_errors.append(found)
        judged_words.append(judged.words)
        match = _LIBRISPEECH_ID.fullmatch(row.utterance_id) if has_speakers else None
        has_speakers = match is not None
        if match is not None:
            speakers.append(int(match[1]))
        if found > 0:
            confused.add(judged.edits)
            worst.add(judged.wer, found, judged)
    return Utterances(
        digests=np.array(digests, np.uint32),
        num_samples=np.array(num_samples, np.int64),
        pure_s=np.array(pure_s, np.float64),
        errors=np.array(errors, np.int64),
        words=np.array(words, np.int64),
        judged_errors=np.array(judged_errors, np.int64),
        judged_words=np.array(judged_words, np.int64),
        speakers=np.array(speakers, np.int64) if has_speakers and speakers else None,
        confusions=confused.most_frequent(),
        worst=worst.items(),
    )


def _judge(rows: Iterable[Row], normalize: Callable[[str], str] | None) -> Iterator[Judged]:
    """Align the texts of each utterance that has errors, some of them at a time."""
    waiting = iter(rows)
    while some := list(islice(waiting, _TOGETHER)):
        texts = [_texts(row, normalize) for row in some]
        differ = [(reference, hypothesis) for reference, hypothesis in texts if reference != hypothesis]
        alignments = iter(wer.align_words(*zip(*differ)) if differ else ())
        for row, (reference, hypothesis) in zip(some, texts):
            edits = next(alignments) if reference != hypothesis else []
            yield Judged(row, -1 if row.errors is None else len(reference.split()), edits)


def _texts(row: Row, normalize: Callable[[str], str] | None) -> tuple[str, str]:
    """Reference and hypothesis; twice nothing if there is no reference."""
    if row.errors is None:
        return "", ""
    texts = row.reference, one_blank(row.hypothesis)
    return texts if normalize is None else normalize_both(normalize, *texts)


class _Confused:
    """Counts pairs of words. A pair takes 8 bytes, and a word is kept once, however many errors there are."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._pairs = array("q")

    def add(self, edits: Iterable[Edit]) -> None:
        for edit in edits:
            if edit.kind != "equal":
                for said, recognised in zip_longest(edit.reference, edit.hypothesis, fillvalue=""):
                    self._pairs.append(self._number(said) << 32 | self._number(recognised))

    def _number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def most_frequent(self) -> list[Confusion]:
        """Of equally frequent ones, the one that came first."""
        pairs, first, counts = np.unique(np.array(self._pairs, np.int64), return_index=True, return_counts=True)
        words = list(self._numbers)
        return [
            Confusion(words[pairs[index] >> 32], words[pairs[index] & 0xFFFFFFFF], int(counts[index]))
            for index in np.lexsort((first, -counts))[:NUM_CONFUSIONS]
        ]
