# SPDX-License-Identifier: Apache-2.0
"""Proves that words have the times of transformers, that they are the transcript's, and how they look in CTM lines."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_folder import feature_extractor
from wav2vec2_eval.sources.model_folder import symbols as read_symbols
from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.ctc import BestPath, Symbols, best_path, decode
from wav2vec2_eval.speech.words import Word, format_ctm, words

from conftest import DEMO, SYMBOLS

BASE = Symbols(tuple(SYMBOLS))


def best(*texts: str, symbols: Symbols = BASE) -> BestPath:
    """One frame per symbol, each of the probability 0.5."""
    ids = np.array([symbols.table.index(text) for text in texts], np.int64)
    return BestPath(ids, np.full(len(ids), 0.5, np.float32))


def offsets(found: list[Word]) -> list[tuple[str, int, int]]:
    """Texts, and times in frames."""
    return [(word.text, round(word.start_s * 50), round(word.end_s * 50)) for word in found]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("", []),
        ("___", []),
        ("|||", []),
        ("A", [("A", 0, 1)]),
        ("_AA_", [("A", 1, 3)]),
        ("A_A", [("AA", 0, 3)]),  # blanks inside a word are part of it
        ("__HE|_|IIT__", [("HE", 2, 4), ("IT", 7, 10)]),
        ("|A|", [("A", 1, 2)]),
        ("A|_|_|B", [("A", 0, 1), ("B", 6, 7)]),
    ],
)
def test_a_word_lasts_from_its_first_symbol_to_its_last(frames, expected):
    assert offsets(words(best(*("<pad>" if frame == "_" else frame for frame in frames)), BASE)) == expected


def test_a_frame_is_20_ms():
    (word,) = words(best("<pad>", "A", "A"), BASE)
    assert (word.start_s, word.end_s) == (0.02, 0.06)


SETTINGS = [
    {},
    {"do_lower_case": True},
    {"replace_word_delimiter_char": "-"},
    {"replace_word_delimiter_char": ""},
    {"clean_up_tokenization_spaces": True},
    {"clean_up_tokenization_spaces": True, "do_lower_case": True},
    {"clean_up_tokenization_spaces": True, "replace_word_delimiter_char": "-"},
    {"word_delimiter_token": None},
    {"pad_token": "E"},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_words_and_offsets_are_those_of_transformers(settings, model_folder, tmp_path):
    from transformers import Wav2Vec2CTCTokenizer

    for path in model_folder.glob("*.json"):
        content = json.loads(path.read_text())
        if path.name == "tokenizer_config.json":
            content |= settings
        elif path.name == "special_tokens_map.json":
            content |= {name: value for name, value in settings.items() if name in content}
        (tmp_path / path.name).write_text(json.dumps(content))
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    symbols = read_symbols(str(tmp_path))
    generator = np.random.default_rng(0)
    joins = symbols.clean_up and symbols.replace_word_delimiter == " "
    joined = 0
    # The first nine symbols are blank, delimiter, special tokens and letters. "words" has apostrophes for the clean-up.
    for choice in (range(9), range(32), [4, 4, 4, 10, 12, 14, 26, 27, 27, 9, 6, 17]):
        for frames in (0, 1, 2, 50, 500):
            for _ in range(10):
                ids = generator.choice(choice, frames).repeat(generator.integers(1, 4, frames)).astype(np.int64)
                found = words(BestPath(ids, np.ones(len(ids), np.float32)), symbols)
                output = tokenizer.decode(ids, skip_special_tokens=False, output_word_offsets=True)
                expected = [
                    (each["word"].lower() if symbols.lower_case else each["word"], *list(each.values())[1:])
                    for each in output["word_offsets"] or ()
                ]
                if not joins:
                    assert offsets(found) == expected
                    continue
                # transformers cleans only the text up; its words are parts of these.
                assert [word.text for word in found] == output["text"].split()
                for text, start, end in offsets(found):
                    parts = [part for part in expected if start <= part[1] and part[2] <= end]
                    assert (text, start, end) == ("".join(part[0] for part in parts), parts[0][1], parts[-1][2])
                    joined += len(parts) - 1
    assert bool(joined) == joins


def test_two_ids_with_one_symbol_are_one_symbol():
    symbols = Symbols(("<pad>", "<unk>", "A", "|", "<unk>"))
    path = BestPath(np.array([1, 4, 0, 2, 3, 2]), np.ones(6, np.float32))
    assert decode(path.ids, symbols) == "<unk>A A"
    assert offsets(words(path, symbols)) == [("<unk>A", 0, 4), ("A", 5, 6)]


TEXTS = ["A", "B", "'", "S", "N", "T", ".", " ", "İ", "Σ", "a b", "\n", "", " .", "<unk>"]


@given(
    ids=st.lists(st.integers(0, len(TEXTS) + 1), max_size=40),
    delimiter=st.sampled_from(["|", None, "A"]),
    lower_case=st.booleans(),
    clean_up=st.booleans(),
    num_frames=st.none() | st.integers(0, 50),
)
def test_words_are_those_of_the_transcript(ids, delimiter, lower_case, clean_up, num_frames):
    symbols = Symbols(("<pad>", "|", *TEXTS), "<pad>", delimiter, " ", lower_case, clean_up)
    path = BestPath(np.array(ids, np.int64), np.linspace(0, 1, len(ids), dtype=np.float32))
    found = words(path, symbols, num_frames)
    assert [word.text for word in found] == decode(path.ids, symbols).split()
    last = max(len(ids) if num_frames is None else num_frames, 1)
    times = [(start, end) for _, start, end in offsets(found)]
    assert all(0 <= start < end <= last for start, end in times)
    assert [start for start, _ in times] == sorted(start for start, _ in times)
    assert all(0 <= word.confidence <= 1 for word in found)


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (None, [("A", 1, 3), ("B", 4, 6), ("A", 8, 9)]),
        (9, [("A", 1, 3), ("B", 4, 6), ("A", 8, 9)]),
        (8, [("A", 1, 3), ("B", 4, 6), ("A", 7, 8)]),
        (5, [("A", 1, 3), ("B", 4, 5), ("A", 4, 5)]),
        (1, [("A", 0, 1), ("B", 0, 1), ("A", 0, 1)]),
    ],
)
def test_no_word_ends_after_the_recording(num_frames, expected):
    path = best("<pad>", "A", "A", "|", "B", "B", "|", "|", "A")
    assert offsets(words(path, BASE, num_frames)) == expected


def test_confidence_is_of_the_words_symbols_and_not_of_blanks():
    path = best("A", "A", "<pad>", "B", "|", "C")
    path.probabilities[:] = [0.9, 0.3, 0.01, 0.6, 0.02, 0.25]
    assert [word.confidence for word in words(path, BASE)] == pytest.approx([0.6, 0.25])


def test_a_symbol_counts_for_confidence_by_its_frames_and_not_by_its_characters():
    (word,) = words(BestPath(np.array([0, 1]), np.array([0.2, 0.8], np.float32)), Symbols(("<unk>", "A")))
    assert word == ("<unk>A", 0.0, 0.04, pytest.approx(0.5))


@pytest.mark.parametrize("clean_up", [False, True])
def test_every_phoneme_is_a_word(clean_up):
    symbols = Symbols(("<pad>", "|", "tʃ", "ə", "'s"), clean_up=clean_up, phonemes=True)
    path = BestPath(np.array([2, 2, 0, 3, 1, 3, 4]), np.ones(7, np.float32))
    expected = [("tʃ", 0, 2), ("ə", 3, 4), ("ə", 5, 6), ("'s", 6, 7)]
    if clean_up:
        expected[2:] = [("ə's", 5, 7)]
    assert offsets(words(path, symbols)) == expected


def test_words_are_those_of_the_pipeline_of_transformers():
    import torch
    from transformers import AutoModelForCTC, pipeline

    folder = str(DEMO / "model")
    symbols, extractor = read_symbols(folder), feature_extractor(folder)
    model = AutoModelForCTC.from_pretrained(folder).eval()
    recognise = pipeline("automatic-speech-recognition", model=folder)
    dataset = open_dataset("clean", str(DEMO / "LibriSpeech"))
    count = 0
    for index in range(6):
        waveform = dataset.waveform(index)
        with torch.no_grad():
            logits = model(torch.from_numpy(extractor(waveform, len(waveform)))).logits[0].numpy()
        output = recognise(waveform.copy(), return_timestamps="word")
        for num_frames in (None, frame_count(len(waveform))):
            found = words(best_path(logits), symbols, num_frames)
            assert " ".join(word.text for word in found) == output["text"]
            assert [{"text": word.text, "timestamp": word[1:3]} for word in found] == output["chunks"]
        assert all(0.2 < word.confidence <= 1 for word in found)
        count += len(found)
    assert count > 10


@pytest.mark.parametrize(
    ("utterance_id", "word", "expected"),
    [
        ("61-1-0", Word("HELLO", 1.24, 1.5, 0.98765), "61-1-0 A 1.240 0.260 HELLO 0.988\n"),
        ("my clip\t1", Word("DON'T", 0.0, 0.02, 1.0), "my_clip_1 A 0.000 0.020 DON'T 1.000\n"),
        (";a", Word("A", 0.0, 0.02, 0.5), "_a A 0.000 0.020 A 0.500\n"),
        (";; a", Word("A", 3599.98, 3600.0, 0.0), "_;_a A 3599.980 0.020 A 0.000\n"),
        (" ", Word("你好", 0.0, 0.1, 0.5), "_ A 0.000 0.100 你好 0.500\n"),
    ],
)
def test_a_line_of_ctm(utterance_id, word, expected):
    assert format_ctm(utterance_id, word) == expected
