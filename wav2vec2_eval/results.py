# SPDX-License-Identifier: Apache-2.0
"""The results folder: outputs of each utterance, and a journal of what is finished.

Output i of utterance k is `<k>.<i>.bin` or `.npy`. After the last output of an utterance, a line goes into
`results.tsv`: key, pure, wall, device and own time in milliseconds ("-" if not known), type and shape of each output.
So a line stands for a complete result, whenever the run ends; a cut last line counts for nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import folders, manifest, tensors
from .audio import frame_count
from .errors import SuiteError
from .tensors import DTYPE
from .timing import INFER_TIME_NAME, Latency

RESULTS_NAME = "results.tsv"
_COPIES = (manifest.MANIFEST_NAME, manifest.UTTERANCES_NAME)
WER_NAME = "wer.txt"
SCORES_NAME = "utterance_scores.tsv"
TENSOR_NAME = re.compile(r"(?P<key>.+)\.(?P<output>\d+)\.(?P<type>bin|npy)")
_OUTPUT = re.compile(r"(?P<dtype>\w+) \((?P<shape>[\d,]+)\)", re.ASCII)


class Output(NamedTuple):
    """One output tensor."""

    dtype: np.dtype
    shape: tuple[int, ...]


class Finished(NamedTuple):
    """A line of the journal."""

    latency: Latency
    outputs: tuple[Output, ...]


class Store:
    """Writes results into `folder`: call it with key, outputs and latency. A context manager."""

    def __init__(self, folder: Path, res_save_type: str) -> None:
        self._folder = folder
        self._suffix = f".{res_save_type}"

    def __enter__(self) -> Store:
        self._journal = (self._folder / RESULTS_NAME).open("a", encoding="utf-8")
        return self

    def __call__(self, key: str, outputs: Sequence[np.ndarray], latency: Latency) -> None:
        for index, array in enumerate(outputs):
            tensors.write_tensor(self._folder / f"{key}.{index}{self._suffix}", array)
        specs = tuple(Output(array.dtype, array.shape) for array in outputs)
        self._journal.write(_format_finished(key, Finished(latency, specs)))
        self._journal.flush()

    def __exit__(self, *exception: object) -> None:
        self._journal.close()


def own_names(folder: Path) -> Callable[[str], bool]:
    """A test for the names of files that an earlier run, or the scoring of its results, wrote into `folder`."""
    copy = folder / manifest.MANIFEST_NAME
    keys = manifest.read_manifest(copy).keys() if copy.exists() else ()
    others = {RESULTS_NAME, INFER_TIME_NAME, *_COPIES, *_scoring_names(folder)}

    def is_own(name: str) -> bool:
        match = TENSOR_NAME.fullmatch(name)
        return name in others or bool(match and match["key"] in keys)

    return is_own


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def inputs_digest(inputs: Mapping[str, Sequence[manifest.Entry]], with_times: bool) -> str:
    """SHA-256 of the manifest's keys, file names and shapes; `with_times` if nothing else vouches for the content."""
    digest = hashlib.sha256()
    for key, entries in inputs.items():
        for entry in entries:
            time = entry.path.stat().st_mtime_ns if with_times else 0
            digest.update(f"{manifest.format_line(key, entry.path.name, entry.shape)} {time}\n".encode())
    return digest.hexdigest()


def begin(
    folder: Path,
    script: str,
    conditions: Mapping[str, Any],
    inputs: Mapping[str, Sequence[manifest.Entry]],
    references: Mapping[str, manifest.Utterance] | None,
    resume: bool,
) -> dict[str, Finished]:
    """Make `folder` ready for a run, and return the results that are kept: none, unless `resume` finds some.

    `inputs` and `references` are copied into it. To be called after `check_replaceable`. Raises SuiteError if results
    that `resume` finds were made under other conditions: results of two models must not be mixed.
    """
    run = folders.read_run(folder) or {"script": script}
    if resume and run.keys() > {"script"}:
        kept = _keep_whole_results(folder, run, conditions, inputs)
        folders.write_run(folder, **{**run, **conditions, "resumed": True})
        _write_copies(folder, inputs, references)
        return kept
    # A killed run must leave what the next one recognises as its own: the mark first, and the copies, which name the
    # results, after all results are gone.
    folders.write_run(folder, **run)
    is_own = own_names(folder)
    (folder / INFER_TIME_NAME).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name not in _COPIES and is_own(path.name.removesuffix(tensors.TEMPORARY_SUFFIX)):
            path.unlink()
    folders.write_run(folder, script)
    _write_copies(folder, inputs, references)
    folders.write_run(folder, script, **conditions)
    return {}


def _keep_whole_results(
    folder: Path,
    run: Mapping[str, Any],
    conditions: Mapping[str, Any],
    inputs: Mapping[str, Sequence[manifest.Entry]],
) -> dict[str, Finished]:
    for name, value in conditions.items():
        # The model's path may differ, its digest may not; the warm-up belongs to the summary.
        if name not in ("model", "warm_up") and run.get(name) != value:
            raise SuiteError(
                f"{folder}: cannot be resumed: its results were made with {name} = {run.get(name)}, "
                f"expected {value}; run without --resume to replace them"
            )
    finished = read_finished(folder) if (folder / RESULTS_NAME).exists() else {}
    kept = {key: finished[key] for key in inputs if key in finished and _is_whole(folder, key, finished[key])}
    (folder / INFER_TIME_NAME).unlink(missing_ok=True)
    stale = () if len(kept) == len(inputs) else _scoring_names(folder)
    for path in folder.iterdir():
        match = TENSOR_NAME.fullmatch(path.name.removesuffix(tensors.TEMPORARY_SUFFIX))
        if path.name.endswith(tensors.TEMPORARY_SUFFIX) or path.name in stale or (match and match["key"] not in kept):
            path.unlink()
    lines = (_format_finished(key, item) for key, item in kept.items())
    tensors.write_text(folder / RESULTS_NAME, "".join(lines))
    return kept


