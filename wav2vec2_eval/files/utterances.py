# SPDX-License-Identifier: Apache-2.0
"""The utterances of preprocessed data, `utterances.tsv`: what scoring and RTFx must know of each.

One line per utterance: key, utterance id, true length in samples, reference text. An utterance without a reference,
which is transcribed and not scored, has an empty text and a fifth field that says so. Lines are parsed as data, never
evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import SuiteError
from .file_list import Source
from .table import Table
from .text import read_bytes

# A key becomes a file name, so it must be a plain name that cannot climb out of the results folder, and leave room for
# what is added to it.
KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{,199}")
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)  # Python refuses to read numbers of thousands of digits
_NO_REFERENCE = "no reference"  # the fifth field of an utterance that is not scored


class Utterance(NamedTuple):
    """What scoring and RTFx need to know of an utterance."""

    key: str
    utterance_id: str
    num_samples: int
    text: str | None  # the reference; None: not known, and so not scored


References = Mapping[str, Utterance]  # key -> what the utterance is compared with


def check_key(key: str) -> None:
    """Raise SuiteError unless `key` can safely become a part of a file name."""
    if not KEY.fullmatch(key):
        raise SuiteError(f"expected a key of at most 200 letters, digits, '_', '-' and '.', found {key!r:.300}")


def new_utterance(key: str, utterance_id: str, num_samples: int, text: str | None) -> Utterance:
    """An utterance of a data set. White space inside its reference becomes single blanks, wherever it is scored."""
    return Utterance(key, utterance_id, num_samples, None if text is None else " ".join(text.split()))


def format_utterance(utterance: Utterance) -> str:
    """A line of `utterances.tsv`, with its newline."""
    reference = ("", _NO_REFERENCE) if utterance.text is None else (utterance.text,)
    return "\t".join(map(str, (*utterance[:3], *reference))) + "\n"


def read_utterances(path: Path, source: Source | None = None) -> Table[Utterance]:
    """Read `utterances.tsv`: key -> Utterance, in file order. Raises SuiteError if missing, damaged or malformed."""
    advice = "preprocess.py writes it, and pyacl_infer.py copies it"
    source = source or Source(path.parent)
    utterances = Table(path, read_verified(source, path, advice), _parse_utterance, advice)
    if source.list is None:  # otherwise the file is as it was written
        utterances.check()
    return utterances


def _parse_utterance(lines: Sequence[str]) -> Utterance:
    fields = lines[0].split("\t")
    is_scored = fields[3:] != ["", _NO_REFERENCE]
    if (len(fields) != 4 and is_scored) or not _NUMBER.fullmatch(fields[2]):
        raise SuiteError(
            f"expected a key, an id, a number of samples and a text with tabs between, found {lines[0]!r:.300}"
        )
    check_key(fields[0])
    return Utterance(fields[0], fields[1], int(fields[2]), fields[3] if is_scored else None)


def read_verified(source: Source, path: Path, advice: str) -> bytes:
    """A file of the folder, verified if a script wrote it. (A part of a manifest under another name is the user's.)"""
    if source.list is not None and path.name in source.list:
        return source.read(path.name, advice)
    return read_bytes(path, advice)
