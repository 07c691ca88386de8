# SPDX-License-Identifier: Apache-2.0
"""The data folder of preprocess.py: tensors are written into a staging folder and published all at once.

The manifest is deleted first and written last: while it is missing, the folder is not complete.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import manifest, run_folder, tensors
from .atomic import write_text
from .manifest import Utterance
from .names import (
    GEARS_NAME,
    MANIFEST_NAME,
    STAGING_NAME,
    TEMPORARY_SUFFIX,
    UTTERANCES_NAME,
    tensor_index,
    tensor_names,
)
from .run_folder import Run


class Preprocessed(NamedTuple):
    """An utterance whose tensors are written."""

    num_samples: int
    padded_length: int  # samples
    checksum: int  # CRC-32 of the tensors


def write_tensors(folder: Path, index: int, num_samples: int, arrays: Sequence[np.ndarray]) -> Preprocessed:
    """Write the model inputs of utterance `index`, each (1, T): the waveform, and the mask if there is one."""
    checksum = 0
    for name, array in zip(tensor_names(index, attention_mask=len(arrays) > 1), arrays):
        tensors.write_tensor(folder / name, array)
        checksum = zlib.crc32(array.data, checksum)
    return Preprocessed(num_samples, arrays[0].shape[1], checksum)


def replaceable_names(folder: Path) -> Callable[[str], bool]:
    """A test for the names of files that an earlier run wrote into `folder`."""
    run = run_folder.read_run(folder)
    count = (run and run.utterances) or 0
    others = {STAGING_NAME, GEARS_NAME, MANIFEST_NAME, UTTERANCES_NAME}

    def is_replaceable(name: str) -> bool:
        index = tensor_index(name)
        return name in others if index is None else index < count

    return is_replaceable


def publish(
    folder: Path, save_path: str, utterances: Sequence[Utterance], items: Sequence[Preprocessed], run: Run
) -> None:
    """Replace what an earlier run left in `folder` by the staged tensors of `items`, and describe them.

    `save_path` is `folder` as the user wrote it, for the manifest; `run` gets the number of utterances and their
    checksum. Raises SuiteError if files of others have appeared in the folder.
    """
    is_replaceable = replaceable_names(folder)
    # Checked again: files may have appeared during preprocessing.
    run_folder.check_replaceable(folder, str(run.script), is_replaceable)
    staging = folder / STAGING_NAME
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path != staging and is_replaceable(path.name.removesuffix(TEMPORARY_SUFFIX)):
            path.unlink()
    checksum = zlib.crc32(repr([item.checksum for item in items]).encode())
    run_folder.write_run(folder, replace(run, utterances=len(items), checksum=checksum))
    for path in staging.iterdir():
        path.rename(folder / path.name)
    staging.rmdir()

    lines = [
        manifest.format_line(str(index), f"{save_path.rstrip('/')}/{name}", (1, item.padded_length))
        for index, item in enumerate(items)
        for name in tensor_names(index, bool(run.attention_mask))
    ]
    write_text(folder / GEARS_NAME, "".join(f"{gear}\n" for gear in gears_in_use(items)))
    write_text(folder / UTTERANCES_NAME, manifest.format_utterances(utterances))
    write_text(folder / MANIFEST_NAME, "".join(f"{line}\n" for line in lines))


def gears_in_use(items: Sequence[Preprocessed]) -> list[int]:
    """The padded lengths in samples, ascending."""
    return sorted({item.padded_length for item in items})
