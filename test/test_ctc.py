# SPDX-License-Identifier: Apache-2.0
"""Proves that greedy decoding equals the tokenizer of transformers, and refuses logits that are not finite."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.model_folder import symbols as read_symbols
from wav2vec2_eval.speech import ctc

from conftest import SYMBOLS

BASE = ctc.Symbols(tuple(SYMBOLS))


def logits(*symbols: str) -> np.ndarray:
    """One frame per symbol, (F, 32)."""
    return np.eye(len(SYMBOLS), dtype=np.float32)[[SYMBOLS.index(symbol) for symbol in symbols]]


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (["H", "E", "L", "<pad>", "L", "O"], "HELLO"),  # a blank separates repeats
        (["H", "H", "E", "L", "L", "O", "O"], "HELO"),  # without a blank they merge
        (["<pad>"] * 5, ""),
        (["|", "A", "|", "|", "<pad>", "|", "B", "|"], "A  B"),
        (["A", "<s>", "<s>", "<unk>", "</s>"], "A<s><unk></s>"),
        (["D", "O", "N", "'", "T"], "DON'T"),
    ],
)
def test_known_frames_decode_to_their_text(frames, text):
    assert ctc.greedy_decode(logits(*frames), BASE) == text


def test_no_frames_decode_to_no_text():
    assert ctc.greedy_decode(np.zeros((0, 32), np.float32), BASE) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    frames = logits("A", "B")
    frames[1, 7] = value
    with pytest.raises(SuiteError, match="here: expected finite logits"):
        ctc.greedy_decode(frames, BASE, "here")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_best_path_has_the_ids_and_the_softmax_of_the_logits(dtype):
    from torch import from_numpy

    frames = (np.random.default_rng(0).standard_normal((50, 32)) * 5).astype(dtype)
    path = ctc.best_path(frames)
    expected = from_numpy(frames.astype(np.float64)).softmax(-1).max(-1)
    assert np.array_equal(path.ids, expected.indices) and path.ids.dtype == np.int64
    assert path.probabilities == pytest.approx(expected.values.numpy(), rel=1e-6)
    assert path.probabilities.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_logits_as_large_as_their_type_have_probabilities(dtype):
    largest = np.finfo(dtype).max
    path = ctc.best_path(np.array([[largest, -largest], [-largest, -largest], [0, largest]], dtype))
    assert (path.ids.tolist(), path.probabilities.tolist()) == ([0, 0, 1], [1, 0.5, 1])


def test_the_best_path_of_broken_logits_is_refused_and_that_of_none_is_empty():
    with pytest.raises(SuiteError, match="here: expected finite logits"):
        ctc.best_path(np.full((1, 32), np.nan, np.float32), "here")
    assert [len(each) for each in ctc.best_path(np.zeros((0, 32), np.float32))] == [0, 0]


def test_lower_case_and_word_delimiter_follow_the_symbols():
    symbols = BASE._replace(lower_case=True, replace_word_delimiter="_")
    assert ctc.greedy_decode(logits("A", "|", "B"), symbols) == "a_b"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_lower_case": True},
        {"replace_word_delimiter_char": "-"},
        {"clean_up_tokenization_spaces": True},
        {"clean_up_tokenization_spaces": True, "do_lower_case": True},
        {"word_delimiter_token": None},
        {"pad_token": {"content": "<pad>", "lstrip": False, "__type": "AddedToken"}},
    ],
)
def test_decoding_equals_the_tokenizer_of_transformers(settings, model_folder, tmp_path):
    from transformers import Wav2Vec2CTCTokenizer

    for path in model_folder.glob("*.json"):
        content = json.loads(path.read_text())
        (tmp_path / path.name).write_text(
            json.dumps(content | settings if path.name == "tokenizer_config.json" else content)
        )
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    symbols = read_symbols(str(tmp_path))
    generator = np.random.default_rng(0)
    # The first nine symbols are blank, delimiter, special tokens and letters. "words" has apostrophes for the clean-up.
    some = {"special": range(9), "all": range(32), "words": [4, 4, 10, 12, 14, 26, 27, 27]}
    for frames, choice in itertools.product((0, 1, 2, 50, 500), some.values()):
        for _ in range(10):
            ids = generator.choice(choice, frames).repeat(generator.integers(1, 4, frames)).astype(int)
            expected = tokenizer.decode(ids, skip_special_tokens=False)
            assert ctc.greedy_decode(np.eye(32)[ids], symbols) == expected
            output = tokenizer.decode(ids, skip_special_tokens=False, output_char_offsets=True)
            offsets = [tuple(each.values()) for each in output["char_offsets"] or ()]
            assert ctc.pieces(ids, symbols) == offsets


def test_pieces_have_the_frames_of_their_repeats():
    ids = np.array([SYMBOLS.index(symbol) for symbol in ("<pad>", "H", "H", "I", "<pad>", "I", "|", "|")])
    assert ctc.pieces(ids, BASE) == [("H", 1, 3), ("I", 3, 4), ("I", 5, 6), (" ", 6, 8)]
    assert ctc.pieces(ids, BASE._replace(phonemes=True)) == [("H", 1, 3), ("I", 3, 4), ("I", 5, 6)]
    assert ctc.pieces(ids[:0], BASE) == ctc.pieces(ids[:1], BASE) == []


def test_repeats_are_those_of_a_text_which_may_have_two_ids():
    symbols = ctc.Symbols(("<pad>", "A", "A", "<pad>", "B"))
    ids = np.array([1, 2, 0, 3, 2, 4])
    assert ctc.pieces(ids, symbols) == [("A", 0, 2), ("A", 4, 5), ("B", 5, 6)]
    assert ctc.greedy_decode(np.eye(5)[ids], symbols) == "AAB"


def test_phonemes_have_a_blank_between_them():
    symbols = BASE._replace(phonemes=True)
    assert ctc.greedy_decode(logits("H", "I", "I", "<pad>", "|", "I"), symbols) == "H I I"