def _scoring_names(folder: Path) -> set[str]:
    """The files of postprocess.py, which records the name of its transcriptions before it writes them."""
    transcriptions = (folders.read_run(folder) or {}).get("transcriptions")
    return {transcriptions, WER_NAME, SCORES_NAME} if transcriptions else set()


def _write_copies(
    folder: Path,
    inputs: Mapping[str, Sequence[manifest.Entry]],
    references: Mapping[str, manifest.Utterance] | None,
) -> None:
    lines = (manifest.format_line(key, str(entry.path), entry.shape) for key in inputs for entry in inputs[key])
    tensors.write_text(folder / manifest.MANIFEST_NAME, "".join(f"{line}\n" for line in lines))
    if references is None:
        (folder / manifest.UTTERANCES_NAME).unlink(missing_ok=True)
    else:
        text = manifest.format_utterances(references[key] for key in inputs)
        tensors.write_text(folder / manifest.UTTERANCES_NAME, text)


def read_finished(folder: Path) -> dict[str, Finished]:
    """Read the journal: key -> Finished. Raises SuiteError if it is missing or malformed."""
    path = folder / RESULTS_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such file; expected a results folder of pyacl_infer.py, run that first") from None
    finished: dict[str, Finished] = {}
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break  # the run was killed while it wrote this line
        key, *fields = line.rstrip("\n").split("\t")
        try:
            pure_ms, wall_ms = map(float, fields[:2])
            device_ms, own_ms = (None if field == "-" else float(field) for field in fields[2:4])
            outputs = tuple(map(_parse_output, fields[4:]))
            if not outputs:
                raise ValueError(line)
        except (ValueError, IndexError):
            raise SuiteError(
                f"{path}, line {number}: not a line of a results journal; run pyacl_infer.py again"
            ) from None
        finished[key] = Finished(Latency(pure_ms, wall_ms, device_ms, own_ms), outputs)
    return finished


def read_output(folder: Path, key: str, index: int, spec: Output) -> np.ndarray:
    """Read output `index` of utterance `key`, `.bin` or `.npy`. Raises SuiteError unless it is as the journal says."""
    advice = "run pyacl_infer.py again (--resume infers only what is missing)"
    path = folder / f"{key}.{index}.npy"
    if not path.exists():
        return tensors.read_bin(path.with_suffix(".bin"), spec.shape, spec.dtype, advice)
    array = tensors.read_npy(path, advice)
    if (array.shape, array.dtype) != (spec.shape, spec.dtype):
        raise SuiteError(f"{path}: expected {_format_output(spec)}, found {array.dtype} {array.shape}; {advice}")
    return array


def first_outputs(folder: Path, utterances: Mapping[str, manifest.Utterance], num_symbols: int) -> dict[str, Output]:
    """Key -> type and shape of each utterance's output 0.

    Without a journal (results of another tool) `.bin` files are taken for float32 logits (1, frames, num_symbols).
    Raises SuiteError if utterances are missing or left over, or if such a file is no whole number of frames or has
    fewer than its utterance gives.
    """
    if (folder / RESULTS_NAME).exists():
        finished = read_finished(folder)
        manifest.check_same_keys(utterances, finished, f"{folder}: results")
        return {key: item.outputs[0] for key, item in finished.items()}
    return {key: _guess_output(folder, item, num_symbols) for key, item in utterances.items()}


def _guess_output(folder: Path, utterance: manifest.Utterance, num_symbols: int) -> Output:
    npy = folder / f"{utterance.key}.0.npy"
    if npy.exists():
        array = tensors.read_npy(npy)
        return Output(array.dtype, array.shape)
    path = npy.with_suffix(".bin")
    if not path.exists():
        raise SuiteError(f"{path}: no such file; run pyacl_infer.py again")
    dtype = DTYPE["float32"]
    frames, rest = divmod(path.stat().st_size, num_symbols * dtype.itemsize)
    if rest or frames < frame_count(utterance.num_samples):
        raise SuiteError(
            f"{path}: {path.stat().st_size} bytes, expected at least {frame_count(utterance.num_samples)} frames of "
            f"{num_symbols} float32 logits; run pyacl_infer.py again, or see --model_name_or_path"
        )
    return Output(dtype, (1, frames, num_symbols))


def result_keys(folder: Path) -> dict[str, None]:
    """The keys of all tensor files in `folder`, in no particular order."""
    matches = (TENSOR_NAME.fullmatch(path.name) for path in folder.iterdir())
    return {match["key"]: None for match in matches if match}


def _is_whole(folder: Path, key: str, item: Finished) -> bool:
    try:
        for index, spec in enumerate(item.outputs):
            read_output(folder, key, index, spec)
    except SuiteError:
        return False
    return True


def _format_finished(key: str, item: Finished) -> str:
    times = ("-" if time_ms is None else f"{time_ms:.6f}" for time_ms in item.latency)
    return "\t".join([key, *times, *map(_format_output, item.outputs)]) + "\n"


def _format_output(spec: Output) -> str:
    return f"{spec.dtype.name} ({','.join(map(str, spec.shape))})"


def _parse_output(text: str) -> Output:
    match = _OUTPUT.fullmatch(text)
    if not match or match["dtype"] not in DTYPE:
        raise ValueError(text)
    return Output(DTYPE[match["dtype"]], tuple(int(axis) for axis in match["shape"].split(",") if axis))
