# SPDX-License-Identifier: Apache-2.0
"""Tables of a user's recordings: `.csv`, `.tsv`, or one JSON object per line (`.jsonl`, and NeMo's `.json`).

Each row has the path of an audio file and, perhaps, what is said in it. The columns' names are those in use: of Hugging
Face's audiofolder (`file_name`, `transcription`), of NeMo's manifests (`audio_filepath`, `text`), of Common Voice
(`path`, `sentence`), and plain `file` and `text`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from ..errors import SuiteError
from ..files.text import parse_json

AUDIO_COLUMNS = ("file_name", "audio_filepath", "path", "file")
TEXT_COLUMNS = ("transcription", "text", "sentence")
TABLES = (".csv", ".tsv", ".jsonl", ".json")
_SEPARATORS = ",;\t"  # of a .csv: spreadsheets of some languages write the second


class Columns(NamedTuple):
    """The columns that the user names; None: one of the usual names."""

    audio: str | None = None
    text: str | None = None


USUAL_COLUMNS = Columns()


class Row(NamedTuple):
    """A recording: the path of its audio as the table has it, and its text, if there is one."""

    audio: str
    text: str | None
    where: str  # the table, and the line
    duration_s: float | None = None  # as the table says


def read_table(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows of a table, in order. Raises SuiteError, naming the line, for one that is not as expected."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            named = _json_rows(path, file) if path.suffix.lower().startswith(".json") else _rows(path, file)
            yield from _select(path, named, columns)
    except UnicodeDecodeError:
        raise SuiteError(f"{path}: expected UTF-8 text, found other bytes; save the table as UTF-8") from None


def _rows(path: Path, file: TextIO) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Where each row of a .csv or .tsv is, and its values by their columns."""
    header = file.readline()
    separator = "\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=header.count)
    # Common Voice writes quotes in its .tsv as they are. Only a whole field in quotes is unquoted.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator, quoting=quoting), [])]
    if len(set(names)) < len(names):
        raise SuiteError(f"{path}, line 1: expected columns of different names, found {names!s:.200}; rename one")
    reader = csv.reader(file, delimiter=separator, quoting=quoting, strict=True)
    try:
        for fields in reader:
            where = f"{path}, line {reader.line_num + 1}"
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(names):
                raise SuiteError(
                    f"{where}: expected {len(names)} fields as in the first line, found {len(fields)}; put a text that "
                    f"has the separator into quotes"
                )
            yield where, dict(zip(names, map(_unquoted, fields) if quoting == csv.QUOTE_NONE else fields))
    except csv.Error as error:
        raise SuiteError(f"{path}, line {reader.line_num + 1}: not a row of the table ({error}); repair it") from None


def _unquoted(field: str) -> str:
    inside = field[1:-1]
    is_quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if is_quoted else field


def _json_rows(path: Path, file: TextIO) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Where each JSON object is, and its values by their names."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            raise SuiteError(f"{where}: expected one JSON object per line, found {error!s:.100}; repair it") from None
        if not isinstance(row, dict):
            raise SuiteError(f"{where}: expected one JSON object per line, found {line.strip()!r:.60}; repair it")
        yield where, row


def _select(path: Path, rows: Iterable[tuple[str, Mapping[str, object]]], columns: Columns) -> Iterator[Row]:
    """Audio and text of the rows. The first row says which columns these are."""
    audio = text = None
    for where, row in rows:
        if audio is None:
            audio = _column(path, row, columns.audio, AUDIO_COLUMNS, "--audio_column")
            if audio is None:
                raise SuiteError(
                    f"{path}: expected a first line that names a column {', '.join(AUDIO_COLUMNS)}, found the columns "
                    f"{', '.join(row)!s:.200}; see --audio_column"
                )
        text = text or _column(path, row, columns.text, TEXT_COLUMNS, "--text_column")
        found, said = row.get(audio), None if text is None else row.get(text)
        if not isinstance(found, str) or not found.strip():
            raise SuiteError(f"{where}: expected the path of an audio file as {audio}, found {found!r:.100}; repair it")
        if not isinstance(said, (str, type(None))):
            raise SuiteError(f"{where}: expected a text as {text}, found {said!r:.100}; repair it")
        if _number(row.get("offset")):  # NeMo cuts recordings by these two fields
            raise SuiteError(
                f"{where}: expected whole recordings, found the offset {row['offset']!r:.40}; cut the recording first"
            )
        text_or_none = said if said and said.strip() else None
        yield Row(found.strip(), text_or_none, where, _number(row.get("duration")))


def _number(value: object) -> float | None:
    """The number in a field; None for anything else."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _column(
    path: Path, row: Mapping[str, object], asked: str | None, usual: tuple[str, ...], option: str
) -> str | None:
    """The column that the user asks for, or the one of the usual names that is there; None if there is none."""
    if asked is not None:
        if asked not in row and not path.suffix.lower().startswith(".json"):
            raise SuiteError(f"{option}={asked}: {path} has the columns {', '.join(row)!s:.200}")
        return asked
    found = [name for name in usual if name in row]
    if len(found) > 1:
        raise SuiteError(f"{path}: has the columns {' and '.join(found)}; choose one by {option}")
    return found[0] if found else None
