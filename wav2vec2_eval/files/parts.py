# SPDX-License-Identifier: Apache-2.0
"""Which model inputs an utterance has: itself, or the chunks of a long recording, by their keys.

Utterance 3 is in the manifest and in the results as `3`, or in chunks as `3-0`, `3-1` and so on. Where the chunks lie
follows from the recording's length and from the chunking in run.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ..errors import SuiteError
from ..speech.chunks import Chunk, Chunking, check, plan
from .names import chunk_key
from .run import Run
from .utterances import References, Utterance


class Part(NamedTuple):
    """One model input of an utterance."""

    key: str
    chunk: Chunk


class Parts:
    """How the utterances of a data or results folder are cut. `run` is the folder's record."""

    def __init__(self, run: Run | None) -> None:
        """Raises SuiteError if the record says an impossible chunking."""
        data = None if run is None else run.of_data
        self.chunking: Chunking | None = None
        if data is not None and data.chunk_samples is not None:
            self.chunking = Chunking(data.chunk_samples, data.stride_samples or 0)
            check(self.chunking)

    def of(self, utterance: Utterance) -> list[Part]:
        """The model inputs of an utterance, in order."""
        chunks = plan(utterance.num_samples, self.chunking)
        is_whole = len(chunks) == 1
        keys = (chunk_key(utterance.key, None if is_whole else number) for number in range(len(chunks)))
        return list(map(Part, keys, chunks))

    def utterance_key(self, key: str) -> str:
        """The utterance to which a model input belongs."""
        return key if self.chunking is None else key.partition("-")[0]

    def utterance_keys(self, keys: Iterable[str]) -> Iterator[str]:
        """The utterances of model inputs, each once: those of an utterance stand together."""
        previous = None
        for key in map(self.utterance_key, keys):
            if key != previous:
                yield key
            previous = key

    def keys(self, references: References) -> Mapping[str, object]:
        """The keys of all model inputs of these utterances, in order."""
        if self.chunking is None:
            return references
        return {part.key: None for key in references for part in self.of(references[key])}

    def new_samples(self, keys: Iterable[str], references: References) -> Iterator[int]:
        """The samples that each model input adds to its utterance: an overlap counts once.

        Raises SuiteError for a key that no utterance has.
        """
        utterance, lengths = "", dict[str, int]()
        for key in keys:
            if self.utterance_key(key) != utterance:
                utterance = self.utterance_key(key)
                lengths = {part.key: part.chunk.new_samples for part in self.of(references[utterance])}
            if key not in lengths:
                raise SuiteError(f"utterance {utterance} has no part {key}; run preprocess.py again")
            yield lengths[key]
