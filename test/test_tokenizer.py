# SPDX-License-Identifier: Apache-2.0
"""Proves that symbols and texts are those of transformers' own tokenizer, for every kind of tokenizer folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from transformers import AutoTokenizer

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.model_folder import symbols
from wav2vec2_eval.speech import ctc

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
CTC = {"tokenizer_class": "Wav2Vec2CTCTokenizer"}
TOKENIZER: dict[str, Any] = {**CTC, **SPECIAL}
NOTHING: dict[str, Any] = {}
PHONEMES = {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "do_phonemize": False}
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "|", "_", *"ABC'.s"]
PHONES = ["<pad>", "<s>", "</s>", "<unk>", "|", "tʃ", "ə", "n", "ŋ", "aʊ"]
LOWER = [*"abc'", "|", "[UNK]", "[PAD]"]
OWN = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]", "pad_token": "[PAD]"}


def ids(names: list[str]) -> dict[str, Any]:
    return {name: index for index, name in enumerate(names)}


def token(content: str, **others: object) -> dict[str, object]:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **others}


def with_gap(names: list[str], at: int, width: int) -> dict[str, Any]:
    return {name: index + width * (index >= at) for index, name in enumerate(names)}


class Kind(NamedTuple):
    """A tokenizer folder; None for a file that it lacks."""

    vocabulary: dict[str, Any] = ids(WORDS)
    tokenizer: dict[str, Any] | None = TOKENIZER
    special: dict[str, Any] | None = SPECIAL
    added: dict[str, int] | None = None
    outputs: int = len(WORDS)
    config: dict[str, Any] = NOTHING


KINDS = {
    "as base-960h": Kind(),
    "no tokenizer_config.json": Kind(tokenizer=None),
    "no special_tokens_map.json": Kind(special=None),
    "vocab.json alone": Kind(tokenizer=None, special=None),
    "no class": Kind(tokenizer=SPECIAL),
    "the fast class": Kind(tokenizer={**SPECIAL, "tokenizer_class": "Wav2Vec2CTCTokenizerFast"}),
    "the class in config.json": Kind(tokenizer=SPECIAL, config=CTC),
    "hubert": Kind(config={"model_type": "hubert"}),
    "wavlm": Kind(config={"model_type": "wavlm"}),
    "sentence tokens behind the vocabulary": Kind(ids(LOWER), {**CTC, **OWN}, OWN, outputs=len(LOWER) + 2),
    "sentence tokens that the head lacks": Kind(ids(LOWER), {**CTC, **OWN}, OWN, outputs=len(LOWER)),
    "sentence tokens in added_tokens.json": Kind(
        ids(LOWER), {**CTC, **OWN}, OWN, {"</s>": 7, "<s>": 8}, outputs=len(LOWER) + 2
    ),
    "other special tokens behind the vocabulary": Kind(
        tokenizer={**CTC, **SPECIAL, "mask_token": "<mask>", "additional_special_tokens": ["<noise>", "A", "<mask>"]},
        outputs=len(WORDS) + 2,
    ),
    "special tokens with names of their own": Kind(
        tokenizer={**CTC, **SPECIAL, "noise_token": "<noise>", "extra_special_tokens": {"laugh_token": "<laugh>"}},
        outputs=len(WORDS) + 2,
    ),
    "special tokens as objects": Kind(
        tokenizer={**CTC, "bos_token": token("<a>", __type="AddedToken")},
        special={**SPECIAL, "bos_token": token("<b>"), "additional_special_tokens": [token("<c>", special=True)]},
        outputs=len(WORDS) + 1,
    ),
    "added_tokens_decoder": Kind(
        tokenizer={
            **CTC,
            **SPECIAL,
            "added_tokens_decoder": {"12": token("<x>"), "6": token("never"), "40": token("y")},
        },
        special={"pad_token": "A"},  # not read beside it
        outputs=len(WORDS) + 1,
    ),
    "a gap": Kind(with_gap(WORDS, 7, 2), outputs=len(WORDS) + 2),
    "a gap where sentence tokens come": Kind(with_gap(LOWER, 3, 1), {**CTC, **OWN}, OWN, outputs=len(LOWER) + 2),
    "a double id": Kind({**ids(WORDS), "second": 7}),
    "a double id, the other order": Kind({"second": 7, **ids(WORDS)}),
    "one text at two ids": Kind(added={"B": 12}, outputs=len(WORDS) + 1),
    "the unknown symbol at several ids": Kind(with_gap(WORDS, 7, 3), outputs=len(WORDS) + 3),
    "another pad token than config.json": Kind(special={**SPECIAL, "pad_token": "A"}, config={"pad_token_id": 0}),
    "files that disagree about the pad token": Kind(tokenizer={**CTC, **SPECIAL, "pad_token": "A"}),
    "no unknown token": Kind(tokenizer={**CTC, **SPECIAL, "unk_token": None}, special=None),
    "another word delimiter": Kind(special={**SPECIAL, "word_delimiter_token": "_"}),
    "another word delimiter as an object": Kind(special={**SPECIAL, "word_delimiter_token": token("_")}),
    "another word delimiter in tokenizer_config.json": Kind(tokenizer={**CTC, **SPECIAL, "word_delimiter_token": "_"}),
    "no word delimiter": Kind(tokenizer={**CTC, **SPECIAL, "word_delimiter_token": None}),
    "a word delimiter that the vocabulary lacks": Kind(
        special={**SPECIAL, "word_delimiter_token": "#"}, outputs=len(WORDS) + 1
    ),
    "another character between words": Kind(tokenizer={**CTC, **SPECIAL, "replace_word_delimiter_char": "-"}),
    "lower case": Kind(tokenizer={**CTC, **SPECIAL, "do_lower_case": True}),
    "clean-up": Kind(tokenizer={**CTC, **SPECIAL, "do_lower_case": True, "clean_up_tokenization_spaces": True}),
    "symbols of several characters": Kind(ids([*WORDS, "THE", "ng", "  ", "ﬁ"]), outputs=len(WORDS) + 4),
    "MMS": Kind({"eng": ids(WORDS), "fra": {"<pad>": 0}}, {**CTC, **SPECIAL, "target_lang": "eng"}),
    "phonemes": Kind(ids(PHONES), {**PHONEMES, **SPECIAL}, outputs=len(PHONES)),
    "phonemes with words": Kind(ids(PHONES), {**PHONEMES, **SPECIAL, "word_delimiter_token": "|"}, outputs=len(PHONES)),
    "phonemes, the class in config.json": Kind(ids(PHONES), SPECIAL, outputs=len(PHONES), config=PHONEMES),
    "phonemes, lower case and clean-up": Kind(
        ids([*PHONES, "A", ".", "'s"]),
        {**PHONEMES, **SPECIAL, "do_lower_case": True, "clean_up_tokenization_spaces": True},
        outputs=len(PHONES) + 3,
    ),
    "phonemes behind the vocabulary": Kind(
        ids(PHONES[3:]), {**PHONEMES, **SPECIAL, "phone_delimiter_token": " "}, outputs=len(PHONES)
    ),
    "phonemes, added tokens first": Kind(ids(PHONES), {**PHONEMES, **SPECIAL}, added={"x": 5}, outputs=len(PHONES)),
}


def write(folder: Path, kind: Kind) -> str:
    config = {"model_type": "wav2vec2", "vocab_size": kind.outputs, **kind.config}
    for name, content in {
        "vocab.json": kind.vocabulary,
        "tokenizer_config.json": kind.tokenizer,
        "special_tokens_map.json": kind.special,
        "added_tokens.json": kind.added,
        "config.json": config,
    }.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_symbols_texts_and_offsets_are_those_of_transformers(tmp_path, kind):
    folder = write(tmp_path, kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = symbols(folder)
    assert list(found.table) == tokenizer.convert_ids_to_tokens(list(range(kind.outputs)))
    assert found.blank == tokenizer.pad_token
    generator = np.random.default_rng(0)
    for frames in (1, 2, 50, 500, *[30] * 10):
        chosen = generator.integers(0, kind.outputs, frames)
        chosen[generator.random(frames) < 0.3] = found.table.index(found.blank)
        chosen = chosen.repeat(generator.integers(1, 4, frames))
        expected = tokenizer.decode(chosen, skip_special_tokens=False, output_char_offsets=True)
        assert ctc.greedy_decode(np.eye(kind.outputs)[chosen], found) == expected.text
        offsets = [(each["char"], each["start_offset"], each["end_offset"]) for each in expected.char_offsets]
        assert ctc.pieces(chosen, found) == offsets


def test_there_are_enough_kinds():
    assert len(KINDS) >= 20


NESTED = {"eng": ids(WORDS), "fra": ids([*WORDS[:5], "é"])}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Kind(tokenizer={"tokenizer_class": "WhisperTokenizer"}),
            "expected a tokenizer of CTC .*found WhisperTokenizer",
        ),
        (
            Kind(tokenizer={"tokenizer_class": "LlamaTokenizerFast"}),
            "expected a tokenizer of CTC .*found LlamaTokenizer",
        ),
        (Kind(tokenizer=SPECIAL, config={"tokenizer_class": "BertTokenizer"}), "expected a tokenizer of CTC"),
        (Kind(NESTED), "names no language as target_lang; vocab.json holds eng, fra .2 in all, as in MMS.; choose one"),
        (Kind(NESTED, {**CTC, "target_lang": "deu"}), "has no vocabulary of 'deu'; vocab.json holds eng, fra .*MMS"),
        (Kind(NESTED, {**PHONEMES, "target_lang": "eng"}), "names no language"),
        (Kind(tokenizer={**CTC, "target_lang": "eng"}), "has no vocabulary of 'eng'; vocab.json holds no languages"),
        (Kind(NESTED, {**CTC, "target_lang": ["eng"]}), "has no vocabulary of"),
        (Kind({}), "vocab.json holds 0 symbols"),
        (Kind(outputs=len(WORDS) + 1), "vocab.json holds 12 symbols, but vocab_size in config.json is 13"),
        (Kind(outputs=len(WORDS) - 1), "vocab.json holds 12 symbols, but vocab_size in config.json is 11"),
        (
            Kind(with_gap(WORDS, 7, 1), {**CTC, "unk_token": None}, None, outputs=len(WORDS) + 1),
            "output 7 has no symbol, and there is no unk_token",
        ),
        (Kind(special={"pad_token": "[PAD]"}), r"the CTC blank, is '\[PAD\]'"),
    ],
)
def test_other_tokenizers_are_refused_in_one_line(tmp_path, kind, message):
    folder = write(tmp_path, kind)
    with pytest.raises(SuiteError, match=f"^{folder}: .*{message}") as error:
        symbols(folder)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 500


def test_the_user_chooses_the_language(tmp_path):
    folder = write(tmp_path, Kind(NESTED, {**CTC, "target_lang": "eng"}, outputs=6))
    tokenizer = AutoTokenizer.from_pretrained(folder, target_lang="fra")
    assert list(symbols(folder, "fra").table) == tokenizer.convert_ids_to_tokens(list(range(6)))
    with pytest.raises(SuiteError, match="has no vocabulary of 'deu'"):
        symbols(folder, "deu")


def test_the_class_before_transformers_had_processors(tmp_path):
    folder = write(tmp_path, Kind(tokenizer={**SPECIAL, "tokenizer_class": "Wav2Vec2Tokenizer"}))
    assert symbols(folder).table == tuple(WORDS)
