# SPDX-License-Identifier: Apache-2.0
"""Parquet files of utterances with the hub's columns, read without the datasets library.

That library would first convert all files into a cache below HOME. Here nothing is written, and no more than a few
rows are in memory.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet, types

from ..errors import SuiteError, one_line
from .audio_file import decode, header_samples
from .base import Dataset, check_unique, check_utterance
from .packed import PackedStrings

_AUDIO = ("audio.bytes", "audio.path")
_ROWS_OF_TEXT, _ROWS_OF_AUDIO = 1_000, 8  # how many are in memory


class ParquetFiles(Dataset):
    """The utterances of several files, in the order of files and rows.

    The columns are `id` (strings or whole numbers), `text` (strings) and `audio`: the bytes of an audio file, or the
    path of one, which counts from the current folder. Other columns are ignored.
    """

    def __init__(self, files: Sequence[Path], limit: int | None = None) -> None:
        starts = [0, *accumulate(_count_rows(path) for path in files)]
        if not starts[-1]:
            raise SuiteError(f"{files[0]}: expected utterances, found none in {len(files)} files; see --dataset_path")
        self._audio = _Rows(files, starts, _AUDIO, _ROWS_OF_AUDIO)
        self.ids = PackedStrings()
        for path, start in zip(files, starts):
            for utterance_id, text, has_audio in _read_rows(path, None if limit is None else limit - start):
                check_utterance(utterance_id, text, str(path))
                self.ids.append(utterance_id)
                if not has_audio:
                    audio_source(None, self._name(len(self.ids) - 1))
        check_unique(self.ids, lambda index: str(self._audio.file(index)))
        self.texts = _Texts(len(self.ids), _Rows(files, starts, ["text"], _ROWS_OF_TEXT))

    def waveform(self, index: int) -> np.ndarray:
        name = self._name(index)
        return decode(audio_source(self._audio[index]["audio"], name), name)

    def num_samples(self, index: int) -> int:
        name = self._name(index)
        return header_samples(audio_source(self._audio[index]["audio"], name), name)

    def sample(self, count: int) -> Sequence[int]:
        return range(min(count, len(self)))  # a row in the middle is found by reading all rows before it

    def _name(self, index: int) -> str:
        return f"{self._audio.file(index)}: {self.ids[index]}"


def audio_source(audio: Mapping[str, Any] | None, name: str) -> Path | io.BytesIO:
    """What to decode of a value of the column `audio`. Raises SuiteError, naming `name`, if there is nothing."""
    audio = audio or {}
    if audio.get("bytes") is not None:
        return io.BytesIO(audio["bytes"])
    if audio.get("path") is not None:
        return Path(audio["path"])
    raise SuiteError(f"{name}: expected audio as bytes or a path, found neither; remove the utterance")


class _Rows:
    """Rows of several files. Reading them in order takes constant time and memory for each."""

    def __init__(self, files: Sequence[Path], starts: Sequence[int], columns: Sequence[str], at_once: int) -> None:
        self._files, self._starts, self._columns, self._at_once = files, starts, columns, at_once
        self._group: _RowGroup | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}

    def file(self, index: int) -> Path:
        return self._files[self._number(index)]

    def _number(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, row = self.file(index), index - self._starts[self._number(index)]
        with _reading(path):
            if self._group is None or not self._group.is_ahead(path, row):
                self._group = _RowGroup(path, row, self._columns, self._at_once)
            return self._group.read(row)


class _RowGroup:
    """The rows of one row group, read forward, a few at a time. `row` counts from the beginning of the file."""

    def __init__(self, path: Path, row: int, columns: Sequence[str], at_once: int) -> None:
        file = _open(path)
        starts = [0, *accumulate(file.metadata.row_group(each).num_rows for each in range(file.num_row_groups))]
        number = bisect_right(starts, row) - 1
        self._path, self._first, self._end = path, starts[number], starts[number + 1]
        self._batches = file.iter_batches(at_once, [number], columns, use_threads=False)
        self._batch = next(self._batches)

    def is_ahead(self, path: Path, row: int) -> bool:
        return path == self._path and self._first <= row < self._end

    def read(self, row: int) -> dict[str, Any]:
        while row >= self._first + len(self._batch):
            self._first += len(self._batch)
            self._batch = next(self._batches)
        values: dict[str, Any] = self._batch.slice(row - self._first, 1).to_pylist()[0]
        return values


class _Texts(Sequence[str]):
    """The column `text`, read when it is asked for."""

    def __init__(self, count: int, rows: _Rows) -> None:
        self._count, self._rows = count, rows

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # slices are left out
        text: str = self._rows[range(self._count)[index]]["text"]
        return text


def _open(path: Path) -> parquet.ParquetFile:
    # With a buffer, a column of a row group is read bit by bit: a row group may be the whole data set. Some files have
    # checksums.
    return parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)


def _count_rows(path: Path) -> int:
    """The number of rows in a file. Raises SuiteError unless its columns are those of the hub."""
    with _reading(path):
        file = _open(path)
        schema, count = file.schema_arrow, int(file.metadata.num_rows)
    for name, is_as_expected in (("id", _is_id), ("text", _is_text), ("audio", _is_audio)):
        number = schema.get_field_index(name)
        if number < 0 or not is_as_expected(schema.field(number).type):
            found = f"{name} of {schema.field(number).type!s:.100}" if number >= 0 else f"no column {name}"
            raise SuiteError(
                f"{path}: expected the columns id and text of strings, and audio of bytes and path, found {found}; "
                f"see --dataset_path"
            )
    return count


def _is_text(kind: pyarrow.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_id(kind: pyarrow.DataType) -> bool:
    return _is_text(kind) or bool(types.is_integer(kind))


def _is_audio(kind: pyarrow.DataType) -> bool:
    if not types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    content, path = fields.get("bytes", pyarrow.null()), fields.get("path", pyarrow.null())
    is_bytes = types.is_binary(content) or types.is_large_binary(content) or types.is_null(content)
    return bool(is_bytes and (_is_text(path) or types.is_null(path)) and fields.keys() & {"bytes", "path"})


def _read_rows(path: Path, limit: int | None) -> Iterator[tuple[Any, Any, bool]]:
    """Of the rows, or of the first `limit`: id, text, and whether there is audio, as far as can be told without it.

    Whole numbers as ids become strings.
    """
    columns = ["id", "text", "audio.path"]  # beside paths, audio that is null shows
    with _reading(path):
        count = 0
        for batch in _open(path).iter_batches(_ROWS_OF_TEXT, columns=columns, use_threads=False):
            for row in batch.to_pylist():
                if limit is not None and count >= limit:
                    return
                count += 1
                utterance_id = str(row["id"]) if isinstance(row["id"], int) else row["id"]
                yield utterance_id, row["text"], row.get("audio", {}) is not None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns the errors of pyarrow, of the system and of Unicode into SuiteError."""
    try:
        yield
    except (SuiteError, MemoryError):
        raise
    except Exception as error:
        raise SuiteError(
            f"{path}: cannot be read as a parquet file ({type(error).__name__}: {one_line(error, 200)}); copy it again"
        ) from None
