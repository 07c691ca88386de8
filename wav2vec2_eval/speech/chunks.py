# SPDX-License-Identifier: Apache-2.0
"""Long recordings in overlapping chunks: where they are cut, and which frames of each are kept. Pure functions.

A model reads one chunk at a time. Its frames near a cut lack the context beyond it, so neighbouring chunks overlap, and
of each overlap one half comes from either side. The rule is that of transformers' pipeline with `chunk_length_s` and
`stride_length_s` (https://huggingface.co/blog/asr-chunking). The cuts lie on the frames' grid, so the kept frames join
to one row of frames without a gap. The result is close to that of the whole recording, but not equal to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..errors import SuiteError
from .audio import SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count


class Chunk(NamedTuple):
    """A part of a recording, and which of its own frames are kept: `first_frame` up to, not including, `end_frame`."""

    start: int  # in samples
    num_samples: int
    first_frame: int
    end_frame: int
    new_samples: int  # from its start to that of the next chunk: they add up to the recording


class Cut(NamedTuple):
    """The waveform of a chunk, or of a whole recording."""

    number: int | None  # from 0 on; None: the recording is not cut
    start: int  # in samples
    waveform: np.ndarray  # (T,)


class Chunking(NamedTuple):
    """Recordings longer than `chunk` samples are cut; a chunk has `stride` samples of overlap on either side."""

    chunk: int
    stride: int

    def __str__(self) -> str:
        return f"{self.chunk / SAMPLE_RATE:g} s that overlap by {self.stride / SAMPLE_RATE:g} s on either side"

    @property
    def step(self) -> int:
        """Samples from the start of a chunk to that of the next one."""
        return self.chunk - 2 * self.stride

    def cut(self, blocks: Iterable[np.ndarray]) -> Iterator[Cut]:
        """The chunks that `plan` says, from blocks of a (T,) waveform in order. Memory is bounded."""
        waiting, number = np.empty(0, np.float32), 0
        for block in blocks:
            waiting = np.concatenate([waiting, block])
            while len(waiting) > self.chunk:  # so this chunk is not the last one
                yield Cut(number, number * self.step, waiting[: self.chunk])
                waiting, number = waiting[self.step :], number + 1
        yield Cut(number or None, number * self.step, waiting)


def new_chunking(chunk_s: float, stride_s: float | None = None) -> Chunking:
    """The chunking for lengths in seconds, rounded to whole frames; by default the overlap is a sixth of a chunk.

    Raises SuiteError if there is no overlap, or if the overlaps leave nothing of a chunk.
    """
    stride_s = chunk_s / 6 if stride_s is None else stride_s
    chunking = Chunking(
        *(round(each * SAMPLE_RATE / SAMPLES_PER_FRAME) * SAMPLES_PER_FRAME for each in (chunk_s, stride_s))
    )
    check(chunking)
    return chunking


def plan(num_samples: int, chunking: Chunking | None) -> list[Chunk]:
    """The chunks of a recording, in order; a single one, with all frames, if it is not cut."""
    longest, stride, step = (max(1, num_samples), 0, 1) if chunking is None else (*chunking, chunking.step)
    chunks = []
    for start in range(0, max(1, num_samples), step):
        length = min(longest, num_samples - start)
        is_last = start + length == num_samples
        first = stride // SAMPLES_PER_FRAME if start else 0
        end = frame_count(length) if is_last else (longest - stride) // SAMPLES_PER_FRAME
        chunks.append(Chunk(start, length, first, end, length if is_last else step))
        if is_last:
            break
    return chunks


def check(chunking: Chunking) -> None:
    """Raise SuiteError unless neighbouring chunks overlap, and each has frames of its own.

    Without overlap, the frame that reads samples on both sides of a cut would be missing, and the times after it wrong.
    """
    if any(each % SAMPLES_PER_FRAME for each in chunking) or chunking.stride <= 0 or chunking.step <= 0:
        shown = " and ".join(f"{each / SAMPLE_RATE:g}" for each in chunking)
        raise SuiteError(
            f"--chunk_s and --stride_s: expected a stride of at least 0.02 s, and a chunk of more than twice the "
            f"stride, found a chunk and a stride of {shown} s"
        )


def join(chunks: Iterable[Chunk], frames: Iterable[np.ndarray]) -> np.ndarray:
    """The (F, V) frames of a recording, from the (F_i, V) frames of its chunks; those of padding are left out.

    A recording that is not cut keeps all its frames. Some may be of its padding, which is decoded everywhere.
    """
    parts = list(zip(chunks, frames))
    if len(parts) == 1:
        return parts[0][1]
    return np.concatenate([each[chunk.first_frame : chunk.end_frame] for chunk, each in parts])
