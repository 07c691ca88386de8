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


# What transformers' `clean_up_tokenization` replaces, in its order.
_CLEAN_UP = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")),
    *((" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


def greedy_decode(logits: np.ndarray, symbols: Symbols, name: str = "logits") -> str:
    """Decode one utterance: (F, V) logits -> text.

    Equal to `Wav2Vec2CTCTokenizer.decode` of the most probable ids with special tokens kept. Raises
    SuiteError, with `name`, for logits that are not finite: argmax would turn them into blanks, that is, into silence.
    """
    if not np.isfinite(logits).all():
        raise SuiteError(f"{name}: expected finite logits, found NaN or infinity; did float16 overflow?")
    ids = logits.argmax(axis=-1)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    spoken = (symbols.table[index] for index in ids[starts])
    text = "".join(
        symbols.replace_word_delimiter if symbol == symbols.word_delimiter else symbol
        for symbol in spoken
        if symbol != symbols.blank
    ).strip()
    if symbols.lower_case:
        text = text.lower()
    if symbols.clean_up:
        for old, new in _CLEAN_UP:
            text = text.replace(old, new)
    return text
