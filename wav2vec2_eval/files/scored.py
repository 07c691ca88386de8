# SPDX-License-Identifier: Apache-2.0
"""A scored utterance, and its lines in `utterance_scores.tsv` and `utterances.jsonl`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from ..errors import UNPRINTABLE, SuiteError
from ..speech.audio import SAMPLE_RATE, frame_count
from ..speech.ctc import Symbols, best_path, decode, greedy_decode
from ..speech.normalization import NONE, normalizer
from ..speech.wer import Errors, WordErrors, text_errors
from ..speech.words import Word, words
from .file_list import Source
from .names import JSON_LINES_NAME, SCORES_NAME
from .utterances import Utterance

_SCORED_TOGETHER = 500  # utterances; jiwer is faster with many, and memory stays flat
_CHARACTERS_TOGETHER = 100_000
_WHITE_SPACE = re.compile(r"\s")
# Other columns may follow these: the places of these are fixed.
_COLUMNS = (
    *("key", "utterance_id", "wer", "substitutions", "deletions", "insertions", "words", "reference", "hypothesis"),
    "cer",
)
_FIRST = 9  # columns: those of the first release
_AGAIN = "run the scoring again"
_MOST = 1 << 31  # of counts, and of samples: 37 hours


class Transcript(NamedTuple):
    """An utterance, and what was recognised."""

    utterance: Utterance
    text: str
    pure_s: float | None = None  # the seconds of the inference, if they are known
    words: Sequence[Word] | None = None  # with their times, if they are wanted


def transcribe(utterance: Utterance, logits: np.ndarray, symbols: Symbols, name: str, word_times: bool) -> Transcript:
    """Decode the (F, V) logits of an utterance. Raises SuiteError, with `name`, if they are not finite."""
    if not word_times:
        return Transcript(utterance, _on_one_line(greedy_decode(logits, symbols, name)))
    best = best_path(logits, name)
    said = words(best, symbols, frame_count(utterance.num_samples))
    return Transcript(utterance, _on_one_line(decode(best.ids, symbols)), words=said)


def _on_one_line(text: str) -> str:
    """A model may have symbols such as a tab or a line break, which the lines of a table cannot hold."""
    return UNPRINTABLE.sub(" ", text)


class Scored(NamedTuple):
    """An utterance, what was recognised, and the errors in it."""

    transcript: Transcript
    raw: Errors | None  # None: there is no reference
    normalized: Errors | None = None  # if a normaliser was chosen

    @property
    def utterance(self) -> Utterance:
        return self.transcript.utterance

    @property
    def hypothesis(self) -> str:
        return self.transcript.text

    @property
    def judged(self) -> WordErrors | None:
        """The errors that the user asked for: those of the normalised texts, if a normaliser was chosen."""
        errors = self.normalized or self.raw
        return None if errors is None else errors.words


def score(transcripts: Iterable[Transcript], normalize_text: str = NONE) -> Iterator[Scored]:
    """Score utterances with their transcripts, in order and without holding all of them."""
    normalize = normalizer(normalize_text)
    waiting = iter(transcripts)
    while chunk := _next(waiting):
        # References have single blanks alone between their words (`new_utterance`); a model may write others.
        texts = [(each.utterance.text, one_blank(each.text)) for each in chunk if each.utterance.text is not None]
        raw = _align(texts)
        normalized = None if normalize is None else _align([normalize_both(normalize, *each) for each in texts])
        for each in chunk:
            if each.utterance.text is None:
                yield Scored(each, None)
            else:
                yield Scored(each, next(raw), None if normalized is None else next(normalized))


def _next(waiting: Iterator[Transcript]) -> list[Transcript]:
    """Some transcripts, fewer if they are long."""
    found, characters = [], 0
    for each in islice(waiting, _SCORED_TOGETHER):
        found.append(each)
        characters += len(each.text)
        if characters > _CHARACTERS_TOGETHER:
            break
    return found


def _align(texts: list[tuple[str, str]]) -> Iterator[Errors]:
    return iter(text_errors([reference for reference, _ in texts], [hypothesis for _, hypothesis in texts]))


def one_blank(hypothesis: str) -> str:
    """A hypothesis as it is aligned: other white space is a blank, as in the references."""
    return _WHITE_SPACE.sub(" ", hypothesis)


def normalize_both(normalize: Callable[[str], str], reference: str, hypothesis: str) -> tuple[str, str]:
    """A reference and its hypothesis, normalised."""
    first = normalize(reference)
    return first, first if hypothesis == reference else normalize(hypothesis)


def _names(normalize_text: str) -> tuple[str, ...]:
    """The names of the normalised figures in both files."""
    return () if normalize_text == NONE else tuple(f"normalized_{rate}_{normalize_text}" for rate in ("wer", "cer"))


def _rates(errors: Errors | None) -> tuple[float | None, float | None]:
    return (None, None) if errors is None else (errors.words.wer, errors.characters.cer)


def format_header(normalize_text: str = NONE) -> str:
    """The first line of `utterance_scores.tsv`, with its newline."""
    return "\t".join((*_COLUMNS, *_names(normalize_text))) + "\n"


def format_row(item: Scored, normalize_text: str = NONE) -> str:
    """A line of `utterance_scores.tsv`, with its newline. An utterance without a reference has empty fields."""
    transcript, raw, normalized = item
    utterance = transcript.utterance
    wer, cer = _rates(raw)
    counts = (None,) * 4 if raw is None else raw.words[:4]
    rates = _rates(normalized) if _names(normalize_text) else ()
    fields = (utterance.key, utterance.utterance_id, wer, *counts, utterance.text, transcript.text, cer, *rates)
    return "\t".join("" if field is None else str(field) for field in fields) + "\n"


def format_json(item: Scored, normalize_text: str = NONE) -> str:
    """A line of `utterances.jsonl`, with its newline.

    The first names are those of the Open ASR Leaderboard's manifests. JSON has no infinity: a rate that is infinite is
    null, as are the text and the rates of an utterance without a reference.
    """
    transcript, raw, normalized = item
    utterance, text, pure_s, said = transcript
    wer, cer = _rates(raw)
    fields: dict[str, object] = {
        "audio_filepath": utterance.utterance_id,
        "duration": utterance.num_samples / SAMPLE_RATE,
        **({} if pure_s is None else {"time": pure_s}),
        "text": utterance.text,
        "pred_text": text,
        "key": utterance.key,
        "id": utterance.utterance_id,
        "wer": _finite(wer),
        "cer": _finite(cer),
        **dict(zip(_names(normalize_text), map(_finite, _rates(normalized)))),
        **({} if said is None else {"words": [word._asdict() for word in said]}),
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _finite(rate: float | None) -> float | None:
    return rate if rate is not None and math.isfinite(rate) else None


class Row(NamedTuple):
    """What the files of scores say of an utterance."""

    key: str
    utterance_id: str
    reference: str
    hypothesis: str
    errors: WordErrors | None  # None: there is no reference
    num_samples: int | None  # None: not known, in a folder of the first release
    pure_s: float | None  # the seconds of the inference, if they are known


def read_scored(source: Source) -> Iterator[Row]:
    """Every utterance in `utterance_scores.tsv`, in order, with its length and time in `utterances.jsonl`.

    Raises SuiteError, perhaps after the last row, if a file is damaged, or if the two are not of the same utterances.
    """
    path = source.folder / SCORES_NAME
    rows = source.lines(SCORES_NAME)
    columns = [name.encode() for name in _COLUMNS[:_FIRST]]
    found = next(rows, b"").rstrip(b"\r\n").split(b"\t")[:_FIRST]
    if found != columns:
        raise SuiteError(f"{path}: expected the columns {b', '.join(columns).decode()}, found others; {_AGAIN}")
    described = source.lines(JSON_LINES_NAME) if source.has(JSON_LINES_NAME) else None
    for number, line in enumerate(rows, start=2):
        about = None if described is None else next(described, b"")
        try:
            yield _parse_row(line.decode("utf-8").rstrip("\n").split("\t"), about)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise SuiteError(
                f"{path}, line {number}: expected what the scoring writes, there and in {JSON_LINES_NAME}, found "
                f"{line[:100]!r}; {_AGAIN}"
            ) from None
    if described is not None and next(described, b""):
        raise SuiteError(f"{path}: expected as many utterances as {JSON_LINES_NAME} has, found fewer; {_AGAIN}")


def _parse_row(fields: Sequence[str], about: bytes | None) -> Row:
    """Raises the errors that `read_scored` catches for fields that no scoring writes."""
    key, utterance_id, _, substitutions, deletions, insertions, words, reference, hypothesis = fields[:_FIRST]
    counts = (substitutions, deletions, insertions, words)
    errors = WordErrors(*map(int, counts)) if any(counts) else None
    if errors is not None and not 0 <= min(errors) <= max(errors) < _MOST:
        raise ValueError(errors)
    num_samples, pure_s = None, None
    if about is not None:
        values = json.loads(about)
        num_samples = round(values["duration"] * SAMPLE_RATE)
        pure_s = None if values.get("time") is None else float(values["time"])
        if (
            values["id"] != utterance_id
            or not 0 <= num_samples < _MOST
            or not (pure_s is None or 0 <= pure_s < math.inf)
        ):
            raise ValueError(about)
    return Row(key, utterance_id, reference, hypothesis, errors, num_samples, pure_s)
