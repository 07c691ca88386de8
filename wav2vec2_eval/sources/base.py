# SPDX-License-Identifier: Apache-2.0
"""What a data set is, which ids and texts it may have, and how the files of a local data set are found."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UNPRINTABLE, SuiteError
from ..speech.audio import SAMPLE_RATE
from .packed import PackedStrings

# An id is a field of the suite's tables, so it holds nothing UNPRINTABLE. The same for a text, except white space,
# which becomes a blank where texts are written.
_NOT_IN_TEXTS = re.compile(r"[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")


class SourceFormat(NamedTuple):
    """Of a recording, before it is made 16 kHz mono."""

    rate: int  # in Hz
    channels: int


class Dataset(ABC):
    """Utterances in a fixed order. Picklable, so that worker processes can read them too.

    `ids` and `texts` may be lazy: they have a length and can be indexed and iterated, but perhaps not sliced. A text of
    None is not known: its utterance is transcribed, and not scored.
    """

    ids: Sequence[str]
    texts: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def waveform(self, index: int) -> np.ndarray:
        """Decode one utterance: (T,) float32 in [-1, 1), 16 kHz mono. Raises SuiteError for a broken recording."""

    def blocks(self, index: int) -> Iterator[np.ndarray]:
        """The waveform of one utterance in parts, of which one is in memory at a time where the data set can do that.

        Raises SuiteError, perhaps after some parts, for a broken recording.
        """
        yield self.waveform(index)

    def num_samples(self, index: int) -> int:
        """The length of one utterance in samples of 16 kHz, as its file's header says it where that can be read alone.

        Raises SuiteError for a broken recording.
        """
        return len(self.waveform(index))

    def sample(self, count: int) -> Sequence[int]:
        """Up to `count` utterances, evenly spread where the data set can read any of them at once."""
        return range(0, len(self), -(-len(self) // count))

    def source_format(self, index: int) -> SourceFormat:
        """What was recorded. Raises SuiteError for a broken recording."""
        return SourceFormat(SAMPLE_RATE, 1)


def check_utterance(utterance_id: object, text: object, where: str) -> None:
    """Raise SuiteError, with the file `where`, unless both are strings that the suite's tables can hold."""
    if not isinstance(utterance_id, str) or not utterance_id or UNPRINTABLE.search(utterance_id):
        raise SuiteError(
            f"{where}: expected an utterance id without tabs, line breaks and control characters, "
            f"found {utterance_id!r:.100}; repair the id"
        )
    if not isinstance(text, str) or _NOT_IN_TEXTS.search(text):
        raise SuiteError(
            f"{where}: expected a text without control characters for utterance {utterance_id}, "
            f"found {text!r:.100}; repair the text"
        )


def check_unique(ids: PackedStrings, where: Callable[[int], str], what: str = "utterance") -> None:
    """Raise SuiteError if an id is there twice; `where` gives the file of an utterance's index."""
    again = ids.repeated()
    if again:
        first, second = again
        raise SuiteError(
            f"{what} {ids[second]} is there twice ({where(first)} and {where(second)}); remove one, or give the "
            f"folder of one copy by --dataset_path"
        )


def walk(root: Path, *suffixes: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder below `root`, with the sorted names of its files that end in one of `suffixes`, in any case.

    Names that begin with a dot are no data: macOS puts a `._name` beside each file that it copies to some drives.
    Links are followed, because data sets are often linked, but no folder is visited twice. Raises SuiteError for a
    folder that cannot be read, for a link to nothing, and for a named pipe or device that has one of the suffixes:
    skipping them would change the score silently.
    """
    visited = set()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        names, inside = [], []
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_symlink():
                        entry.stat()  # raises OSError for a link to nothing, where is_dir() gives False
                    if entry.is_dir():
                        inside.append(entry.path)
                    elif entry.name.lower().endswith(suffixes):
                        if not entry.is_file():
                            raise SuiteError(f"{entry.path}: expected a regular file, found something else; remove it")
                        names.append(entry.name)
        except OSError as error:
            raise SuiteError(
                f"{error.filename or folder}: cannot be read ({error.strerror}); repair or remove it"
            ) from None
        yield folder, sorted(names)
        folders += sorted(inside, reverse=True)


def find_files(root: Path, suffix: str) -> list[Path]:
    """The files below `root` whose names end in `suffix`, in any case, sorted; found by `walk`."""
    return sorted(Path(folder, name) for folder, names in walk(root, suffix) for name in names)
