# SPDX-License-Identifier: Apache-2.0
"""Proves that packed strings are those of a list, in a fraction of its memory."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest

from wav2vec2_eval.sources.packed import PackedStrings

STRINGS = ["61-70968-0009", "", "ä€\U0001f600", "pre\udcd6", "a\0b", "x" * 1000]


def test_strings_are_those_of_a_list():
    packed = PackedStrings(STRINGS)
    assert list(packed) == [packed[index] for index in range(len(packed))] == STRINGS
    assert (packed[-1], len(packed), "a\0b" in packed) == (STRINGS[-1], len(STRINGS), True)
    assert list(pickle.loads(pickle.dumps(packed))) == STRINGS
    for index in (len(STRINGS), -len(STRINGS) - 1):
        with pytest.raises(IndexError):
            packed[index]


@pytest.mark.parametrize(
    ("strings", "repeated"),
    [
        ([], None),
        (["a"], None),
        (["a", "A", "a "], None),
        (["a", "b", "a"], (0, 2)),
        (["a", "b", "b", "a", "a"], (1, 2)),
        ([*map(str, range(5000)), "4999", "0"], (4999, 5000)),
    ],
)
def test_the_first_repeated_string_is_found(strings, repeated):
    assert PackedStrings(strings).repeated() == repeated


def test_strings_take_little_memory():
    tracemalloc.start()
    try:
        packed = PackedStrings(f"{index:016d}" for index in range(100_000))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 32 * len(packed)
