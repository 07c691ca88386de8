# SPDX-License-Identifier: Apache-2.0
"""The small files of a model, from a local folder or the hub: the feature extractor's settings and the symbols.

The network is used for hub ids only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SuiteError, one_line
from ..files.names import is_plain
from ..files.text import parse_json, read_text
from ..speech.audio import CONV_KERNELS, CONV_STRIDES, SAMPLE_RATE
from ..speech.ctc import Symbols
from ..speech.feature_extractor import FeatureExtractor
from .hub import model_file
from .tokenizer import TokenizerFiles, read_tokenizer

# The first one is meant where config.json names none.
MODEL_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech-sat")

_SAFE = ".safetensors"
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


def check_type(model: str, config: Mapping[str, Any]) -> None:
    """Raise SuiteError for a model of another kind, by its config.json."""
    kind = config.get("model_type", MODEL_TYPES[0])  # a Wav2Vec2Config needs to say nothing
    if kind not in MODEL_TYPES:
        raise SuiteError(
            f"{model}: expected a CTC model of model_type {', '.join(MODEL_TYPES)}, found {kind!s:.100} in config.json"
        )


def read_config(model: str) -> dict[str, Any]:
    """Read config.json. Raises SuiteError unless the model is of a supported type, with the frames of wav2vec 2.0."""
    config = read_json(model, "config.json")
    check_type(model, config)
    if config.get("add_adapter"):
        raise SuiteError(
            f"{model}: add_adapter in config.json is {config['add_adapter']!s:.20}: convolutions behind the encoder "
            f"give other frames than those of wav2vec 2.0, which the suite expects; use a model without them"
        )
    for name, expected in (("conv_kernel", CONV_KERNELS), ("conv_stride", CONV_STRIDES)):
        found = config.get(name, expected)
        if not isinstance(found, (list, tuple)) or tuple(found) != expected:
            raise SuiteError(
                f"{model}: expected the convolutions of wav2vec 2.0, {name} {expected}, found {found!s:.100} in "
                f"config.json, which gives other frames"
            )
    return config


def feature_extractor(model: str) -> FeatureExtractor:
    """Read the feature extractor's settings. Raises SuiteError unless it takes a 16 kHz waveform."""
    check_type(model, read_json(model, "config.json", required=False))  # which says more than the extractor's type
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


def symbols(model: str, target_lang: str | None = None) -> Symbols:
    """Read the model's symbols in id order, and its tokenizer's settings.

    Of a model for several languages (MMS), they are those of `target_lang`, or of the language that the folder names.
    Raises SuiteError unless the symbols cover exactly the model's outputs.
    """
    files = TokenizerFiles(
        vocabulary=read_json(model, "vocab.json"),
        tokenizer=read_json(model, "tokenizer_config.json", required=False),
        special=read_json(model, "special_tokens_map.json", required=False),
        added=read_json(model, "added_tokens.json", required=False),
        config=read_config(model),
    )
    try:
        tokenizer = read_tokenizer(model, files, target_lang)
        num_outputs = files.config.get("vocab_size", 0)
        if type(num_outputs) is not int:
            raise ValueError(f"config.json: vocab_size is {num_outputs!r:.100}")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise SuiteError(
            f"{model}: expected the vocabulary and tokenizer files of a Wav2Vec2CTCTokenizer, found others "
            f"({one_line(error, 200)})"
        ) from None
    path = adapter(model, target_lang)
    if path is None:
        return tokenizer.symbols(model, num_outputs, "vocab_size in config.json")
    return tokenizer.symbols(model, _head_size(path) or tokenizer.num_known(), f"the number of outputs in {path.name}")


def adapter(model: str, target_lang: str | None = None) -> Path | None:
    """The weights of one language of a model for several (MMS), with an output layer of its own; None without such.

    The language is `target_lang`, or else the one that the folder names.
    """
    if read_json(model, "config.json").get("adapter_attn_dim") is None:
        return None
    own = read_json(model, "tokenizer_config.json", required=False).get("target_lang")
    language = target_lang or own
    if language is None:
        return None
    if not isinstance(language, str) or not is_plain(language):
        raise SuiteError(f"{model}: expected the name of a language as target_lang, found {language!r:.40}")
    paths = [model_file(model, f"adapter.{language}{suffix}", required=False) for suffix in (_SAFE, ".bin")]
    found = next((path for path in paths if path is not None and os.path.lexists(path)), None)
    if found is None and language != own:  # the weights are those of another language
        raise SuiteError(
            f"--target_lang={language}: {model} has no adapter.{language}{_SAFE}; download it, or leave it out"
        )
    return found


def _head_size(path: Path) -> int | None:
    """The number of outputs of an adapter, read without its weights; None if only PyTorch can read it."""
    if path.suffix != _SAFE:
        return None
    from safetensors import safe_open

    try:
        with safe_open(path, "np") as file:
            return int(file.get_slice("lm_head.bias").get_shape()[0])
    except Exception as error:  # of the system, and of the library for files that are not whole
        raise SuiteError(f"{path}: expected an adapter with an lm_head ({one_line(error, 200)}); {_AGAIN}") from None
