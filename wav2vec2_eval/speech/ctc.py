# SPDX-License-Identifier: Apache-2.0
"""Greedy CTC decoding: logits to text with a model's own symbols. Pure functions.

Repeats are merged before blanks are dropped, since a blank between two equal symbols is what separates them
(Graves et al. 2006, section 3.1): H E L <pad> L O is HELLO, not HELO.
"""

from __future__ import annotations

from itertools import groupby
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


class Piece(NamedTuple):
    """A symbol that was spoken, over its repeats: the frames from `start` up to `end`, which is not in it."""

    text: str
    start: int
    end: int


# What transformers' `clean_up_tokenization` replaces, in its order.
_CLEAN_UP = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")),
    *((" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


def greedy_decode(logits: np.ndarray, symbols: Symbols, name: str = "logits") -> str:
    """Decode one utterance: (F, V) logits -> text.

    Equal to the `decode` of transformers' tokenizer for the most probable ids with special tokens kept. Raises
    SuiteError, with `name`, for logits that are not finite: argmax would turn them into blanks, that is, into silence.
    """
    if not np.isfinite(logits).all():
        raise SuiteError(f"{name}: expected finite logits, found NaN or infinity; did float16 overflow?")
    separator = " " if symbols.phonemes else ""
    text = separator.join(piece.text for piece in pieces(logits.argmax(axis=-1), symbols)).strip()
    if symbols.lower_case:
        text = text.lower()
    if symbols.clean_up:
        for old, new in _CLEAN_UP:
            text = text.replace(old, new)
    return text


def pieces(ids: np.ndarray, symbols: Symbols) -> list[Piece]:
    """The spoken symbols of (F,) most probable ids, word delimiters replaced: transformers' character offsets.

    Repeats are those of a symbol's text, which may have several ids. Of phonemes, word delimiters are left out.
    """
    found = []
    end = 0
    for text, repeats in groupby(symbols.table[index] for index in ids.tolist()):
        start, end = end, end + sum(1 for _ in repeats)
        if text == symbols.blank:
            continue
        if text != symbols.word_delimiter:
            found.append(Piece(text, start, end))
        elif not symbols.phonemes:
            found.append(Piece(symbols.replace_word_delimiter, start, end))
    return found
