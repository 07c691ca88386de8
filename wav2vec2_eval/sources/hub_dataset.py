# SPDX-License-Identifier: Apache-2.0
"""A data set of the Hugging Face hub: downloaded by the datasets library, which keeps it in its cache."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import numpy as np

from ..errors import SuiteError
from .audio_file import decode, header_samples
from .base import Dataset, check_unique, check_utterance
from .hub import ask, hub_error
from .packed import PackedStrings
from .parquet import audio_source
from .splits import Split


class HubDataset(Dataset):
    """A split of the hub's data set `name`, with its columns audio, text and id."""

    def __init__(self, name: str, split: Split, limit: int | None = None) -> None:
        import datasets

        ask(name)
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        datasets.logging.set_verbosity(logging.CRITICAL)  # the failure is reported below
        what = f"{name} ({split.hub_config}, {split.hub_split})"
        try:
            data_files = {split.hub_split: list(hub_files(name, split))}
            table = datasets.load_dataset("parquet", data_files=data_files, split=split.hub_split)
            # Without decode=False, datasets would decode through torchcodec and FFmpeg.
            table = table.select_columns(["id", "text", "audio"]).cast_column("audio", datasets.Audio(decode=False))
        except Exception as error:  # errors of the hub client, its HTTP library and the system
            raise hub_error(what, error, "--dataset_path") from None
        if not len(table):
            raise SuiteError(f"{what}: expected utterances, found none; see --dataset_path")
        self._table = table.select(range(min(len(table), limit or len(table))))
        self.ids = PackedStrings()
        for utterance_id, text in zip(self._table["id"], self._table["text"]):
            check_utterance(utterance_id, text, what)
            self.ids.append(utterance_id)
        check_unique(self.ids, lambda _: what)
        self.texts = self._table["text"]

    def waveform(self, index: int) -> np.ndarray:
        name = self.ids[index]
        return decode(audio_source(self._table[index]["audio"], name), name)

    def num_samples(self, index: int) -> int:
        name = self.ids[index]
        return header_samples(audio_source(self._table[index]["audio"], name), name)


def hub_files(name: str, split: Split) -> Sequence[str]:
    """The addresses of the split's parquet files on the hub.

    Loading by the name of the data set would fetch every split, and the training splits are a hundred times larger
    (github.com/huggingface/datasets/issues/7554).
    """
    import datasets

    files: Sequence[str] = datasets.load_dataset_builder(name, split.hub_config).config.data_files[split.hub_split]
    return files
