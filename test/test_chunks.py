# SPDX-License-Identifier: Apache-2.0
"""Proves that long recordings are cut, and their frames joined, as transformers' pipeline does it."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.chunks import Chunk, Chunking, join, new_chunking, plan

CHUNKINGS = [(1.0, 0.1), (1.0, None), (2.0, 0.5), (0.1, 0.02), (0.06, 0.02)]
LENGTHS = [400, 15_999, 16_000, 16_001, 16_100, 40_000, 48_321, 100_000, 160_000]


@pytest.mark.parametrize(("chunk_s", "stride_s"), CHUNKINGS)
@pytest.mark.parametrize("num_samples", LENGTHS)
def test_chunks_are_those_of_transformers(chunk_s, stride_s, num_samples):
    from transformers import Wav2Vec2FeatureExtractor
    from transformers.pipelines.automatic_speech_recognition import chunk_iter, rescale_stride

    chunking = new_chunking(chunk_s, stride_s)
    waveform = np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    theirs = list(chunk_iter(waveform, extractor, chunking.chunk, chunking.stride, chunking.stride))
    chunks = plan(num_samples, chunking)
    found = list(chunking.cut(np.array_split(waveform, 7)))
    assert len(chunks) == len(theirs) == len(found)
    assert [cut.number for cut in found] == ([None] if len(chunks) == 1 else list(range(len(chunks))))
    for chunk, cut, item in zip(chunks, found, theirs):
        assert (cut.start, len(cut.waveform)) == chunk[:2]
        np.testing.assert_array_equal(cut.waveform, item["input_values"][0])
        ((total, left, right),) = rescale_stride([item["stride"]], 1 / 320)
        frames = np.arange(frame_count(chunk.num_samples))
        np.testing.assert_array_equal(frames[chunk.first_frame : chunk.end_frame], frames[left : total - right])


@pytest.mark.parametrize(("chunk_s", "stride_s"), CHUNKINGS)
@pytest.mark.parametrize("num_samples", LENGTHS)
def test_kept_frames_are_each_frame_of_the_recording_once(chunk_s, stride_s, num_samples):
    chunks = plan(num_samples, new_chunking(chunk_s, stride_s))
    numbers = [chunk.start // 320 + np.arange(frame_count(chunk.num_samples))[:, None] for chunk in chunks]
    found = join(chunks, numbers)[:, 0]
    assert list(found) == list(range(frame_count(num_samples)))
    assert sum(chunk.new_samples for chunk in chunks) == num_samples


@pytest.mark.parametrize("sizes", [1, 1_000, 16_000, 99_999, 100_000])
def test_the_blocks_do_not_matter(sizes):
    waveform = np.arange(100_000, dtype=np.float32)
    chunking = new_chunking(1.0, 0.25)
    blocks = (waveform[start : start + sizes] for start in range(0, len(waveform), sizes)) if sizes > 1 else [waveform]
    cut = list(chunking.cut(blocks))
    chunks = plan(len(waveform), chunking)
    assert [len(each.waveform) for each in cut] == [chunk.num_samples for chunk in chunks]
    assert [int(each.waveform[0]) for each in cut] == [chunk.start for chunk in chunks]


def test_a_recording_that_is_not_cut_keeps_all_its_frames_and_those_of_its_padding():
    chunking = Chunking(16_000, 3_200)
    assert plan(16_000, chunking) == [Chunk(0, 16_000, 0, 49, 16_000)]
    frames = np.ones((60, 5))
    assert join(plan(16_000, chunking), [frames]) is frames
    assert [(each.number, len(each.waveform)) for each in chunking.cut([])] == [(None, 0)]
    assert len(plan(0, chunking)) == 1
    assert plan(999_999, None) == [Chunk(0, 999_999, 0, frame_count(999_999), 999_999)]


@pytest.mark.parametrize(("chunk_s", "stride_s"), [(1.0, 0.5), (1.0, 2.0), (0.01, None), (0.0, 0.0), (1.0, 0.0)])
def test_chunks_without_overlap_or_without_frames_of_their_own_are_refused(chunk_s, stride_s):
    with pytest.raises(SuiteError, match=r"expected a stride of at least 0\.02 s, and a chunk of more than twice"):
        new_chunking(chunk_s, stride_s)
