# SPDX-License-Identifier: Apache-2.0
"""The small files of a model, from a local folder or the hub: the feature extractor's settings and the symbols.

The network is used for hub ids only.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..errors import SuiteError, one_line
from ..files.text import parse_json, read_text
from ..speech.audio import SAMPLE_RATE
from ..speech.ctc import Symbols
from ..speech.feature_extractor import FeatureExtractor
from .hub import model_file

_AGAIN = "copy the model folder again"


def read_json(model: str, name: str, *, required: bool = True) -> dict[str, Any]:
    """Read one JSON file of the model. An optional file that does not exist reads as {}.

    Raises SuiteError, naming the file, for anything but a JSON object.
    """
    path = model_file(model, name, required)
    if path is None or not (required or os.path.lexists(path)):  # a link to nothing is no missing file
        return {}
    try:
        content = parse_json(read_text(path, "expected a model folder with the hub's files"))
    except ValueError as error:
        raise SuiteError(f"{path}: expected JSON, found: {one_line(error, 100)}; {_AGAIN}") from None
    if not isinstance(content, dict):
        raise SuiteError(f"{path}: expected a JSON object; {_AGAIN}")
    return content


def feature_extractor(model: str) -> FeatureExtractor:
    """Read the feature extractor's settings. Raises SuiteError unless it takes a 16 kHz waveform."""
    # transformers 5 saves it inside processor_config.json.
    config = read_json(model, "processor_config.json", required=False).get("feature_extractor")
    config = config if isinstance(config, dict) else read_json(model, "preprocessor_config.json")
    kind = config.get("feature_extractor_type", "Wav2Vec2FeatureExtractor")
    rate = config.get("sampling_rate", SAMPLE_RATE)
    if kind != "Wav2Vec2FeatureExtractor" or rate != SAMPLE_RATE or config.get("feature_size", 1) != 1:
        raise SuiteError(
            f"{model}: expected a Wav2Vec2FeatureExtractor at {SAMPLE_RATE} Hz, found {kind!s:.100} at {rate!s:.100} Hz"
        )
    do_normalize, padding_value = config.get("do_normalize", True), config.get("padding_value", 0.0)
    if not isinstance(do_normalize, bool):
        raise SuiteError(f"{model}: expected true or false as do_normalize, found {do_normalize!r:.100}; {_AGAIN}")
    if not _is_float32(padding_value):
        raise SuiteError(
            f"{model}: expected a number as padding_value of the feature extractor, found {padding_value!s:.100}"
        )
    return FeatureExtractor(do_normalize, float(padding_value))


def _is_float32(value: object) -> bool:
    """Whether `value` is a number that float32 can hold."""
    return type(value) in (int, float) and bool(abs(value) <= float(np.finfo(np.float32).max))  # type: ignore[arg-type]


def symbols(model: str) -> Symbols:
    """Read the model's symbols in id order, and its tokenizer's settings.

    Raises SuiteError unless the symbols cover exactly the model's outputs (`vocab_size` of its config.json).
    """
    tokenizer = read_json(model, "tokenizer_config.json", required=False)
    special = read_json(model, "special_tokens_map.json", required=False)
    vocabulary = read_json(model, "vocab.json")
    added = read_json(model, "added_tokens.json", required=False)
    vocab_size = read_json(model, "config.json").get("vocab_size", 0)
    try:
        return _symbols(model, vocab_size, vocabulary, added, tokenizer, special)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise SuiteError(
            f"{model}: expected the vocabulary and tokenizer files of a Wav2Vec2CTCTokenizer, found others "
            f"({one_line(error, 200)})"
        ) from None


def _symbols(
    model: str,
    vocab_size: object,
    vocabulary: dict[str, Any],
    added: dict[str, Any],
    tokenizer: dict[str, Any],
    special: dict[str, Any],
) -> Symbols:
    decoder = tokenizer.get("added_tokens_decoder", {})
    added = {**added, **{_content(token): int(index) for index, token in decoder.items()}}
    for name, ids in (("vocab.json", vocabulary), ("the added tokens", added)):
        if not all(type(index) is int and index >= 0 for index in ids.values()) or len(set(ids.values())) < len(ids):
            raise ValueError(f"{name}: the ids are not different whole numbers")
    if type(vocab_size) is not int:
        raise ValueError(f"config.json: vocab_size is {vocab_size!r:.100}")
    table = {index: symbol for symbol, index in {**vocabulary, **added}.items()}
    # Added tokens may lie beyond the model's outputs, where they are never predicted; the vocabulary may not.
    if not all(index in table for index in range(vocab_size)) or not all(i < vocab_size for i in vocabulary.values()):
        raise SuiteError(
            f"{model}: vocab.json holds {len(vocabulary)} symbols, but vocab_size in config.json is "
            f"{vocab_size!s:.20}; the folder mixes two models"
        )

    def setting(name: str, default: str) -> str | None:
        found = [source[name] for source in (tokenizer, special) if name in source]
        values = {None if token is None else _content(token) for token in found}  # a word delimiter may be null
        if len(values) > 1:
            raise SuiteError(f"{model}: its two tokenizer files disagree about {name}: {sorted(map(str, values))}")
        return values.pop() if values else default

    def flag(name: str) -> bool:
        value = tokenizer.get(name)
        if not (value is None or isinstance(value, bool)):
            raise ValueError(f"tokenizer_config.json: {name} is {value!r:.100}")
        return bool(value)

    blank = setting("pad_token", "<pad>")
    if blank is None or blank not in table.values():
        raise SuiteError(f"{model}: its pad_token, the CTC blank, is {blank!r:.100}, which is not in vocab.json")
    return Symbols(
        table=tuple(table[index] for index in range(vocab_size)),
        blank=blank,
        word_delimiter=setting("word_delimiter_token", "|"),
        replace_word_delimiter=_content(tokenizer.get("replace_word_delimiter_char", " ")),
        lower_case=flag("do_lower_case"),
        clean_up=flag("clean_up_tokenization_spaces"),
    )


def _content(token: object) -> str:
    """The text of a token, which is stored as plain text or as an object with a `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str):
        raise ValueError(f"a token is {token!r:.100}")
    return content
