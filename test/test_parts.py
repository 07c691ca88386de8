# SPDX-License-Identifier: Apache-2.0
"""Proves which keys the chunks of long recordings have, and that a record of impossible chunks is refused."""

from __future__ import annotations

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.parts import Parts
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.files.utterances import Utterance

CHUNKED = Run("preprocess.py", chunk_samples=16_000, stride_samples=3_200)
UTTERANCES = {key: Utterance(key, key, length, "A") for key, length in (("0", 16_000), ("1", 40_000), ("3", 400))}


@pytest.mark.parametrize("run", [CHUNKED, Run("pyacl_infer.py", data=CHUNKED)])
def test_a_long_recording_has_a_key_for_each_chunk(run):
    parts = Parts(run)
    keys = ["0", "1-0", "1-1", "1-2", "1-3", "3"]
    assert list(parts.keys(UTTERANCES)) == keys
    assert list(parts.utterance_keys(keys)) == ["0", "1", "3"]
    assert list(parts.new_samples(keys, UTTERANCES)) == [16_000, 9_600, 9_600, 9_600, 11_200, 400]
    assert list(parts.new_samples(keys[2:3], UTTERANCES)) == [9_600]


@pytest.mark.parametrize("run", [None, Run("preprocess.py")])
def test_without_chunks_an_utterance_is_its_own_part(run):
    """Keys of other tools may look like those of chunks."""
    parts = Parts(run)
    utterances = {"a-1": Utterance("a-1", "x", 40_000, None)}
    assert parts.keys(utterances) is utterances
    assert list(parts.utterance_keys(["a-1"])) == ["a-1"]
    assert list(parts.new_samples(["a-1"], utterances)) == [40_000]


def test_a_part_that_no_utterance_has_is_refused():
    with pytest.raises(SuiteError, match="utterance 1 has no part 1-4"):
        list(Parts(CHUNKED).new_samples(["1-4"], UTTERANCES))


@pytest.mark.parametrize(("chunk", "stride"), [(0, 0), (16_000, None), (16_000, 8_000), (-1, -1), (16_001, 320)])
def test_a_record_of_impossible_chunks_is_refused(chunk, stride):
    with pytest.raises(SuiteError, match="expected a stride of at least"):
        Parts(Run("preprocess.py", chunk_samples=chunk, stride_samples=stride))
