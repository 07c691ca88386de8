# SPDX-License-Identifier: Apache-2.0
"""The text files that describe preprocessed data: `bin_file.info` and `utterances.tsv`, beside `padding_lens.txt`.

`bin_file.info` has one line per model input of each utterance, `0 ./pre_data/clean/0.bin (1,160000)`: key, path, shape.
An utterance's lines share its key and stand in the model's input order. `utterances.tsv` has one line per utterance:
key, utterance id, true length in samples, reference text. Lines are parsed as data, never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import SuiteError
from . import tensors
from .names import UTTERANCES_NAME

# A key becomes a file name, so it must be a plain name that cannot climb out of the results folder.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LINE = re.compile(r"(?P<key>\S+) +(?P<path>\S.*?) +\((?P<shape>[^()]*)\)")
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)  # Python refuses to read numbers of thousands of digits
_SHAPE = re.compile(r"\s*[1-9]\d{0,17}\s*(,\s*[1-9]\d{0,17}\s*)*,?\s*", re.ASCII)


class Entry(NamedTuple):
    """One model input of one utterance."""

    key: str
    path: Path
    shape: tuple[int, ...]


class Utterance(NamedTuple):
    """What scoring and RTFx need to know of an utterance."""

    key: str
    utterance_id: str
    num_samples: int
    text: str


Inputs = Mapping[str, Sequence[Entry]]  # key -> the model inputs of the utterance, in model order
References = Mapping[str, Utterance]  # key -> what the utterance is compared with


def format_line(key: str, path: str, shape: Iterable[int]) -> str:
    """One manifest line, without its newline; `path` is kept as the user wrote it."""
    return f"{key} {path} ({','.join(map(str, shape))})"


def parse_line(line: str) -> Entry:
    """Read one manifest line. The path may hold spaces. Raises SuiteError for anything else than data."""
    match = _LINE.fullmatch(line.strip())
    if not match or not _SHAPE.fullmatch(match["shape"]):
        raise SuiteError(f"expected a line like '0 ./pre_data/clean/0.bin (1,160000)', found {line.strip()!r}")
    check_key(match["key"])
    shape = tuple(int(number) for number in match["shape"].split(",") if number.strip())
    return Entry(match["key"], Path(match["path"]), shape)


def check_key(key: str) -> None:
    """Raise SuiteError unless `key` can safely become a file name."""
    if not _KEY.fullmatch(key):
        raise SuiteError(f"expected a key of letters, digits, '_', '-' and '.', found {key!r}")


def read_manifest(path: Path) -> dict[str, list[Entry]]:
    """Read `bin_file.info`: key -> the utterance's entries in model input order, in file order.

    A tensor file that is not found from the current folder is taken from the manifest's own folder, by its base name,
    so that a folder may be moved. Raises SuiteError if the manifest is missing, empty or malformed.
    """
    inputs: dict[str, list[Entry]] = {}
    for number, line in enumerate(_lines(path, "run preprocess.py first"), start=1):
        try:
            entry = parse_line(line)
        except SuiteError as error:
            raise SuiteError(f"{path}, line {number}: {error}") from None
        beside = path.parent / entry.path.name
        if not entry.path.exists():
            entry = entry._replace(path=beside)
        elif beside.exists() and not beside.samefile(entry.path):
            raise SuiteError(
                f"{path}, line {number}: {entry.path} exists in the current folder, and another file of that name "
                f"beside the manifest; remove or rename the wrong file"
            )
        inputs.setdefault(entry.key, []).append(entry)
    if not inputs:
        raise SuiteError(f"{path}: expected at least one utterance, found an empty file; run preprocess.py again")
    return inputs


def check_tensors(path: Path, inputs: Inputs, dtypes: Sequence[np.dtype]) -> None:
    """Raise SuiteError unless each utterance of the manifest `path` has one tensor file per dtype, of the right size.

    Checked for all utterances before the first inference, so that a run does not end half way.
    """
    for key, entries in inputs.items():
        if len(entries) != len(dtypes):
            raise SuiteError(
                f"{path}: utterance {key} has {len(entries)} inputs, but --input_dtypes names {len(dtypes)}; "
                f"give one dtype for each input"
            )
        for entry, dtype in zip(entries, dtypes):
            tensors.check_size(entry.path, entry.shape, dtype, "run preprocess.py again")


def read_arrays(entries: Sequence[Entry], dtypes: Sequence[np.dtype]) -> list[np.ndarray]:
    """Read the tensor files of one utterance."""
    return [tensors.read_bin(entry.path, entry.shape, dtype) for entry, dtype in zip(entries, dtypes)]


def format_utterances(utterances: Iterable[Utterance]) -> str:
    """The text of `utterances.tsv`; white space inside a reference becomes single blanks."""
    return "".join(
        f"{item.key}\t{item.utterance_id}\t{item.num_samples}\t{' '.join(item.text.split())}\n" for item in utterances
    )


def read_utterances(path: Path) -> dict[str, Utterance]:
    """Read `utterances.tsv`: key -> Utterance, in file order. Raises SuiteError if missing or malformed."""
    utterances: dict[str, Utterance] = {}
    for number, line in enumerate(_lines(path, "preprocess.py writes it, and pyacl_infer.py copies it"), start=1):
        fields = line.split("\t")
        if len(fields) != 4 or not _NUMBER.fullmatch(fields[2]) or fields[0] in utterances:
            raise SuiteError(
                f"{path}, line {number}: expected a new key, an id, a number of samples and a text with tabs between, "
                f"found {line!r}"
            )
        check_key(fields[0])
        utterances[fields[0]] = Utterance(fields[0], fields[1], int(fields[2]), fields[3])
    return utterances


def references_beside(manifest_path: Path, inputs: Inputs) -> dict[str, Utterance] | None:
    """The references of `inputs` from the utterances.tsv beside the manifest; None if there is no such file.

    The file may hold more utterances. Raises SuiteError if it lacks some.
    """
    path = manifest_path.with_name(UTTERANCES_NAME)
    if not path.exists():
        return None
    known = read_utterances(path)
    references = {key: known[key] for key in inputs if key in known}
    check_same_keys(inputs, references, str(path))
    return references


def check_same_keys(expected: Mapping[str, object], found: Mapping[str, object], what: str) -> None:
    """Raise SuiteError, naming the keys, unless both mappings have the same ones."""
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    if missing or extra:
        parts = [
            f"{len(keys)} {word} ({_some(keys)})" for word, keys in (("missing", missing), ("extra", extra)) if keys
        ]
        raise SuiteError(f"{what}: expected {len(expected)} keys, found {len(found)}: {', '.join(parts)}")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (" …" if len(keys) > 5 else "")


def _lines(path: Path, advice: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such file; {advice}") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{path}: expected UTF-8 text, found other bytes; {advice}") from None
