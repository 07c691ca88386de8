# SPDX-License-Identifier: Apache-2.0
"""The manifest of preprocessed data, `bin_file.info`.

`bin_file.info` has one line per model input of each utterance, `0 ./pre_data/clean/0.bin (1,160000)`: key, path, shape.
An utterance's lines share its key and stand together, in the model's input order. The tensors are raw, or NumPy files
if their names end in `.npy`. Lines are parsed as data, never evaluated.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache, reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import SuiteError
from . import tensors
from .file_list import Source
from .locks import reading
from .names import LAYOUTS, MANIFEST_NAME, RUN_NAME, UTTERANCES_NAME, tensor_name, tensor_names
from .parts import Parts
from .table import Table
from .text import read_bytes
from .utterances import KEY, Utterance, check_key, read_utterances, read_verified

_LINE = re.compile(rf"({KEY.pattern}) +(\S.*?) +\(([^()]*)\)")  # key, path, shape
LONGEST_LINE = 6_000  # characters; a path has at most 4096 bytes
_AXIS = r"\s*[1-9]\d{0,11}\s*"
_SHAPE = re.compile(rf"{_AXIS}(,{_AXIS}){{,7}},?\s*", re.ASCII)


class Entry(NamedTuple):
    """One model input of one utterance. The path is text: hundreds of thousands of Path objects would be slow."""

    key: str
    path: str
    shape: tuple[int, ...]

    @property
    def folder(self) -> str:
        """The data folder."""
        return self.path[: -len(self.name) - 1]

    @property
    def name(self) -> str:
        """The tensor's name in the data folder, as in the list of the folder's files."""
        return tensor_name(self.path)


CheckShapes = Callable[[str, Sequence[tuple[int, ...]]], None]  # of an utterance's key, and the shapes of its inputs

_AGAIN = "run preprocess.py again"


def format_line(key: str, path: str, shape: Iterable[int]) -> str:
    """One manifest line, without its newline; `path` is kept as the user wrote it."""
    return f"{key} {path} ({','.join(map(str, shape))})"


def parse_line(line: str) -> Entry:
    """Read one manifest line. The path may hold spaces. Raises SuiteError for anything else than data."""
    match = _LINE.fullmatch(line.rstrip(" \t\r\n")) if len(line) <= LONGEST_LINE and "\0" not in line else None
    if match:
        key, path, shape_text = match.groups()
        shape = _parse_shape(shape_text)
        if shape:
            return Entry(key, path, shape)
    elif fields := line.split(None, 1):
        check_key(fields[0])
    raise SuiteError(f"expected a line like '0 ./pre_data/clean/0.bin (1,160000)', found {line.strip()!r:.300}")


@lru_cache(maxsize=4096)
def _parse_shape(text: str) -> tuple[int, ...] | None:
    return tuple(int(number) for number in text.split(",") if number.strip()) if _SHAPE.fullmatch(text) else None


class Manifest(Table[Sequence[Entry]]):
    """`bin_file.info`: key -> the utterance's entries in model input order, in file order. Its tensors are verified.

    A tensor file that is not found from the current folder is taken from the manifest's own folder, by its name in
    there, so that a folder may be moved.
    """

    def __init__(self, path: Path, source: Source | None = None) -> None:
        """`source` is the manifest's folder. Raises SuiteError if the manifest is missing, damaged or empty."""
        self.source = source or Source(path.parent)
        self._folders: dict[str, bool] = {}  # of the tensors, as the manifest names them -> is it the manifest's own?
        self._others: dict[str, Source] = {}  # those that are not
        self._is_verified = self.source.list is not None and path.name in self.source.list
        self.parts = Parts(self.source.run)
        content = read_verified(self.source, path, "run preprocess.py first")
        super().__init__(path, content, self._parse_entries, _AGAIN, separator=None, grouped=True)
        if not self:
            raise SuiteError(f"{path}: expected at least one utterance, found an empty file; {_AGAIN}")
        run = self.source.run
        known = run.utterances if run and self.source.has(path.name) and path.name == MANIFEST_NAME else None
        found = len(self) if self.parts.chunking is None else sum(1 for _ in self.parts.utterance_keys(self))
        if known not in (None, found):
            raise SuiteError(f"{path}: expected {known} utterances as {RUN_NAME} says, found {found}; {_AGAIN}")

    def _parse_entries(self, lines: Sequence[str]) -> Sequence[Entry]:
        return [parse_line(line) for line in lines]

    def locate(self, entry: Entry) -> tuple[str, Source]:
        """The path of a tensor, and the folder that it is in. Raises SuiteError if two files may be meant."""
        folder = entry.folder
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder or ".") == os.path.realpath(self.path.parent)
        if self._folders[folder]:
            return entry.path, self.source
        path, beside = Path(entry.path), self.path.parent / entry.name
        if not path.exists() or (self._records(entry.name) and beside.exists()):
            return str(beside), self.source
        if beside.exists() and not beside.samefile(path):
            raise SuiteError(
                f"{entry.path} exists in the current folder, and another file of that name beside the manifest; "
                f"remove or rename the wrong file"
            )
        if folder not in self._others:
            self._others[folder] = Source(Path(folder))
        return entry.path, self._others[folder]

    def _records(self, name: str) -> bool:
        """Whether the manifest was written together with a tensor of this name: both may have been copied."""
        return self._is_verified and self.source.list is not None and name in self.source.list

    def check_tensors(self, dtypes: Sequence[np.dtype], check_shapes: CheckShapes | None = None) -> str:
        """Raise SuiteError unless each utterance has one tensor file per dtype, of the right size.

        `check_shapes` raises SuiteError if the model cannot take the inputs of an utterance; it is asked once for all
        utterances of the same shapes. Returns the SHA-256 of the manifest, and of the lists of its tensors' folders, or
        else of the tensors' times and the references.

        Checked for all utterances before the first inference, so that a run does not end half way, and in one pass,
        because there may be hundreds of thousands.
        """
        digest = hashlib.sha256(self.content)
        checked = set()
        checksum = 0  # of the tensors that are not in the folder of a recorded manifest
        has_references = self.source.has(UTTERANCES_NAME)
        written = ",".join([tensors.WRITTEN_DTYPE] * len(dtypes))
        advice = f"{_AGAIN}, or give pyacl_infer.py the --input_dtypes of these files (preprocess.py's are {written})"
        for key, entries in self.rows():
            shapes = tuple([entry.shape for entry in entries])
            if check_shapes is not None and shapes not in checked:
                check_shapes(key, shapes)
                checked.add(shapes)
            if len(entries) != len(dtypes):
                raise SuiteError(
                    f"{self.path}: utterance {key} has {len(entries)} inputs, but --input_dtypes names {len(dtypes)}; "
                    f"give one dtype for each input"
                )
            for entry, dtype in zip(entries, dtypes):
                path, source = self.locate(entry)
                if dtype.name != tensors.WRITTEN_DTYPE and source.run is not None and source.run.is_of_data:
                    raise SuiteError(  # int32 would fit the file's size, and read other numbers
                        f"{path}: expected {dtype.name} as --input_dtypes says, found {tensors.WRITTEN_DTYPE} of "
                        f"preprocess.py; give --input_dtypes={written}"
                    )
                time_ns = tensors.check_size(path, entry.shape, dtype, advice)
                if self._is_verified and source is self.source:
                    continue  # the folder has the manifest, and so all tensors that it names
                if source.list is None:
                    digest.update(f"{time_ns} ".encode())
                    continue
                checksum = checksum_of([source.expected(entry.name, _AGAIN).crc32], checksum)
                if has_references and not any(entry.name in tensor_names(key, layout) for layout in LAYOUTS):
                    raise SuiteError(
                        f"{self.path}: utterance {key} has the tensor {entry.name}, expected {key}.bin or "
                        f"input/{key}.npy, because {UTTERANCES_NAME} knows utterances by their keys; repair the line"
                    )
        if self._is_verified and self._others:
            self._check_checksum(checksum)
        for source in (self.source, *self._others.values()):
            if source.list is not None:
                digest.update(source.list.content)
        if self.source.list is None and has_references:
            digest.update(read_bytes(self.path.with_name(UTTERANCES_NAME), _AGAIN))
        return digest.hexdigest()

    def _check_checksum(self, found: int) -> None:
        """Raise SuiteError unless the tensors are those for which this manifest was written."""
        run = self.source.run
        known = None if run is None else run.of_data.checksum
        if known not in (None, found):
            raise SuiteError(
                f"{self.path}: the tensors that it names were replaced by others since it was written; take the "
                f"manifest beside the tensors, or {_AGAIN}"
            )

    def rows(self) -> Iterator[tuple[str, Sequence[Entry]]]:
        for row in range(len(self)):
            entries = self._read(row)
            yield entries[0].key, entries  # the key need not be parsed again

    def read_arrays(self, key: str, dtypes: Sequence[np.dtype]) -> list[np.ndarray]:
        """Read and verify the tensor files of one utterance."""
        arrays = []
        for entry, dtype in zip(self[key], dtypes):
            path, source = self.locate(entry)
            if tensors.is_npy(path):
                content = read_bytes(Path(path), _AGAIN)
                source.verify(entry.name, content, _AGAIN)
                array = tensors.parse_npy_as(Path(path), content, entry.shape, dtype, _AGAIN)
            else:
                array = tensors.read_bin(Path(path), entry.shape, dtype, _AGAIN)
                source.verify(entry.name, array.data, _AGAIN)
            arrays.append(array)
        return arrays

    def references(self) -> Table[Utterance] | None:
        """The references from the utterances.tsv beside the manifest; None if there is no such file.

        The file may hold more utterances. Raises SuiteError if it lacks some.
        """
        path = self.path.with_name(UTTERANCES_NAME)
        if not self.source.has(UTTERANCES_NAME):
            return None
        references = read_utterances(path, self.source)
        keys = () if self.has_keys_of(references) else self.parts.utterance_keys(self)
        missing = [key for key in keys if key not in references]
        if missing:
            raise SuiteError(f"{path}: {len(missing)} utterances are missing ({_some(missing)}); {_AGAIN}")
        return references


def checksum_of(checksums: Iterable[int], start: int = 0) -> int:
    """The CRC-32 of the CRC-32s of tensors, in the manifest's order."""
    return reduce(lambda known, checksum: zlib.crc32(checksum.to_bytes(4, "little"), known), checksums, start)


@contextmanager
def open_manifest(path: Path) -> Iterator[Manifest]:
    """Read a manifest. Until the block ends, no script can write into its folder or the folders of its tensors."""
    with ExitStack() as locks:
        locks.enter_context(reading(path.parent))
        manifest = Manifest(path)
        # The first utterance names the folders. A manifest that mixes folders is rare, and still verified.
        first = map(manifest.locate, manifest[next(iter(manifest))])
        for folder in {source.folder for _, source in first} - {path.parent}:
            if not folder.is_dir() or not folder.samefile(path.parent):
                locks.enter_context(reading(folder))
        yield manifest


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
