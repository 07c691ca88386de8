# SPDX-License-Identifier: Apache-2.0
"""Greedy CTC decoding: logits to text with a model's own symbols. Pure functions.

Repeats are merged before blanks are dropped, since a blank between two equal symbols is what separates them
(Graves et al. 2006, section 3.1): H E L <pad> L O is HELLO, not HELO.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import SuiteError


class Symbols(NamedTuple):
    """A model's output symbols, and the settings of its tokenizer."""

    table: tuple[str, ...]  # by id
    blank: str = "<pad>"
    word_delimiter: str | None = "|"
    replace_word_delimiter: str = " "
    lower_case: bool = False
    clean_up: bool = False  # remove blanks before punctuation, a setting of older tokenizers
    phonemes: bool = False  # a blank between two symbols, and none for a word delimiter


# What transformers' `clean_up_tokenization` replaces, in its order.
_CLEAN_UP = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")),
    *((" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


class BestPath(NamedTuple):
    """The most probable symbol of each frame."""

    ids: np.ndarray  # (F,) int64
    probabilities: np.ndarray  # (F,) float32


class Piece(NamedTuple):
    """A symbol of the text, with its frames: `start` is the first one, `end` the first one after it."""

    text: str
    start: int
    end: int


def best_ids(logits: np.ndarray, name: str = "logits") -> np.ndarray:
    """The most probable symbol of each frame: (F, V) logits -> (F,) int64.

    Raises SuiteError, with `name`, for logits that are not finite: argmax would turn them into blanks, that is, into
    silence.
    """
    if not np.isfinite(logits).all():
        raise SuiteError(f"{name}: expected finite logits, found NaN or infinity; did float16 overflow?")
    ids: np.ndarray = logits.argmax(axis=-1)
    return ids


def best_path(logits: np.ndarray, name: str = "logits") -> BestPath:
    """The most probable symbol of each frame with its softmax: (F, V) logits. Raises SuiteError as `best_ids` does."""
    ids = best_ids(logits, name)
    exact = logits.astype(np.float64)  # differences of float16 and float32 logits may be too large for their type
    below = exact - exact.max(axis=-1, keepdims=True)
    return BestPath(ids, (1 / np.exp(below).sum(axis=-1)).astype(np.float32))


def pieces(ids: np.ndarray, symbols: Symbols) -> list[Piece]:
    """The symbols of the text with their frames: (F,) ids, repeats merged, without blanks.

    The frames are the `char_offsets` of transformers' tokenizer. Of phonemes, word delimiters are left out.
    """
    starts, ends, texts = _spoken(ids, symbols)
    return list(map(Piece, texts, starts.tolist(), ends.tolist()))


def decode(ids: np.ndarray, symbols: Symbols) -> str:
    """The text of (F,) ids, equal to that of transformers' tokenizer with special tokens kept."""
    text = (" " if symbols.phonemes else "").join(_spoken(ids, symbols)[2]).strip()
    if symbols.lower_case:
        text = text.lower()
    if symbols.clean_up:
        for old, new in _CLEAN_UP:
            text = text.replace(old, new)
    return text


def _spoken(ids: np.ndarray, symbols: Symbols) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Where the symbols of the text start and end, in frames, and their texts; blanks are dropped."""
    table = symbols.table
    if len(set(table)) < len(table):  # the tokenizer merges repeats of a text, which may have several ids
        first = {text: index for index, text in reversed(list(enumerate(table)))}
        ids = np.array([first[text] for text in table])[ids]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    ends = np.append(starts[1:], len(ids))
    dropped = {symbols.blank, *((symbols.word_delimiter,) if symbols.phonemes else ())}
    for symbol in dropped.intersection(table):
        spoken = ids[starts] != table.index(symbol)
        starts, ends = starts[spoken], ends[spoken]
    texts = [table[index] for index in ids[starts].tolist()]
    delimiter, replacement = symbols.word_delimiter, symbols.replace_word_delimiter
    return starts, ends, [replacement if text == delimiter else text for text in texts]


def greedy_decode(logits: np.ndarray, symbols: Symbols, name: str = "logits") -> str:
    """Decode one utterance: (F, V) logits -> text. Raises SuiteError as `best_ids` does."""
    return decode(best_ids(logits, name), symbols)
