# SPDX-License-Identifier: Apache-2.0
"""Proves that the model's small files are read as transformers reads them, and that other files are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources import model_folder as models

from conftest import SYMBOLS, noise


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the model's small files, to be changed."""
    for path in model_folder.glob("*.json"):
        shutil.copy(path, tmp_path)
    return tmp_path


def change(folder, name, **values):
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


def test_symbols_are_in_id_order(folder):
    symbols = models.symbols(str(folder))
    assert symbols.table == tuple(SYMBOLS)
    assert (symbols.blank, symbols.word_delimiter, symbols.lower_case) == ("<pad>", "|", False)


def test_a_folder_that_transformers_saved_reads_the_same(folder, tmp_path):
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    saved = tmp_path / "saved"
    processor = Wav2Vec2Processor.from_pretrained(folder)
    processor.save_pretrained(saved)
    shutil.copy(folder / "config.json", saved)
    assert models.symbols(str(saved)) == models.symbols(str(folder))
    assert models.feature_extractor(str(saved)) == models.feature_extractor(str(folder))
    Wav2Vec2FeatureExtractor(do_normalize=False, padding_value=1.5).save_pretrained(folder)
    assert models.feature_extractor(str(folder)) == (False, 1.5)


def test_added_tokens_may_have_ids_beyond_the_outputs(folder):
    (folder / "added_tokens.json").write_text('{"<extra>": 32}')
    assert models.symbols(str(folder)).table == tuple(SYMBOLS)


@pytest.mark.parametrize("vocab_size", [31, 33, None])
def test_another_vocabulary_size_is_refused(folder, vocab_size):
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = vocab_size
    if vocab_size is None:
        del config["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SuiteError, match=r"vocab\.json holds 32 symbols"):
        models.symbols(str(folder))


@pytest.mark.parametrize("blank", ["[PAD]", None])
def test_a_blank_outside_the_vocabulary_is_refused(folder, blank):
    change(folder, "special_tokens_map.json", pad_token=blank)
    with pytest.raises(SuiteError, match=rf"the CTC blank, is {re.escape(repr(blank))}, which is not in vocab.json"):
        models.symbols(str(folder))


NO_IDS: tuple[Any, ...] = (True, 5.0, -1, "5", None, [5])
NO_SIZES: tuple[Any, ...] = (True, 32.0, "32", None, [32], {}, float("nan"))


def vocabulary(**changes: object) -> dict[str, object]:
    return {symbol: index for index, symbol in enumerate(SYMBOLS)} | changes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("vocab.json", vocabulary(E=index)) for index in NO_IDS),
        ("added_tokens.json", {"<a>": "40"}),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": 5}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": {"content": 5}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": "<pad>"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9" * 5000: "<pad>"}}),
        ("special_tokens_map.json", {"pad_token": {"content": ["<pad>"]}}),
        ("special_tokens_map.json", {"pad_token": 0}),
        ("tokenizer_config.json", {"extra_special_tokens": "<a>"}),
        ("tokenizer_config.json", {"word_delimiter_token": {"content": "|"}}),
        ("tokenizer_config.json", {"word_delimiter_token": ["|"]}),
        ("tokenizer_config.json", {"replace_word_delimiter_char": None}),
        ("tokenizer_config.json", {"replace_word_delimiter_char": {"a": 1}}),
        ("tokenizer_config.json", {"do_lower_case": "false"}),
        ("tokenizer_config.json", {"clean_up_tokenization_spaces": 1}),
        ("special_tokens_map.json", {"pad_token": {}}),
        *(("config.json", {"vocab_size": size}) for size in NO_SIZES),
    ],
)
def test_values_of_another_type_are_refused(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(SuiteError, match="expected the vocabulary and tokenizer files") as error:
        models.symbols(str(folder))
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize("size", [0, -1, 10**9, 10**400])
def test_absurd_vocabulary_sizes_are_refused_at_once(folder, size):
    change(folder, "config.json", vocab_size=size)
    with pytest.raises(SuiteError, match=r"vocab\.json holds 32 symbols") as error:
        models.symbols(str(folder))
    assert len(str(error.value)) < 1_000


SMALL_FILES = [
    *((models.symbols, name) for name in ("vocab.json", "config.json", "tokenizer_config.json", "added_tokens.json")),
    (models.symbols, "special_tokens_map.json"),
    (models.feature_extractor, "preprocessor_config.json"),
    (models.feature_extractor, "processor_config.json"),
]


@pytest.mark.parametrize(("read", "name"), SMALL_FILES)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "expected JSON"),
        (lambda path: path.write_bytes(b"{"), "expected JSON"),
        (lambda path: path.write_bytes(b"[1]"), "expected a JSON object"),
        (lambda path: path.write_bytes(b'{"\xd6": 0}'), "expected UTF-8"),
        (lambda path: path.write_bytes(b'{"\\ud800": 0}'), "expected JSON"),
        (lambda path: path.write_bytes(b'{"a": %s}' % (b"9" * 5_000)), "expected JSON"),
        (lambda path: path.write_bytes(b"[" * 200_000), "expected JSON"),
        (lambda path: path.write_bytes(b'{"a": ' * 200_000), "expected JSON"),
        (lambda path: path.mkdir(), "expected a regular file"),
        (os.mkfifo, "expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a regular file"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
    ],
)
def test_broken_files_are_refused_in_one_line(folder, read, name, make, message):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(SuiteError, match=f"^{folder}/{name}: {message}") as error:
        read(str(folder))
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize(("read", "name"), SMALL_FILES)
def test_only_optional_files_may_be_missing(folder, read, name):
    (folder / name).unlink(missing_ok=True)
    if name in ("vocab.json", "config.json", "preprocessor_config.json"):
        with pytest.raises(SuiteError, match=f"^{folder}/{name}: no such file; expected a model folder"):
            read(str(folder))
    else:
        read(str(folder))


