# SPDX-License-Identifier: Apache-2.0
"""The data folder of preprocess.py: tensors are written into a staging folder and published all at once.

While the manifest is missing, the folder is not complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UNPRINTABLE, SuiteError
from . import manifest, space, tensors
from .atomic import new_file
from .file_list import Content
from .folder import OutputFolder, Staging, Writer
from .model_record import ModelRecord, format_record
from .names import (
    GEARS_NAME,
    LAYOUTS,
    MANIFEST_NAME,
    MODEL_RECORD_NAME,
    RUN_NAME,
    SKIPPED_NAME,
    UTTERANCES_NAME,
    tensor_names,
)
from .run import Run, format_run
from .space import on_disk
from .tensors import DTYPE, WRITTEN_DTYPE
from .text import read_text
from .utterances import Utterance, format_utterance


class Tensors(NamedTuple):
    """A model input whose tensors are written."""

    key: str
    num_samples: int
    padded_length: int  # samples
    contents: Mapping[str, Content]  # of the tensor files, by name


class Preprocessed(NamedTuple):
    """An utterance whose tensors are written: one model input, or one for each chunk."""

    utterance: Utterance
    parts: Sequence[Tensors]
    rate: int  # of the recording, in Hz
    channels: int


class Skipped(NamedTuple):
    """An utterance that is left out."""

    key: str
    utterance_id: str
    reason: str


class Totals:
    """What is known of the preprocessed utterances together."""

    def __init__(self) -> None:
        self.utterances = 0
        self.chunked = 0  # utterances that are cut
        self.unscored = 0  # utterances without a reference
        self.skipped: list[Skipped] = []
        self.rates: Counter[int] = Counter()  # of the recordings, in Hz -> how many
        self.channels: Counter[int] = Counter()
        self.num_samples = 0  # of utterances
        self.input_samples = 0  # of model inputs: overlaps count twice
        self.padded_samples = 0
        self.num_bytes = 0  # of the tensors
        self.gears: set[int] = set()  # the padded lengths in samples
        self.checksum = 0  # CRC-32 of all tensors' CRC-32s

    def add(self, item: Preprocessed) -> None:
        self.utterances += 1
        self.chunked += len(item.parts) > 1
        self.unscored += item.utterance.text is None
        self.rates[item.rate] += 1
        self.channels[item.channels] += 1
        self.num_samples += item.utterance.num_samples
        for part in item.parts:
            self.input_samples += part.num_samples
            self.padded_samples += part.padded_length
            self.gears.add(part.padded_length)
            self.num_bytes += sum(content.size for content in part.contents.values())
            self.checksum = manifest.checksum_of((content.crc32 for content in part.contents.values()), self.checksum)


def check_space(folder: Path, sampled: Sequence[Sequence[int]], utterances: int, num_arrays: int) -> None:
    """Raise SuiteError unless there is room for the tensors of `utterances`; say how much they need.

    `sampled`: the padded lengths of the model inputs of some of them, or of all; `num_arrays`: tensors for each model
    input. Nothing is known without a single one.
    """
    if not sampled:
        return
    size = DTYPE[WRITTEN_DTYPE].itemsize
    in_sample = sum(num_arrays * on_disk(size * length) for lengths in sampled for length in lengths)
    needed, count = in_sample * utterances // len(sampled), len(sampled)
    basis = f"estimated from the lengths of {count}" if count < utterances else "from their lengths"
    space.check_space(folder, needed, f"{utterances} utterances", basis)


def write_tensors(
    folder: Path, key: str, num_samples: int, arrays: Sequence[np.ndarray], layout: str = LAYOUTS[0]
) -> Tensors:
    """Write a model input, each array (1, T): the waveform, and the mask if there is one."""
    contents = {}
    for name, array in zip(tensor_names(key, layout), arrays):
        path = folder / name
        if path.parent != folder:
            path.parent.mkdir(exist_ok=True)
        with new_file(path) as file:
            tensors.write_tensor(file, array, "npy" if tensors.is_npy(path) else "bin")
        contents[name] = Content(file.size, file.crc32)
    return Tensors(key, num_samples, arrays[0].shape[1], contents)


def stage(
    staged: Staging,
    save_path: str,
    items: Iterable[Preprocessed | Skipped],
    run: Run,
    record: ModelRecord,
) -> Totals:
    """Describe the tensors in the staging folder, each as soon as it is written.

    `save_path` is the data folder as the user wrote it, for the manifest; `run` gets the number of utterances and their
    checksum. Raises SuiteError if all utterances are skipped.
    """
    totals = Totals()
    folder = save_path.rstrip("/")
    with staged.writing(MANIFEST_NAME) as lines, staged.writing(UTTERANCES_NAME) as table:
        for item in items:
            if isinstance(item, Skipped):
                totals.skipped.append(item)
                continue
            for part in item.parts:
                for name, content in part.contents.items():
                    staged.record(name, content)
                    line = manifest.format_line(part.key, f"{folder}/{name}", (1, part.padded_length))
                    lines.write(f"{line}\n".encode())
            table.write(format_utterance(item.utterance).encode())
            totals.add(item)
    if totals.skipped and not totals.utterances:
        raise SuiteError(f"none of the {len(totals.skipped)} utterances can be used; first: {totals.skipped[0].reason}")
    write_skipped(staged, totals.skipped)
    staged.write_text(GEARS_NAME, "".join(f"{gear}\n" for gear in sorted(totals.gears)))
    staged.write_text(MODEL_RECORD_NAME, format_record(record))
    known = replace(run, utterances=totals.utterances, checksum=totals.checksum)
    staged.write_text(
        RUN_NAME, format_run(replace(known, chunked=totals.chunked or None, skipped=len(totals.skipped) or None))
    )
    return totals


def write_skipped(target: Writer, skipped: Sequence[Skipped]) -> None:
    """Write skipped.tsv, if any utterance is left out."""
    if skipped:
        rows = [Skipped._fields, *((*each[:2], UNPRINTABLE.sub(" ", each.reason)) for each in skipped)]
        target.write_text(SKIPPED_NAME, "".join("\t".join(row) + "\n" for row in rows))


def read_skipped(path: Path) -> list[Skipped]:
    """The utterances in a skipped.tsv. Raises SuiteError for anything else."""
    return parse_skipped(read_text(path, "expected the file that --skip_unusable writes"), path)


def parse_skipped(text: str, path: Path) -> list[Skipped]:
    """The utterances in the text of the skipped.tsv `path`. Raises SuiteError for anything else."""
    header, *lines = text.splitlines() or [""]
    rows = [line.split("\t") for line in lines]
    if header.split("\t") != list(Skipped._fields) or any(len(row) != len(Skipped._fields) for row in rows):
        raise SuiteError(f"{path}: expected a {SKIPPED_NAME} of preprocess.py, found something else")
    return [Skipped(*row) for row in rows]


def publish(folder: OutputFolder, staged: Staging, script: str) -> None:
    """Replace the earlier data by the staged data. Raises SuiteError if the user has put files into the folder."""
    folder.check_alone(script)
    folder.publish(staged, marker=MANIFEST_NAME)
