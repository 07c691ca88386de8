# SPDX-License-Identifier: Apache-2.0
"""The results folder: the outputs of each utterance, the journal, and copies of what scoring needs.

Output i of utterance k is `<k>.<i>.bin` or `.npy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import SuiteError
from ..speech.audio import frame_count
from ..speech.chunks import join
from ..speech.latency import Latency
from . import manifest, space, tensors
from .file_list import Source
from .folder import OutputFolder, Writer
from .journal import HEADER, Finished, Journal, Output, format_finished, format_output, read_journal
from .manifest import Manifest
from .model_record import ModelRecord, format_record
from .names import (
    INFER_TIME_NAME,
    JOURNAL_NAME,
    MANIFEST_NAME,
    MODEL_RECORD_NAME,
    RUN_NAME,
    SCORE_NAMES,
    SKIPPED_NAME,
    UTTERANCES_NAME,
    is_word_times,
    result_key,
    result_name,
)
from .parts import Part, Parts
from .run import Run, format_run, read_run
from .table import Table
from .text import read_bytes
from .utterances import References, Utterance

# A resumed run may differ in these: the model's path (not its digest), and what belongs to the summary.
_OF_SCORES = ("transcriptions", "normalize_text", "scored")
_MAY_DIFFER = ("script", "format", "model", "warm_up", "resumed", *_OF_SCORES)
_OTHER = {"model_sha256": "another model", "inputs_sha256": "other utterances"}  # instead of two digests
_NO_LOGIT = 1e6  # float64 that is read as float32 has larger numbers among its first few
_AGAIN = "run pyacl_infer.py again (--resume infers only what is missing)"


def check_space(folder: Path, lengths: Iterable[int], num_symbols: int, res_save_type: str) -> None:
    """Raise SuiteError unless there is room for the logits of model inputs of these padded `lengths`, in samples.

    Says how much they need.
    """
    header = tensors.NPY_HEADER_BYTES if res_save_type == "npy" else 0
    frame = num_symbols * tensors.DTYPE["float32"].itemsize
    sizes = [space.on_disk(frame_count(length) * frame + header) for length in lengths]
    space.check_space(folder, sum(sizes), f"{len(sizes)} results")


class Store:
    """Writes results into `folder`: call it with key, outputs and latency. A context manager."""

    def __init__(self, folder: OutputFolder, res_save_type: str) -> None:
        self._folder = folder
        self._res_save_type = res_save_type

    def __enter__(self) -> Store:
        self._folder.begin(JOURNAL_NAME)
        self._journal: IO[str] = (self._folder.path / JOURNAL_NAME).open("a", encoding="utf-8")
        if not self._journal.tell():  # otherwise a resumed run has its journal already
            self._journal.write(HEADER)
        return self

    def __call__(self, key: str, outputs: Sequence[np.ndarray], latency: Latency) -> None:
        for index, array in enumerate(outputs):
            with self._folder.writing(result_name(key, index, self._res_save_type)) as file:
                tensors.write_tensor(file, array, self._res_save_type)
        specs = tuple(Output(array.dtype, array.shape) for array in outputs)
        self._journal.write(format_finished(key, Finished(latency, specs)))
        self._journal.flush()

    def __exit__(self, kind: object, *exception: object) -> None:
        self._journal.close()
        if kind is None:
            self._folder.end(JOURNAL_NAME)


def begin(
    folder: OutputFolder,
    conditions: Run,
    inputs: Manifest,
    references: Table[Utterance] | None,
    record: ModelRecord | None,
    resume: bool,
) -> set[str]:
    """Make `folder` ready for a run, and return the keys whose results are kept: none, unless `resume` finds some.

    `inputs`, `references` and `record` are copied into it. Raises SuiteError if results that `resume` finds were made
    under other conditions: results of two models must not be mixed.
    """
    run = read_run(folder.path)
    if resume and run is not None:
        kept = _keep_whole_results(folder, run, conditions, inputs)
        _write_copies(folder, inputs, references, record)  # a run may have been killed before it had written them
        of_scores = {name: getattr(run, name) for name in _OF_SCORES}
        folder.write_run(replace(conditions, **of_scores, resumed=True))
        return kept
    with folder.staging() as staged:
        _write_copies(staged, inputs, references, record)
        staged.write_text(RUN_NAME, format_run(conditions))
        folder.publish(staged, marker=INFER_TIME_NAME)
    return set()


def _write_copies(
    target: Writer, inputs: Manifest, references: Table[Utterance] | None, record: ModelRecord | None
) -> None:
    with target.writing(MANIFEST_NAME) as file:
        file.write(inputs.content)
    if references is not None:
        with target.writing(UTTERANCES_NAME) as file:
            same = references.has_keys_of(inputs)
            keys = inputs.parts.utterance_keys(inputs)
            for lines in (references.content,) if same else map(references.raw, keys):
                file.write(lines)
    if inputs.source.has(SKIPPED_NAME):
        with target.writing(SKIPPED_NAME) as file:
            file.write(inputs.source.read(SKIPPED_NAME))
    if record is not None:
        target.write_text(MODEL_RECORD_NAME, format_record(record))


def _keep_whole_results(folder: OutputFolder, run: Run, conditions: Run, inputs: Manifest) -> set[str]:
    recorded = vars(run)
    for name, value in vars(conditions).items():
        if name not in _MAY_DIFFER and recorded[name] != value:
            other = _OTHER.get(name, f"{name} = {recorded[name]}, expected {value}")
            raise SuiteError(
                f"{folder.path}: cannot be resumed: its results were made with {other}; run without --resume to "
                f"replace them"
            )
    source = Source(folder.path)
    journal = read_journal(source, whole=False) if (folder.path / JOURNAL_NAME).exists() else {}
    kept = {key for key in inputs if key in journal and _is_whole(source, key, journal[key])}
    folder.remove(INFER_TIME_NAME)
    whole = len(kept) == len(inputs)
    scores = (run.transcriptions, *SCORE_NAMES)

    def is_kept(name: str) -> bool:
        key = result_key(name)
        return key in kept if key is not None else whole or not (name in scores or is_word_times(name))

    folder.keep(is_kept)
    with folder.writing(JOURNAL_NAME) as file:
        file.write(HEADER.encode())
        for key in inputs:
            if key in kept:
                file.write(format_finished(key, journal[key]).encode())
    return kept


def _is_whole(source: Source, key: str, item: Finished) -> bool:
    try:
        for index, spec in enumerate(item.outputs):
            read_output(source, key, index, spec)
    except SuiteError:
        return False
    return True


def read_output(source: Source, key: str, index: int, spec: Output) -> np.ndarray:
    """Read output `index` of utterance `key`, `.bin` or `.npy`. Raises SuiteError unless it is as `spec` says."""
    name = _name_of(source, key, index)
    path = source.folder / name
    content = read_bytes(path, _AGAIN)
    source.verify(name, content, _AGAIN)
    if path.suffix == ".bin":
        size = spec.dtype.itemsize * int(np.prod(spec.shape, dtype=object))
        if len(content) != size:
            raise SuiteError(f"{path}: {len(content)} bytes, expected {size} = {format_output(spec)}; {_AGAIN}")
        return np.frombuffer(content, spec.dtype).reshape(spec.shape)
    return tensors.parse_npy_as(path, content, spec.shape, spec.dtype, _AGAIN)


def _name_of(source: Source, key: str, index: int) -> str:
    """The file of an output. Raises SuiteError if there is none, or one in each format."""
    found = [name for name in (result_name(key, index, "bin"), result_name(key, index, "npy")) if source.has(name)]
    if len(found) > 1:
        raise SuiteError(f"{source.folder}: holds both {found[0]} and {found[1]}; remove the wrong one")
    if not found:
        raise SuiteError(f"{source.folder / result_name(key, index, 'bin')}: no such file; {_AGAIN}")
    return found[0]


def check_some(source: Source) -> None:
    """Raise SuiteError if a folder holds no results."""
    names = source.list or (path.name for path in source.folder.iterdir())
    if not any(map(result_key, names)):
        raise SuiteError(f"{source.folder}: expected results of pyacl_infer.py, found none; {_AGAIN}")


class Logits(ABC):
    """The logits of each utterance of `references`, to be scored."""

    def __init__(
        self, folder: Path, references: References, num_symbols: int, inputs: Manifest | None, parts: Parts
    ) -> None:
        """`inputs`: the manifest of the utterances, if it is known; `parts`: how they are cut.

        Raises SuiteError if the manifest lacks some.
        """
        self.folder = folder
        self._references = references
        self._num_symbols = num_symbols
        self._inputs = inputs
        self._parts = parts
        keys = () if inputs is None else parts.keys(references)
        missing = next((key for key in keys if inputs is not None and key not in inputs), None)
        if inputs is not None and missing is not None:
            raise SuiteError(f"{inputs.path}: lacks utterance {missing}, which has a result; give the whole manifest")

    def __len__(self) -> int:
        return len(self._references)

    def __iter__(self) -> Iterator[tuple[Utterance, np.ndarray]]:
        """Each utterance with its (F, V) logits."""
        for key in self._references:
            utterance = self._references[key]
            yield utterance, self.logits(utterance)

    def logits(self, utterance: Utterance) -> np.ndarray:
        """The (F, V) logits of an utterance. Raises SuiteError if their shape does not fit it."""
        parts = self._parts.of(utterance)
        return join([part.chunk for part in parts], [self._frames(part) for part in parts])

    def _frames(self, part: Part) -> np.ndarray:
        """The (F, V) logits of a model input."""
        logits = self._read(part.key)
        least, most = frame_count(part.chunk.num_samples), None
        if self._inputs is not None:
            least = most = frame_count(self._inputs[part.key][0].shape[-1])
        check_logits(f"{self.folder}: utterance {part.key}", logits, self._num_symbols, least, most)
        frames: np.ndarray = logits[0]
        return frames

    def pure_s(self, _key: str) -> float | None:
        """How many seconds the execution of an utterance took; None if that is not known."""
        return None

    @abstractmethod
    def _read(self, key: str) -> np.ndarray:
        """The first output of a model input, of any shape."""


class Results(Logits):
    """The results in a folder, to be scored: the logits of each utterance of `references`, verified."""

    def __init__(
        self, source: Source, references: References, num_symbols: int, inputs: Manifest | None = None
    ) -> None:
        """Raises SuiteError if results are missing or left over, or if their run did not finish.

        Results of another tool have no journal, and no manifest; the user may have named it as `inputs`.
        """
        self._source = source
        parts = Parts(source.run) if inputs is None else inputs.parts
        keys = parts.keys(references)
        self._journal: Journal | None = None
        if source.has(JOURNAL_NAME):
            if source.list is not None and not (source.folder / INFER_TIME_NAME).exists():
                raise SuiteError(f"{source.folder}: its run did not finish; run pyacl_infer.py again, with --resume")
            self._journal = read_journal(source)
            manifest.check_same_keys(keys, self._journal, f"{source.folder}: results")
        if source.has(MANIFEST_NAME):
            inputs = Manifest(source.folder / MANIFEST_NAME, source)
        super().__init__(source.folder, references, num_symbols, inputs, parts)
        names = source.list or (path.name for path in source.folder.iterdir())
        for name in names:
            key = result_key(name)
            if key is not None and key not in keys:
                raise SuiteError(
                    f"{source.folder}: expected results of {len(references)} utterances, found {name}, too"
                )

    def pure_s(self, key: str) -> float | None:
        if self._journal is None:
            return None
        parts = self._parts.of(self._references[key])
        return sum(self._journal[part.key].latency.pure_ms for part in parts) / 1000

    def _read(self, key: str) -> np.ndarray:
        if self._journal is not None:
            return read_output(self._source, key, 0, self._journal[key].outputs[0])
        name = _name_of(self._source, key, 0)
        path = self.folder / name
        content = read_bytes(path, _AGAIN)
        self._source.verify(name, content, _AGAIN)
        return parse_foreign(path, content, self._num_symbols, _AGAIN)


def parse_foreign(path: Path, content: bytes, num_symbols: int, advice: str) -> np.ndarray:
    """The logits in a file of another tool: a `.npy` tensor, or raw float32 of the shape (1, frames, num_symbols).

    Raises SuiteError for anything else.
    """
    if tensors.is_npy(path):
        logits = tensors.parse_npy(path, content, advice)
        if logits.dtype.name not in tensors.DTYPE:
            raise SuiteError(f"{path}: expected logits, found the type {logits.dtype}; {advice}")
    else:
        dtype = tensors.DTYPE["float32"]
        frames, rest = divmod(len(content), num_symbols * dtype.itemsize)
        if rest:
            raise SuiteError(
                f"{path}: {len(content)} bytes, expected whole frames of {num_symbols} float32 logits; {advice}, or "
                f"see --model_name_or_path"
            )
        logits = np.frombuffer(content, dtype).reshape(1, frames, num_symbols)
    if _NO_LOGIT < float(np.abs(logits).max(initial=0)) < np.inf:
        raise SuiteError(
            f"{path}: expected {logits.dtype.name} logits, found numbers that no model gives; write them as "
            f"{logits.dtype.name}, or as .npy"
        )
    return logits


def check_logits(what: str, logits: np.ndarray, num_symbols: int, least: int, most: int | None) -> None:
    """Raise SuiteError unless logits are (1, F, V), with one V for each symbol and the F that the waveform gives.

    F is at least `least`, and at most `most` if the padding is known.
    """
    if logits.ndim != 3 or logits.shape[0] != 1 or logits.shape[2] != num_symbols:
        raise SuiteError(
            f"{what} has logits of shape {logits.shape}, expected (1, frames, {num_symbols}) for the symbols of the "
            f"model; see --model_name_or_path"
        )
    found = logits.shape[1]
    if found < least or (most is not None and found > most):
        expected = str(least) if least == most else f"at least {least}"
        raise SuiteError(f"{what}: {found} frames, expected {expected} for its length; is it the right model?")
