# SPDX-License-Identifier: Apache-2.0
"""Opening a data set by its name, from a local folder or from the hub."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import SuiteError
from .base import Dataset, find_files
from .hub import is_local, snapshot
from .librispeech import LibriSpeechTree
from .recording_table import USUAL_COLUMNS, Columns
from .recordings import open_recordings
from .splits import CUSTOM, SPLITS, Split, find_split

_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.parquet")


def check_paths(which: str, dataset_path: str | None, model: str | None) -> None:
    """Raise SuiteError for a local path that is not there: before the hub is asked for the other one of the two."""
    find_split(which, dataset_path)
    is_custom = which == CUSTOM
    if dataset_path is not None and not (Path.exists if is_custom else Path.is_dir)(Path(dataset_path)):
        what = "table or a folder of recordings" if is_custom else "LibriSpeech folder"
        raise SuiteError(f"{dataset_path}: expected a {what}, found none; see --dataset_path")
    if model is not None:
        is_local(model)


def open_dataset(
    which: str,
    dataset_path: str | None = None,
    limit: int | None = None,
    columns: Columns = USUAL_COLUMNS,
    may_lack_files: bool = False,
) -> Dataset:
    """Open `validation`, `clean`, `other`, any split of a local tree, or `custom`, cut to the first `limit` utterances.

    With `dataset_path` nothing is downloaded: it is a LibriSpeech tree, the split's folder of one, or a folder with the
    hub's parquet files, also as the cache of the hub's client keeps them. A custom set is a table, whose `columns` the
    user may name, or a folder of audio.
    Raises SuiteError if the data are missing, empty or inconsistent.
    """
    check_paths(which, dataset_path, None)
    if which == CUSTOM:
        assert dataset_path is not None
        return open_recordings(Path(dataset_path), columns, limit, may_lack_files)
    if columns != USUAL_COLUMNS:
        raise SuiteError("--audio_column and --text_column: only --which_dataset=custom has a table")
    split = find_split(which, dataset_path)
    if dataset_path is None:
        from .hub_dataset import HubDataset

        return HubDataset(split.hub_id, split, limit)
    root = Path(dataset_path)
    own = [root] if root.resolve().name == split.folder else []
    for folder in (root / split.folder, root / "LibriSpeech" / split.folder, *own):
        if folder.is_dir() and (which in SPLITS or _is_split(folder)):
            return LibriSpeechTree(folder, limit)
    if which not in SPLITS:
        found = ", ".join(split_folders(root)) or "none"
        raise SuiteError(f"{root}: expected a split's folder {which}, found {found:.300}; see --which_dataset")
    root = snapshot(root)
    if files := parquet_files(root, split):
        from .parquet import ParquetFiles

        return ParquetFiles(files, limit)
    others = find_files(root, ".parquet")
    found = f"neither, but {others[0].relative_to(root)}" if others else "neither"
    raise SuiteError(
        f"{root}: expected a folder {split.folder}, or the hub's parquet files as in {split.hub_config}/"
        f"{split.hub_split}/0000.parquet, found {found}; see --dataset_path"
    )


def split_folders(root: Path) -> list[str]:
    """The names of the splits' folders in a LibriSpeech tree, sorted; that of `root` if it is one itself."""
    inside = [path for folder in (root, root / "LibriSpeech") if folder.is_dir() for path in folder.iterdir()]
    return sorted({path.name for path in (*inside, root.resolve()) if _is_split(path)})


def _is_split(folder: Path) -> bool:
    """Whether a folder holds those of speakers, whose names are numbers.

    One of several splits does not. One of a speaker does not count: it holds chapters, which are numbers as well.
    """
    is_speaker = folder.name.isdecimal()
    return folder.is_dir() and not is_speaker and any(path.name.isdecimal() for path in folder.iterdir())


def parquet_files(root: Path, split: Split) -> list[Path]:
    """The split's files in a copy of the hub's data set: <config>/<split>/*.parquet or <config>/<split>-*.parquet.

    Without these, those of the configuration `all`, whose splits are named like `test.clean`. Raises SuiteError if
    names like `test-00000-of-00002.parquet` say that one is missing, or if the files are of several revisions or data
    sets in the cache of the hub's client.
    """

    def is_of(path: Path, config: str, name: str) -> bool:
        parents = path.relative_to(root).parts[:-1]
        return config in parents and (name == path.parent.name or path.name.startswith(f"{name}-"))

    found = find_files(root, ".parquet")
    own = [path for path in found if is_of(path, split.hub_config, split.hub_split)]
    joint = [path for path in found if is_of(path, "all", f"{split.hub_split}.{split.hub_config}")]
    files = own or joint
    copies = sorted({str(_copy_of(path, root)) for path in files})
    if len(copies) > 1:
        raise SuiteError(
            f"{root}: expected one copy of the data set, found {len(copies)}: {', '.join(copies[:2])}; give the folder "
            f"of one by --dataset_path"
        )
    names = {str(path) for path in files}
    for path in files:
        if match := _SHARD.fullmatch(str(path)):
            start, count = match.groups()
            for number in range(int(count)):
                part = f"{start}-{number:05d}-of-{count}.parquet"
                if part not in names:
                    raise SuiteError(f"{part}: no such file, but {path.name} is there; complete the download")
    return files


def _copy_of(path: Path, root: Path) -> Path:
    """The folder of the revision that a file belongs to in the cache of the hub's client; `root` for other files."""
    return next((folder for folder in path.absolute().parents if folder.parent.name == "snapshots"), root)
