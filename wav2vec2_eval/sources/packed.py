# SPDX-License-Identifier: Apache-2.0
"""Many short strings in little memory: a list of Python's strings takes 60 bytes more for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

_UTF8 = ("utf-8", "surrogatepass")  # Linux allows any bytes in a path, and Python reads those as lone surrogates


class PackedStrings(Sequence[str]):
    """Strings that can be appended, but not changed: their UTF-8 bytes in one block, and 8 bytes for each one's end."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])
        for string in strings:
            self.append(string)

    def append(self, string: str) -> None:
        self._bytes += string.encode(*_UTF8)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # slices are left out
        index = range(len(self))[index]
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode(*_UTF8)

    def __iter__(self) -> Iterator[str]:
        slices = map(slice, self._ends, islice(self._ends, 1, None))
        return (self._bytes[each].decode(*_UTF8) for each in slices)

    def hashes(self) -> np.ndarray:
        """(n,) int64: a hash of each string, the same in this process for equal strings."""
        return np.fromiter(map(hash, self), np.int64, len(self))

    def repeated(self) -> tuple[int, int] | None:
        """The position of the first string that is there a second time, after that of its first; None without one."""
        hashes = self.hashes()
        order = np.argsort(hashes, kind="stable")
        suspects = np.flatnonzero(np.diff(hashes[order]) == 0)
        pairs = ((int(order[row + 1]), int(order[row])) for row in suspects)
        second, first = min((pair for pair in pairs if self[pair[0]] == self[pair[1]]), default=(-1, -1))
        return None if first < 0 else (first, second)
