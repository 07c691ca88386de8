# SPDX-License-Identifier: Apache-2.0
"""A data set in the layout of the Hugging Face hub: parquet files, from a local copy or from the hub."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SuiteError, one_line
from .audio_file import decode
from .base import Dataset, find_files
from .hub import hub_error, silence_hub
from .splits import Split


class HubDataset(Dataset):
    """A data set with the hub's columns audio, text and id, from local parquet `files` or from the hub id `name`."""

    def __init__(self, name: str, split: Split, files: Sequence[str] | None, limit: int | None = None) -> None:
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        import datasets

        try:
            data_files = {split.hub_split: list(files or hub_files(name, split))}
            table = datasets.load_dataset("parquet", data_files=data_files, split=split.hub_split)
        except Exception as error:  # errors of the hub client, its HTTP library and the system
            if files:
                raise SuiteError(
                    f"{name}: cannot be read as a copy of the hub's data set ({one_line(error)})"
                ) from None
            raise hub_error(f"{name} ({split.hub_config}, {split.hub_split})", error, "--dataset_path") from None
        missing = {"audio", "text", "id"} - set(table.column_names)
        if missing or not len(table):
            raise SuiteError(
                f"{name}: expected utterances with the columns audio, text and id, found {len(table)} with "
                f"{', '.join(table.column_names)}"
            )
        table = table.select(range(min(len(table), limit or len(table))))
        self.ids = [str(utterance_id) for utterance_id in table["id"]]
        self.texts = list(table["text"])
        # Without decode=False, datasets would decode through torchcodec and FFmpeg.
        self._table = table.cast_column("audio", datasets.Audio(decode=False))

    def waveform(self, index: int) -> np.ndarray:
        audio: dict[str, Any] = self._table[index]["audio"]
        source = io.BytesIO(audio["bytes"]) if audio["bytes"] is not None else Path(audio["path"])
        return decode(source, self.ids[index])


def local_files(root: Path, split: Split) -> list[str]:
    """The split's parquet files in a copy of the hub's: <config>/<split>/*.parquet or <config>/<split>-*.parquet."""
    return [
        str(path)
        for path in find_files(root, ".parquet")
        if split.hub_config in path.relative_to(root).parts[:-1]
        and (split.hub_split == path.parent.name or path.name.startswith(f"{split.hub_split}-"))
    ]


def hub_files(name: str, split: Split) -> Sequence[str]:
    """The addresses of the split's parquet files on the hub.

    Loading by the name of the data set would fetch every split, and the training splits are a hundred times larger
    (github.com/huggingface/datasets/issues/7554).
    """
    import datasets

    silence_hub()
    files: Sequence[str] = datasets.load_dataset_builder(name, split.hub_config).config.data_files[split.hub_split]
    return files
