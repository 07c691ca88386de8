# SPDX-License-Identifier: Apache-2.0
"""Opening a data set by its name, from a local folder or from the hub."""

from __future__ import annotations

from pathlib import Path

from ..errors import SuiteError
from .base import Dataset
from .hub_dataset import HubDataset, local_files
from .librispeech import LibriSpeechTree
from .splits import SPLITS


def open_dataset(which: str, dataset_path: str | None = None, limit: int | None = None) -> Dataset:
    """Open `validation`, `clean` or `other`, cut to the first `limit` utterances.

    With `dataset_path` nothing is downloaded: it is a LibriSpeech tree, or a folder with the hub's parquet files.
    Raises SuiteError if the data are missing, empty or inconsistent.
    """
    split = SPLITS[which]
    if dataset_path is None:
        return HubDataset(split.hub_id, split, None, limit)
    root = Path(dataset_path)
    if not root.is_dir():
        raise SuiteError(f"{root}: expected a LibriSpeech folder, found none; see --dataset_path")
    for folder in (root / split.folder, root / "LibriSpeech" / split.folder):
        if folder.is_dir():
            return LibriSpeechTree(folder, limit)
    if files := local_files(root, split):
        return HubDataset(str(root), split, files, limit)
    raise SuiteError(
        f"{root}: expected a folder {split.folder}, or the hub's parquet files as in {split.hub_config}/"
        f"{split.hub_split}/0000.parquet, found neither; see --dataset_path"
    )
