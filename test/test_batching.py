# SPDX-License-Identifier: Apache-2.0
"""Proves that utterances are stacked into batches, and that each gets its own rows and frames of the outputs back."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.engines import batching
from wav2vec2_eval.engines.base import TensorSpec
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech.audio import frame_count


def spec(name: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name, np.dtype("float32"), shape)


MASKED = [spec("input", None, None), spec("attention_mask", None, None)]
OTHERS = {
    "plain": [spec("input", None, None)],
    "other order": MASKED[::-1],
    "one row": [spec("input", 1, None), spec("attention_mask", 1, None)],
    "one gear": [spec("input", None, 10_000), spec("attention_mask", None, 10_000)],
    "other names": [spec("a", None, None), spec("b", None, None)],
    "nothing": [],
}


def utterance(length: int, rows: int = 1, fill: float = 1.0) -> list[np.ndarray]:
    """A waveform of one value, and its mask."""
    return [np.full((rows, length), fill, np.float32), np.ones((rows, length), np.float32)]


def test_a_masked_model_may_batch():
    assert batching.is_masked(MASKED)
    batching.check_batch_size(1024, MASKED)


def test_a_batch_has_an_upper_bound():
    with pytest.raises(SuiteError, match="--batch_size=1025: expected at most 1024 utterances"):
        batching.check_batch_size(1025, MASKED)


@pytest.mark.parametrize("inputs", OTHERS.values(), ids=OTHERS)
def test_other_models_may_not_batch(inputs):
    assert not batching.is_masked(inputs)
    batching.check_batch_size(1, inputs)
    with pytest.raises(SuiteError, match="--batch_size=2 needs a model with attention_mask"):
        batching.check_batch_size(2, inputs)


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (7, 3, [3, 3, 1]), (2, 1, [1, 1])]
)
def test_batches_are_full_but_for_the_last(count, size, sizes):
    utterances = [utterance(400 + index) for index in range(count)]
    batches = list(batching.batched(iter(utterances), size))
    assert [len(batch) for batch in batches] == sizes
    assert [arrays for batch in batches for arrays in batch] == utterances


def test_batches_are_read_one_at_a_time():
    read = []

    def utterances():
        for index in range(9):
            read.append(index)
            yield utterance(400)

    next(batching.batched(utterances(), 2))
    assert read == [0, 1]


def test_a_single_utterance_is_not_copied():
    arrays = utterance(500)
    assert all(one is other for one, other in zip(batching.stack([arrays]), arrays, strict=True))


@pytest.mark.parametrize(("multiple", "length"), [(1, 900), (500, 1_000), (900, 900)])
def test_waveforms_and_masks_are_padded_with_zeros(multiple, length):
    waveforms, masks = batching.stack([utterance(400, fill=2), utterance(900, fill=3)], multiple)
    assert waveforms.shape == masks.shape == (2, length)
    assert waveforms.dtype == masks.dtype == np.float32
    assert waveforms.sum(axis=1).tolist() == [800, 2_700]
    assert masks.sum(axis=1).tolist() == [400, 900]
    assert masks[0, :400].all() and masks[1, :900].all()


def test_a_single_utterance_is_padded_to_a_multiple():
    (waveform,) = batching.stack([[np.ones((1, 700), np.float32)]], 1_000)
    assert waveform.shape == (1, 1_000)
    assert waveform.sum() == 700


@pytest.mark.parametrize("batch", [[utterance(399), utterance(500)], [utterance(500), utterance(399)]])
def test_an_utterance_without_a_frame_is_refused(batch):
    with pytest.raises(SuiteError, match="an utterance of 399 samples gives no frame; expected at least 400"):
        batching.stack(batch)


def test_a_mask_of_another_length_is_refused():
    arrays = [np.ones((1, 5_000), np.float32), np.ones((1, 4_000), np.float32)]
    with pytest.raises(SuiteError, match=r"a mask of one shape, found \(1, 5000\) and \(1, 4000\)"):
        batching.stack([arrays], 1_000)


def test_each_utterance_gets_its_rows_and_its_frames_back():
    """A (B, F, V) output whose values name their row and frame."""
    batch = [utterance(400), utterance(900, rows=2), utterance(720)]
    stacked = batching.stack(batch, 1_000)
    frames = frame_count(1_000)
    output = np.arange(4 * frames * 3).reshape(4, frames, 3)
    results = batching.split([output, -output], batch, stacked)
    rows = [slice(0, 1), slice(1, 3), slice(3, 4)]
    for (first, second), row, arrays in zip(results, rows, batch, strict=True):
        expected = output[row, : frame_count(arrays[0].shape[1])]
        assert np.array_equal(first, expected) and np.array_equal(second, -expected)


def test_the_outputs_of_a_single_unpadded_utterance_stay_as_they_are():
    """They need not be logits: another model may have other outputs."""
    batch = [[np.ones((1, 3), np.float32)]]
    outputs = [np.ones(7), np.ones((2, 2))]
    (result,) = batching.split(outputs, batch, batching.stack(batch))
    assert all(one is other for one, other in zip(result, outputs, strict=True))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (4, 3, 4), (1, 3, 4), (3, 2, 4), (3, 4, 4), (3, 0, 4)])
@pytest.mark.parametrize("position", [0, 1])
def test_outputs_that_cannot_be_divided_among_the_utterances_are_refused(position, shape):
    """Three rows of 1,200 samples have three rows of three frames; anything else would be cut wrongly."""
    batch = [utterance(400), utterance(900), utterance(720)]
    outputs = [np.ones((3, 3, 4), np.float32)] * 2
    assert len(batching.split(outputs, batch, batching.stack(batch, 1_200))) == 3
    outputs[position] = np.ones(shape, np.float32)
    with pytest.raises(SuiteError, match=rf"output {position} of the model has shape .*, expected 3 rows of 3 frames"):
        batching.split(outputs, batch, batching.stack(batch, 1_200))
