# SPDX-License-Identifier: Apache-2.0
"""The data folder of preprocess.py: tensors are written into a staging folder and published all at once.

While the manifest is missing, the folder is not complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import manifest, tensors
from .atomic import new_file
from .file_list import Content
from .folder import OutputFolder, Staging
from .manifest import Utterance
from .model_record import ModelRecord, format_record
from .names import GEARS_NAME, LAYOUTS, MANIFEST_NAME, MODEL_RECORD_NAME, RUN_NAME, UTTERANCES_NAME, tensor_names
from .run import Run, format_run


class Preprocessed(NamedTuple):
    """An utterance whose tensors are written."""

    num_samples: int
    padded_length: int  # samples
    contents: Mapping[str, Content]  # of the tensor files, by name


class Totals:
    """What is known of the preprocessed utterances together."""

    def __init__(self) -> None:
        self.utterances = 0
        self.num_samples = 0
        self.padded_samples = 0
        self.gears: set[int] = set()  # the padded lengths in samples
        self.checksum = 0  # CRC-32 of all tensors' CRC-32s

    def add(self, item: Preprocessed) -> None:
        self.utterances += 1
        self.num_samples += item.num_samples
        self.padded_samples += item.padded_length
        self.gears.add(item.padded_length)
        self.checksum = manifest.checksum_of((content.crc32 for content in item.contents.values()), self.checksum)


def write_tensors(
    folder: Path, index: int, num_samples: int, arrays: Sequence[np.ndarray], layout: str = LAYOUTS[0]
) -> Preprocessed:
    """Write the model inputs of utterance `index`, each (1, T): the waveform, and the mask if there is one."""
    contents = {}
    for name, array in zip(tensor_names(str(index), layout), arrays):
        path = folder / name
        if path.parent != folder:
            path.parent.mkdir(exist_ok=True)
        with new_file(path) as file:
            tensors.write_tensor(file, array, "npy" if tensors.is_npy(path) else "bin")
        contents[name] = Content(file.size, file.crc32)
    return Preprocessed(num_samples, arrays[0].shape[1], contents)


def stage(
    staged: Staging,
    save_path: str,
    utterances: Iterable[tuple[Utterance, Preprocessed]],
    run: Run,
    record: ModelRecord,
) -> Totals:
    """Describe the tensors in the staging folder, each as soon as it is written.

    `save_path` is the data folder as the user wrote it, for the manifest; `run` gets the number of utterances and their
    checksum.
    """
    totals = Totals()
    folder = save_path.rstrip("/")
    with staged.writing(MANIFEST_NAME) as lines, staged.writing(UTTERANCES_NAME) as table:
        for utterance, item in utterances:
            for name, content in item.contents.items():
                staged.record(name, content)
                line = manifest.format_line(utterance.key, f"{folder}/{name}", (1, item.padded_length))
                lines.write(f"{line}\n".encode())
            table.write(manifest.format_utterance(utterance).encode())
            totals.add(item)
    staged.write_text(GEARS_NAME, "".join(f"{gear}\n" for gear in sorted(totals.gears)))
    staged.write_text(MODEL_RECORD_NAME, format_record(record))
    staged.write_text(RUN_NAME, format_run(replace(run, utterances=totals.utterances, checksum=totals.checksum)))
    return totals


def publish(folder: OutputFolder, staged: Staging, script: str) -> None:
    """Replace the earlier data by the staged data. Raises SuiteError if the user has put files into the folder."""
    folder.check_alone(script)
    folder.publish(staged, marker=MANIFEST_NAME)
