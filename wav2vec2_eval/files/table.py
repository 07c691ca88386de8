# SPDX-License-Identifier: Apache-2.0
"""Text files with one record per line, which are looked up by their first field.

A data set may have hundreds of thousands of utterances, and several tables. As Python objects the rows of one table
would take hundreds of megabytes. So a table keeps the file's bytes and about 24 bytes of index per row, and parses a
row each time it is asked for.
"""

from __future__ import annotations

import codecs
import io
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ..errors import SuiteError

LONGEST_KEY = 255  # bytes; keys become file names, or are file names

Row = TypeVar("Row")


class Table(Mapping[str, Row], Generic[Row]):
    """The rows of a file by key, in file order.

    Reading rows in file order takes constant time for each; tables that are read side by side usually have one order.
    """

    def __init__(
        self,
        path: Path,
        content: bytes,
        parse: Callable[[Sequence[str]], Row],
        advice: str,
        *,
        separator: str | None = "\t",
        grouped: bool = False,
        appended: bool = False,
        header: bytes = b"",
    ) -> None:
        """`content` is that of the file `path`. The key of a line ends at `separator`; None is any white space.

        `parse` gets the line of a row, with its key and without its newline, and raises ValueError or SuiteError for
        a malformed one. `grouped`: a row is one or more neighbouring lines of one key. `appended`: the file grows by
        appending, so the last line of a key counts, and a last line without its newline is not whole and is left out.
        `header` is the first line, with its newline. Raises SuiteError if the file is not UTF-8, has another header, or
        has a key twice.
        """
        self.path = path
        self._parse = parse
        self._advice = advice
        self._separator = None if separator is None else separator.encode()
        self.content = content
        end = self.content.rfind(b"\n") + 1 if appended else len(self.content)
        if not content.startswith(header):
            raise SuiteError(f"{path}, line 1: expected {header[:-1].decode()!r}; {advice}")
        self._check_utf8(end)
        self._index(len(header), end, grouped)
        self._sort(appended)
        self._next = 0  # this row, or the one after it, is probably asked for next
        self._key_end = self._separator or b" "

    def _check_utf8(self, end: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()  # by parts, because the text may take four times the memory
        for start in range(0, end, 1 << 20):
            stop = min(start + (1 << 20), end)
            try:
                decoder.decode(self.content[start:stop], final=stop == end)
            except UnicodeDecodeError as error:
                wrong = max(0, start + error.start)
                raise SuiteError(f"{self._line_at(wrong)}: expected UTF-8, found other bytes; {self._advice}") from None

    def _index(self, start: int, end: int, grouped: bool) -> None:
        """Find where the rows begin and end, and the hashes of their keys."""
        hashes, self._starts, self._ends = array("q"), array("q"), array("q")
        previous, separator = None, self._separator
        lines = io.BytesIO(self.content)
        lines.seek(start)
        for line in lines:
            if start >= end:
                break
            key = b"" if separator is None and line[:1].isspace() else _first(line.split(separator, 1))
            start += len(line)
            if grouped and key == previous:
                self._ends[-1] = start
                continue
            if len(key) > LONGEST_KEY or (separator is None and not key):
                line_at = self._line_at(start - len(line))
                raise SuiteError(f"{line_at}: malformed, {line[:60]!r}; {self._advice}")
            hashes.append(hash(key))
            self._starts.append(start - len(line))
            self._ends.append(start)
            previous = key
        self._hashes = np.array(hashes, np.int64)

    def _sort(self, appended: bool) -> None:
        """Order the rows by their hashes. Of a key that is there again, keep the last row, or refuse it."""
        self._order = np.argsort(self._hashes, kind="stable")
        in_order = self._hashes[self._order]
        again = np.flatnonzero(in_order[1:] == in_order[:-1])
        if len(again) and appended:
            live = np.ones(len(in_order), bool)
            live[self._order[again]] = False
            self._starts = array("q", np.frombuffer(self._starts, np.int64)[live].tobytes())
            self._ends = array("q", np.frombuffer(self._ends, np.int64)[live].tobytes())
            self._hashes = self._hashes[live]
            self._order = np.argsort(self._hashes, kind="stable")
            in_order = self._hashes[self._order]
        elif len(again):
            for first, second in zip(self._order[again], self._order[again + 1]):
                if self._key(first) == self._key(second):
                    twice = self._key(first).decode()
                    raise SuiteError(f"{self._line(second)}: {twice} is there a second time; {self._advice}")
        self._in_order = in_order

    def _key(self, row: int) -> bytes:
        # The key is at the beginning of the row, and no key is long.
        start = self._starts[row]
        return _first(self.content[start : min(self._ends[row], start + LONGEST_KEY + 1)].split(self._separator, 1))

    def _find(self, key: str) -> int | None:
        wanted = key.encode("utf-8", "surrogatepass")
        begin, row, num_rows = wanted + self._key_end, self._next, len(self._starts)
        if row < num_rows and self.content.startswith(begin, self._starts[row]):
            return row
        row += 1
        if row < num_rows and self.content.startswith(begin, self._starts[row]):
            self._next = row
            return row
        wanted_hash = hash(wanted)
        for position in range(int(np.searchsorted(self._in_order, wanted_hash)), len(self)):
            if self._in_order[position] != wanted_hash:
                break
            row = int(self._order[position])
            if self._key(row) == wanted:
                self._next = row
                return row
        return None

    def _line(self, row: int) -> str:
        return self._line_at(self._starts[row])

    def _line_at(self, start: int) -> str:
        number = self.content.count(b"\n", 0, start) + 1
        return f"{self.path}, line {number}"

    def _read(self, row: int) -> Row:
        text = self.content[self._starts[row] : self._ends[row]].decode("utf-8")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        if "\r" in text:
            lines = [line.rstrip("\r") for line in lines]
        try:
            return self._parse(lines)
        except SuiteError as error:
            raise SuiteError(f"{self._line(row)}: {error}") from None
        except (ValueError, IndexError):
            raise SuiteError(f"{self._line(row)}: malformed, {text[:60]!r}; {self._advice}") from None

    def check(self) -> None:
        """Parse every row. Raises SuiteError for the first one that is malformed."""
        for _ in self.rows():
            pass

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Every key with its row, as `items()`, but faster."""
        for row in range(len(self._starts)):
            yield self._key(row).decode(), self._read(row)

    def has_keys_of(self, other: Table[Any]) -> bool:
        """Whether both tables have the same keys in the same order (by 64-bit hashes, in almost no time)."""
        return np.array_equal(self._hashes, other._hashes)

    def raw(self, key: str) -> bytes:
        """The lines of a row as they are in the file, with a newline at their end. Raises KeyError if there is none."""
        row = self._at(key)
        content = self.content[self._starts[row] : self._ends[row]]
        return content if content.endswith(b"\n") else content + b"\n"

    def _at(self, key: str) -> int:
        row = self._find(key)
        if row is None:
            raise KeyError(key)
        return row

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[str]:
        return (self._key(row).decode() for row in range(len(self)))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(key) is not None

    def __getitem__(self, key: str) -> Row:
        return self._read(self._at(key))


def _first(fields: Sequence[bytes]) -> bytes:
    """The first of a line's fields, without the newline that it has if it is the only one."""
    return fields[0] if len(fields) > 1 else fields[0].rstrip(b"\r\n") if fields else b""