@pytest.mark.parametrize(
    "value", ["null", "true", '"0"', "[0]", "{}", "NaN", "Infinity", "-Infinity", "1e39", "1" + "0" * 400]
)
def test_padding_values_that_float32_cannot_hold_are_refused(folder, value):
    (folder / "preprocessor_config.json").write_text(f'{{"padding_value": {value}}}')
    with pytest.raises(SuiteError, match="expected a number as padding_value") as error:
        models.feature_extractor(str(folder))
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize("padding_value", [0, -1, 0.25, 3e38])
def test_other_padding_values_are_read(folder, padding_value):
    change(folder, "preprocessor_config.json", padding_value=padding_value)
    found = models.feature_extractor(str(folder)).padding_value
    assert type(found) is float and found == padding_value


@pytest.mark.parametrize("do_normalize", [None, 1, "false", [], {"a": [0] * 5_000}])
def test_do_normalize_is_true_or_false(folder, do_normalize):
    change(folder, "preprocessor_config.json", do_normalize=do_normalize)
    with pytest.raises(SuiteError, match="expected true or false as do_normalize") as error:
        models.feature_extractor(str(folder))
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize(
    "values",
    [
        {"sampling_rate": 8_000},
        {"sampling_rate": {"a": [0] * 5_000}},
        {"feature_extractor_type": "WhisperFeatureExtractor"},
        {"feature_extractor_type": ["Wav2Vec2FeatureExtractor"]},
        {"feature_size": 80},
    ],
)
def test_a_feature_extractor_of_another_input_is_refused(folder, values):
    change(folder, "preprocessor_config.json", **values)
    with pytest.raises(SuiteError, match="expected a Wav2Vec2FeatureExtractor at 16000 Hz"):
        models.feature_extractor(str(folder))


@pytest.mark.parametrize("do_normalize", [True, False])
def test_feature_extractor_equals_transformers(folder, do_normalize):
    from transformers import Wav2Vec2FeatureExtractor

    change(folder, "preprocessor_config.json", do_normalize=do_normalize, padding_value=0.25)
    waveform = noise(5_000).astype(np.float32)
    actual = models.feature_extractor(str(folder))(waveform, 6_000)
    alone = Wav2Vec2FeatureExtractor.from_pretrained(folder)(waveform, sampling_rate=16_000).input_values[0]
    assert actual.shape == (1, 6_000)
    assert actual[0, :5_000].tobytes() == np.asarray(alone, np.float32).tobytes()
    assert set(actual[0, 5_000:]) == {0.25}


@pytest.mark.parametrize("read", [models.symbols, models.feature_extractor])
def test_a_model_that_is_neither_folder_nor_hub_id_is_refused(read):
    with pytest.raises(SuiteError, match=r"^\./none: expected a model folder or a hub id, found no such folder"):
        read("./none")


@pytest.mark.parametrize("read", [models.symbols, models.feature_extractor])
def test_a_model_that_the_hub_does_not_give_is_refused(read):
    with pytest.raises(SuiteError, match=r"nobody/no-such-model/.*--model_name_or_path"):
        read("nobody/no-such-model")
