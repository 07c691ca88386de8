# SPDX-License-Identifier: Apache-2.0
"""The results folder: the outputs of each utterance, the journal, and copies of what scoring needs.

Output i of utterance k is `<k>.<i>.bin` or `.npy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import SuiteError
from ..speech.audio import frame_count
from ..speech.latency import Latency
from . import manifest, run_folder, tensors
from .atomic import write_text
from .journal import Finished, Output, format_finished, format_output, read_journal
from .manifest import Inputs, References
from .names import (
    INFER_TIME_NAME,
    JOURNAL_NAME,
    MANIFEST_NAME,
    SCORES_NAME,
    TEMPORARY_SUFFIX,
    UTTERANCES_NAME,
    WER_NAME,
    result_key,
    result_name,
)
from .run_folder import Run

_COPIES = (MANIFEST_NAME, UTTERANCES_NAME)
# A resumed run may differ in these: the model's path (not its digest), and what belongs to the summary.
_MAY_DIFFER = ("script", "model", "warm_up", "transcriptions", "resumed")


class Store:
    """Writes results into `folder`: call it with key, outputs and latency. A context manager."""

    def __init__(self, folder: Path, res_save_type: str) -> None:
        self._folder = folder
        self._res_save_type = res_save_type

    def __enter__(self) -> Store:
        self._journal = (self._folder / JOURNAL_NAME).open("a", encoding="utf-8")
        return self

    def __call__(self, key: str, outputs: Sequence[np.ndarray], latency: Latency) -> None:
        for index, array in enumerate(outputs):
            tensors.write_tensor(self._folder / result_name(key, index, self._res_save_type), array)
        specs = tuple(Output(array.dtype, array.shape) for array in outputs)
        self._journal.write(format_finished(key, Finished(latency, specs)))
        self._journal.flush()

    def __exit__(self, *exception: object) -> None:
        self._journal.close()


def replaceable_names(folder: Path) -> Callable[[str], bool]:
    """A test for the names of files that an earlier run, or the scoring of its results, wrote into `folder`."""
    copy = folder / MANIFEST_NAME
    keys = manifest.read_manifest(copy).keys() if copy.exists() else ()
    others = {JOURNAL_NAME, INFER_TIME_NAME, *_COPIES, *_scoring_names(folder)}
    return lambda name: name in others or result_key(name) in keys


def inputs_digest(inputs: Inputs, with_times: bool) -> str:
    """SHA-256 of the manifest's keys, file names and shapes.

    `with_times` adds the times of the tensor files; needed where no run.json has a checksum of their content.
    """
    digest = hashlib.sha256()
    for key, entries in inputs.items():
        for entry in entries:
            time = entry.path.stat().st_mtime_ns if with_times else 0
            digest.update(f"{manifest.format_line(key, entry.path.name, entry.shape)} {time}\n".encode())
    return digest.hexdigest()


def begin(
    folder: Path, conditions: Run, inputs: Inputs, references: References | None, resume: bool
) -> dict[str, Finished]:
    """Make `folder` ready for a run, and return the results that are kept: none, unless `resume` finds some.

    `inputs` and `references` are copied into it. To be called after `check_replaceable`. Raises SuiteError if results
    that `resume` finds were made under other conditions: results of two models must not be mixed.
    """
    owner = Run(conditions.script)
    run = run_folder.read_run(folder) or owner
    if resume and run != owner:
        kept = _keep_whole_results(folder, run, conditions, inputs)
        run_folder.write_run(folder, replace(conditions, transcriptions=run.transcriptions, resumed=True))
        _write_copies(folder, inputs, references)
        return kept
    # The order matters if we are killed: first run.json, then the results are deleted, then the copies that list them.
    run_folder.write_run(folder, run)
    is_replaceable = replaceable_names(folder)
    (folder / INFER_TIME_NAME).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name not in _COPIES and is_replaceable(path.name.removesuffix(TEMPORARY_SUFFIX)):
            path.unlink()
    run_folder.write_run(folder, owner)
    _write_copies(folder, inputs, references)
    run_folder.write_run(folder, conditions)
    return {}


def _keep_whole_results(folder: Path, run: Run, conditions: Run, inputs: Inputs) -> dict[str, Finished]:
    recorded = vars(run)
    for name, value in vars(conditions).items():
        if name not in _MAY_DIFFER and recorded[name] != value:
            raise SuiteError(
                f"{folder}: cannot be resumed: its results were made with {name} = {recorded[name]}, "
                f"expected {value}; run without --resume to replace them"
            )
    finished = read_journal(folder) if (folder / JOURNAL_NAME).exists() else {}
    kept = {key: finished[key] for key in inputs if key in finished and _is_whole(folder, key, finished[key])}
    (folder / INFER_TIME_NAME).unlink(missing_ok=True)
    stale = () if len(kept) == len(inputs) else _scoring_names(folder)
    for path in folder.iterdir():
        key = result_key(path.name.removesuffix(TEMPORARY_SUFFIX))
        if path.name.endswith(TEMPORARY_SUFFIX) or path.name in stale or (key is not None and key not in kept):
            path.unlink()
    write_text(folder / JOURNAL_NAME, "".join(format_finished(key, item) for key, item in kept.items()))
    return kept


def _scoring_names(folder: Path) -> set[str]:
    """The files of postprocess.py, which records the name of its transcriptions before it writes them."""
    run = run_folder.read_run(folder)
    return {run.transcriptions, WER_NAME, SCORES_NAME} if run and run.transcriptions else set()


def _write_copies(folder: Path, inputs: Inputs, references: References | None) -> None:
    lines = (manifest.format_line(key, str(entry.path), entry.shape) for key in inputs for entry in inputs[key])
    write_text(folder / MANIFEST_NAME, "".join(f"{line}\n" for line in lines))
    if references is None:
        (folder / UTTERANCES_NAME).unlink(missing_ok=True)
    else:
        write_text(folder / UTTERANCES_NAME, manifest.format_utterances(references[key] for key in inputs))


def read_output(folder: Path, key: str, index: int, spec: Output) -> np.ndarray:
    """Read output `index` of utterance `key`, `.bin` or `.npy`. Raises SuiteError unless it is as the journal says."""
    advice = "run pyacl_infer.py again (--resume infers only what is missing)"
    path = folder / result_name(key, index, "npy")
    if not path.exists():
        return tensors.read_bin(path.with_suffix(".bin"), spec.shape, spec.dtype, advice)
    array = tensors.read_npy(path, advice)
    if (array.shape, array.dtype) != (spec.shape, spec.dtype):
        raise SuiteError(f"{path}: expected {format_output(spec)}, found {array.dtype} {array.shape}; {advice}")
    return array


def first_outputs(folder: Path, references: References, num_symbols: int) -> dict[str, Output]:
    """Key -> type and shape of each utterance's output 0.

    Without a journal (results of another tool) `.bin` files are taken for float32 logits (1, frames, num_symbols).
    Raises SuiteError if results are missing or have no utterance, and for a `.bin` file without a journal that holds no
    whole number of frames, or fewer frames than its utterance gives.
    """
    if (folder / JOURNAL_NAME).exists():
        finished = read_journal(folder)
        manifest.check_same_keys(references, finished, f"{folder}: results")
        return {key: item.outputs[0] for key, item in finished.items()}
    return {key: _guess_output(folder, item, num_symbols) for key, item in references.items()}


def _guess_output(folder: Path, utterance: manifest.Utterance, num_symbols: int) -> Output:
    npy = folder / result_name(utterance.key, 0, "npy")
    if npy.exists():
        array = tensors.read_npy(npy)
        return Output(array.dtype, array.shape)
    path = npy.with_suffix(".bin")
    if not path.exists():
        raise SuiteError(f"{path}: no such file; run pyacl_infer.py again")
    dtype = tensors.DTYPE["float32"]
    frames, rest = divmod(path.stat().st_size, num_symbols * dtype.itemsize)
    if rest or frames < frame_count(utterance.num_samples):
        raise SuiteError(
            f"{path}: {path.stat().st_size} bytes, expected at least {frame_count(utterance.num_samples)} frames of "
            f"{num_symbols} float32 logits; run pyacl_infer.py again, or see --model_name_or_path"
        )
    return Output(dtype, (1, frames, num_symbols))


def result_keys(folder: Path) -> dict[str, None]:
    """The keys of all tensor files in `folder`, in no particular order."""
    keys = (result_key(path.name) for path in folder.iterdir())
    return {key: None for key in keys if key is not None}


def _is_whole(folder: Path, key: str, item: Finished) -> bool:
    try:
        for index, spec in enumerate(item.outputs):
            read_output(folder, key, index, spec)
    except SuiteError:
        return False
    return True
