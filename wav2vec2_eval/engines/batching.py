# SPDX-License-Identifier: Apache-2.0
"""Several utterances in one execution, for the CPU engines: their inputs are stacked and the outputs split again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from ..errors import SuiteError
from ..files.names import ATTENTION_MASK, INPUT
from ..files.tensors import format_shape
from ..speech.audio import RECEPTIVE_FIELD, frame_count
from .base import Arrays, TensorSpec

Batch = Sequence[Arrays]

MOST_UTTERANCES = 1024  # in a batch: beyond that, memory ends before anything is gained


def is_masked(inputs: Sequence[TensorSpec]) -> bool:
    """Whether the model was exported with --attention_mask, so that padding does not change its answers."""
    names = [spec.name for spec in inputs]
    return names == [INPUT, ATTENTION_MASK] and all(spec.shape == (None, None) for spec in inputs)


def check_batch_size(batch_size: int, inputs: Sequence[TensorSpec]) -> None:
    """Raise SuiteError unless the model answers each utterance of such a batch as if it were alone."""
    if batch_size > MOST_UTTERANCES:
        raise SuiteError(f"--batch_size={batch_size}: expected at most {MOST_UTTERANCES} utterances")
    if batch_size > 1 and not is_masked(inputs):
        raise SuiteError(
            f"--batch_size={batch_size} needs a model with attention_mask, to keep each utterance's answer; "
            f"export it by export_onnx.py --attention_mask"
        )


def batched(utterances: Iterable[Arrays], batch_size: int) -> Iterator[Batch]:
    """Group the utterances, `batch_size` at a time; the last batch may be smaller."""
    waiting = iter(utterances)
    while batch := list(islice(waiting, batch_size)):
        yield batch


def stack(batch: Batch, multiple: int = 1) -> list[np.ndarray]:
    """(1, T) arrays of several lengths -> for each input (B, longest T rounded up to a `multiple`), zero-padded.

    Raises SuiteError for an utterance that is too short for a frame, and for a mask of another length than its
    waveform. Padding would hide both.
    """
    if len(batch) == 1 and multiple == 1:
        return list(batch[0])
    for arrays in batch:
        shapes = [array.shape for array in arrays]
        if len(set(shapes)) > 1:
            raise SuiteError(f"expected a waveform and a mask of one shape, found {' and '.join(map(str, shapes))}")
    lengths = [array.shape[1] for arrays in batch for array in arrays]
    if min(lengths) < RECEPTIVE_FIELD:
        raise SuiteError(f"an utterance of {min(lengths)} samples gives no frame; expected at least {RECEPTIVE_FIELD}")
    length = -(-max(lengths) // multiple) * multiple
    padded = ([np.pad(array, ((0, 0), (0, length - array.shape[1]))) for array in arrays] for arrays in zip(*batch))
    return [np.concatenate(arrays) for arrays in padded]


def split(outputs: Sequence[np.ndarray], batch: Batch, stacked: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The outputs of each utterance of `batch`: its rows of the (B, F, V) logits, cut to the frames of its waveform.

    Raises SuiteError if an output does not have a row for each row that went in, and a frame for each of wav2vec 2.0.
    """
    if len(batch) == 1 and stacked[0].shape == batch[0][0].shape:
        return [list(outputs)]
    rows_in, length = stacked[0].shape
    expected = rows_in, frame_count(length)
    for index, output in enumerate(outputs):
        if output.shape[:2] != expected:
            raise SuiteError(
                f"output {index} of the model has shape {format_shape(output.shape)}, expected {expected[0]} rows of "
                f"{expected[1]} frames, so it cannot be divided among utterances; see --engine=onnxruntime and "
                f"--batch_size=1"
            )
    results: list[list[np.ndarray]] = []
    row = 0
    for waveform, *_ in batch:
        rows, frames = slice(row, row + len(waveform)), frame_count(waveform.shape[1])
        results.append([output[rows, :frames] for output in outputs])
        row = rows.stop
    return results
